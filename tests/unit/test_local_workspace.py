"""``workspace/`` moves on after a landing only where nothing of the user's is lost, however git would have it."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess

import pytest

from ocaptain.captain.workspace import Workspace
from ocaptain.git import BareRepository, Git
from ocaptain.ledger import Ledger, LocalIntent
from tests.unit.test_ledger import make
from tests.unit.test_workspace import commit

BRANCH = "voyage-000000000000"


class Clone:
    """A voyage's repository with a head that has more than workspace/ has."""

    def __init__(self, root):
        subprocess.run(["git", "init", "-q", "--bare", root / "repo.git"], check=True)
        self.git = BareRepository(root / "repo.git")
        self.old = commit(self.git, {"a": "1\n", "b": "1\n", ".gitignore": "*.log\n"})
        self.git.update_ref(f"refs/heads/{BRANCH}", self.old)
        subprocess.run(["git", "clone", "-q", "-b", BRANCH, root / "repo.git", root / "workspace"], check=True)
        more = {"a": "2\n", "b": "1\n", ".gitignore": "*.log\n", "out.log": "theirs\n", "new/x": "theirs\n"}
        self.new = commit(self.git, more, self.old)
        self.git.update_ref(f"refs/heads/{BRANCH}", self.new)
        self.place = root / "workspace"
        self.workspace = Workspace(self.place, root / "repo.git", BRANCH)

    def move(self):
        return self.workspace.move(self.old, self.new)

    def head(self):
        return Git(self.place).resolve("HEAD")


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


def test_edits_staged_files_and_new_ones_stay(clone):
    (clone.place / "b").write_text("edited\n")
    (clone.place / "mine").write_text("new\n")
    (clone.place / "staged").write_text("staged\n")
    Git(clone.place).run("add", "staged")
    assert clone.move() is None
    assert clone.head() == clone.new
    assert [(clone.place / name).read_text() for name in ("a", "b", "mine", "staged")] == [
        "2\n",
        "edited\n",
        "new\n",
        "staged\n",
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a", "Commit or stash what is in the way"),
        ("out.log", "would be overwritten: out.log"),  # git itself overwrites what it ignores
        ("new", "would be overwritten: new"),
    ],
)
def test_it_stays_where_something_of_the_users_is_in_the_way(clone, name, says):
    (clone.place / name).write_text("mine\n")
    assert says in clone.move()
    assert clone.head() == clone.old
    assert (clone.place / name).read_text() == "mine\n"


def test_what_is_staged_alone_is_not_forgotten(clone):
    (clone.place / "b").write_text("staged\n")
    Git(clone.place).run("add", "b")
    (clone.place / "b").write_text("edited\n")
    assert "what is staged differs from the file: b" in clone.move()
    assert Git(clone.place).text("show", ":b") == "staged"


def test_a_commit_of_that_very_moment_is_kept(clone, monkeypatch):
    """Its user commits between the last look and the reset."""
    real, own = Git.run, {"GIT_AUTHOR_NAME": "Ada"}

    def run(git, *arguments, **more):
        if arguments[:1] == ("reset",) and not (clone.place / "late").exists():
            (clone.place / "late").write_text("late\n")
            real(git, "add", "late")
            real(git, "commit", "-q", "-m", "late", extra=own)
        return real(git, *arguments, **more)

    monkeypatch.setattr(Git, "run", run)
    assert clone.move() is None
    assert Git(clone.place).text("log", "-1", "--format=%s") == "late"
    assert (clone.place / "late").read_text() == "late\n"
    at = clone.workspace.look(clone.new)
    assert [one.subject for one in at.commits] == ["late"]


def test_the_tip_is_read_without_git(clone):
    assert clone.workspace.read_tip() == clone.old
    Git(clone.place).run("pack-refs", "--all")
    assert clone.workspace.read_tip() is None  # more than one file would have to be read: `land` looks


def test_a_ledger_of_an_earlier_version_gets_its_table(tmp_path):
    make(tmp_path / "ledger.db", {"1": frozenset()}).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.execute("DROP TABLE local_landings")
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.take_command()
        ledger.begin_local(LocalIntent(1, "refs/heads/v", "0" * 40, "2" * 40, (("1" * 40, "2" * 40),)))
        assert ledger.landed_of(["1" * 40]) == {}
        ledger.finish_local(1)
        assert ledger.landed_of(["1" * 40, "3" * 40]) == {"1" * 40: "2" * 40}
        assert (ledger.last_landing(), ledger.next_local_number()) == ("2" * 40, 2)
