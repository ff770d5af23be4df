"""What each part of drydock's fence costs, in one run on one machine.

    python benchmarks/fence.py [--rounds 15] [--many 100]

Prints JSON; needs root and a built base layer. All ways take turns, so that a busy machine is busy for each of them:

- ``create``: a sandbox by hand (``tests/raw_sandbox.sh``: namespaces and mounts alone, no ids, no filter); namespaces
  alone (``unshare``); drydock's, with the machine's ids and without a filter, with ids, with both, with a network of
  its own as well; and by the API;
- ``true``: by ``nsenter`` in the sandbox by hand; by drydock's :func:`spawn` in each of those; and by the exec socket;
- ``true`` by the exec socket with one sprite and with ``--many``.

Times are medians in milliseconds; every ratio is to the raw way of the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drydock import below, drydock

from ocaptain.drydock import sandbox
from ocaptain.drydock.base import ensure_base
from ocaptain.drydock.enter import SandboxCommand, spawn
from ocaptain.drydock.ids import IdClaims, Ids
from ocaptain.drydock.sandbox import BASE_ENVIRONMENT, Sandbox, remove_tree
from ocaptain.drydock.seccomp import filter_program
from ocaptain.sources import cache_directory
from ocaptain.sprites import SpritesClient
from tests.raw_sandbox import make_folders, start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: A filter that allows everything, in one instruction (``ret ALLOW``).
NO_FILTER = bytes([6, 0, 0, 0, 0, 0, 255, 127])
RAW_TRUE = ("-m", "-p", "-u", "-i", "-r", "-w", "/bin/true")
#: name: has ids of its own, has the filter, has a network of its own
PARTS = {
    "none": (False, False, False),
    "filter": (False, True, False),
    "ids": (True, False, False),
    "ids and filter": (True, True, False),
    "ids, filter and network": (True, True, True),
}


async def timed(times: list[float], work: Callable[[], Awaitable[object]]) -> None:
    """Note how long a piece of work takes."""
    began = time.perf_counter()
    await work()
    times.append((time.perf_counter() - began) * 1000)


class Parts:
    """Drydock's own sandboxes, with a part of the fence each."""

    def __init__(self, place: Path, base: Path) -> None:
        self._place, self._base, self._claims = place, base, IdClaims(place / "ids")

    def program(self, part: str) -> bytes:
        """Return the filter of a part."""
        return filter_program() if PARTS[part][1] else NO_FILTER

    async def make(self, part: str, number: int) -> Sandbox:
        """Build a sandbox with a part of the fence."""
        own_ids, _, network = PARTS[part]
        ids = self._claims.claim() if own_ids else Ids(0, 1000)
        plan = Sandbox._plan  # noqa: SLF001 - the parts are not options of drydock

        def with_part(box: Sandbox) -> object:
            return replace(plan(box), program=self.program(part))

        with mock.patch.object(Sandbox, "_plan", with_part):
            where = self._place / f"{part.replace(' ', '-').replace(',', '')}-{number}"
            return await Sandbox.create("part", where, self._base, ids, isolated=network)

    async def run_true(self, part: str, box: Sandbox) -> None:
        """Run ``true`` in it."""
        nothing = os.open(os.devnull, os.O_RDWR)
        try:
            with mock.patch("ocaptain.drydock.enter.filter_program", return_value=self.program(part)):
                command = SandboxCommand(box.init_pid, ["/bin/true"], BASE_ENVIRONMENT)
                running = await spawn(command, stdin=nothing, stdout=nothing, stderr=nothing)
            assert await running.wait() == 0
        finally:
            os.close(nothing)


async def measure_parts(place: Path, base: Path, client: SpritesClient, rounds: int) -> dict:
    """Take turns between all ways to create and to run ``true``."""
    parts = Parts(place, base)
    create: dict[str, list[float]] = {name: [] for name in ("by hand", "unshare", *PARTS, "API")}
    true: dict[str, list[float]] = {name: [] for name in ("by hand", *PARTS, "API")}
    await client.create("warm-up")
    for number in range(rounds):
        root = place / f"raw-{number}"
        kept = []

        async def by_hand(root: Path = root, kept: list[subprocess.Popen[bytes]] = kept) -> None:
            make_folders(root)
            kept.append(start(root, base, "raw", isolated=True))
            assert await asyncio.to_thread(kept[0].stdout.readline) == b"ready\n"  # type: ignore[union-attr]

        await timed(create["by hand"], by_hand)
        init = below(kept[0].pid)[1]
        flags = ("--mount", "--pid", "--uts", "--ipc", "--net", "--fork")
        await timed(create["unshare"], lambda: call("unshare", *flags, "/bin/true"))  # noqa: B023 - called at once
        boxes = {}
        for part in PARTS:

            async def make(part: str = part, number: int = number, boxes: dict[str, Sandbox] = boxes) -> None:
                boxes[part] = await parts.make(part, number)

            await timed(create[part], make)
        await timed(create["API"], lambda number=number: client.create(f"one-{number}"))  # type: ignore[misc]
        for _ in range(4):
            await timed(true["by hand"], lambda init=init: call("nsenter", "-t", str(init), *RAW_TRUE))  # type: ignore[misc]
            for part, box in boxes.items():
                await timed(true[part], lambda part=part, box=box: parts.run_true(part, box))  # type: ignore[misc]
            await timed(true["API"], lambda: client.run("warm-up", ["true"], seconds=60))
        kept[0].kill()
        kept[0].communicate()
        await asyncio.to_thread(remove_tree, root)
        for box in boxes.values():
            await box.destroy()
        await client.destroy(f"one-{number}")
    return {"create": compared(create), "true": compared(true)}


async def call(*argv: str) -> None:
    """Run a program of the host."""
    await asyncio.to_thread(subprocess.run, argv, check=True)


def compared(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return the medians, and their ratios to the sandbox by hand."""
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        name: {"ms": round(found, 2), "ratio": round(found / medians["by hand"], 2)} for name, found in medians.items()
    }


async def measure_many(client: SpritesClient, many: int, rounds: int) -> dict[str, float]:
    """Run ``true`` with one sprite and with many, in turns of creation and destruction."""
    few: list[float] = []
    crowd: list[float] = []
    for _ in range(2):
        for _ in range(rounds):
            await timed(few, lambda: client.run("warm-up", ["true"], seconds=60))
        await asyncio.gather(*(client.create(f"many-{number}") for number in range(many - 1)))
        await asyncio.sleep(1)
        for _ in range(rounds):
            await timed(crowd, lambda: client.run("warm-up", ["true"], seconds=60))
        await asyncio.gather(*(client.destroy(f"many-{number}") for number in range(many - 1)))
    one, all_ = statistics.median(few), statistics.median(crowd)
    return {"one_ms": round(one, 2), f"of_{many}_ms": round(all_, 2), "ratio": round(all_ / one, 2)}


async def measure(place: Path, record: dict, token: str, options: argparse.Namespace) -> dict:
    """Return all figures."""
    base = await ensure_base(cache_directory() / "drydock")
    async with SpritesClient(record["url"], token) as client:
        figures = await measure_parts(place, base, client, options.rounds)
        return {"mode": sandbox.sandbox_mode(), **figures, "crowd": await measure_many(client, options.many, 40)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--many", type=int, default=100)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ocaptain-fence-"))
    try:
        record = drydock(home, "start", "--idle", "0")
        try:
            token = Path(record["token_file"]).read_text()
            sys.stdout.write(json.dumps(asyncio.run(measure(home, record, token, options)), indent=2) + "\n")
        finally:
            drydock(home, "stop", "--force")
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
