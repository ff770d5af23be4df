"""A ledger and a ship of the version before format 4, made by that version's own code.

``tests/fixtures/format-3.tar.gz`` holds a voyage half-way: task 1 landed, task 2 failed once and is in
its second attempt (token 3), task 3 waits for it; the ship's home with the worker of then, without
what ran there; and the lines with which that version's captain greeted and started it. The test
starts that worker and sends it these lines, so that an agent is in the middle of its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import tarfile

import pytest

from ocaptain.git import Git
from ocaptain.ledger import Ledger, LedgerError, overview, task_views
from ocaptain.ledger import migrate as forward
from ocaptain.protocol import encode_line
from ocaptain.worker.build import worker_bytes
from tests.helpers import PATIENCE, REPO
from tests.voyage.local import LocalShip, command, sail

VOYAGE = "voyage-00000000f003"


@pytest.fixture
def former(tmp_path):
    with tarfile.open(REPO / "tests/fixtures/format-3.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    directory = tmp_path / VOYAGE
    git = Git(tmp_path)
    git.run("clone", "-q", "--branch", VOYAGE, str(directory / "repo.git"), str(directory / "workspace"))
    return directory


def version(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def seen(ledger):
    """What a user sees, without what only a captain changes."""
    shown = overview(ledger).as_dict()
    return shown["state"], shown["tasks"], shown["cost"], [view.as_dict() for view in task_views(ledger)]


def test_who_only_reads_leaves_the_file_as_it_is(former):
    path = former / "ledger.db"
    before = path.read_bytes()
    with Ledger(path) as ledger:
        state, tasks, _, views = seen(ledger)
        assert (state, tasks["completed"], tasks["in_progress"], tasks["pending"]) == ("running", 1, 1, 1)
        assert [view["status"] for view in views] == ["completed", "in_progress", "pending"]
        assert ledger.recent_landings(10) == [("1", "Task 1")]
        assert ledger.ship_row("ship-0").cursors.keys() == {"all"}
    assert path.read_bytes() == before
    assert not path.with_name("ledger.db.3").exists()


def test_who_commands_brings_it_forward_and_keeps_the_old_file(former):
    path = former / "ledger.db"
    with Ledger(path) as ledger:
        before = seen(ledger)
    with command(former) as ledger:
        assert seen(ledger) == before
        assert ledger.held_claim("ship-0").token == 3
        assert ledger.held_claim("ship-0").opening == ""
        assert [row["tries"] for row in ledger.rows("tasks", "position")] == [0, 1, 0]
        assert [row["task"] for row in ledger.rows("landings", "n")] == ["1"]
    assert (version(path), version(path.with_name("ledger.db.3"))) == (4, 3)


def test_what_breaks_half_way_leaves_the_old_format(former, monkeypatch):
    path = former / "ledger.db"
    monkeypatch.setattr(forward, "_STATES", "UPDATE voyage SET no_such_column = 1")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        with pytest.raises(sqlite3.Error, match="no_such_column"):
            forward.migrate_schema(db)
        assert db.execute("SELECT count(*) FROM tasks").fetchone() == (3,)
    assert version(path) == 3
    monkeypatch.undo()
    with command(former) as ledger:
        assert ledger.count_tasks() == {"completed": 1, "failed": 0, "in_progress": 1, "pending": 1}


@pytest.mark.parametrize(("number", "words"), [(2, "an older"), (5, "a newer")])
def test_other_formats_are_refused_by_name(former, number, words):
    with contextlib.closing(sqlite3.connect(former / "ledger.db")) as db:
        db.execute(f"PRAGMA user_version = {number}")
    with pytest.raises(LedgerError, match=rf"made by {words} version of ocaptain \(format {number}"):
        Ledger(former / "ledger.db")


def test_an_attempt_of_then_lands_and_its_worker_is_replaced(former):
    home = former.parent / "ship-0"
    ship = LocalShip(home).start()
    lines = json.loads((former.parent / "lines.json").read_text())

    async def begin():
        _, writer = await asyncio.open_unix_connection(str(home / ".ocaptain/worker.sock"))
        for line in lines:
            writer.write(encode_line(line))
        await writer.drain()
        log = home / "voyage/logs/task-2.2.log"
        while not (log.exists() and b"begun" in log.read_bytes()):
            await asyncio.sleep(0.05)
        writer.close()

    async def keeper(captain):
        """Let the agent end when the new captain is there, and start the worker again, as its service does."""
        while not any(actor._protocol == 1 for actor in captain.actors.values()):
            await asyncio.sleep(0.02)
        (home / "go").touch()
        while True:
            if ship.process.poll() is not None:
                await asyncio.to_thread(ship.start)
            await asyncio.sleep(0.05)

    try:
        asyncio.run(asyncio.wait_for(begin(), PATIENCE))
        assert asyncio.run(sail(former, [ship], meanwhile=keeper)) == "complete"
    finally:
        ship.end()
    with Ledger(former / "ledger.db") as ledger:
        attempts = [(row["token"], row["task"], row["state"]) for row in ledger.rows("attempts", "token")]
        assert attempts == [(1, "1", "landed"), (2, "2", "failed"), (3, "2", "landed"), (4, "3", "landed")]
        assert ledger.attempt_row(4)["opening"]
    assert (home / ".ocaptain/worker.pyz").read_bytes() == worker_bytes()
    assert not (home / ".ocaptain/journal.jsonl").exists()
    refs = Git(former / "repo.git").refs("refs/ocaptain")
    old, new = {"refs/ocaptain/attempts/1/1", "refs/ocaptain/attempts/2/1"}, {"refs/ocaptain/tasks/2/2/work"}
    assert old | new | {"refs/ocaptain/tasks/3/1/work"} <= set(refs)
    assert b"begun" in (former / "logs/ship-0/2.2.log").read_bytes()
    # And once it has ended, there is nothing more to do.
    assert asyncio.run(sail(former, [ship])) == "complete"
