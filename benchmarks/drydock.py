"""What drydock costs beside the bare kernel, in one run on one machine.

    python benchmarks/drydock.py [--sprites 50] [--rounds 15] [--streams 20] [--samples 40] [--disk 64]
                                 [--against OCAPTAIN]

Prints JSON. Drydock is one of its own, in a temporary home. Side by side, taking turns:

- creating a sprite by the API, and the same namespaces and mounts made by hand;
- ``true`` by the exec socket, and by ``nsenter``.

Then what a command on one sprite takes while its neighbours do their worst (``drydock_neighbours.py``), with
``--against`` on a drydock of another checkout as well.

Memory is the proportional set size of a sprite's own processes, and what the server grew by.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drydock_neighbours import measure_cases, measure_full_disk, small_disk

from ocaptain.drydock.sandbox import remove_tree
from ocaptain.sprites import SpritesClient
from tests.raw_sandbox import make_folders, start

if TYPE_CHECKING:
    from collections.abc import Iterator

OCAPTAIN = Path(sys.executable).parent / "ocaptain"


def drydock(home: Path, *arguments: str, program: Path = OCAPTAIN) -> dict:
    """Run a drydock command with a home of its own; return what it printed."""
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser()),
    }
    done = subprocess.run([program, "drydock", *arguments], env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def by_hand(root: Path, base: Path) -> tuple[float, subprocess.Popen]:
    """Make namespaces, mounts and root of a sandbox without drydock; return seconds and its keeper."""
    began = time.perf_counter()
    make_folders(root)
    keeper = start(root, base, "raw")
    assert keeper.stdout
    assert keeper.stdout.readline() == b"ready\n"
    return time.perf_counter() - began, keeper


def memory(pids: list[int]) -> int:
    """Return the proportional set size of processes in bytes."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def below(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += below(int(child))
    return found


async def measure(home: Path, record: dict, token: str, base: Path, options: argparse.Namespace) -> dict:
    """Return all figures."""
    async with SpritesClient(record["url"], token) as client:
        made, raw, through, entered = [], [], [], []
        await client.create("warm-up")
        for number in range(options.rounds):
            began = time.perf_counter()
            await client.create(f"one-{number}")
            made.append(time.perf_counter() - began)
            root = home / f"raw-{number}"
            seconds, keeper = await asyncio.to_thread(by_hand, root, base)
            raw.append(seconds)
            init = below(keeper.pid)[1]
            for _ in range(4):
                began = time.perf_counter()
                await client.run("warm-up", ["true"], seconds=30)
                through.append(time.perf_counter() - began)
                began = time.perf_counter()
                argv = ["nsenter", "-t", str(init), "-m", "-p", "-u", "-i", "-r", "-w", "/bin/true"]
                await asyncio.to_thread(subprocess.run, argv, check=True)
                entered.append(time.perf_counter() - began)
            keeper.kill()
            keeper.wait()
            await asyncio.to_thread(remove_tree, root)
        for number in range(options.rounds):
            await client.destroy(f"one-{number}")
        server_before, children_before = memory([record["pid"]]), memory(below(record["pid"])[1:])
        began = time.perf_counter()
        await asyncio.gather(*(client.create(f"many-{number}") for number in range(options.sprites)))
        create_all = time.perf_counter() - began
        await asyncio.sleep(1)
        server_after, children_after = memory([record["pid"]]), memory(below(record["pid"])[1:])
        began = time.perf_counter()
        done = await asyncio.gather(
            *(client.run("many-0", ["sh", "-c", f"echo {n}; sleep 0.5"], seconds=60) for n in range(options.streams))
        )
        parallel = time.perf_counter() - began
        assert sorted(int(one.stdout) for one in done) == list(range(options.streams))
        began = time.perf_counter()
        await asyncio.gather(*(client.destroy(f"many-{number}") for number in range(options.sprites)))
        destroy_all = time.perf_counter() - began
    a_sprite = (server_after - server_before + children_after - children_before) / options.sprites
    create, exec_ = statistics.median(made), statistics.median(through)
    raw_create, raw_exec = statistics.median(raw), statistics.median(entered)
    return {
        "sprites": options.sprites,
        "create_all_seconds": round(create_all, 2),
        "destroy_all_seconds": round(destroy_all, 2),
        "parallel_streams": options.streams,
        "parallel_streams_seconds_of_half_a_second": round(parallel, 2),
        "create_ms": round(create * 1000, 1),
        "raw_namespaces_ms": round(raw_create * 1000, 1),
        "create_ratio": round(create / raw_create, 2),
        "exec_true_ms": round(exec_ * 1000, 2),
        "nsenter_true_ms": round(raw_exec * 1000, 2),
        "exec_ratio": round(exec_ / raw_exec, 2),
        "idle_sprite_mib": round(a_sprite / 1024 / 1024, 2),
    }


@contextlib.contextmanager
def started(home: Path, program: Path) -> Iterator[tuple[dict, str]]:
    """Start a drydock with a home of its own; give its record and its token."""
    home.mkdir(exist_ok=True)
    record = drydock(home, "start", "--idle", "0", program=program)
    try:
        yield record, Path(record["token_file"]).read_text()
    finally:
        drydock(home, "stop", "--force", program=program)


def neighbours(home: Path, program: Path, options: argparse.Namespace) -> dict:
    """Return what a command takes beside bad neighbours (``drydock_neighbours.py``)."""
    with started(home / "cases", program) as (record, token):
        found = asyncio.run(measure_cases(record, token, options.samples, options.disk))
    with small_disk(home / "small") as disk, started(disk / "home", program) as (record, token):
        small = asyncio.run(measure_full_disk(record, token, options.samples))
    shutil.rmtree(home / "cases")
    return {**found, **{name: value for name, value in small.items() if name.startswith("full_disk")}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sprites", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--samples", type=int, default=40, help="commands in each case of the neighbours")
    parser.add_argument("--disk", type=int, default=64, help="MiB of each disk that is copied; 16 times that is read")
    parser.add_argument("--against", type=Path, help="ocaptain of another checkout, for the neighbours")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ocaptain-benchmark-"))
    try:
        with started(home, OCAPTAIN) as (record, token):
            cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ocaptain/drydock"
            base = max(cache.glob("base-*"), key=lambda path: path.stat().st_mtime)
            figures = asyncio.run(measure(home, record, token, base, options))
        figures["neighbours"] = neighbours(home, OCAPTAIN, options)
        if options.against:
            figures["neighbours_against"] = neighbours(home, options.against, options)
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
