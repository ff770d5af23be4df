"""The user's commits and edits in ``workspace/``, beside ships that land, captains that die and conflicts.

Ledger, git, lander and ``workspace/`` are the real ones; only the ships are played. After each there is calm, and then
all of the user's commits have landed. ``OCAPTAIN_STORM=1`` (``make storm``) plays 200 of them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ocaptain.captain.landing import Conflicted, Landed
from ocaptain.captain.local import LocalWork
from ocaptain.captain.ship.context import Context
from ocaptain.captain.workspace import Workspace
from ocaptain.git import BareRepository, Git
from ocaptain.ledger import Ledger
from ocaptain.protocol.messages import Bundle, Snapshot
from tests.unit.test_ledger import make
from tests.unit.test_workspace import commit

BRANCH = "voyage-000000000000"
FILES = ("a", "b", "c")
NEW = ("new-0", "new-1")
TASKS = 40
ADA = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_AUTHOR_DATE": "1700000000 +0100"}
STEPS = ("begin_local", "update_ref", "finish_local", "move")
names = st.sampled_from(FILES + NEW)


class Crash(BaseException):
    """The captain dies here."""


def clean():
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


class LocalStorm(RuleBasedStateMachine):
    """See the module.

    Attributes:
        edits: what the user wrote and has not committed, by file.
        made: the subjects of the user's commits, with the file and the content of each.
    """

    def __init__(self):
        super().__init__()
        self.room = tempfile.TemporaryDirectory()
        self.directory = Path(self.room.name) / BRANCH
        self.directory.mkdir()
        subprocess.run(["git", "init", "-q", "--bare", self.directory / "repo.git"], check=True)
        self.git = BareRepository(self.directory / "repo.git")
        self.root = commit(self.git, dict.fromkeys(FILES, "0\n"))
        self.git.update_ref(f"refs/heads/{BRANCH}", self.root)
        self.git.run("symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")
        subprocess.run(["git", "clone", "-q", self.directory / "repo.git", self.directory / "workspace"], check=True)
        self.place = self.directory / "workspace"
        self.ledger = make(self.directory / "ledger.db", {str(n): frozenset() for n in range(1, TASKS + 1)})
        self.former = []
        self.edits: dict[str, str] = {}
        self.made: dict[str, tuple[str, str]] = {}
        self.count = 0
        self.told = None

    @initialize()
    def begin(self):
        self.command()

    def teardown(self):
        try:
            self.calm()
        finally:
            for one in (self.ledger, *self.former):
                one.close()
            self.room.cleanup()

    # -- who acts ---------------------------------------------------------------------------------

    def command(self):
        """A captain starts."""
        if self.ledger.epoch:
            self.former.append(self.ledger)
            self.ledger = Ledger(self.directory / "ledger.db")
        self.ledger.take_command()
        self.context = Context.of(self.directory, self.ledger)
        self.context.lander.reconcile()
        self.work = LocalWork(self.directory, self.context)

    def user(self, *arguments, code=0):
        """The user runs git in workspace/."""
        identity = {"GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}
        done = subprocess.run(
            ["git", "-C", self.place, *arguments],
            env={**clean(), **ADA, **identity},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, (arguments, done)
        return done.stdout

    def head(self):
        return self.git.resolve(f"refs/heads/{BRANCH}")

    @rule(name=names)
    def edit(self, name):
        """The user writes a file, tracked or not."""
        self.count += 1
        self.edits[name] = f"user {self.count}\n"
        (self.place / name).write_text(self.edits[name])

    @rule(name=names, forged=st.booleans())
    def commit(self, name, forged):
        """The user commits one file; others stay as they are."""
        if name not in self.edits:
            self.edit(name)
        self.count += 1
        subject = f"mine {self.count}"
        body = "\n\nTask: 1\nShip: ship-9\nAttempt: 3\n" if forged else "\n\nbecause\n"
        self.user("add", "--", name)
        if self.user("status", "--porcelain", "--", name)[:1].strip():
            self.user("commit", "-q", "-m", f"{subject}{body}", "--only", "--", name)
            self.made[subject] = (name, self.edits[name])
        del self.edits[name]

    @rule(name=names, ship=st.sampled_from(["ship-0", "ship-1"]))
    def ship_lands(self, name, ship):
        """A ship's work on the head lands."""
        claim = self.ledger.claim(ship)
        if claim is None:
            return
        base = self.head()
        self.ledger.record_start(claim.token, base)
        files = {one: self.git.text("show", f"{base}:{one}") + "\n" for one in self.listed(base)}
        self.count += 1
        made = commit(self.git, {**files, name: f"ship {self.count}\n"}, base)
        self.ledger.record_offer(claim.token, work=made, code=0, seconds=1.0)
        offer = Snapshot(commit=made, base=base, empty=False, bundle=Bundle(parts=()))
        verdict = asyncio.run(self.context.lander.land(claim, base, offer, None, {}))
        assert isinstance(verdict, (Landed, Conflicted))

    def listed(self, commit):
        return self.git.text("ls-tree", "--name-only", commit).splitlines()

    @rule(dies=st.sampled_from([None, None, *STEPS]), before=st.booleans())
    def sync(self, dies=None, before=False):
        """The captain looks at workspace/; it may die at any step."""
        try:
            with pytest.MonkeyPatch.context() as patch:
                if dies:
                    self.die_at(patch, dies, before=before)
                self.told = asyncio.run(self.work.sync())
        except Crash:
            self.command()

    def die_at(self, patch, name, *, before):
        where = {"update_ref": Git, "move": Workspace}.get(name, self.ledger)
        real = getattr(where, name)

        def die(*arguments, **more):
            if name == "update_ref" and not str(arguments[1]).startswith("refs/heads/"):
                return real(*arguments, **more)
            if not before:
                real(*arguments, **more)
            raise Crash

        patch.setattr(where, name, die)

    @rule()
    def crash(self):
        self.command()

    @rule()
    def resolve(self):
        """The user does what a conflict said; what they wrote wins, and what was not committed is committed first."""
        if not (self.told and self.told.conflicts):
            return
        for name in list(self.edits):
            self.commit(name, forged=False)
        self.user("pull", "-q", "--rebase", "--autostash", "-X", "theirs")
        self.told = None

    # -- promises -----------------------------------------------------------------------------------

    @invariant()
    def no_edit_is_lost(self):
        for name, content in self.edits.items():
            assert (self.place / name).read_text() == content, name

    @invariant()
    def no_commit_is_lost_and_none_lands_twice(self):
        landed = self.subjects(self.git, f"{self.root}..{BRANCH}")
        assert len(landed) == len(set(landed)), landed
        # What has not landed is on workspace/'s branch, as the user made it or rebased it.
        assert set(self.made) - set(landed) <= set(self.subjects(Git(self.place), "HEAD"))

    def subjects(self, git, revisions):
        return [line for line in git.text("log", "--format=%s", revisions).splitlines() if line.startswith("mine")]

    @invariant()
    def history_is_linear_and_each_commit_is_its_authors(self):
        assert self.git.text("rev-list", "--min-parents=2", BRANCH) == ""
        form = "%s%x00%an%x00%ae%x00%ad%x00%cn%x00%(trailers:key=Ship,valueonly,separator=%x2C)%x00%(trailers:key=Task)"
        for line in self.git.text("log", "--date=raw", f"--format={form}", f"{self.root}..{BRANCH}").splitlines():
            if not line:
                continue
            subject, name, mail, date, committer, ship, task = line.split("\0")
            assert committer == "ocaptain"
            if subject.startswith("mine"):
                assert (name, mail, date) == ("Ada", "ada@example.org", "1700000000 +0100")
                assert (ship, task) == ("local", "")
            else:
                assert (name, ship) == (ship, name)
                assert task

    @invariant()
    def the_ledger_knows_each_landing(self):
        known = self.ledger.landed_commits()
        assert known == self.git.text("rev-list", "--reverse", f"{self.root}..{BRANCH}").split()

    def calm(self):
        """The captain looks on, and the user does what it says: all has landed, and workspace/ has it."""
        self.command()
        for _ in range(12):
            self.sync()
            self.no_edit_is_lost()
            if self.told.conflicts:
                self.resolve()
            elif self.told.note or self.edits:
                for name in list(self.edits):
                    self.commit(name, forged=False)
            elif self.user("rev-parse", "HEAD").strip() == self.head():
                break
        assert set(self.subjects(self.git, BRANCH)) == set(self.made)
        assert self.user("rev-parse", "HEAD").strip() == self.head()
        assert self.user("status", "--porcelain") == ""
        for check in (self.no_commit_is_lost_and_none_lands_twice, self.the_ledger_knows_each_landing):
            check()
        self.history_is_linear_and_each_commit_is_its_authors()


TestLocalStorm = LocalStorm.TestCase
TestLocalStorm.settings = settings(
    max_examples=200 if os.environ.get("OCAPTAIN_STORM") else 15,
    stateful_step_count=16,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLocalStorm = pytest.mark.timeout(3600)(TestLocalStorm)
