"""Read and write descriptors that another process gave us, on the event loop.

A pipe or a socket does not block; a file, a terminal or ``/dev/null``, which cannot be waited for, never has to.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 64 * 1024


def prepare(fd: int) -> None:
    """Make a descriptor that was received one that does not block and that no child inherits."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)


async def read(fd: int) -> bytes:
    """Return what can be read, b"" at the end. Raises OSError."""
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            await wait_readable(fd)


async def write(fd: int, data: bytes) -> None:
    """Write all of ``data``. Raises OSError."""
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            await _wait(fd, loop.add_writer, loop.remove_writer)


async def wait_readable(fd: int) -> None:
    """Wait until something can be read, or until the end."""
    loop = asyncio.get_running_loop()
    await _wait(fd, loop.add_reader, loop.remove_reader)


async def _wait(fd: int, add: Callable[..., None], remove: Callable[[int], object]) -> None:
    ready = asyncio.Event()
    add(fd, ready.set)
    try:
        await ready.wait()
    finally:
        remove(fd)
