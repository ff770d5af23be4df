"""The user's commits and edits in ``workspace/``, beside ships that land, captains that die and conflicts.

Ledger, git, lander, ``workspace/``, what the final verify asks of it and the command ``land`` are the real ones; only
the ships are played. Ledgers go back in time, too. After each there is calm, and then all of the user's commits have
landed. ``OCAPTAIN_STORM=1`` (``make storm``) plays 200 of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ocaptain.captain.adopt import adopt_landings
from ocaptain.captain.landing import Conflicted, Landed
from ocaptain.captain.local import LocalWork
from ocaptain.captain.ship.context import Context
from ocaptain.captain.workspace import Workspace
from ocaptain.errors import OcaptainError
from ocaptain.git import BareRepository, Git
from ocaptain.ledger import Ledger
from ocaptain.protocol.messages import Bundle, Snapshot
from ocaptain.voyage import land as verb
from ocaptain.voyage.home import VoyageDirectory
from ocaptain.voyage.land import CommitRequest, land
from tests.unit.test_ledger import make
from tests.unit.test_workspace import commit

BRANCH = "voyage-000000000000"
FILES = ("a", "b", "c")
NEW = ("new-0", "new-1")
TASKS = 40
ADA = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_AUTHOR_DATE": "1700000000 +0100"}
STEPS = ("begin_local", "update_ref", "finish_local", "move", "reset")
names = st.sampled_from(FILES + NEW)


class Crash(BaseException):
    """The captain dies here."""


def clean():
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


class LocalStorm(RuleBasedStateMachine):
    """See the module.

    Attributes:
        edits: what the user wrote and has not committed, by file.
        made: the subjects of the user's commits.
        dated: those of them whose date ``land`` chose.
        copies: of the ledger, as each captain found it.
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
        with contextlib.closing(sqlite3.connect(self.directory / "ledger.db")) as db:
            db.execute("UPDATE voyage SET root = ?", (self.root,))
            db.commit()
        self.former = []
        self.edits: dict[str, str] = {}
        self.made: set[str] = set()
        self.dated: set[str] = set()
        self.copies: list[Path] = []
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
        adopt_landings(self.git, self.ledger, f"refs/heads/{BRANCH}")
        self.ledger.set_state("running")
        self.work = LocalWork(self.directory, self.context)
        copy = Path(self.room.name) / f"copy-{len(self.copies)}"
        both = (contextlib.closing(sqlite3.connect(path)) for path in (self.directory / "ledger.db", copy))
        with next(both) as db, next(both) as other:
            db.backup(other)
            other.execute("PRAGMA journal_mode = DELETE")
        self.copies.append(copy)

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
            self.made.add(subject)
            assert self.work.has_news()
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
                    self.at(patch, dies, self.die, before=before)
                self.told = asyncio.run(self.work.sync())
            assert not self.work.has_news()  # else the captain would look each second, for nothing
        except Crash:
            self.command()

    @rule(step=st.sampled_from(STEPS), name=names, commits=st.booleans(), before=st.booleans())
    def act_meanwhile(self, step, name, commits, before):
        """The user writes or commits in the very moment in which the captain takes a step."""
        once = [lambda: self.commit(name, forged=False) if commits else self.edit(name)]
        with pytest.MonkeyPatch.context() as patch:
            self.at(patch, step, lambda: once.pop()() if once else None, before=before)
            self.told = asyncio.run(self.work.sync())
        self.told = None  # it may speak of what was there before

    @staticmethod
    def die():
        raise Crash

    def at(self, patch, step, do, *, before):
        """Have something be done before or after the captain takes a step."""
        where, name = {"update_ref": (Git, step), "move": (Workspace, step), "reset": (Git, "run")}.get(
            step, (Ledger, step)
        )
        real = getattr(where, name)

        def run(*arguments, **more):
            is_other = step == "update_ref" and not str(arguments[1]).startswith("refs/heads/")
            if is_other or (step == "reset" and arguments[1] != "reset"):
                return real(*arguments, **more)
            if before:
                do()
            found = real(*arguments, **more)
            if not before:
                do()
            return found

        patch.setattr(where, name, run)

    @rule()
    def crash(self):
        self.command()

    @rule(draw=st.randoms(use_true_random=False))
    def go_back(self, draw):
        """The machine's image is rolled back, say: the ledger is one of before, the repository is not."""
        for one in (self.ledger, *self.former):
            one.close()
        self.former.clear()
        for name in ("ledger.db-wal", "ledger.db-shm"):
            (self.directory / name).unlink(missing_ok=True)
        shutil.copyfile(draw.choice(self.copies), self.directory / "ledger.db")
        self.ledger = Ledger(self.directory / "ledger.db")
        self.command()

    @rule(name=st.none() | names, dies=st.sampled_from([None, None, *STEPS]), before=st.booleans())
    def land(self, name=None, dies=None, before=False):
        """The captain has died, and the user types ``ocaptain land``, with -m PATH or without; it may be killed."""
        request = CommitRequest()
        if name:
            if name not in self.edits:
                self.edit(name)
            self.count += 1
            request = CommitRequest((str(self.place / name),), f"mine {self.count}")
        try:
            with pytest.MonkeyPatch.context() as patch:
                for key in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"):
                    patch.setenv(key, ADA[key])
                patch.setattr(verb.process, "start_captain", lambda _: None)
                if dies:
                    self.at(patch, dies, self.die, before=before)
                land(VoyageDirectory(self.directory), request)
        except (Crash, OcaptainError):
            pass  # killed, refused or in conflict
        if name:
            self.made.add(request.message)
            self.dated.add(request.message)
            assert request.message in self.subjects(Git(self.place), "--all")
            del self.edits[name]
        self.command()

    @rule(name=names, commits=st.booleans())
    def verify(self, name, commits):
        """The final verify passes; the user may commit meanwhile, and commits after the end."""
        self.sync()
        verified, went_on = self.head(), asyncio.Event()

        async def run():
            await went_on.wait()
            return "passed"

        async def user():
            if commits:
                self.commit(name, forged=False)
                self.told = await self.work.sync()
            went_on.set()

        async def both():
            result, _ = await asyncio.gather(self.work.unless_landed(run), user())
            return result, await self.work.close(verified)

        result, is_over = asyncio.run(both())
        assert (result, is_over) == ((None, False) if self.head() != verified else ("passed", True))
        if is_over:
            self.ledger.set_state("complete")
            self.commit(name, forged=True)
            asyncio.run(self.work.sync())
            assert self.head() == verified  # what is complete does not change because somebody commits
            self.land()
            assert self.ledger.voyage().state == "running"

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
        assert self.made - set(landed) <= set(self.subjects(Git(self.place), "HEAD"))

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
                assert (name, mail) == ("Ada", "ada@example.org")
                assert date == "1700000000 +0100" or subject in self.dated
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
        assert set(self.subjects(self.git, BRANCH)) == self.made
        assert self.user("rev-parse", "HEAD").strip() == self.head()
        assert self.user("status", "--porcelain") == ""
        for check in (self.no_commit_is_lost_and_none_lands_twice, self.the_ledger_knows_each_landing):
            check()
        self.history_is_linear_and_each_commit_is_its_authors()


TestLocalStorm = LocalStorm.TestCase
TestLocalStorm.settings = settings(
    max_examples=200 if os.environ.get("OCAPTAIN_STORM") else 20,
    stateful_step_count=16,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],  # to shrink a failure takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
TestLocalStorm = pytest.mark.timeout(3600)(TestLocalStorm)
