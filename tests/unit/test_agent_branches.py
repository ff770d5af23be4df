"""A branch that an agent began at an older commit, such as ``main``, does not undo what has landed since."""

from __future__ import annotations

import pytest

from tests.unit.test_agent_git import Saved, do, make_ship
from tests.unit.test_workspace import commit

START = {"a.txt": "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "b.txt": "b\n", "gone.txt": "g\n"}
LANDED = {"a.txt": "one\n2\n3\n4\n5\n6\n7\n8\n9\n", "b.txt": "b\n", "landed.txt": "l\n"}


@pytest.fixture
def ship(tmp_path, monkeypatch):
    found = make_ship(tmp_path, monkeypatch)
    start = commit(found.git, START, found.base)
    found.base = commit(found.git, LANDED, start)
    found.give(found.base)
    found.work.reset(found.base, "voyage")
    do(found, f"git branch main {start}")
    return found


@pytest.mark.parametrize(
    "script",
    [
        "git checkout -q main",
        "git checkout -q main; git checkout -q -b feature; echo nine >> a.txt; git rm -q b.txt; new f",
        "git checkout -q --detach main; echo nine >> a.txt; rm b.txt; echo f > f",
        "git reset -q --hard main; echo nine >> a.txt; rm b.txt; new f",
        "git checkout -q -b feature main; new f; git merge -q --no-edit main; echo nine >> a.txt; rm b.txt",
    ],
)
def test_a_branch_from_an_older_commit_undoes_no_landing(ship, script):
    do(ship, script)
    saved = Saved(ship)
    assert saved.unfit is None
    if script == "git checkout -q main":
        assert saved.empty
        return
    assert saved.files == {"a.txt": b"one\n2\n3\n4\n5\n6\n7\n8\n9\nnine\n", "landed.txt": b"l\n", "f": b"f\n"}


@pytest.mark.parametrize(
    ("script", "undone"),
    [
        ("git checkout -q -b feature main; echo other > a.txt; new f", ["gone.txt", "landed.txt"]),
        (
            "git checkout -q -b feature; git rm -q landed.txt; new f; git reset -q --soft main; git commit -qm x",
            ["landed.txt"],
        ),
    ],
)
def test_one_that_does_not_merge_is_handed_back_and_saved(ship, script, undone):
    do(ship, script)
    saved = Saved(ship)
    assert f"lacks commit {ship.base}" in saved.unfit.reason
    assert saved.unfit.paths == undone
    assert saved.has("f", "refs/heads/feature")
    assert not ship.work.snapshot(ship.base, "rescue-1", lenient=True).empty


@pytest.mark.parametrize(
    "script",
    [
        "echo 2 > landed.txt; git commit -qa --amend -m amended",
        "git reset -q --soft main; echo 2 > landed.txt; git commit -qam squashed",
        "git checkout -q --orphan own; echo 2 > landed.txt; git rm -q --cached b.txt; git commit -qam own",
        "git revert --no-edit HEAD; echo 2 > landed.txt",
    ],
)
def test_what_an_agent_rewrote_lands_as_it_is(ship, script):
    do(ship, script)
    saved = Saved(ship)
    assert saved.unfit is None
    assert saved.files["landed.txt"] == b"2\n"
    assert ("one" in saved.files["a.txt"].decode()) == ("revert" not in script)
