"""The files of running attempts, against real workers: what of them is known, kept and given to the next attempt."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time

import pytest

from ocaptain.captain.channel import Channel
from ocaptain.captain.decide import live as pace
from ocaptain.captain.rescue import bundle_unlanded_work, rescue
from ocaptain.captain.transport import ShipGone
from ocaptain.git import Git
from ocaptain.ledger import Ledger
from ocaptain.protocol.envelope import Look
from tests.helpers import REPO
from tests.voyage.local import VOYAGE, command, landed, make_voyage, sail


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


def followed(ledger, files=1):
    """Return the running attempt of which so many changed files are here, None if they are not yet."""
    found = ledger.live_attempts(over=False)
    return found[0] if found and found[0].live["files"] == files else None


def lose(ship):
    """Have a ship be destroyed."""

    async def refuse():
        raise ShipGone("the sprite is gone")

    ship.open = refuse
    ship.cut()


def ocaptain(root, *words):
    argv = [sys.executable, "-m", "ocaptain", *words]
    environment = {**os.environ, "OCAPTAIN_HOME": str(root)}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, env=environment, cwd=REPO)
    assert done.returncode == 0, done.stderr
    return done


def test_a_ship_that_is_destroyed_costs_its_attempt_and_not_its_work(tmp_path, ships):
    line = (
        'if [ "$OCAPTAIN_ATTEMPT" = 1 ]; then echo half > half; touch .git/index.lock .git/HEAD.lock; sleep 100; '
        'else cat > prompt; lost=$(git for-each-ref --format="%(refname)" refs/ocaptain); '
        'git show "$lost:half" > whole; echo "$lost" >> whole; test ! -e half; fi'
    )
    directory = make_voyage(tmp_path, [{"run": line}], 2)
    fleet = ships(2)

    async def destroy(captain):
        found = await until(lambda: followed(captain.ledger))
        assert refs(directory)[f"refs/ocaptain/live/{found.ship}"] == found.live["commit"]
        lose(fleet[int(found.ship[-1])])

    assert asyncio.run(sail(directory, fleet, meanwhile=destroy)) == "complete"
    (lost,) = [ref for ref in refs(directory) if "/lost-" in ref]
    assert file_at(directory, refs(directory)[lost], "half") == "half"
    head = Git(directory / "repo.git").text("rev-parse", "HEAD")
    assert file_at(directory, head, "whole").split() == ["half", lost]
    assert f"git diff {lost}^ {lost}" in file_at(directory, head, "prompt")
    assert not [ref for ref in refs(directory) if "/live/" in ref or "/other/" in ref]


def test_lost_work_that_arrives_damaged_each_time_is_left_out(tmp_path, ships):
    """It is only a reference: no ship is at fault, and no attempt is lost."""
    line = (
        'if [ "$OCAPTAIN_ATTEMPT" = 1 ]; then head -c 200000 /dev/urandom > half; sleep 100; '
        'else cat > prompt; git for-each-ref --format="%(refname)" refs/ocaptain > refs; fi'
    )
    directory = make_voyage(tmp_path, [{"run": line}], 2)
    fleet, damaged = ships(2), []

    async def destroy(captain):
        found = await until(lambda: followed(captain.ledger))
        other = fleet[1 - int(found.ship[-1])]
        put = other.put

        async def put_damaged(path, data):
            is_part = path.startswith(".ocaptain/in/") and len(data) > 100_000
            damaged.extend([path] if is_part else [])
            await put(path, data[:-1] + bytes([data[-1] ^ 1]) if is_part else data)

        other.put = put_damaged
        lose(fleet[int(found.ship[-1])])

    assert asyncio.run(sail(directory, fleet, meanwhile=destroy)) == "complete"
    assert damaged
    head = Git(directory / "repo.git").text("rev-parse", "HEAD")
    assert (file_at(directory, head, "refs"), "lost-" in file_at(directory, head, "prompt")) == ("", False)
    with Ledger(directory / "ledger.db") as ledger:
        states = [row["state"] for row in ledger.rows("attempts", "token")]
        assert (states[-1], len(states)) == ("landed", 2)
    assert [ref for ref in refs(directory) if "/lost-" in ref]


def test_an_attempt_that_ends_leaves_no_live_ref_and_no_lost_one(tmp_path, ships, monkeypatch):
    """And no ship is asked without one: not while it verifies, nor afterwards, when it may sleep."""
    end = tmp_path / "end"
    line = f"echo 1 > a; until test -e {end}; do sleep 0.1; done; echo 2 > b"
    directory = make_voyage(tmp_path, [{"run": line}, {"run": "echo 3 > c"}], verify="sleep 1")
    captains, asked, real = [], [], Channel.send

    async def send(channel, message):
        if isinstance(message, Look):
            held = captains[0].ledger.held_claim("ship-0")
            asked.append(held is not None and held.token == message.token)
        await real(channel, message)

    monkeypatch.setattr(Channel, "send", send)

    async def look(captain):
        captains.append(captain)
        await until(lambda: followed(captain.ledger))
        assert "refs/ocaptain/live/ship-0" in refs(directory)
        end.touch()

    assert asyncio.run(sail(directory, ships(1), meanwhile=look)) == "complete"
    assert asked
    assert all(asked)
    assert sorted(landed(directory)) == ["1", "2"]
    assert sorted(refs(directory)) == ["refs/ocaptain/tasks/1/1/work", "refs/ocaptain/tasks/2/1/work"]
    with Ledger(directory / "ledger.db") as ledger:
        assert ledger.live_attempts(over=True) == ledger.live_attempts(over=False) == []


def test_what_an_agent_does_is_seen_while_it_works_and_without_its_escapes(tmp_path, ships):
    end = tmp_path / "end"
    line = f"printf 'red \\033[31m\\n' > a; until test -e {end}; do sleep 0.1; done"
    directory = make_voyage(tmp_path, [{"run": line, "pin": "ship-0"}], 2)
    told = {}

    async def look(captain):
        await until(lambda: followed(captain.ledger))
        for name, words in (
            ("diff", ("diff", VOYAGE)),
            ("stat", ("diff", VOYAGE, "ship-0", "--stat")),
            ("json", ("diff", VOYAGE, "--json")),
            ("idle", ("diff", VOYAGE, "ship-1")),
            ("status", ("status", VOYAGE, "--json")),
        ):
            told[name] = await asyncio.to_thread(ocaptain, tmp_path, *words)
        end.touch()

    asyncio.run(sail(directory, ships(2), meanwhile=look))
    assert "+red \\x1b[31m" in told["diff"].stdout
    assert "\x1b" not in told["diff"].stdout + told["diff"].stderr
    assert "task 1" in told["diff"].stderr
    assert "a | 1 +" in told["stat"].stdout
    (change,) = json.loads(told["json"].stdout)["changes"]
    assert (change["ship"], change["task"], change["problem"]) == ("ship-0", "1", None)
    assert change["files"] == [{"path": "a", "added": 1, "removed": 0}]
    assert file_at(directory, change["commit"], "a").startswith("red")
    assert (told["idle"].stdout, "left nothing" in told["idle"].stderr) == ("", True)
    first, second = (one["live"] for one in json.loads(told["status"].stdout)["ships"])
    assert (first["by"], first["state"], first["files"], first["bytes"]) == ("git", "watching", 1, 10)
    assert (second["by"], second["state"]) == ("none", "off")
    after = ocaptain(tmp_path, "diff", VOYAGE, "ship-0")
    assert "as its last attempt left it" in after.stderr
    assert "+red" in after.stdout


def test_a_captain_that_starts_again_goes_on_with_what_is_here(tmp_path, ships):
    end = tmp_path / "end"
    line = f"echo 1 > a; until test -e {end}; do sleep 0.1; done"
    directory = make_voyage(tmp_path, [{"run": line}])
    fleet = ships(1)
    end_in_mid_attempt(directory, fleet)
    before = refs(directory)["refs/ocaptain/live/ship-0"]

    async def look(captain):
        at = followed(captain.ledger).live["at"]
        found = await until(lambda: (now := followed(captain.ledger)) and now.live["at"] > at and now)
        assert found.live["commit"] == before
        end.touch()

    assert asyncio.run(sail(directory, fleet, meanwhile=look)) == "complete"


def end_in_mid_attempt(directory, fleet):
    """Sail, and end the captain once it follows the files of an attempt."""

    async def die(captain):
        await until(lambda: followed(captain.ledger))
        captain._main_task.cancel()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(sail(directory, fleet, meanwhile=die))


def test_the_work_of_a_ship_that_no_sink_reaches_is_in_what_it_saves(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "echo half > half; sleep 100"}])
    fleet = ships(1)
    end_in_mid_attempt(directory, fleet)
    lose(fleet[0])
    with command(directory) as ledger:
        asyncio.run(rescue(directory, ledger, lambda _: fleet[0]))
        bundle = bundle_unlanded_work(directory, ledger)
    (lost,) = refs(directory)
    assert lost == "refs/ocaptain/saved/ship-0/lost-1"
    assert file_at(directory, lost, "half") == "half"
    assert lost in Git(directory / "repo.git").text("bundle", "list-heads", str(bundle))


def test_a_ship_that_a_sink_reaches_is_saved_once(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "echo half > half; sleep 100"}])
    fleet = ships(1)
    end_in_mid_attempt(directory, fleet)
    with command(directory) as ledger:
        (found,) = asyncio.run(rescue(directory, ledger, lambda _: fleet[0]))
    assert list(refs(directory)) == [found.ref]
