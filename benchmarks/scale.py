"""What a captain costs as plans and repositories grow.

    python benchmarks/scale.py [--only attempt|repository|claims|saturation|crowd] …

Prints JSON. In the first two the captain runs in a process of its own over real workers on this machine (the tests'
``LocalShip``: a unix socket and plain files for a transport), so that what it uses is its own:

* ``attempt``: its processor time (with its git's) for one attempt, in a plan of ``--tasks`` and in one of
  ``--attempts``, run in turn; the median of the pairs, and ``growth``, the one over the other.
* ``repository``: ``--mebibytes`` that do not compress, sent to ``--ships`` ships, beside an empty one: the
  bundles that were hashed, the peak of its memory above the empty one's, and the longest that one callback kept
  the event loop's thread computing.
* ``claims``: a claim over the real ledger and dispatch, with 10 and with 1,000 simulated ships, in turn.
* ``saturation``: 50 ships on a drydock of its own and 300 tasks of no work: attempts a second, and
  processor time an attempt by part (what is neither the captain's nor drydock's is counted as the ships').
* ``crowd``: 60 ships, 600 short tasks: whether all land, and the captain's peak memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from callbacks import LongestCallback
from fleets import fleet

from ocaptain.captain.decide.dispatch import START_SECONDS, ShipStatus
from ocaptain.captain.life import Captain
from ocaptain.captain.ship import bundle_store
from ocaptain.git import Git
from tests.voyage.local import VOYAGE, LocalShip, command, make_voyage

if TYPE_CHECKING:
    from ocaptain.captain.pool import Pool

WARM = 10  # attempts before the count begins
BLOB = 16 * 2**20
SECONDS = 1800
CLAIMS = 600


class Ship(LocalShip):
    """A ship whose files are written off the loop, as a network would."""

    async def put(self, path: str, data: bytes) -> None:
        """Write a file in a thread."""
        await asyncio.to_thread(self._write, path, data)

    def _write(self, path: str, data: bytes) -> None:
        target = self.home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def used() -> float:
    """Return the processor time of this process and of the ones that it waited for."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def command_voyage(directory: Path, homes: list[Path], attempts: int) -> dict[str, Any]:
    """Be the captain until so many tasks landed; return what that took."""
    hashed: list[int] = []
    write = bundle_store.write_bundle

    def counted(*arguments: Any) -> Any:
        parts = write(*arguments)
        hashed.append(sum(part.size for part in parts))
        return parts

    bundle_store.write_bundle = counted
    loop, ships = LongestCallback(), [Ship(home) for home in homes]
    marks: dict[int, tuple[float, float]] = {}

    async def run() -> None:
        with command(directory) as ledger:
            captain = Captain(directory, ledger, lambda row: ships[int(row.id.removeprefix("ship-"))])
            sailing = asyncio.create_task(captain.run())
            while (done := ledger.count_tasks()["completed"]) < attempts and not sailing.done():
                if done >= WARM or not attempts > WARM:
                    marks.setdefault(done, (used(), time.perf_counter()))
                await asyncio.sleep(0.05)
            marks[done] = (used(), time.perf_counter())
            sailing.cancel()
            await asyncio.gather(sailing, return_exceptions=True)

    asyncio.run(run())
    first, last = min(marks), max(marks)
    return {
        "attempts": last - first,
        "cpu_seconds": marks[last][0] - marks[first][0],
        "wall_seconds": marks[last][1] - marks[first][1],
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "callback_seconds": loop.seconds,
        "callback": loop.what,
        "bundle_bytes": hashed,
    }


def sail(root: Path, tasks: list[dict[str, Any]], ships: int, attempts: int, mebibytes: int = 0) -> dict[str, Any]:
    """Sail a plan on new ships until so many tasks landed; return what the captain says."""
    root.mkdir()
    directory = make_voyage(root, tasks, ships=ships)
    fill(directory, mebibytes)
    fleet = [Ship(root / f"ship-{number}").start() for number in range(ships)]
    try:
        homes = [str(ship.home) for ship in fleet]
        argv = [sys.executable, __file__, "--captain", str(directory), "--attempts", str(attempts), *homes]
        env = {**os.environ, "OCAPTAIN_HOME": str(root)}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False, env=env)
        if done.returncode:
            raise SystemExit(done.stderr)
        return dict(json.loads(done.stdout))
    finally:
        for ship in fleet:
            ship.end()
        shutil.rmtree(root)


def attempts(root: Path, few: int, many: int, pairs: int) -> dict[str, Any]:
    """Compare a plan of ``few`` tasks with one of ``many``."""
    found: dict[int, list[float]] = {few: [], many: []}
    for number in range(pairs):
        for size in (few, many):
            plan = [{"run": "true", "waits": [str(n - 20)] if n > 20 else []} for n in range(1, size + 1)]
            seen = sail(root / f"attempts-{number}-{size}", plan, 2, few)
            found[size].append(seen["cpu_seconds"] / seen["attempts"])
    medians = {size: statistics.median(values) for size, values in found.items()}
    return {
        "cpu_milliseconds": {str(size): [round(value * 1000, 1) for value in values] for size, values in found.items()},
        "median_milliseconds": {str(size): round(value * 1000, 1) for size, value in medians.items()},
        "growth": round(medians[many] / medians[few], 2),
    }


def fill(directory: Path, mebibytes: int) -> None:
    """Put so much that does not compress on the voyage's branch."""
    git = Git(directory / "repo.git")
    entries = []
    for number in range(-(-mebibytes * 2**20 // BLOB)):
        size = min(BLOB, mebibytes * 2**20 - number * BLOB)
        blob = git.text("hash-object", "-w", "--stdin", stdin=os.urandom(size))
        entries.append(f"100644 blob {blob}\tfile-{number}\n")
    tree = git.text("mktree", stdin="".join(entries).encode())
    branch = f"refs/heads/{VOYAGE}"
    git.update_ref(branch, git.text("commit-tree", tree, "-p", branch, "-m", "much"))


def repository(root: Path, mebibytes: int, ships: int) -> dict[str, Any]:
    """Compare a large repository with an empty one."""
    plan = [{"run": "true", "pin": f"ship-{number}"} for number in range(ships)]
    empty = sail(root / "empty", plan, ships, ships)
    large = sail(root / "large", plan, ships, ships, mebibytes)
    return {
        "mebibytes": mebibytes,
        "ships": ships,
        "bundle_mebibytes_hashed": [round(size / 2**20, 1) for size in large["bundle_bytes"]],
        "peak_mebibytes_above_empty": round((large["peak_bytes"] - empty["peak_bytes"]) / 2**20, 1),
        "longest_callback_milliseconds": round(large["callback_seconds"] * 1000, 1),
        "longest_callback": large["callback"],
        "cpu_seconds": round(large["cpu_seconds"], 1),
        "wall_seconds": round(large["wall_seconds"], 1),
    }


class Simulated:
    """A ship that is as its captain sees it, and does nothing."""

    def __init__(self, ship: str) -> None:
        self.ship = ship
        self.gone = self.idle = False
        self.takes_tasks = True

    def status(self) -> ShipStatus:
        """Return what decisions need to know of it."""
        return ShipStatus(self.ship, idle=self.idle, connected=True)

    def call(self) -> None:
        """Nobody is there."""


def claim_times(root: Path, fleets: tuple[int, ...], tasks: int) -> dict[str, Any]:
    """Time claims (:meth:`Pool.next_job`) of fleets of several sizes, taking turns."""
    pools: dict[int, tuple[Pool, Any]] = {}
    times: dict[int, list[float]] = {ships: [] for ships in fleets}

    async def take_turns(stack: contextlib.ExitStack) -> None:
        for ships in fleets:
            (root / str(ships)).mkdir()
            plan = [{"run": "true", "waits": [str(n - 7)] if n > 1200 else []} for n in range(1, tasks + 1)]
            directory = make_voyage(root / str(ships), plan, ships)
            ledger = stack.enter_context(command(directory))
            captain = Captain(directory, ledger, lambda row: row)  # type: ignore[arg-type, return-value]
            names = [f"ship-{number}" for number in range(ships)]
            captain.pool.actors = {name: Simulated(name) for name in names}  # type: ignore[misc]
            captain.pool.begin()
            captain.pool._began -= START_SECONDS  # noqa: SLF001 - every ship was reached long ago
            pools[ships] = (captain.pool, names)
        for number in range(CLAIMS):
            for ships, (pool, names) in pools.items():
                name = names[number % ships]
                if held := pool._ledger.held_claim(name):  # noqa: SLF001 - it landed, let us say
                    pool._ledger.return_task(held.token, "lost", "measured")  # noqa: SLF001
                before = time.perf_counter()
                job = pool.next_job(name)
                times[ships].append(time.perf_counter() - before)
                assert job is not None

    with contextlib.ExitStack() as stack:
        asyncio.run(take_turns(stack))
    shown = {}
    for ships, values in times.items():
        ordered = sorted(values[10:])
        half, most = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        shown[ships] = {"p50_ms": round(half * 1000, 2), "p99_ms": round(most * 1000, 2)}
    few, many = min(fleets), max(fleets)
    growth = {name: round(shown[many][name] / shown[few][name], 2) for name in ("p50_ms", "p99_ms")}
    return {**{str(ships): value for ships, value in shown.items()}, "growth": growth}


def saturation(ships: int, tasks: int, line: str = "true") -> dict[str, Any]:
    """Keep a whole machine busy with attempts; return what each cost."""
    with fleet() as sea:
        voyage = sea.sail({str(number): {"metadata": {"run": line}} for number in range(1, tasks + 1)}, ships)
        try:
            begin, first = voyage.until_landed(tasks // 6), voyage.landed()
            end = voyage.until_landed(tasks - ships // 2)
            last = voyage.landed()
            done = end.since(begin)
            count = last - first
            voyage.until_landed(tasks)
            peak = voyage.peak_mebibytes()
        finally:
            voyage.sink()
    rest = done.machine - done.captain - done.drydock
    parts = {"captain": done.captain, "drydock": done.drydock, "ships": rest, "machine": done.machine}
    return {
        "ships": ships,
        "landed": tasks,
        "attempts_a_second": round(count / done.at, 2),
        "cpu_milliseconds_an_attempt": {name: round(value / count * 1000, 1) for name, value in parts.items()},
        "captain_peak_mebibytes": round(peak, 1),
    }


def measure(root: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Return every figure that was asked for, and how busy the machine was."""
    before = os.getloadavg()
    sections = {
        "attempt": lambda: attempts(root, asked.attempts, asked.tasks, asked.pairs),
        "repository": lambda: repository(root, asked.mebibytes, asked.ships),
        "claims": lambda: claim_times(root, (10, 1000), asked.tasks),
        "saturation": lambda: saturation(50, 300),
        "crowd": lambda: saturation(60, 600, "sleep 0.2"),
    }
    found = {name: sections[name]() for name in asked.only or sections}
    return {**found, "load": {"before": before, "after": os.getloadavg(), "processors": os.cpu_count()}}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--attempts", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--mebibytes", type=int, default=512)
    parser.add_argument("--ships", type=int, default=6)
    names = ("attempt", "repository", "claims", "saturation", "crowd")
    parser.add_argument("--only", action="append", choices=names)
    parser.add_argument("--captain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("homes", type=Path, nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.captain:
        print(json.dumps(command_voyage(asked.captain, asked.homes, asked.attempts)))  # noqa: T201
        return
    with tempfile.TemporaryDirectory(prefix="ocaptain-scale-") as made:
        root = Path(made)
        print(json.dumps(measure(root, asked), indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
