"""The files of running attempts, against real workers: what of them is known, kept and given to the next attempt."""

from __future__ import annotations

import asyncio
import time

import pytest

from ocaptain.captain.decide import live as pace
from ocaptain.captain.transport import ShipGone
from ocaptain.git import Git
from ocaptain.ledger import Ledger
from tests.voyage.local import landed, make_voyage, sail


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Ask ten times a second."""
    monkeypatch.setattr("ocaptain.captain.ship.live.Pace", lambda: pace.Pace(0.1))
    monkeypatch.setattr("ocaptain.captain.ship.live.next_pace", lambda one, **_: one)


async def until(check, seconds=40):
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.02)
    return found


def refs(directory):
    return Git(directory / "repo.git").refs("refs/ocaptain")


def file_at(directory, commit, path):
    return Git(directory / "repo.git").text("cat-file", "blob", f"{commit}:{path}")


def test_a_ship_that_is_destroyed_costs_its_attempt_and_not_its_work(tmp_path, ships):
    end = tmp_path / "end"
    line = (
        'if [ "$OCAPTAIN_ATTEMPT" = 1 ]; then echo half > half; touch .git/index.lock; sleep 60; '
        'else cat > prompt; lost=$(git for-each-ref --format="%(refname)" refs/ocaptain); '
        'git show "$lost:half" > whole; echo "$lost" >> whole; test ! -e half; fi'
    )
    directory = make_voyage(tmp_path, [{"run": line}], 2)
    fleet = ships(2)

    async def destroy(captain):
        def known():
            found = captain.ledger.live_attempts(over=False)
            return found and found[0].live["commit"] and found[0]

        found = await until(known)
        assert found.live["files"] == 1
        assert refs(directory)[f"refs/ocaptain/live/{found.ship}"] == found.live["commit"]
        gone = fleet[int(found.ship[-1])]

        async def refuse():
            raise ShipGone("the sprite is gone")

        gone.open = refuse
        gone.cut()
        end.touch()

    assert asyncio.run(sail(directory, fleet, meanwhile=destroy)) == "complete"
    assert end.exists()
    (lost,) = [ref for ref in refs(directory) if "/lost-" in ref]
    assert file_at(directory, refs(directory)[lost], "half") == "half"
    head = Git(directory / "repo.git").text("rev-parse", "HEAD")
    assert file_at(directory, head, "whole").split() == ["half", lost]
    assert f"git diff {lost}^ {lost}" in file_at(directory, head, "prompt")
    assert not [ref for ref in refs(directory) if "/live/" in ref]
    assert not [ref for ref in refs(directory) if "/other/" in ref]


def test_an_attempt_that_ends_leaves_no_live_ref_and_no_lost_one(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a; sleep 3; echo 2 > b"}, {"run": "echo 3 > c"}])
    seen = set()

    async def watch(captain):
        while True:
            seen.update(ref for ref in refs(directory) if "/live/" in ref)
            await asyncio.sleep(0.05)

    assert asyncio.run(sail(directory, ships(1), meanwhile=watch)) == "complete"
    assert seen == {"refs/ocaptain/live/ship-0"}
    assert sorted(landed(directory)) == ["1", "2"]
    assert sorted(refs(directory)) == ["refs/ocaptain/tasks/1/1/work", "refs/ocaptain/tasks/2/1/work"]
    with Ledger(directory / "ledger.db") as ledger:
        assert ledger.live_attempts(over=True) == ledger.live_attempts(over=False) == []
