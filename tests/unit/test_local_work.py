"""The user's commits: none is forgotten that comes at an odd moment, and a command is answered once."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import threading

import pytest

from ocaptain import process
from ocaptain.captain import workspace
from ocaptain.captain.local import LocalWork
from ocaptain.captain.ship.context import Context
from ocaptain.control import Answer, Command, carry_out
from ocaptain.control.listen import listening
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.git import BareRepository, Git, clear_quarantine
from ocaptain.ledger import Ledger
from ocaptain.voyage import land as verb
from ocaptain.voyage.home import VoyageDirectory
from ocaptain.voyage.land import CommitRequest, land
from tests.unit.test_ledger import make
from tests.unit.test_workspace import commit

BRANCH = "voyage-000000000000"
asking = importlib.import_module("ocaptain.control.ask")  # the package has a function of that name


class Voyage:
    """Ledger, repository and workspace/ of a voyage, without ships."""

    def __init__(self, directory):
        directory.mkdir()
        self.git = BareRepository(directory / "repo.git")
        subprocess.run(["git", "init", "-q", "--bare", self.git.directory], check=True)
        self.root = commit(self.git, {"a": "1\n"})
        self.git.update_ref(f"refs/heads/{BRANCH}", self.root)
        self.place = directory / "workspace"
        subprocess.run(["git", "clone", "-q", "-b", BRANCH, self.git.directory, self.place], check=True)
        self.ledger = make(directory / "ledger.db", {"1": frozenset()})
        self.context = Context.of(directory, self.ledger)
        self.work = LocalWork(directory, self.context)

    def commit(self, name):
        (self.place / name).write_text(f"{name}\n")
        git = Git(self.place)
        git.run("add", name)
        git.run("commit", "-q", "-m", name)

    def landed(self):
        return self.git.text("log", "--format=%s", BRANCH).splitlines()[:-1]


@pytest.fixture
def voyage(tmp_path):
    found = Voyage(tmp_path / BRANCH)
    yield found
    found.ledger.close()


@pytest.mark.parametrize("step", ["bring", "move"])
def test_a_commit_that_comes_during_a_landing_is_news(voyage, monkeypatch, step):
    """And lands with the next look, though nothing else lands."""
    real = getattr(workspace.Workspace, step)

    def meanwhile(place, *arguments):
        if not (voyage.place / "second").exists():
            voyage.commit("second")
        return real(place, *arguments)

    monkeypatch.setattr(workspace.Workspace, step, meanwhile)
    voyage.commit("first")
    assert len(asyncio.run(voyage.work.sync()).landed) == 1
    assert voyage.work.has_news()
    assert len(asyncio.run(voyage.work.sync()).landed) == 1
    assert voyage.landed() == ["second", "first"]
    asyncio.run(voyage.work.sync())
    assert not voyage.work.has_news()


def test_commits_that_conflict_again_and_again_are_brought_once(voyage):
    """They are tried with each landing of a ship, and may be large."""
    voyage.commit("a")
    head = commit(voyage.git, {"a": "theirs\n"}, voyage.root)
    voyage.git.update_ref(f"refs/heads/{BRANCH}", head)
    packs = voyage.git.directory / "objects/pack"
    assert asyncio.run(voyage.work.sync()).conflicts
    before = sorted(packs.iterdir())
    assert asyncio.run(voyage.work.sync()).conflicts
    assert sorted(packs.iterdir()) == before != []


def test_what_a_killed_captain_was_bringing_is_cleared_by_the_next_one(voyage, monkeypatch):
    real, paths = workspace.write_bundle, []

    def write(*arguments):
        paths.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(workspace, "write_bundle", write)
    before = {one.name for one in voyage.place.parent.iterdir()}
    voyage.commit("mine")
    assert asyncio.run(voyage.work.sync()).landed
    (path,) = paths
    path.parent.mkdir()
    path.write_bytes(b"half")
    clear_quarantine(voyage.git)
    assert not path.exists()
    assert {one.name for one in voyage.place.parent.iterdir()} == before


def test_a_command_that_is_repeated_is_carried_out_and_answered_once(voyage):
    async def both():
        carried_out = []

        async def land():
            carried_out.append(1)
            return Answer(done=True, said=str(len(carried_out)))

        first = voyage.work.answer_once("0" * 16, land)
        again = voyage.work.answer_once("0" * 16, land)
        other = voyage.work.answer_once("1" * 16, land)
        return [answer.said for answer in await asyncio.gather(first, again, other)]

    assert asyncio.run(both()) == ["1", "1", "2"]


def test_a_landing_that_takes_long_is_waited_for(voyage, monkeypatch):
    directory = voyage.place.parent
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(asking, "MAX_WAIT_SECONDS", 0.2)
    landings = []

    async def land():
        landings.append(1)
        await asyncio.sleep(1)
        return Answer(done=True, said="1 commit landed")

    async def play(*more):
        async with listening(directory, lambda command: voyage.work.answer_once(command.id, land)):
            return (await asyncio.to_thread(asking.ask, directory, Command(name="land"), carry_out, *more)).said

    with process.Lock(process.captain_lock_path(directory)) as lock:
        assert lock.acquire()
        assert asyncio.run(play(60.0)) == "1 commit landed"
        assert landings == [1]
        with pytest.raises(OcaptainError, match="does not answer"):
            asyncio.run(play())


def test_what_must_not_be_cancelled_is_not_when_commits_land(voyage, monkeypatch):
    """A ship that is being made would be made twice, and destroyed while it is made."""
    monkeypatch.setattr("ocaptain.captain.local.BOUND_SECONDS", 0.01)

    async def sail():
        bound, steps = threading.Event(), []

        async def work():
            bound.set()
            voyage.commit("mine")
            assert (await voyage.work.sync()).landed
            for _ in range(20):  # turns of the loop, in any of which it could be cancelled
                await asyncio.sleep(0.005)
            steps.append("made")
            bound.clear()
            await asyncio.sleep(3600)

        assert await voyage.work.unless_landed(work, bound.is_set) is None
        return steps

    assert asyncio.run(sail()) == ["made"]


# -- the command ----------------------------------------------------------------------------------------


@pytest.fixture
def ended(voyage, monkeypatch):
    """A voyage that is complete, whose user has a name; captains that would be started are listed."""
    voyage.ledger.set_state("complete")
    voyage.ledger.record_verify(ok=True, code=0, clean=True, commit=voyage.root, tail="", ship="ship-0")
    voyage.ledger.close()
    voyage.started = []
    monkeypatch.setattr(verb.process, "start_captain", voyage.started.append)
    for name, value in {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}.items():
        monkeypatch.setenv(name, value)
    voyage.own = VoyageDirectory(voyage.place.parent)
    return voyage


@pytest.mark.parametrize("path", ["no-such-file", "out.log", "link/x"])
def test_a_file_that_cannot_be_committed_is_a_wrong_input(ended, path):
    (ended.place / ".git/info").mkdir(exist_ok=True)
    (ended.place / ".git/info/exclude").write_text("*.log\n")
    (ended.place / "out.log").write_text("ignored\n")
    (ended.place / "link").symlink_to("/")
    with pytest.raises(UsageError, match="nothing was committed in") as refused:
        land(ended.own, CommitRequest((path,), "mine"))
    assert "\n" not in refused.value.message
    assert ended.landed() == []


def test_a_file_may_be_named_by_a_link_to_its_voyage(ended, tmp_path):
    (tmp_path / "short").symlink_to(ended.place.parent)
    (ended.place / "mine").write_text("1\n")
    assert len(land(ended.own, CommitRequest((str(tmp_path / "short/workspace/mine"),), "mine")).commits) == 1


def test_a_landing_whose_command_was_killed_is_verified_after_the_next_one(ended, monkeypatch):
    """It died when the commits were on the branch, and the voyage was complete still."""
    ended.commit("mine")
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "set_state", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            land(ended.own, CommitRequest())
    assert (ended.landed(), ended.own.voyage().state) == (["mine"], "complete")
    assert "nothing to land" in land(ended.own, CommitRequest()).said
    assert ended.own.voyage().state == "running"
    assert ended.started == [ended.own.path]
    land(ended.own, CommitRequest())
    assert ended.started == [ended.own.path]


def test_a_voyage_that_is_sunk_before_its_lock_is_free_takes_nothing(ended, monkeypatch):
    real = verb.ask

    def ask(directory, *arguments):
        with Ledger(directory / "ledger.db") as ledger:
            ledger.take_command()
            ledger.set_state("sunk")
        return real(directory, *arguments)

    monkeypatch.setattr(verb, "ask", ask)
    ended.commit("mine")
    with pytest.raises(UsageError, match="it is sunk; save your commits"):
        land(ended.own, CommitRequest())
    assert ended.landed() == []


def test_a_commit_that_the_captain_saw_before_the_command_is_told_as_landed(ended, monkeypatch):
    real = verb.ask

    def ask(*arguments):
        assert len(real(*arguments).commits) == 1  # as the captain does by itself
        return real(*arguments)

    monkeypatch.setattr(verb, "ask", ask)
    (ended.place / "mine").write_text("1\n")
    (ended.place / "left").write_text("1\n")
    answer = land(ended.own, CommitRequest(("mine",), "mine"))
    assert answer.commits == (ended.git.resolve(f"refs/heads/{BRANCH}"),)
    assert answer.said == f"1 commit landed, up to {answer.commits[0][:10]}; not committed, so not landed: left"
