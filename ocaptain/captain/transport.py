"""The seam to a ship: one duplex byte stream to its worker, and whole small files both ways.

Sprites exec and fs are the first transport; ssh to a host of an inventory is in ssh.py. Paths are
relative to the ship user's home.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

from ocaptain.sprites import ExecInterrupted, Execution, NotFound, SpritesClient, SpritesError, TooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HOME = "/home/sprite"
WORKER = ".ocaptain/worker.pyz"
_STDERR = 2


class TransportError(Exception):
    """The ship cannot be reached now, or the stream broke."""


class ShipGone(TransportError):
    """The ship does not exist any more."""


class FileFault(TransportError):
    """The ship answers, but the file is not there, or is not what was promised."""


class CutShort(TransportError):
    """Less of a file arrives than there is, again and again."""


class Stream(Protocol):
    """An open stream to a worker."""

    async def send(self, data: bytes) -> None:
        """Send bytes; raises :class:`TransportError` if the stream broke."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what the worker sends; ends or raises :class:`TransportError` at the stream's end."""

    async def close(self) -> None:
        """Close the stream."""


class Transport(Protocol):
    """The way to one ship."""

    async def open(self) -> Stream:
        """Open a stream to the worker, waking the ship. Raises :class:`TransportError`."""

    async def put(self, path: str, data: bytes) -> None:
        """Write a file. Raises :class:`TransportError`."""

    async def get(self, path: str, limit: int) -> bytes:
        """Read a file of at most ``limit`` bytes. Raises :class:`TransportError`."""

    async def execute(self, argv: Sequence[str], seconds: float) -> tuple[int, str]:
        """Run a short command in the home; return exit code and what it said. Raises :class:`TransportError`."""


@contextlib.contextmanager
def _translated(ship: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    try:
        yield
    except NotFound as error:
        raise ShipGone(f"{ship}: {error.message}") from error
    except SpritesError as error:
        raise TransportError(f"{ship}: {error.message}") from error


class SpriteTransport:
    """A sprite: exec for the stream, fs for files."""

    def __init__(self, client: SpritesClient, sprite: str) -> None:
        self._client = client
        self._sprite = sprite

    async def open(self) -> Stream:
        """Start ``worker channel`` by exec."""
        argv = ["python3", f"{HOME}/{WORKER}", "channel"]
        with _translated(self._sprite):
            try:
                execution = await self._client.exec(self._sprite, argv, cwd=HOME, run_on="1s")
            except NotFound as error:
                await self._is_there(error)
                raise
            return SpriteStream(execution, self._sprite)

    async def _is_there(self, word: NotFound) -> None:
        """Have it said by another call: on this word a ship is given up for good."""
        await self._client.get(self._sprite)
        raise TransportError(f"{self._sprite}: {word.message}, yet it is there") from word

    async def put(self, path: str, data: bytes) -> None:
        """Write by the fs API."""
        with _translated(self._sprite):
            try:
                await self._client.write_file(self._sprite, f"{HOME}/{path}", data)
            except NotFound as error:
                await self._is_there(error)

    async def get(self, path: str, limit: int) -> bytes:
        """Read by the fs API. A file that is not there is no missing ship."""
        try:
            return await self._client.read_file(self._sprite, f"{HOME}/{path}", limit=limit)
        except (NotFound, TooLarge) as error:
            raise FileFault(f"{self._sprite}: {error.message}") from error
        except SpritesError as error:
            raise TransportError(f"{self._sprite}: {error.message}") from error

    async def execute(self, argv: Sequence[str], seconds: float) -> tuple[int, str]:
        """Run by exec."""
        with _translated(self._sprite):
            done = await self._client.run(self._sprite, argv, cwd=HOME, seconds=seconds)
        return done.code, (done.stdout + done.stderr).decode(errors="replace")


class SpriteStream:
    """An exec session as a stream; stderr is noise and becomes the reason of a broken stream."""

    def __init__(self, execution: Execution, sprite: str) -> None:
        self._execution = execution
        self._sprite = sprite
        self._said = b""

    async def send(self, data: bytes) -> None:
        """Send on stdin."""
        try:
            await self._execution.send(data)
        except ExecInterrupted as error:
            raise TransportError(error.message) from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for stream, data in self._execution:
                if stream == _STDERR:
                    self._said = (self._said + data)[-500:]
                else:
                    yield data
            code = self._execution.code
        except ExecInterrupted as error:
            raise TransportError(error.message) from error
        said = self._said.decode(errors="replace").strip()
        raise TransportError(f"{self._sprite}: the worker's channel ended (exit {code}){f': {said}' if said else ''}")

    async def close(self) -> None:
        """Close the socket; the remote end goes with it."""
        with contextlib.suppress(TransportError, asyncio.TimeoutError):
            await self._execution.close()
