"""A voyage from a repository with a long past, by its name on every ship."""

from __future__ import annotations

import pytest

from tests import sources
from tests.helpers import run_task

pytestmark = pytest.mark.root
BRANCH = "release/1.x"


def test_a_voyage_from_a_branch_of_odd_history_knows_its_past(sailor, plan, tmp_path):
    source = sources.make(tmp_path / "source")
    sources.git(source, "tag", "-a", "-m", "x", "v1.2.0")
    odd = sources.write_object(source, "blob", b"*.x " + b"a" * 3000 + b"\n")
    for lines in sources.ODD_COMMITS.values():
        root = sources.write_commit(source, lines, sources.write_odd_tree(source))
    root = sources.write_commit(source, lines, sources.write_odd_tree(source, ("100644 .gitattributes", odd)))
    sources.git(source, "branch", BRANCH)
    sources.git(source, "symbolic-ref", "HEAD", "refs/heads/gone")
    sources.git(source, "branch", "other", "v1.2.0")
    named = f"git rev-parse {BRANCH} origin/{BRANCH} v1.2.0^{{}}; git describe --tags"
    harm = f"git tag -d v1.2.0; git tag v9; git commit -q --allow-empty -m x; git branch -f {BRANCH} HEAD"
    tasks = [
        run_task(f"set -e; ({named}) > one; {harm}", verify=f"{named}; test -f one"),
        run_task(f"set -e; ({named}) > two; git diff --name-only {BRANCH} > changed", "1"),
    ]
    verify = (
        f"git describe --tags --match 'v1*' && git diff --quiet {BRANCH} -- a.txt && git diff --stat origin/{BRANCH}"
    )
    made = plan(tasks, verify=verify, repo=f"file://{source}")
    refused = sailor.run("sail", made, "-n", "1")
    assert (refused.code, "--branch" in refused.err, sailor.sprites()) == (2, True, 0), refused.err
    played = sailor.playbook("playbooks/sail.yml", "-e", f"plan={made}", "-e", "branch=relaese/1.x")
    assert (played.code != 0, f"did you mean {BRANCH}?" in played.out, sailor.sprites()) == (True, True, 0), played.out
    voyage = sailor.json("sail", made, "-n", "1", "--branch", BRANCH, "--wait", "--json")["voyage"]
    one, two = (sailor.git(voyage, "show", f"{voyage}:{name}").splitlines() for name in ("one", "two"))
    tagged = sources.git(source, "rev-parse", "v1.2.0^{}")
    distance = len(sources.ODD_COMMITS) + 1
    assert one == [root, root, tagged, f"v1.2.0-{distance}-g{root[:7]}"]
    assert (two[:3], two[3].split("-")[:2]) == (one[:3], ["v1.2.0", str(distance + 1)])
    assert sailor.git(voyage, "show", f"{voyage}:changed") == "one"
    sunk = sailor.run("sink", voyage, "--force")
    assert sunk.code == 0, sunk.err
