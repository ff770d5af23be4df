"""The user's commits: none is forgotten that comes at an odd moment, and a command is answered once."""

from __future__ import annotations

import asyncio
import subprocess
import threading

import pytest

from ocaptain.captain import workspace
from ocaptain.captain.local import LocalWork
from ocaptain.captain.ship.context import Context
from ocaptain.control.commands import Answer
from ocaptain.git import BareRepository, Git, clear_quarantine
from tests.unit.test_ledger import make
from tests.unit.test_workspace import commit

BRANCH = "voyage-000000000000"


class Voyage:
    """Ledger, repository and workspace/ of a voyage, without ships."""

    def __init__(self, directory):
        directory.mkdir()
        self.git = BareRepository(directory / "repo.git")
        subprocess.run(["git", "init", "-q", "--bare", self.git.directory], check=True)
        self.git.update_ref(f"refs/heads/{BRANCH}", commit(self.git, {"a": "1\n"}))
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
