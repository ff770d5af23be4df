"""The transport to a ship that is a sprite: exec for streams and commands, the fs API for files."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ocaptain.captain.transport.base import STDERR, WORKER, FileFault, RemoteCommand, ShipGone, Stream, TransportError
from ocaptain.presence import find_existing
from ocaptain.sprites import ExecInterrupted, Execution, NotFound, SpritesClient, SpritesError, TooLarge
from ocaptain.sprites.client import GATE_SCRIPT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import ShipRow

HOME = "/home/sprite"
MAX_REASON = 500  # bytes of stderr shown as the reason of a broken stream


@contextlib.contextmanager
def _as_transport_errors(ship: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise ShipGone(f"{ship}: {error.message}") from error
    except SpritesError as error:
        raise TransportError(f"{ship}: {error.message}") from error


@contextlib.contextmanager
def _interrupted() -> Iterator[None]:
    try:
        yield
    except ExecInterrupted as error:
        raise TransportError(error.message) from error


class SpriteTransport:
    """A sprite: exec for the stream, fs for files."""

    def __init__(self, client: SpritesClient, sprite: str) -> None:
        self._client = client
        self._sprite = sprite

    @contextlib.asynccontextmanager
    async def _checked_call(self) -> AsyncIterator[None]:
        """Translate errors; confirm a 404 by further calls: on ShipGone the captain gives the ship up for good."""
        with _as_transport_errors(self._sprite):
            try:
                yield
            except NotFound as error:
                exist = await find_existing(self._client, self._sprite, [self._sprite])
                if self._sprite in exist.gone:
                    raise
                why = "but the sprite exists" if self._sprite in exist.there else exist.why
                raise TransportError(f"{self._sprite}: {error.message}, {why}") from error

    async def open(self) -> Stream:
        """Start ``worker channel`` by exec."""
        argv = ["python3", f"{HOME}/{WORKER}", "channel"]
        async with self._checked_call():
            return SpriteStream(
                await self._client.exec(self._sprite, argv, cwd=HOME, run_after_disconnect="1s"), self._sprite
            )

    async def put(self, path: str, data: bytes) -> None:
        """Write by the fs API."""
        async with self._checked_call():
            await self._client.write_file(self._sprite, f"{HOME}/{path}", data)

    async def get(self, path: str, limit: int) -> bytes:
        """Read by the fs API. A 404 here means that the file does not exist, not that the ship is gone."""
        try:
            return await self._client.read_file(self._sprite, f"{HOME}/{path}", limit=limit)
        except (NotFound, TooLarge) as error:
            raise FileFault(f"{self._sprite}: {error.message}") from error
        except SpritesError as error:
            raise TransportError(f"{self._sprite}: {error.message}") from error

    async def command(self, argv: Sequence[str]) -> RemoteCommand:
        """Run by exec, behind the gate that a fast command's output needs."""
        gated = ["sh", "-c", GATE_SCRIPT, "sh", *argv]
        async with self._checked_call():
            command = SpriteCommand(await self._client.exec(self._sprite, gated, cwd=HOME, run_after_disconnect="1s"))
        try:
            await command.send(b"\n")
        except BaseException:
            await command.close()
            raise
        return command


class SpriteCommand:
    """An exec session as a command."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    @property
    def exit_code(self) -> int:
        """The exit code."""
        with _interrupted():
            return self._execution.code

    async def send(self, data: bytes) -> None:
        """Send on stdin."""
        with _interrupted():
            await self._execution.send(data)

    async def send_eof(self) -> None:
        """End stdin."""
        with _interrupted():
            await self._execution.send_eof()

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        with _interrupted():
            async for stream, data in self._execution:
                yield stream, data

    async def close(self) -> None:
        """Close the socket; the command ends with it."""
        with contextlib.suppress(TransportError, asyncio.TimeoutError):
            await self._execution.close()


class SpriteStream:
    """An exec session as a stream; stderr is noise and becomes the reason of a broken stream."""

    def __init__(self, execution: Execution, sprite: str) -> None:
        self._execution = execution
        self._sprite = sprite
        self._stderr = b""

    async def send(self, data: bytes) -> None:
        """Send on stdin."""
        with _interrupted():
            await self._execution.send(data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _interrupted():
            async for stream, data in self._execution:
                if stream == STDERR:
                    self._stderr = (self._stderr + data)[-MAX_REASON:]
                else:
                    yield data
            code = self._execution.code
        reason = self._stderr.decode(errors="replace").strip()
        ended = f"{self._sprite}: the worker's channel ended (exit {code})"
        raise TransportError(f"{ended}: {reason}" if reason else ended)

    async def close(self) -> None:
        """Close the socket; the remote end goes with it."""
        with contextlib.suppress(TransportError, asyncio.TimeoutError):
            await self._execution.close()


def sprite_transport_factory(client: SpritesClient) -> Callable[[ShipRow], Transport]:
    """Return a function that makes the transport to a ship that is a sprite."""
    return lambda row: SpriteTransport(client, row.sprite)
