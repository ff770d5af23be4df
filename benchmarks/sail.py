"""``ocaptain sail`` beside the call pattern of its predecessor, against one drydock in one run.

    python benchmarks/sail.py [--ships 1 3 10 50] [--latency 0.05 0.15] [--rounds 3] [--cost | --verify-ship]

Prints JSON: seconds (medians of the rounds, taking turns) and ours over theirs. Both make the same
fleet on the same drydock, which answers each call so much later.

- ours: the command line as a user runs it, agent ``command``, no mesh, no mutagen, until it returns:
  the workers run and the captain has the fleet;
- the replay: what the first ocaptain's ``sail`` did, by calls alone. A look before and after, a thread
  a ship with 31 calls one after another (the sprite, then commands), then one loop over all ships with 5
  more each. It is spared what its calls did, and the processes that it started for them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import httpx

from ocaptain.ledger import Ledger
from ocaptain.sprites import SpritesClient

OCAPTAIN = Path(sys.executable).parent / "ocaptain"
IN_SHIP, IN_LOOP = 31, 5


class Bench:
    """A home with a drydock of its own.

    Attributes:
        home: the temporary directory.
        record: drydock's own description of itself.
        token: for its API.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SPRITE", "OCAPTAIN_"))},
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser()),
        }
        self.record = self.ocaptain("drydock", "start", "--idle", "0")
        self.token = Path(self.record["token_file"]).read_text()

    def ocaptain(self, *arguments: str) -> dict:
        """Run the command line; return what it printed.

        Raises:
            RuntimeError: it failed.
        """
        argv = [OCAPTAIN, *arguments]
        done = subprocess.run(
            argv,
            env=self._environment,
            cwd=self.home,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr[-3000:]}")
        return json.loads(done.stdout)

    def be_late(self, seconds: float) -> None:
        """Have each call take so much longer from now on."""
        url, headers = f"{self.record['url']}/drydock/faults", {"Authorization": f"Bearer {self.token}"}
        httpx.put(url, headers=headers, json={"latency": seconds}, trust_env=False, timeout=30).raise_for_status()

    def client(self) -> SpritesClient:
        """Return a client of its API."""
        return SpritesClient(self.record["url"], self.token)


class Sailed(NamedTuple):
    """What one ``sail`` took, in seconds: until it returned, of a processor's, and until an agent had its task."""

    took: float
    worked: float
    first_agent: float


def ours(bench: Bench, ships: int, latency: float, verify_on: str) -> Sailed:
    """Sail and sink; return what ``sail`` took."""
    plan = bench.home / "plan"
    (plan / "tasks").mkdir(parents=True, exist_ok=True)
    (plan / "spec.md").write_text("# Nothing\n")
    (plan / "verify.sh").write_text("true\n")
    (plan / "voyage.json").write_text("{}")
    task = {"id": "1", "subject": "Wait", "metadata": {"run": "sleep 600"}}
    (plan / "tasks/1.json").write_text(json.dumps(task))
    bench.be_late(latency)
    worked, began, since = processor(), time.perf_counter(), time.time()
    made = bench.ocaptain(
        "sail", str(plan), "-n", str(ships), "--provider", "drydock", "--new", "--json", "--verify-on", verify_on
    )
    took, worked = time.perf_counter() - began, processor() - worked
    sailing = [
        ship
        for ship in made["ships"]
        if ship["state"] in {"idle", "working", "bootstrapping"} and ship["role"] == "work"
    ]
    assert len(sailing) == ships, made["ships"]
    with Ledger(bench.home / "voyages" / made["voyage"] / "ledger.db") as ledger:
        first = min(one["at"] for one in ledger.events_after(0) if one["kind"] == "claim")
    bench.be_late(0)
    bench.ocaptain("sink", made["voyage"], "--force", "--abandon", "--json")
    return Sailed(took, worked, first - since)


def processor() -> float:
    """Return the processor's seconds of all ended children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def replay(bench: Bench, ships: int, latency: float) -> float:
    """Make the predecessor's calls; return the seconds that they took."""
    bench.be_late(latency)
    began = time.perf_counter()
    async with bench.client() as client:

        async def a_ship(name: str) -> None:
            await client.create(name)
            for _ in range(IN_SHIP - 1):
                await client.run(name, ["true"], seconds=120)

        names = [f"replay-{number}" for number in range(ships)]
        await client.list()
        await asyncio.gather(*(a_ship(name) for name in names))
        for name in names:
            for _ in range(IN_LOOP):
                await client.run(name, ["true"], seconds=120)
        await client.list()
        took = time.perf_counter() - began
        bench.be_late(0)
        await asyncio.gather(*(client.destroy(name) for name in names))
    return took


def compare_trees(bench: Bench, ships: int, latency: float, rounds: int) -> dict:
    """Return the figures of one fleet size and latency."""
    took, worked, theirs = [], [], []
    for _ in range(rounds):
        theirs.append(asyncio.run(replay(bench, ships, latency)))
        sailed = ours(bench, ships, latency, "clean")
        took.append(sailed.took)
        worked.append(sailed.worked)
    sail, pattern = statistics.median(took), statistics.median(theirs)
    return {
        "ships": ships,
        "latency_ms": round(latency * 1000),
        "sail_seconds": round(sail, 2),
        "sail_processor_seconds": round(statistics.median(worked), 2),
        "replay_seconds": round(pattern, 2),
        "ratio": round(sail / pattern, 2),
        "ratios": [round(one / other, 2) for one, other in zip(took, theirs, strict=True)],
    }


def verify_ship(bench: Bench, ships: int, rounds: int) -> dict:
    """Return what ship-verify costs ``sail``: with and without it, taking turns, the first of each left out."""
    worked: dict[str, list[float]] = {"clean": [], "any": []}
    for number in range(rounds + 1):
        for verify_on in ("clean", "any") if number % 2 else ("any", "clean"):
            worked[verify_on].append(ours(bench, ships, 0, verify_on).worked)
    with_it, without = (worked[verify_on][1:] for verify_on in ("clean", "any"))
    pairs = sorted(one / other for one, other in zip(with_it, without, strict=True))
    return {
        "ships": ships,
        "load": os.getloadavg()[0],
        "processor_seconds_with_ship_verify": round(statistics.median(with_it), 3),
        "processor_seconds_without": round(statistics.median(without), 3),
        "ratio": round(statistics.median(pairs), 3),
        "ratios": [round(one, 3) for one in pairs],
    }


EMPTY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: nothing
"""


def empty_play(bench: Bench) -> float:
    """Run ``ansible-playbook`` with one task that does nothing; return the seconds of a processor's."""
    playbook = bench.home / "empty.yml"
    playbook.write_text(EMPTY)
    before = processor()
    argv = [OCAPTAIN.with_name("ansible-playbook"), "-i", "localhost,", playbook]
    subprocess.run(argv, check=True, capture_output=True, cwd=bench.home)
    return processor() - before


def cost(bench: Bench, sizes: list[int], rounds: int) -> dict:
    """Return what ``sail`` costs this machine by fleet size, beside an empty play; they take turns."""
    found: dict[int, list[Sailed]] = {ships: [] for ships in sizes}
    empty = []
    for _ in range(rounds):
        empty.append(empty_play(bench))
        for ships, sailed in found.items():
            sailed.append(ours(bench, ships, 0, "any"))
    worked = {ships: statistics.median(one.worked for one in sailed) for ships, sailed in found.items()}
    least, most = min(sizes), max(sizes)
    per_ship = (worked[most] - worked[least]) / (most - least) if most > least else None
    unit = statistics.median(empty)
    return {
        "load": os.getloadavg()[0],
        "empty_play_processor_seconds": round(unit, 2),
        "processor_seconds": {ships: round(one, 2) for ships, one in worked.items()},
        "in_empty_plays": {ships: round(one / unit, 2) for ships, one in worked.items()},
        "processor_seconds_a_ship_more": None if per_ship is None else round(per_ship, 3),
        "a_ship_more_in_empty_plays": None if per_ship is None else round(per_ship / unit, 3),
        "first_agent_seconds": {
            ships: round(statistics.median(one.first_agent for one in sailed), 2) for ships, sailed in found.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ships", type=int, nargs="+", default=[1, 3, 10, 50])
    parser.add_argument("--latency", type=float, nargs="+", default=[0.05, 0.15])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--verify-ship", action="store_true", help="only what ship-verify costs")
    parser.add_argument("--cost", action="store_true", help="only what it costs this machine, by fleet size")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ocaptain-benchmark-"))
    try:
        bench = Bench(home)
        try:
            found: object
            if options.cost:
                found = cost(bench, options.ships, options.rounds)
            elif options.verify_ship:
                found = [verify_ship(bench, ships, options.rounds) for ships in options.ships]
            else:
                found = [
                    compare_trees(bench, ships, latency, options.rounds)
                    for ships in options.ships
                    for latency in options.latency
                ]
            sys.stdout.write(json.dumps(found, indent=2) + "\n")
        finally:
            bench.ocaptain("drydock", "stop", "--force", "--json")
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
