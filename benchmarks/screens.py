"""What the command line and the live screens cost.

    python benchmarks/screens.py [--only start|reader|board|watch] … [--ships 50] [--tasks 1000] [--seconds 15]

Prints JSON. The voyage is the tests' (``tests/scenes.py``), as large as it is asked for.

* ``start``: processor time (user and system) of ``--help`` and ``status``, each as a multiple of
  ``python -c 'import typer, rich'``, run in turn by the same interpreter; the medians of ``--rounds``.
* ``reader``: processor time of one look at the voyage (:meth:`Watcher.snapshot`), after a task has changed, and after
  nothing has.
* ``board``: processor time of a frame of ``sail --wait``: a look, the last lines of the logs, and the drawing, while
  a task changes before each; and the share of a core that four frames a second take while nothing does.
* ``watch``: the same of the full screen, without a terminal: the thread that draws, by frame and by second, while
  another process changes a task each second; and the share of a core of all its threads while nothing changes.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console

from ocaptain.ledger import Ledger
from ocaptain.query.watch import Watcher
from tests.scenes import Scene, make_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocaptain.voyage.home import VoyageDirectory

REPO = Path(__file__).resolve().parent.parent
BASE = ("-c", "import typer, rich")
SIZES = ((80, 24), (200, 50))
FRAMES_A_SECOND = 4
WARM = 3


def milliseconds(values: Sequence[float]) -> dict[str, float]:
    """Return the median of some seconds, and the most."""
    return {"p50_ms": round(statistics.median(values) * 1000, 2), "max_ms": round(max(values) * 1000, 2)}


def child_seconds(argv: Sequence[str], env: dict[str, str]) -> float:
    """Run a program; return its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, check=True, env=env, stdin=subprocess.DEVNULL, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start(directory: VoyageDirectory, rounds: int) -> dict[str, Any]:
    """Compare what commands take with what importing typer and rich takes."""
    commands = {
        "base": BASE,
        "--help": ("-m", "ocaptain", "--help"),
        "status": ("-m", "ocaptain", "status", directory.id),
    }
    env = {**os.environ, "OCAPTAIN_HOME": str(directory.path.parent), "PYTHONPATH": str(REPO)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed: nothing is compiled anew
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(WARM + rounds):
        for name, words in commands.items():
            took = child_seconds([sys.executable, *words], env)
            if number >= WARM:
                times[name].append(took)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name: round(value / medians["base"], 2) for name, value in medians.items() if name != "base"}
    return {"cpu": {name: milliseconds(values) for name, values in times.items()}, "ratio": ratios}


class Captain:
    """Changes a task of the voyage each time it is called: hands one out, or lets one land."""

    def __init__(self, directory: VoyageDirectory) -> None:
        self._ledger = Ledger(directory.path / "ledger.db")
        self._ledger._db.execute("PRAGMA synchronous = OFF")  # noqa: SLF001 - how long the disk takes is not asked
        self._ledger.take_command()
        self._ships = [ship.id for ship in self._ledger.ships()]
        self._turn = 0

    def change(self) -> None:
        """Let the task of the next ship land, and hand it another one."""
        ship = self._ships[self._turn % len(self._ships)]
        self._turn += 1
        if held := self._ledger.held_claim(ship):
            commit = f"{held.token:07x}".ljust(40, "0")
            self._ledger.begin_landing(held.token, "refs/heads/x", "0" * 40, commit, {})
            self._ledger.finish_landing(held.token)
        else:
            self._ledger.claim(ship)


def thread_times(count: int, before: Callable[[], Any], run: Callable[[], Any]) -> list[float]:
    """Return the processor time of each of some calls, after another one each."""
    times = []
    for number in range(WARM + count):
        before()
        began = time.thread_time()
        run()
        if number >= WARM:
            times.append(time.thread_time() - began)
    return times


def reader(directory: VoyageDirectory, count: int) -> dict[str, Any]:
    """Measure a look at the voyage."""
    captain, watcher = Captain(directory), Watcher(directory.path)
    changed = thread_times(count, captain.change, watcher.snapshot)
    time.sleep(0.2)
    return {
        "changed": milliseconds(changed),
        "unchanged": milliseconds(thread_times(count * 10, lambda: None, watcher.snapshot)),
    }


def board(directory: VoyageDirectory, count: int) -> dict[str, Any]:
    """Measure frames of the screen of a `sail` that waits."""
    from ocaptain.cli.board import Extras  # noqa: PLC0415 - if there is one
    from ocaptain.cli.board import board as draw  # noqa: PLC0415

    captain, found = Captain(directory), {}
    for width, height in SIZES:
        watcher = Watcher(directory.path)
        console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)

        def frame(watcher: Watcher = watcher, console: Console = console) -> None:
            seen = watcher.snapshot()
            lines = draw(seen, Extras(watcher.actions()), time.time(), console.width, console.height)
            for line in lines:
                console.print(line, end="\n")

        changed = thread_times(count, captain.change, frame)
        time.sleep(0.2)
        still = thread_times(count, lambda: None, frame)
        share = round(statistics.fmean(still) * FRAMES_A_SECOND * 100, 2)
        found[f"{width}x{height}"] = {"frame": milliseconds(changed), "idle_core_percent": share}
    return found


def watch(directory: VoyageDirectory, seconds: float) -> dict[str, Any]:
    """Measure the full screen at each size."""
    found = {}
    for size in SIZES:
        idle = asyncio.run(watch_for(directory, size, seconds))
        argv = [sys.executable, __file__, "--captain", str(directory.path), "--seconds", str(seconds + 60)]
        with subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(REPO)}) as captain:
            try:
                busy = asyncio.run(watch_for(directory, size, seconds))
            finally:
                captain.terminate()
        found["{}x{}".format(*size)] = {
            "frame_ms": round(busy["thread"] / busy["frames"] * 1000, 2),
            "frames_a_second": round(busy["frames"] / busy["wall"], 2),
            "thread_ms_a_second": round(busy["thread"] / busy["wall"] * 1000, 2),
            "busy_core_percent": round(busy["process"] / busy["wall"] * 100, 2),
            "idle_core_percent": round(idle["process"] / idle["wall"] * 100, 2),
        }
    return found


async def watch_for(directory: VoyageDirectory, size: tuple[int, int], seconds: float) -> dict[str, float]:
    """Watch for a while; return the seconds of this thread and of all of them, and how many frames there were."""
    from ocaptain.cli.watch.app import WatchApp  # noqa: PLC0415 - if there is one

    frames = 0

    class Counting(WatchApp):
        def draw(self) -> None:
            nonlocal frames
            frames += 1
            super().draw()

    app = Counting(directory)
    async with app.run_test(size=size) as pilot:
        while app.seen.snapshot is None:
            await pilot.pause(0.05)
        await asyncio.sleep(2)  # everything is drawn once
        frames, before = 0, (time.thread_time(), time.process_time(), time.perf_counter())
        await asyncio.sleep(seconds)
        after = (time.thread_time(), time.process_time(), time.perf_counter())
        drawn = frames
        app.exit()
    thread, process, wall = (end - begin for begin, end in zip(before, after, strict=True))
    return {"thread": thread, "process": process, "wall": wall, "frames": max(1, drawn)}


def sail(directory: Path, seconds: float) -> None:
    """Be a captain for a while: change a task each second."""
    from ocaptain.voyage.home import VoyageDirectory  # noqa: PLC0415 - in this process alone

    captain, until = Captain(VoyageDirectory(directory)), time.monotonic() + seconds
    while time.monotonic() < until:
        captain.change()
        time.sleep(1)


def has(module: str) -> bool:
    """Whether there is such a module."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def measure(root: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Return every figure that was asked for, and how busy the machine was."""
    before = os.getloadavg()
    size = Scene(tasks=asked.tasks, ships=asked.ships, landed=asked.tasks * 6 // 10, layers=asked.ships, seconds=3000)
    sections: dict[str, Callable[[VoyageDirectory], Any]] = {
        "start": lambda directory: start(directory, asked.rounds),
        "reader": lambda directory: reader(directory, asked.frames),
        "board": lambda directory: board(directory, asked.frames) if has("ocaptain.cli.board") else None,
        "watch": lambda directory: watch(directory, asked.seconds) if has("ocaptain.cli.watch.app") else None,
    }
    found = {name: sections[name](make_scene(root / name, size)) for name in asked.only or sections}
    load = {"before": before, "after": os.getloadavg(), "processors": os.cpu_count()}
    return {"ships": asked.ships, "tasks": asked.tasks, **found, "load": load}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ships", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--only", action="append", choices=("start", "reader", "board", "watch"))
    parser.add_argument("--captain", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.captain:
        sail(asked.captain, asked.seconds)
        return
    with tempfile.TemporaryDirectory(prefix="ocaptain-screens-") as made:
        print(json.dumps(measure(Path(made), asked), indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
