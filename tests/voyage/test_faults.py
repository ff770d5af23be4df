"""Whose fault it is, with real workers: ships that hold a task for ever, and what is our own fault."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from pathlib import Path

from ocaptain.captain import soundness
from ocaptain.captain.decide import judge
from ocaptain.captain.ship import actor as actors
from ocaptain.captain.transport import TransportError
from ocaptain.git import Git
from tests.voyage.local import VOYAGE, LocalShip, landed, make_voyage, sail
from tests.voyage.test_captain import run, until


def events(captain_or_ledger, kind):
    return [row["text"] for row in captain_or_ledger.rows("events", "n") if row["kind"] == kind]


class Rows:
    """What a voyage's ledger says after its end."""

    def __init__(self, directory: Path) -> None:
        from ocaptain.ledger import Ledger

        with Ledger(directory / "ledger.db") as ledger:
            self.tasks = {row["id"]: row for row in ledger.rows("tasks", "position")}
            self.ships = {row["id"]: row for row in ledger.rows("ships", "position")}
            self.attempts = ledger.rows("attempts", "token")
            self.events = ledger.rows("events", "n")
            self.voyage = ledger.voyage()


def test_a_supervisor_that_was_stopped_costs_no_task_its_tries(tmp_path, ships, monkeypatch):
    """An agent may stop it by sudo: the worker answers, and the attempt never ends."""
    monkeypatch.setattr(judge, "GRACE_SECONDS", 5.0)
    monkeypatch.setattr(actors, "END_SECONDS", 2.0)
    stop = "if [ $OCAPTAIN_SHIP = ship-0 ]; then kill -STOP $PPID; kill -STOP $$; fi; echo 1 > a"
    directory = make_voyage(tmp_path, [{"run": stop, "timeout": 10, "stall": 3600, "wish": "ship-0"}], 2)
    assert run(sail(directory, ships(2))) == "complete"
    found = Rows(directory)
    assert (found.tasks["1"]["tries"], found.tasks["1"]["attempts"]) == (0, 2)
    assert found.ships["ship-0"]["state"] == "failed"
    assert "did not end the attempt" in found.ships["ship-0"]["reason"]


def test_a_ship_that_is_silent_about_an_attempt_for_longer_than_it_may(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(judge, "GRACE_SECONDS", 5.0)
    monkeypatch.setattr(actors, "END_SECONDS", 2.0)
    stop = "if [ $OCAPTAIN_SHIP = ship-0 ]; then kill -STOP $PPID; kill -STOP $$; fi; echo 1 > a"
    directory = make_voyage(tmp_path, [{"run": stop, "stall": 10, "wish": "ship-0"}], 2)
    assert run(sail(directory, ships(2))) == "complete"
    found = Rows(directory)
    assert found.tasks["1"]["tries"] == 0
    assert "reported nothing of the attempt" in found.ships["ship-0"]["reason"]


class Breaking(LocalShip):
    """Its channel opens, and breaks when it is told to start something."""

    async def open(self):
        inner = await super().open()

        class Stream:
            async def send(self, data):
                if b'"start"' in data:
                    await inner.close()
                    raise TransportError("it broke")
                await inner.send(data)

            def __aiter__(self):
                return inner.__aiter__()

            async def close(self):
                await inner.close()

        return Stream()


def test_a_ship_that_breaks_after_each_start_is_benched(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(actors, "MAX_RECONNECT", 0.3)
    broken = Breaking(tmp_path / "broken").start()
    try:
        wait = (
            f"until test -e {tmp_path}/benched; do sleep 0.1; done"  # only beside a ship that is there it is to blame
        )
        tasks = [{"run": "echo 1 > a", "wish": "ship-0"}, {"run": f"{wait}; echo 2 > b", "wish": "ship-1"}]
        directory = make_voyage(tmp_path, tasks, 2)

        async def look(captain):
            await until(lambda: captain.ledger.ship_row("ship-0").state == "failed")
            (tmp_path / "benched").touch()

        assert run(sail(directory, [broken, *ships(1)], meanwhile=look)) == "complete"
    finally:
        broken.end()
    found = Rows(directory)
    assert found.ships["ship-0"]["state"] == "failed"
    assert "its channel broke 3 times" in found.ships["ship-0"]["reason"]
    assert found.tasks["1"]["tries"] == 0
    assert landed(directory).count("1") == 1


# -- ours --------------------------------------------------------------------------------------------


def damage_object(git: Git, name: str) -> tuple[Path, bytes]:
    """Take the object of a revision away; return where it was, and what it was."""
    oid = git.text("rev-parse", name)
    path = git.directory / "objects" / oid[:2] / oid[2:]
    data = path.read_bytes()
    path.unlink()
    return path, data


def test_a_damaged_repository_blames_nobody_and_all_goes_on_once_it_is_whole(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(soundness, "LOOK_SECONDS", 0.5)
    tasks = [{"run": f"until test -e {tmp_path}/go; do sleep 0.1; done; echo {n} > f{n}"} for n in (1, 2)]
    directory = make_voyage(tmp_path, [*tasks, {"run": "cat f1 f2 > f3", "waits": ["1", "2"]}], 2)
    git = Git(directory / "repo.git")
    seen = []

    async def meanwhile(captain):
        await until(lambda: len(captain.ledger.running_tasks()) == 2)
        await until(lambda: all(row["base"] for row in captain.ledger.rows("attempts", "token")))
        path, data = damage_object(git, VOYAGE)
        (tmp_path / "go").touch()
        await until(lambda: captain.ledger.voyage().paused_reason == "ours")
        seen.append(captain.ledger.voyage().note)
        assert captain.pool.suspended
        await asyncio.sleep(1.5)
        assert landed_by_ledger(captain) == 0
        path.write_bytes(data)

    def landed_by_ledger(captain):
        return captain.ledger.count_tasks()["completed"]

    assert run(sail(directory, ships(2), meanwhile=meanwhile)) == "complete"
    assert "fsck" in seen[0]
    found = Rows(directory)
    assert found.voyage.paused_reason is None
    assert {row["tries"] for row in found.tasks.values()} == {0}
    assert "failed" not in {row["state"] for row in found.ships.values()}
    assert sorted(landed(directory)) == ["1", "2", "3"]


def test_what_was_blamed_before_the_fault_was_known_is_put_back(tmp_path, ships, monkeypatch):
    """A task that failed for good, and a ship that was benched, since the repository was damaged."""
    monkeypatch.setattr(soundness, "LOOK_SECONDS", 0.3)
    line = f"test -e {tmp_path}/sound && echo 1 > a"
    wait = f"until test -e {tmp_path}/sound; do sleep 0.1; done"
    directory = make_voyage(tmp_path, [{"run": line}, {"run": f"{wait}; echo 2 > b", "wish": "ship-1"}], 2)
    wrong = [None]
    monkeypatch.setattr(soundness, "examine", lambda _: wrong[0])

    async def meanwhile(captain):
        captain.context.soundness._look = lambda _: wrong[0]
        await until(lambda: captain.ledger.count_tasks()["failed"] == 1)
        captain.ledger.set_ship("ship-0", "failed", "it was blamed")
        captain.actors["ship-0"].gone = True
        wrong[0] = "the disk is broken"
        await captain.context.soundness.check()
        (tmp_path / "sound").touch()
        assert captain.ledger.count_tasks()["failed"] == 0
        assert not captain.actors["ship-0"].gone
        wrong[0] = None

    assert run(sail(directory, ships(2), meanwhile=meanwhile)) == "complete"
    found = Rows(directory)
    assert sorted(landed(directory)) == ["1", "2"]
    assert {row["kind"] for row in found.events} >= {"forgiven"}


def test_a_repository_that_is_damaged_at_the_start_is_waited_for(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(soundness, "LOOK_SECONDS", 0.3)
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a"}], 1)
    head = directory / "repo.git/HEAD"
    was = head.read_bytes()
    head.unlink()

    async def meanwhile(captain):
        await until(lambda: captain.ledger.voyage().paused_reason == "ours")
        head.write_bytes(was)

    assert run(sail(directory, ships(1), meanwhile=meanwhile)) == "complete"


def test_a_branch_that_is_lost_on_the_way_is_what_landed_last(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a"}, {"run": "sleep 1; echo 2 > b", "waits": ["1"]}], 1)
    ref = directory / f"repo.git/refs/heads/{VOYAGE}"

    async def meanwhile(captain):
        await until(lambda: captain.ledger.count_tasks()["completed"] == 1)
        ref.unlink()

    assert run(sail(directory, ships(1), meanwhile=meanwhile)) == "complete"
    assert landed(directory) == ["1", "2"]
    assert [row["text"] for row in Rows(directory).events if row["kind"] == "restored"]


def test_no_descriptor_is_left_on_our_side(tmp_path, ships, monkeypatch):
    """The limit is met while two ships offer: nobody is blamed, and it goes on when there are some again."""
    monkeypatch.setattr(soundness, "LOOK_SECONDS", 0.3)
    tasks = [{"run": f"until test -e {tmp_path}/go; do sleep 0.1; done; echo {n} > f{n}"} for n in (1, 2)]
    directory = make_voyage(tmp_path, tasks, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def meanwhile(captain):
        await until(lambda: len(captain.ledger.running_tasks()) == 2)
        await until(lambda: all(row["base"] for row in captain.ledger.rows("attempts", "token")))
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            (tmp_path / "go").mkdir()  # which needs none
            await asyncio.sleep(4)
        finally:
            for number in taken:
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    try:
        assert run(sail(directory, ships(2), meanwhile=meanwhile)) == "complete"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = Rows(directory)
    assert {row["tries"] for row in found.tasks.values()} == {0}
    assert "failed" not in {row["state"] for row in found.ships.values()}
