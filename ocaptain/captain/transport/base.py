"""The interface to a ship: a duplex byte stream to its worker, commands, and reading and writing whole small files.

Sprites' exec and files are one transport (``sprite``), ssh to a host of an inventory is the other
(``ssh``). Paths are relative to the home of the ship's user.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

WORKER = ".ocaptain/worker.pyz"
STDOUT = 1
STDERR = 2
MAX_OUTPUT = 1024 * 1024


class TransportError(Exception):
    """The ship cannot be reached now, or the stream broke."""


class ShipGone(TransportError):
    """The ship does not exist any more."""


class FileFault(TransportError):
    """The ship answers, but the file does not exist or is too large."""


class CutShort(TransportError):
    """A file arrives incomplete, again and again."""


class ShipFault(Exception):
    """A ship answers, but cannot do what every ship can, or sends what no worker sends."""


class Stream(Protocol):
    """An open stream to a worker."""

    async def send(self, data: bytes) -> None:
        """Send bytes; raises :class:`TransportError` if the stream broke."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what the worker sends; ends or raises :class:`TransportError` at the stream's end."""

    async def close(self) -> None:
        """Close the stream."""


class RemoteCommand(Protocol):
    """A command that runs on a ship: iterate for ``(STDOUT or STDERR, bytes)``."""

    async def send(self, data: bytes) -> None:
        """Send input; raises :class:`TransportError` if the command cannot be reached any more."""

    async def send_eof(self) -> None:
        """End the input. Raises :class:`TransportError`."""

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield its output; raises :class:`TransportError` if its end is not seen."""

    @property
    def exit_code(self) -> int:
        """The exit code, once all output was read. Raises :class:`TransportError` if its end was not seen."""

    async def close(self) -> None:
        """Close the connection to the command, and end it if it still runs."""


class Transport(Protocol):
    """The way to one ship."""

    async def open(self) -> Stream:
        """Open a stream to the worker, waking the ship. Raises :class:`TransportError`."""

    async def put(self, path: str, data: bytes) -> None:
        """Write a file. Raises :class:`TransportError`."""

    async def get(self, path: str, limit: int) -> bytes:
        """Read a file of at most ``limit`` bytes. Raises :class:`TransportError`."""

    async def command(self, argv: Sequence[str]) -> RemoteCommand:
        """Start a command in the home. Raises :class:`TransportError`."""


@dataclass(frozen=True)
class Completed:
    """A command that ended: its exit code, and the last :data:`MAX_OUTPUT` bytes of what it wrote."""

    code: int
    stdout: bytes
    stderr: bytes


async def run(transport: Transport, argv: Sequence[str], seconds: float) -> Completed:
    """Run a command without input to its end.

    Raises:
        TransportError: the ship cannot be reached, or the command took longer than ``seconds``.
    """
    output = {STDOUT: b"", STDERR: b""}
    try:
        async with asyncio.timeout(seconds):
            command = await transport.command(argv)
            try:
                with contextlib.suppress(TransportError):  # it may have ended without reading
                    await command.send_eof()
                async for stream, data in command:
                    output[stream] = (output[stream] + data)[-MAX_OUTPUT:]
                return Completed(command.exit_code, output[STDOUT], output[STDERR])
            finally:
                await command.close()
    except TimeoutError as error:
        raise TransportError(f"{argv[0]} took longer than {seconds:g} s") from error
