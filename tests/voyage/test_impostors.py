"""Hostile ships in one fleet with an honest one: it lands all of its tasks, and nothing of theirs is left."""

from __future__ import annotations

import asyncio
import json

from ocaptain.captain.life import Captain
from ocaptain.git import Git
from ocaptain.ledger import task_views
from tests.hostile import PACKS
from tests.impostors import SCRIPTS, Impostor, honest_work, hostile_ships
from tests.voyage.local import command, landed, make_voyage, sail

TASKS = 12
#: Those are offered to the quarantine itself in ``test_quarantine``; here they would take too long to make.
LARGE = {
    "within each limit, but not all together",
    "more in all than there may be",
    "one file of 40 MB at 20 paths",
    "a tree of 49 MB",
}


def test_40_packs_and_20_scripts_beside_an_honest_ship(tmp_path):
    packs = [name for name in PACKS if name not in LARGE]
    names = [*packs, *SCRIPTS]
    assert len(packs) >= 40
    assert len(SCRIPTS) >= 20
    work = [{"run": "true", "pin": "ship-0"}] * TASKS
    work += [{"run": "true", "pin": f"ship-{number}"} for number in range(1, len(names) + 1)]
    directory = make_voyage(tmp_path, work, len(names) + 1)
    git = Git(directory / "repo.git")
    before = set(git.text("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split())
    hostile = hostile_ships(directory, names)
    honest = Impostor(directory, honest_work)
    ships = [honest, *(hostile[name] for name in names)]

    async def play():
        with command(directory) as ledger:
            captain = Captain(directory, ledger, lambda row: ships[int(row.id.removeprefix("ship-"))])
            running = asyncio.create_task(captain.run())
            async with asyncio.timeout(600):
                while True:
                    await asyncio.sleep(0.1)
                    states = {row.id: row for row in ledger.ships()}
                    out = [f"ship-{number}" for number in range(1, len(packs) + 1)]
                    if len(landed(directory)) == TASKS and all(states[ship].state == "failed" for ship in out):
                        break
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return states

    states = asyncio.run(play())
    assert sorted(landed(directory), key=int) == [str(number) for number in range(1, TASKS + 1)]
    for number, name in enumerate(names, 1):
        if name in PACKS:
            assert "what it offered is refused" in (states[f"ship-{number}"].reason or ""), name
    assert not list((directory / "repo.git/incoming").iterdir())
    reached = set(git.text("rev-list", "--objects", "--no-object-names", "--all").split())
    listed = git.text("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)").splitlines()
    # Candidates' commits are reachable from nowhere, as ever; whatever else is not would be a hostile ship's.
    strange = {line for line in listed if not line.endswith(" commit")}
    assert {line.split()[0] for line in strange} <= reached | before
    assert git.text("fsck", "--no-dangling", "--no-progress") == ""


def test_a_ship_whose_offer_is_refused_costs_its_task_nothing(tmp_path):
    """It is the ship's fault: the task goes to another one with all of its tries."""
    directory = make_voyage(tmp_path, [{"run": "true", "wish": "ship-0"}], 2)
    ships = [Impostor(directory, PACKS["a name of 300 bytes"]), Impostor(directory, honest_work)]

    async def play():
        with command(directory) as ledger:
            captain = Captain(directory, ledger, lambda row: ships[int(row.id.removeprefix("ship-"))])
            running = asyncio.create_task(captain.run())
            async with asyncio.timeout(240):
                while not landed(directory):
                    await asyncio.sleep(0.05)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return ledger.rows("tasks", "position")[0]["tries"], ledger.rows("attempts", "token")

    tries, attempts = asyncio.run(play())
    assert tries == 0
    assert attempts[-1]["ship"] == "ship-1"
    assert {one["state"] for one in attempts[:-1]} <= {"lost"}


def test_the_plan_s_limits_count_on_both_ends(tmp_path, ships):
    """An honest agent's file of 2 MB is the task's fault by its worker, and a hostile ship's own by the captain."""
    files = {"voyage.json": json.dumps({"limits": {"file_mib": 1}}).encode()}
    tasks = [{"run": "head -c 2000000 /dev/zero > big"}, {"run": "head -c 900000 /dev/zero > small", "waits": []}]
    directory = make_voyage(tmp_path, tasks, files=files)
    assert asyncio.run(sail(directory, ships())) == "failed"
    with command(directory) as ledger:
        failed, done = task_views(ledger)
    assert "files of more than 1 MB (file_mib): big" in failed.reason
    assert (failed.status, done.status) == ("failed", "completed")


def test_names_that_a_mac_takes_for_one_land_and_are_named(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > name; echo 2 > NAME"}])
    assert asyncio.run(sail(directory, ships())) == "complete"
    with command(directory) as ledger:
        said = [one["text"] for one in ledger.events_after(0) if one["kind"] == "names"]
    assert said == ["macOS and Windows take these names for one: name and NAME"]
