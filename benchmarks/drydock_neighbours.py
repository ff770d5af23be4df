"""What a command on one sprite takes while its neighbours do their worst. Called by ``drydock.py``.

Each case runs beside a sprite ``good`` on which ``true`` is run again and again; its median is compared with the median
before any case, on the same drydock. A drydock of another checkout can be measured in the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect

from ocaptain.sprites import SpritesClient, SpritesError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
    from pathlib import Path

#: Every process makes two more, up to the number that the user of this shell may have.
BOMB = "ulimit -u {count}; f() {{ f | f & }}; f; sleep 600"
STUBBORN = "trap '' TERM INT HUP; for n in $(seq 20); do (trap '' TERM INT HUP; sleep 600) & done; wait"


async def sample(client: SpritesClient, count: int, going: Callable[[], bool] = lambda: True) -> list[float]:
    """Return the seconds of ``true`` on ``good``, ``count`` times or until nothing goes on beside it."""
    found: list[float] = []
    while len(found) < count and going():
        began = time.perf_counter()
        await client.run("good", ["true"], seconds=120)
        found.append(time.perf_counter() - began)
    return found


@contextlib.asynccontextmanager
async def running(client: SpritesClient, name: str, line: str) -> AsyncIterator[None]:
    """Have a shell line run on a sprite meanwhile."""
    task = asyncio.create_task(client.run(name, ["bash", "-c", line], seconds=600))
    await asyncio.sleep(1)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def during(client: SpritesClient, count: int, start: Callable[[], Awaitable[object]]) -> list[float]:
    """Return samples that were taken while work goes on; start it again until there are enough."""
    found: list[float] = []
    while len(found) < count:
        task = asyncio.ensure_future(start())
        await asyncio.sleep(0)
        found += await sample(client, count, lambda task=task: not task.done())
        await task
    return found


async def checkpoints(client: SpritesClient, count: int, mib: int) -> list[float]:
    """Measure while seven others are checkpointed at once."""
    names = [f"copied-{number}" for number in range(7)]
    for name in names:
        await client.create(name)
        await client.run(name, ["sh", "-c", f"head -c {mib}M /dev/urandom | split -b 16k -a 5 - ~/data."], seconds=120)
    found = await during(client, count, lambda: asyncio.gather(*(client.create_checkpoint(name) for name in names)))
    await asyncio.gather(*(client.destroy(name) for name in names))
    return found


async def fork_bomb(client: SpritesClient, count: int) -> list[float]:
    """Measure while a neighbour forks as often as it can."""
    await client.create("bomb")
    async with running(client, "bomb", BOMB.format(count=200)):
        found = await sample(client, count)
        await client.destroy("bomb")
    return found


async def stubborn(client: SpritesClient, count: int) -> list[float]:
    """Measure while ships whose programs ignore every polite signal are destroyed."""

    async def destroy_three() -> None:
        names = [f"stubborn-{number}" for number in range(3)]
        for name in names:
            await client.create(name)
        async with contextlib.AsyncExitStack() as stack:
            for name in names:
                await stack.enter_async_context(running(client, name, STUBBORN))
            await asyncio.gather(*(client.destroy(name) for name in names))

    return await during(client, count, destroy_three)


async def slow_reader(client: SpritesClient, count: int, url: str, token: str, mib: int) -> list[float]:
    """Measure while a neighbour has much to say to a client that hardly reads."""
    await client.create("talker")
    path = f"/v1/sprites/talker/exec?cmd=head&cmd=-c&cmd={mib}M&cmd=/dev/zero"
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(
        url.replace("http", "ws") + path, additional_headers=headers, compression=None, proxy=None, max_queue=1
    ) as socket:

        async def read_slowly() -> None:
            while True:
                await socket.recv()
                await asyncio.sleep(0.05)

        reading = asyncio.create_task(read_slowly())
        found = await sample(client, count)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    await client.destroy("talker")
    return found


async def full_disk(client: SpritesClient, count: int) -> list[float]:
    """Measure while a neighbour has filled the disk, which is small here, and goes on writing."""
    await client.create("writer")
    line = "cat /dev/zero > ~/all; while :; do echo x >> ~/more; sleep 0.01; done 2> /dev/null"
    async with running(client, "writer", line):
        found = await sample(client, count)
        with contextlib.suppress(SpritesError):
            await client.destroy("writer")
    return found


def rss(pid: int) -> int:
    """Return the resident memory of a process in MiB."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return int(told) // 1024


async def measure_cases(record: dict, token: str, count: int, mib: int) -> dict:
    """Return the medians of all cases but the full disk, in milliseconds, with ratios to the idle one."""
    async with SpritesClient(record["url"], token) as client:
        await client.create("good")
        await sample(client, 3)
        idle = await sample(client, count)
        before = rss(record["pid"])
        cases: dict[str, Coroutine[None, None, list[float]]] = {
            "seven_checkpoints": checkpoints(client, count, mib),
            "fork_bomb": fork_bomb(client, count),
            "slow_reader": slow_reader(client, count, record["url"], token, 16 * mib),
            "term_ignored": stubborn(client, count),
        }
        found = {name: await case for name, case in cases.items()}
        return {**as_ratios(idle, found), "server_grew_mib": rss(record["pid"]) - before}


async def measure_full_disk(record: dict, token: str, count: int) -> dict:
    """Return the figures of a drydock whose disk is small."""
    async with SpritesClient(record["url"], token) as client:
        await client.create("good")
        await sample(client, 3)
        idle = await sample(client, count)
        return as_ratios(idle, {"full_disk": await full_disk(client, count)})


def as_ratios(idle: list[float], cases: dict[str, list[float]]) -> dict:
    """Return the medians in milliseconds, and each case's ratio to the idle one."""
    base = statistics.median(idle)
    shown: dict[str, object] = {"idle_ms": round(base * 1000, 1)}
    for name, found in cases.items():
        median = statistics.median(found)
        shown |= {f"{name}_ms": round(median * 1000, 1), f"{name}_ratio": round(median / base, 2)}
    return shown


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Mount a disk of 48 MiB."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "small", str(directory)], check=True)
    try:
        yield directory
    finally:
        for _ in range(50):  # the last mounts of its ships may need a moment to go
            if subprocess.run(["umount", str(directory)], check=False, capture_output=True).returncode == 0:
                directory.rmdir()
                break
            time.sleep(0.1)
