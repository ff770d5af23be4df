"""The user's own commits land: while a voyage sails, while it is verified, after its end, and not after a sink."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess

import pytest

from ocaptain.captain.local import LocalWork
from ocaptain.control import Command
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.git import Git
from ocaptain.ledger import Ledger, overview
from ocaptain.process import captain_pid
from ocaptain.voyage import land as verb
from ocaptain.voyage.home import VoyageDirectory
from ocaptain.voyage.land import CommitRequest, land
from tests.helpers import HELD, Sailor, run_task, wait_for, write_plan
from tests.voyage.local import VOYAGE, command, landed, make_voyage, sail

ADA = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}


def user(directory, *arguments, code=0):
    """The user runs git in workspace/."""
    env = {**os.environ, **ADA, "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}
    done = subprocess.run(
        ["git", "-C", directory / "workspace", *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done
    return done.stdout


def commit(directory, **files):
    for name, content in files.items():
        (directory / "workspace" / name).write_text(content)
        user(directory, "add", name)
    user(directory, "commit", "-q", "-m", f"mine: {', '.join(files)}")
    return user(directory, "rev-parse", "HEAD").strip()


def on_branch(directory, form="%s"):
    return Git(directory / "repo.git").text("log", "--reverse", f"--format={form}", VOYAGE).splitlines()


def files(directory):
    return set(Git(directory / "repo.git").text("ls-tree", "--name-only", VOYAGE).split())


async def until(check):
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.05)


@pytest.fixture
def ada(monkeypatch):
    """The user has a name, and captains that would be started are listed instead."""
    for name, value in ADA.items():
        monkeypatch.setenv(name, value)
    started = []
    monkeypatch.setattr(verb.process, "start_captain", started.append)
    return started


def test_a_commit_lands_by_itself_and_the_next_task_has_it(tmp_path, ships):
    tasks = [
        {"run": f"until test -e {tmp_path}/go; do sleep 0.1; done; echo 1 > a"},
        {"run": "cat mine > b", "waits": ["1"]},
    ]
    directory, fleet = make_voyage(tmp_path, tasks), ships(1)

    async def meanwhile(captain):
        await until(lambda: captain.ledger.count_tasks()["in_progress"])
        (directory / "workspace/edit").write_text("not committed\n")
        commit(directory, mine="of the user\n")
        await until(lambda: "mine" in files(directory))
        (tmp_path / "go").touch()

    assert asyncio.run(sail(directory, fleet, meanwhile=meanwhile)) == "complete"
    assert landed(directory) == ["1", "2"]
    assert Git(directory / "repo.git").text("show", f"{VOYAGE}:b") == "of the user"
    assert on_branch(directory, "%s|%an|%(trailers:key=Ship,valueonly,separator=%x2C)")[1:] == [
        "mine: mine|Ada|local",
        "Task 1|ship-0|ship-0",
        "Task 2|ship-0|ship-0",
    ]
    assert files(directory) == {"mine", "a", "b"}
    assert user(directory, "status", "--porcelain") == "?? edit\n"
    assert user(directory, "rev-parse", "HEAD").strip() == Git(directory / "repo.git").resolve(VOYAGE)


def test_a_verify_starts_anew_with_a_commit_that_comes_meanwhile(tmp_path, ships):
    """The script of the commit before is ended, not waited for; artifacts that are on their way are not either."""
    verify = f"test -e a; echo $$ >> {tmp_path}/ran; test -e mine || sleep 1000"
    directory, fleet = make_voyage(tmp_path, [{"run": "echo 1 > a"}], verify=verify), ships(1)

    async def meanwhile(captain):
        await until((tmp_path / "ran").exists)
        assert captain.ledger.voyage().state == "verifying"
        captain.actors["ship-0"].attempts.artifacts.collected.clear()
        commit(directory, mine="x\n")
        await until(lambda: len((tmp_path / "ran").read_text().split()) == 2)
        captain.actors["ship-0"].attempts.artifacts.collected.set()

    assert asyncio.run(sail(directory, fleet, meanwhile=meanwhile)) == "complete"
    with Ledger(directory / "ledger.db") as ledger:
        assert overview(ledger).verify["commit"] == Git(directory / "repo.git").resolve(VOYAGE)
        assert any("starts anew" in event["text"] for event in ledger.events_after(0))
    assert "mine" in files(directory)


def test_a_landing_that_comes_while_the_end_is_recorded_is_for_the_next_captain(tmp_path, ships, monkeypatch):
    """The verify that counts is not thrown away, and the user is not told that there is nothing to land."""
    directory, fleet = make_voyage(tmp_path, [{"run": "echo 1 > a"}]), ships(1)
    real, answers = LocalWork.close, []

    async def ask(captain):
        answer = await captain._carry_out(Command(name="land"))
        answers.append((answer.is_late, captain.ledger.voyage().state))

    async def meanwhile(captain):
        async def close(local, verified):
            commit(directory, mine="x\n")
            asking.append(asyncio.create_task(ask(captain)))
            await asyncio.sleep(0)
            return await real(local, verified)

        finish = captain.views.finish

        async def finish_with_the_answer():
            await finish()
            await asyncio.gather(*asking)

        monkeypatch.setattr(captain.views, "finish", finish_with_the_answer)
        monkeypatch.setattr(LocalWork, "close", close)
        monkeypatch.setattr(LocalWork, "has_news", lambda _: False)

    asking = []
    assert asyncio.run(sail(directory, fleet, meanwhile=meanwhile)) == "complete"
    assert answers == [(True, "complete")]
    assert "mine" not in files(directory)


def test_a_conflict_is_noted_lands_nothing_and_is_gone_after_a_rebase(tmp_path, ships, ada):
    tasks = [{"run": f"until test -e {tmp_path}/go; do sleep 0.1; done; echo ship > same"}]
    directory, fleet = make_voyage(tmp_path, tasks), ships(1)

    async def meanwhile(captain):
        await until(lambda: captain.ledger.count_tasks()["in_progress"])
        user(directory, "switch", "-q", "-c", "mine")  # so that it does not land before the ship's
        commit(directory, other="fine\n")
        commit(directory, same="mine\n")
        (tmp_path / "go").touch()
        await until(lambda: "1" in landed(directory))
        user(directory, "branch", "-f", VOYAGE, "mine")
        user(directory, "switch", "-q", VOYAGE)

    assert asyncio.run(sail(directory, fleet, meanwhile=meanwhile)) == "complete"
    own = VoyageDirectory(directory)
    with pytest.raises(
        OcaptainError, match=r"none of your commits landed: .*mine: same.*same was also changed by: Task 1"
    ):
        land(own, CommitRequest())
    assert files(directory) == {"same"}
    user(directory, "pull", "-q", "--rebase", "--autostash", "-X", "theirs")


def test_after_the_end_a_landing_has_the_voyage_run_and_verified_again(tmp_path, ships, ada):
    directory, fleet = make_voyage(tmp_path, [{"run": "echo 1 > a"}], verify="test -e mended"), ships(1)
    assert asyncio.run(sail(directory, fleet)) == "failed"
    own = VoyageDirectory(directory)
    assert "nothing to land" in land(own, CommitRequest()).said
    assert own.voyage().state == "failed"
    for name in ("mended", "left", "a"):
        (directory / "workspace" / name).write_text("by hand\n")
    with pytest.raises(UsageError, match="is not in"):
        land(own, CommitRequest(("/etc/passwd",), "no"))
    answer = land(own, CommitRequest(("mended",), "mend it"))
    assert answer.said.endswith("not committed, so not landed: a, left")
    assert ada == [directory]
    assert own.voyage().state == "running"
    assert on_branch(directory)[-1] == "mend it"
    assert asyncio.run(sail(directory, fleet)) == "complete"
    assert (directory / "workspace/a").read_text() == (directory / "workspace/left").read_text() == "by hand\n"
    land(own, CommitRequest((), "all that is tracked"))
    assert files(directory) == {"a", "mended"}
    with command(directory) as ledger:
        ledger.set_state("sunk")
    commit(directory, late="x\n")
    with pytest.raises(UsageError, match=rf"git fetch {directory}/workspace {VOYAGE}:my-commits"):
        land(own, CommitRequest())
    subprocess.run(["git", "init", "-q", tmp_path / "own"], check=True)
    fetch = ["git", "-C", tmp_path / "own", "fetch", "-q", directory / "workspace", f"{VOYAGE}:my-commits"]
    subprocess.run(fetch, check=True)


def test_merges_are_refused_and_nothing_of_the_clone_is_run(tmp_path, ships, ada):
    directory, fleet = make_voyage(tmp_path, [{"run": "echo 1 > a"}]), ships(1)
    assert asyncio.run(sail(directory, fleet)) == "complete"
    hooks = directory / "workspace/.git/hooks"
    hooks.mkdir(exist_ok=True)
    trap = f"#!/bin/sh\ntouch {tmp_path}/trapped\n"
    for name in ("pre-commit", "commit-msg", "post-commit", "post-checkout", "reference-transaction", "fsmonitor"):
        (hooks / name).write_text(trap)
        (hooks / name).chmod(0o755)
    for key in ("core.fsmonitor", "gpg.program", "core.sshCommand", "diff.external", "core.pager"):
        user(directory, "config", key, str(hooks / "fsmonitor"))
    user(directory, "config", "log.showSignature", "true")
    user(directory, "config", "commit.gpgSign", "true")
    own = VoyageDirectory(directory)
    (directory / "workspace/mine").write_text("1\n")
    answer = land(own, CommitRequest(("mine",), "mine"))
    assert len(answer.commits) == 1
    assert not (tmp_path / "trapped").exists()
    quiet = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "commit.gpgSign=false")
    user(directory, *quiet, "switch", "-q", "-c", "side", "HEAD~1")
    (directory / "workspace/side").write_text("1\n")
    user(directory, *quiet, "add", "side")
    user(directory, *quiet, "commit", "-q", "-m", "side")
    user(directory, *quiet, "switch", "-q", VOYAGE)
    user(directory, *quiet, "merge", "-q", "--no-verify", "--no-edit", "side")
    with pytest.raises(UsageError, match="is a merge, which cannot land; rebase first"):
        land(own, CommitRequest())
    assert "side" not in files(directory)


@pytest.mark.root
def test_on_drydock_own_commits_land_and_a_destroyed_ships_work_is_known(sailor: Sailor):
    """One voyage: its user commits beside ships, its captain is killed, a ship is destroyed, its verify is mended."""
    line = (
        'if [ "$OCAPTAIN_ATTEMPT" = 1 ]; then echo half > half; sleep 1000; fi; '
        "cat > prompt; cp mine seen; test ! -e half; "
        'lost=$(git for-each-ref --format="%(refname)" refs/ocaptain); '
        'git show "$lost:half" > whole; echo "$lost" >> whole'
    )
    held = run_task(f"{HELD}; echo ship > same", pin="ship-0")
    plan = write_plan(sailor.home / "plan", [held, run_task(line)], verify="test -e mended")
    voyage = sailor.json("sail", plan, "-n", "2", "--verify-on", "any", "--json")["voyage"]
    (sailor.home / ".gitconfig").write_text("[user]\nname = Ada\nemail = ada@example.org\n")
    directory = sailor.voyage(voyage)
    workspace = directory / "workspace"
    wait_for(lambda: {task["status"] for task in sailor.json("tasks", voyage, "--json")["tasks"]} == {"in_progress"})

    # A commit beside working ships; an edit beside it stays, and is told.
    (workspace / "mine").write_text("of the user\n")
    (workspace / "left").write_text("x\n")
    done = sailor.run("land", "-m", "My own", "mine", "--json")
    assert done.code == 0, done
    assert len(done.json["commits"]) == 1
    assert done.json["uncommitted"] == ["left"]

    # The captain is killed. What is committed meanwhile lands by the next one, which `land` starts.
    os.kill(captain_pid(directory), signal.SIGKILL)
    commit(directory, second="2\n")
    wait_for(lambda: captain_pid(directory) is None)
    assert len(sailor.json("land", voyage, "--json")["commits"]) == 1

    # A commit that conflicts with what lands meanwhile: none lands, both are there after a rebase.
    user(directory, "switch", "-q", "-c", "aside")
    commit(directory, same="mine\n")
    sailor.go(f"{voyage}-ship-0")
    wait_for(lambda: sailor.landed(voyage) == ["1"])
    user(directory, "branch", "-f", voyage, "aside")
    user(directory, "switch", "-q", voyage)
    wait_for(lambda: "none of your commits landed" in (sailor.json("status", voyage, "--json")["note"] or ""))
    refused = sailor.run("land", voyage)
    assert (refused.code, "same was also changed by: Task 1" in refused.err) == (1, True), refused
    user(directory, "pull", "-q", "--rebase", "--autostash", "-X", "theirs")
    wait_for(lambda: "mine: same" in sailor.git(voyage, "log", "--format=%s"))

    # A ship is destroyed in mid-attempt: the next attempt has what was seen of it, and begins with the branch's files.
    def followed():
        (ship,) = (one for one in sailor.json("status", voyage, "--json")["ships"] if one["id"] == "ship-1")
        return (ship["live"]["by"], ship["live"]["state"], ship["live"]["files"]) == ("git", "watching", 1)

    wait_for(followed)
    assert sailor.run("diff", voyage, "ship-1").out.endswith("+half\n")
    assert sailor.api("DELETE", f"/v1/sprites/{voyage}-ship-1").status_code < 300
    wait_for(lambda: sailor.json("status", voyage, "--json")["state"] == "failed")  # its verify, and nothing else
    lost = sailor.git(voyage, "show", "HEAD:whole").split()
    assert lost == ["half", lost[1]]
    assert lost[1].startswith("refs/ocaptain/saved/ship-1/lost-")
    assert f"git diff {lost[1]}^ {lost[1]}" in sailor.git(voyage, "show", "HEAD:prompt")
    assert sailor.git(voyage, "show", "HEAD:seen").strip() == "of the user"  # a ship gets it with its next task
    assert sailor.git(voyage, "show", "HEAD:same").strip() == "mine"
    assert (workspace / "left").read_text() == "x\n"

    # After the end only `land` lands, and the voyage is verified again.
    (workspace / "mended").write_text("")
    done = sailor.run("land", "mended", "-m", "Mend what verify.sh wants")
    assert (done.code, "1 commit landed" in done.out) == (0, True), done
    wait_for(lambda: sailor.json("status", voyage, "--json")["state"] == "complete")
    assert sailor.git(voyage, "rev-list", "--min-parents=2", "HEAD") == ""
    form = "%an <%ae> %(trailers:key=Ship,valueonly,separator=%x2C)"
    own = sailor.git(voyage, "log", f"--format={form}", "--grep", "^Ship: local").splitlines()
    assert own == ["Ada <ada@example.org> local"] * 4
    assert sailor.run("sink", voyage, "-f").code == 0
    done = sailor.run("land", voyage)
    assert done.code == 2
    assert "git fetch" in done.err
