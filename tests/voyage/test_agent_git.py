"""What agents commit elsewhere than in their files reaches the captain, at an attempt's end and at a sink."""

from __future__ import annotations

import pytest

from ocaptain.ledger import Ledger
from tests.helpers import run_task, wait_for

pytestmark = pytest.mark.root
NEW = 'new() { echo "$1" > "$1"; git add -A; git commit -qm "$1"; }; '
#: Beside its files: a branch, a stash, a worktree elsewhere, a commit that it undid.
MUCH = (
    f"{NEW} new undone; git reset -q --hard HEAD~; git checkout -q -b side; new branched; git checkout -q -;"
    " echo stashed > stashed; git stash -qu; git worktree add -q --detach /tmp/w; (cd /tmp/w; new elsewhere);"
    " new landed"
)
#: At first its work is on a branch, then it puts it where it belongs.
BRANCH = (
    f"{NEW} if [ -e /tmp/picked ]; then git cherry-pick $(cat /tmp/picked);"
    " else git checkout -q -b x; new picked; git rev-parse HEAD > /tmp/picked; git checkout -q -; fi"
)
STUBBORN = f"{NEW} git checkout -q -b x; new stubborn; git checkout -q -"
NESTED = (
    f"{NEW} if [ ! -e /tmp/n ]; then touch /tmp/n; git config --global user.email a@b; echo mine > mine; git init -q n;"
    " cd n; new nested; fi"
)
#: It is at work when the fleet is sunk.
ENDLESS = (
    f"{NEW} new kept; git checkout -q -b wip; new branched; git stash -q || true; echo 1 > 1; git stash -qu; sleep 99"
)


def saved(sailor, voyage):
    """Return what is saved: the agent's names by (task, number), with the files that the commits add."""
    found = {}
    with Ledger(sailor.voyage(voyage) / "ledger.db") as ledger:
        attempts = {row["token"]: (row["task"], row["number"]) for row in ledger.rows("attempts", "token")}
        for row in ledger.rows("saved_refs", "ref"):
            if row["name"]:
                assert row["ref"].startswith("refs/ocaptain/tasks/{}/{}/other/".format(*attempts[row["token"]]))
                assert row["bytes"] > 0
                assert sailor.git(voyage, "rev-parse", row["ref"]).strip() == row["commit_id"]
                listed = sailor.git(voyage, "log", "--format=", "-m", "--name-only", row["ref"]).split()
                found.setdefault(attempts[row["token"]], {})[row["name"]] = set(listed)
        return found, [dict(row) for row in ledger.events_after(0)], ledger.task_statuses()


def test_work_is_saved_wherever_an_agent_left_it(sailor, plan):
    tasks = [run_task(line) for line in (MUCH, BRANCH, STUBBORN, NESTED)]
    done = sailor.run("sail", plan(tasks), "-n", "1", "--wait", "--json")
    voyage = done.json["voyage"]
    found, events, statuses = saved(sailor, voyage)
    assert statuses == {"1": "completed", "2": "completed", "3": "failed", "4": "completed"}
    much = found["1", 1]
    assert {"refs/heads/side", "refs/stash", "worktree w: HEAD"} <= set(much)
    assert all(any(name in files for files in much.values()) for name in ("undone", "branched", "stashed", "elsewhere"))
    assert found["2", 1].keys() == {"refs/heads/x"}
    assert {"landed", "picked"} <= set(sailor.git(voyage, "ls-tree", "--name-only", voyage).split())
    # Handed back once without being counted, then each time is a failure.
    told = [one["kind"] for one in events if one["task"] == "3" and one["kind"] in {"conflict", "retry", "failed"}]
    assert told == ["conflict", "retry", "retry", "failed"]
    reason = next(one["text"] for one in events if (one["task"], one["kind"]) == ("2", "conflict"))
    assert "your work is on branch x (commit" in reason
    assert {"n: refs/heads/master", "files"} <= {name.replace("main", "master") for name in found["4", 1]}
    assert any("nested" in files for files in found["4", 1].values())


def test_a_sink_saves_what_a_running_agent_committed_and_stashed(sailor, plan):
    voyage = sailor.json("sail", plan([run_task(ENDLESS)]), "-n", "1", "--json")["voyage"]
    wait_for(lambda: sailor.inside(f"{voyage}-ship-0", "git -C ~/voyage/workspace stash list"))
    sunk = sailor.json("sink", voyage, "--force", "--json")
    found, _, _ = saved(sailor, voyage)
    assert found["1", 1].keys() == {"refs/stash"}, "the branch is in the snapshot"
    (whole,) = (one["ref"] for one in sunk["rescued"])
    assert "branched" in sailor.git(voyage, "ls-tree", "--name-only", whole)
    assert "/other/" in sailor.git(voyage, "ls-remote", sunk["bundle"])
