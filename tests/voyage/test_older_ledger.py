"""A ledger that goes back in time: no landing is lost, none is undone, and who commands what is said."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from ocaptain import process
from ocaptain.captain.adopt import adopt_landings
from ocaptain.git import Git
from ocaptain.ledger import Contradiction, Ledger, LedgerError, OlderLedger, task_views
from tests.helpers import HELD, new_voyage, run_task, wait_for
from tests.voyage.local import VOYAGE, command, landed, make_voyage, sail

TASKS = 14
BACK = 10


def copy(directory: Path, name: str) -> Path:
    """Copy the ledger as it stands."""
    to = directory.parent / name
    connected = (contextlib.closing(sqlite3.connect(path)) for path in (directory / "ledger.db", to))
    with next(connected) as db, next(connected) as other:
        db.backup(other)
        other.execute("PRAGMA journal_mode = DELETE")
    return to


def restore(directory: Path, old: Path) -> None:
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (directory / name).unlink(missing_ok=True)
    shutil.copyfile(old, directory / "ledger.db")


def contradiction_in(error: BaseException) -> Contradiction | None:
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := contradiction_in(one))), None)
    return error if isinstance(error, Contradiction) else None


def once(directory, fleet, seconds=None):
    """Let a captain sail; return the voyage's state, or why it stopped.

    With ``seconds`` it is as one that is killed so long after the first ship has answered it: a busy machine
    may take longer to reach one than a quick one for the whole voyage.
    """
    killed = False

    async def kill(captain):
        nonlocal killed
        while not any(actor.is_connected for actor in captain.actors.values()):
            await asyncio.sleep(0.01)
        await asyncio.sleep(seconds)
        killed = True
        captain._main_task.cancel()

    try:
        return asyncio.run(sail(directory, fleet, meanwhile=kill if seconds is not None else None))
    except asyncio.CancelledError:
        assert killed
        return "killed"
    except (Contradiction, BaseExceptionGroup) as error:
        if found := contradiction_in(error):
            return found
        raise


@pytest.mark.parametrize("seed", range(3))
def test_ledgers_rolled_back_at_random_points(tmp_path, ships, seed):
    """Ten times: to a point that is drawn, of all that there have been."""
    draw = random.Random(seed)
    tasks = [{"run": f"sleep 0.2; echo {n} > f{n}"} for n in range(1, TASKS - 3)]
    tasks += [{"run": f"echo {n} >> f1", "waits": ["1"]} for n in range(TASKS - 3, TASKS + 1)]
    directory = make_voyage(tmp_path, tasks, 2)
    fleet = ships(2)
    copies, stops = [copy(directory, "0")], 0
    for number in range(1, BACK + 1):
        was = once(directory, fleet, draw.uniform(0.4, 1.2))
        while isinstance(was, OlderLedger):
            stops += 1
            assert "is older than the fleet" in str(was)
            process.take_over_path(directory).touch()
            was = once(directory, fleet, draw.uniform(0.8, 1.5))
        before = landed(directory)
        assert len(set(before)) == len(before)
        copies.append(copy(directory, str(number)))
        restore(directory, draw.choice(copies))
    while (was := once(directory, fleet)) != "complete":
        assert isinstance(was, OlderLedger)
        process.take_over_path(directory).touch()
    assert stops, "no ship ever knew a newer captain"
    done = landed(directory)
    assert done[: len(before)] == before, "a landing was lost"
    assert sorted(done, key=int) == [str(n) for n in range(1, TASKS + 1)]
    git = Git(directory / "repo.git")
    assert all(git.text("show", f"{VOYAGE}:f{n}").split()[0] == str(n) for n in range(1, TASKS - 3))
    assert sorted(git.text("show", f"{VOYAGE}:f1").split(), key=int) == [
        "1",
        *(str(n) for n in range(TASKS - 3, TASKS + 1)),
    ]
    with Ledger(directory / "ledger.db") as ledger:
        assert {view.status for view in task_views(ledger)} == {"completed"}
        assert len(ledger.landed_commits()) == TASKS


def test_without_a_word_nothing_is_commanded_that_knows_a_newer_captain(tmp_path, ships):
    first = f"until test -e {tmp_path}/go; do sleep 0.1; done; echo 1 > a"
    directory = make_voyage(tmp_path, [{"run": first}, {"run": "echo 2 > b"}], 1)
    fleet, old = ships(1), copy(directory, "old")
    assert once(directory, fleet, 1.5) == "killed"
    for _ in range(3):
        command(directory).close()
    assert once(directory, fleet, 1.0) == "killed"
    restore(directory, old)
    assert isinstance(once(directory, fleet), OlderLedger)
    assert isinstance(once(directory, fleet), OlderLedger)
    process.take_over_path(directory).touch()
    (tmp_path / "go").touch()
    assert once(directory, fleet) == "complete"
    assert sorted(landed(directory)) == ["1", "2"]


def test_a_branch_that_lacks_what_the_ledger_has(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a"}, {"run": "echo 2 > b", "waits": ["1"]}], 1)
    git = Git(directory / "repo.git")
    ref = f"refs/heads/{VOYAGE}"
    root = git.resolve(ref)
    assert once(directory, ships(1)) == "complete"
    head = git.resolve(ref)
    git.update_ref(ref, root)
    with command(directory) as ledger, pytest.raises(Contradiction, match=f"{head} landed, but the branch.*update-ref"):
        adopt_landings(git, ledger, ref)
    (git.directory / ref).unlink()  # lost altogether, it is what landed last
    with command(directory) as ledger:
        ledger.set_state("running")
    assert once(directory, ships(0)) == "complete"
    assert git.resolve(ref) == head


@pytest.mark.parametrize("wrong", ["other", "empty", "no row", "cut", "garbage"])
def test_a_ledger_that_is_none_of_this_voyage_is_one_line_and_untouched(tmp_path, wrong):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a"}], 1)
    path = directory / "ledger.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    match wrong:
        case "other":
            path.unlink()
            Ledger.create(path, new_voyage(ships=[]))
        case "empty":
            path.write_bytes(b"")
        case "no row":
            with contextlib.closing(sqlite3.connect(path)) as db:
                db.execute("DELETE FROM voyage")
                db.commit()
        case "cut":
            path.write_bytes(path.read_bytes()[:5000])
        case "garbage":
            path.write_bytes(b"x" * 8192)
    before = path.read_bytes()
    with pytest.raises(LedgerError) as refused:
        Ledger(path).voyage()
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.root
def test_on_drydock_a_sink_and_a_resume_of_an_older_ledger(lone, plan):
    """A directory that was restored from a copy: a sink takes all home; a resume stops until a person says so."""
    line = f"date > began; touch ~/at-$OCAPTAIN_TASK_ID; {HELD}; date > made"
    voyage = lone.json("sail", plan([run_task("echo 1 > a"), run_task(line, "1")]), "-n", "1", "--json")["voyage"]
    directory, ship = lone.voyage(voyage), f"{voyage}-ship-0"
    old = copy(directory, "old")
    wait_for(lambda: "at-2" in lone.inside(ship, "ls"))
    for _ in range(3):
        process.stop_captain(directory)
        assert lone.run("sail", "--resume", voyage).code == 0
    process.stop_captain(directory)
    restore(directory, old)
    stopped = lone.run("sail", "--resume", voyage, "--wait")
    assert (stopped.code, "--take-over" in stopped.err) == (4, True), stopped.err
    assert "older than the fleet" in lone.run("status", voyage).out
    going = lone.popen("sail", "--resume", voyage, "--take-over", "--wait")
    wait_for(lambda: "at-2" in lone.inside(ship, "ls"))
    lone.go(ship)
    going.communicate(timeout=240)
    assert (going.returncode, lone.landed(voyage)) == (0, ["1", "2"])
    process.stop_captain(directory)
    restore(directory, old)
    done = lone.json("sink", voyage, "--force", "--json")
    assert (done["state"], done["left"]) == ("sunk", [])
    assert lone.landed(voyage) == ["1", "2"]
    assert {task["status"] for task in lone.json("tasks", voyage, "--json")["tasks"]} == {"completed"}
