"""What `watch` costs: a frame after a change, a frame of the clock, and a second in which nothing happens.

    python benchmarks/watch.py [--tasks 1000] [--ships 50] [--frames 20] [--seconds 10]

Prints JSON, for 80x24 and 200x50, with landed tasks shown as counts and one by one. Times are of the
processor, in milliseconds; reading the ledger is done by another thread, and counted by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ocaptain.background import reduce_garbage_collection
from ocaptain.cli.watch.app import WatchApp
from ocaptain.ledger import Ledger
from tests.scenes import Scene, make_scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.pilot import Pilot

    from ocaptain.voyage.home import VoyageDirectory

MILLI = 1000


async def measure(directory: VoyageDirectory, size: tuple[int, int], frames: int, seconds: float) -> dict[str, Any]:
    """Return the costs at a size of the terminal."""
    app = WatchApp(directory)
    found: dict[str, Any] = {"size": "x".join(map(str, size))}
    async with app.run_test(size=size) as pilot:
        while app.seen.snapshot is None:
            await pilot.pause(0.05)
        before, began = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        found["idle_percent_of_a_core"] = round((time.process_time() - before) / (time.monotonic() - began) * 100, 2)
        for name in ("landed_as_counts", "landed_one_by_one"):
            if name == "landed_one_by_one":
                await pilot.press("a")
            found[name] = await _frames(app, pilot, directory, frames)
    return found


async def _frames(app: WatchApp, pilot: Pilot[None], directory: VoyageDirectory, frames: int) -> dict[str, Any]:
    changed, clock, read = [], [], []

    async def frame(draw: Callable[[], None], times: list[float]) -> None:
        before = time.thread_time()
        draw()
        await pilot.pause()
        times.append((time.thread_time() - before) * MILLI)

    for number in range(frames):
        with Ledger(directory.path / "ledger.db") as ledger:
            ledger._db.execute("UPDATE tasks SET reason = ? WHERE id = '7'", (f"for reason {number}",))  # noqa: SLF001
        began = time.process_time()
        seen = app._reader.read("ship-0")  # noqa: SLF001
        read.append((time.process_time() - began) * MILLI)
        await frame(lambda: app._show(seen), changed)  # noqa: B023, SLF001 - called at once
        await frame(app.draw, clock)
    named = {"changed_frame_ms": changed, "clock_frame_ms": clock, "read_ms": read}
    return {
        name: {"median": round(statistics.median(times), 1), "worst": round(max(times), 1)}
        for name, times in named.items()
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--ships", type=int, default=50)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    chosen = parser.parse_args()
    reduce_garbage_collection()
    landed = max(0, chosen.tasks - chosen.ships * 8)
    with tempfile.TemporaryDirectory() as place:
        scene = Scene(tasks=chosen.tasks, ships=chosen.ships, landed=landed, layers=chosen.ships)
        directory = make_scene(Path(place), scene)
        found = [asyncio.run(measure(directory, size, chosen.frames, chosen.seconds)) for size in ((80, 24), (200, 50))]
    sys.stdout.write(json.dumps({"tasks": chosen.tasks, "ships": chosen.ships, "sizes": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
