"""A damaged, incomplete or hostile repository of an agent's costs nothing but what is damaged in it."""

from __future__ import annotations

import os
import threading

import pytest

from ocaptain.git import Git
from ocaptain.worker import repository
from ocaptain.worker.tips import linked_worktrees, read_tips
from tests.unit.test_agent_git import Saved, do, make_ship

GOOD = "git checkout -q -b good; new f; git checkout -q voyage;"
BAD = "git checkout -q -b bad; new g; git checkout -q voyage;"
DEEP = "/".join(["d"] * 120)


@pytest.fixture
def ship(tmp_path, monkeypatch):
    return make_ship(tmp_path, monkeypatch)


def object_path(revision):
    return f".git/objects/$(git rev-parse {revision} | sed 's,^..,&/,')"


@pytest.mark.parametrize(
    "harm",
    [
        f"{BAD} o={object_path('bad')}; chmod +w $o; : > $o",
        f"{BAD} rm -f {object_path('bad')}",
        f"{BAD} rm -f {object_path('bad:')}",
        f"{BAD} rm -f {object_path('bad:g')}",
        f"git checkout -q -b bad; mkdir -p {DEEP}; cd {DEEP}; new g; git checkout -q voyage",
    ],
)
def test_one_damaged_branch_costs_no_other(ship, harm):
    do(ship, GOOD + harm)
    saved = Saved(ship)
    assert saved.has("f", "refs/heads/good")
    assert [text.partition(":")[0] for text in saved.left_out] == ["refs/heads/bad"]


def test_a_clone_without_all_files_is_saved_as_the_files_that_it_has(ship):
    do(
        ship,
        'git init -q "$out/s"; cd "$out/s"; git config uploadpack.allowFilter true; git config'
        f" uploadpack.allowAnySHA1InWant true; new old; git rm -q old; new e; cd -; {GOOD}"
        ' git clone -q --filter=blob:none "file://$out/s" s; cd s; new g',
    )
    saved = Saved(ship)
    assert saved.has("f", "refs/heads/good")
    assert saved.has("g")


def test_a_worktree_that_is_named_by_a_relative_path_is_saved(ship):
    do(
        ship,
        'git worktree add -q --detach "$out/w"; echo f > "$out/w/f"; cd .git/worktrees/w;'
        ' realpath -m --relative-to=. "$out/w/.git" > gitdir',
    )
    assert Saved(ship).has("f", "worktree w: files")
    for text in ("", "/", "x/y", "."):
        (ship.root / ".git/worktrees/w/gitdir").write_text(text)
        assert [one.folder for one in linked_worktrees(ship.root / ".git")] == [None]


def test_commits_of_a_submodule_that_was_removed_are_saved(ship):
    do(
        ship,
        'git init -q "$out/s"; (cd "$out/s"; new g); git -c protocol.file.allow=always submodule add -q "$out/s" lib/s;'
        " (cd lib/s; new f); git rm -qrf --cached lib .gitmodules; rm -rf lib .gitmodules",
    )
    saved = Saved(ship)
    assert (saved.unfit, saved.empty) == (None, True)
    assert any(name.startswith("submodule lib/s: refs/heads/") for name in saved.elsewhere)
    assert saved.has("f")


def begin_with_submodule(ship):
    """Start an attempt on a base that has submodule lib/s, which is not fetched."""
    do(ship, 'git init -q "$out/s"; cd "$out/s"; new g')
    oid = Git(ship.outside / "s" / ".git").text("rev-parse", "HEAD")
    inner = ship.git.text("mktree", stdin=f"160000 commit {oid}\ts\n".encode())
    blob = ship.git.text("rev-parse", f"{ship.base}:a.txt")
    tree = ship.git.text("mktree", stdin=f"100644 blob {blob}\ta.txt\n040000 tree {inner}\tlib\n".encode())
    ship.base = ship.git.text("commit-tree", tree, "-p", ship.base, "-m", "sub")
    ship.give(ship.base)
    ship.work.reset(ship.base, "voyage")
    return oid


def test_a_fetched_submodule_is_handed_back_and_runs_nothing(ship):
    oid = begin_with_submodule(ship)
    owned = ship.outside / "owned"
    do(
        ship,
        'echo f > f; rmdir lib/s; git clone -q "$out/s" lib/s; cd lib/s; echo "* filter=x" > .git/info/attributes;'
        f" git config filter.x.clean 'touch {owned}; cat'; cp g h; mv h g; cd ../..;"
        " git config submodule.s.ignore none;"
        r" printf '[submodule \"s\"]\npath = lib/s\nurl = x\nignore = none\n' > .gitmodules",
    )
    owned.unlink(missing_ok=True)
    saved = Saved(ship)
    assert (saved.unfit.reason, saved.unfit.paths) == ("nested git repositories", ["lib/s"])
    assert not owned.exists()
    assert saved.has("f", "files")
    assert saved.git.text("rev-parse", f"{saved.tips['files'].commit}:lib/s") == oid, "it is not deleted"
    ship.work.reset(ship.base, "voyage")
    assert os.listdir(ship.root / "lib/s") == []
    do(ship, "echo g > lib/s/g; git init -q n")
    assert Saved(ship).has("lib/s/g", "files"), "plain files in its place are saved"


def test_worktrees_that_lead_in_circles_hold_nobody_up(ship):
    do(
        ship,
        f"{GOOD} mkdir .git/worktrees; cd .git/worktrees; for n in 1 2 3; do mkdir $n; ln -s .. $n/worktrees; done",
    )
    reader = threading.Thread(target=read_tips, args=(ship.root / ".git",), daemon=True)
    reader.start()
    reader.join(240)  # without an end it takes 3 to the power of 40 steps
    assert not reader.is_alive()


@pytest.mark.parametrize("script", ["rm a.txt; echo nonsense > .git/index", "new f; git rm -q a.txt; git commit -qm x"])
def test_a_pipe_as_configuration_holds_nobody_up(ship, script, monkeypatch):
    monkeypatch.setattr(repository, "GIT_SECONDS", 20)
    do(ship, f"{script}; rm .git/config; mkfifo .git/config")
    assert "a.txt" not in Saved(ship).files


def test_a_rescue_puts_every_nested_repository_back(ship):
    do(
        ship,
        "for n in 1 2; do git init -q n$n; (cd n$n; new f); done; cd n2; mkdir dot-git.rescued; > dot-git.rescued/x",
    )
    found = ship.work.snapshot(ship.base, "rescue-1", lenient=True)
    assert (found.empty, found.left_out) == (False, ())
    assert all((ship.root / name / ".git").is_dir() for name in ("n1", "n2"))
    assert (ship.root / "n2/dot-git.rescued/x").exists()
