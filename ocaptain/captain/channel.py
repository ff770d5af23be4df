"""The captain's end of a channel: hello, records exactly once and in order, commands.

A record counts when it is sound, follows the last one and is of the journal that the cursor
counts in. A gap or a damaged record makes the captain pull again from its cursor; duplicates are
dropped. A record is acknowledged only when it is done with: a ``result`` when its effect is in
the ledger (:meth:`Channel.settle`), anything else at once, but never beyond an unsettled result.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ocaptain.captain.transport import Stream, TransportError
from ocaptain.protocol import PROTOCOL, Lines, Message, decode, encode, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HELLO_SECONDS = 30.0
ACKNOWLEDGE_EVERY = 20
PING_SECONDS = 10.0
SILENCE_SECONDS = 45.0


class Welcome(BaseModel):
    """The worker's answer to hello."""

    model_config = ConfigDict(extra="ignore", strict=True)

    journal: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$")]
    first: Annotated[int, Field(ge=1, le=2**53)]
    last: Annotated[int, Field(ge=0, le=2**53)]
    busy: Annotated[int, Field(ge=1, le=2**53)] | None = None


class Superseded(TransportError):
    """The worker knows a newer captain or channel."""


class Cursor:
    """Which records are seen, and up to where they are done with. Pure bookkeeping."""

    def __init__(self, journal: str | None, settled: int) -> None:
        self.journal = journal
        self.settled = settled
        self.seen = settled
        self._unsettled: set[int] = set()

    def welcome(self, journal: str, first: int) -> None:
        """Take the worker's numbering; another journal, or one that was cut, starts where it starts."""
        if journal != self.journal:
            self.journal, self.settled = journal, first - 1
        self.settled = max(self.settled, first - 1)
        self.seen = self.settled
        self._unsettled.clear()

    def take(self, number: int, *, hold: bool) -> str:
        """Return what to do with record ``number``: ``use``, ``drop`` (seen) or ``pull`` (a gap)."""
        if number <= self.seen:
            return "drop"
        if number != self.seen + 1:
            return "pull"
        self.seen = number
        if hold:
            self._unsettled.add(number)
        else:
            self._advance()
        return "use"

    def settle(self, number: int) -> None:
        """Note that a held record is done with."""
        self._unsettled.discard(number)
        self._advance()

    def _advance(self) -> None:
        self.settled = min(self._unsettled) - 1 if self._unsettled else self.seen


class Channel:
    """An open channel. Made by :meth:`open`.

    Args:
        on_record: called for each record that is no result.
        on_orphan: called for a result that nobody waits for: (record number, id, ok, data).
    """

    def __init__(
        self,
        stream: Stream,
        cursor: Cursor,
        on_record: Callable[[Message], None],
        on_orphan: Callable[[int, str, bool, dict[str, Any]], None],
    ) -> None:
        self.cursor = cursor
        self.busy: int | None = None
        self.backlog = 0
        self._stream = stream
        self._on_record = on_record
        self._on_orphan = on_orphan
        self._waiting: dict[str, asyncio.Future[tuple[int, bool, dict[str, Any]]]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self._heard = asyncio.get_running_loop().time()
        self._welcomed: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self._progress = asyncio.Event()
        self._acknowledged = 0
        self.broken: asyncio.Future[TransportError] = asyncio.get_running_loop().create_future()

    async def open(self, hello: Mapping[str, Any]) -> None:
        """Say hello and wait until the journal's backlog has been read.

        Raises:
            TransportError: no welcome came, or the stream broke.
            Superseded: the worker obeys somebody newer.
        """
        self._reader = asyncio.create_task(self._read())
        self._beat = asyncio.create_task(self._heartbeat())
        position = {"journal": self.cursor.journal, "after": self.cursor.settled}
        await self._send({"type": "hello", "protocol": PROTOCOL, **hello, **position})
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                welcome: Welcome = await self._or_broken(self._welcomed)
                self.busy = welcome.busy
                while self.cursor.seen < self.backlog:
                    self._progress.clear()
                    await self._or_broken(asyncio.ensure_future(self._progress.wait()))
        except TimeoutError as error:
            raise TransportError(f"the worker did not answer hello in {HELLO_SECONDS:g} s") from error

    async def _or_broken(self, future: asyncio.Future[Any]) -> Any:
        await asyncio.wait([future, self.broken], return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        future.cancel()
        raise self.broken.result()

    async def _send(self, message: Message) -> None:
        await self._stream.send(encode(message))

    async def _read(self) -> None:
        lines = Lines()
        try:
            async for data in self._stream:
                self._heard = asyncio.get_running_loop().time()
                for line in lines.feed(data):
                    message = decode(line)
                    if message is not None:
                        await self._take(message)
            error = TransportError("the stream ended")
        except TransportError as broken:
            error = broken
        except Exception as unexpected:  # noqa: BLE001 - whatever a ship sends must not stop the captain
            error = TransportError(f"a message could not be handled: {type(unexpected).__name__}: {unexpected}")
        self._break(error)

    def _break(self, error: TransportError) -> None:
        """Let everybody who waits know that nothing more will come."""
        if not self.broken.done():
            self.broken.set_result(error)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # it is reported where it is awaited, or nowhere

    async def _take(self, message: Message) -> None:
        kind = message["type"]
        if kind == "welcome" and not self._welcomed.done():
            welcome = Welcome.model_validate(message)
            self.cursor.welcome(welcome.journal, welcome.first)
            self.backlog = welcome.last
            self._welcomed.set_result(welcome)
        elif kind == "refused":
            raise Superseded(f"the worker refused: {message.get('reason')}")
        elif kind == "record" and self._welcomed.done():
            found = read_record(message)
            if found is None:
                await self._send({"type": "pull", "after": self.cursor.seen})
                return
            await self._record(*found)

    async def _record(self, number: int, body: Message) -> None:
        result = body.get("kind") == "result"
        verdict = self.cursor.take(number, hold=result)
        if verdict == "pull":
            await self._send({"type": "pull", "after": self.cursor.seen})
        elif verdict == "use":
            if result:
                self._result(number, body)
            else:
                self._on_record(body)
                await self._acknowledge()
        self._progress.set()

    def _result(self, number: int, body: Message) -> None:
        name, ok = str(body.get("id")), bool(body.get("ok"))
        data = body.get("data")
        data = data if isinstance(data, dict) else {}
        future = self._waiting.pop(name, None)
        if future and not future.done():
            future.set_result((number, ok, data))
        else:
            self._on_orphan(number, name, ok, data)

    async def _acknowledge(self) -> None:
        # Not for every log line: the journal is cut in steps anyhow.
        if self.cursor.settled - self._acknowledged >= ACKNOWLEDGE_EVERY:
            await self.acknowledge()

    async def acknowledge(self) -> None:
        """Tell the worker what is done with."""
        if self.cursor.settled > self._acknowledged:
            self._acknowledged = self.cursor.settled
            await self._send({"type": "ack", "upto": self.cursor.settled})

    async def settle(self, number: int) -> None:
        """Note that a result's effect is durable, and let the worker forget it."""
        self.cursor.settle(number)
        with contextlib.suppress(TransportError):
            await self.acknowledge()

    async def call(
        self, name_id: str, name: str, args: Mapping[str, Any], *, seconds: float | None = None
    ) -> tuple[int, bool, dict[str, Any]]:
        """Send a command and wait for its result: (record number, ok, data). Settle it when done with.

        Raises:
            TransportError: the channel broke, or ``seconds`` passed.
        """
        if self.broken.done():
            raise self.broken.result()
        future: asyncio.Future[tuple[int, bool, dict[str, Any]]] = asyncio.get_running_loop().create_future()
        self._waiting[name_id] = future
        try:
            await self._send({"type": "command", "id": name_id, "name": name, "args": dict(args)})
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError as error:
            raise TransportError(f"{name} was not answered in {seconds:g} s") from error
        finally:
            self._waiting.pop(name_id, None)

    async def close(self) -> None:
        """Close the channel; the worker goes on by itself."""
        for task in (self._reader, self._beat):
            if task:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._break(TransportError("the channel was closed"))
        await self._stream.close()

    async def _heartbeat(self) -> None:
        """Ask the worker now and then: one that hangs behind a live stream is as silent as a dead one."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            if asyncio.get_running_loop().time() - self._heard > SILENCE_SECONDS:
                self._break(TransportError(f"the worker was silent for {SILENCE_SECONDS:g} s"))
                return
            with contextlib.suppress(TransportError):
                await self._send({"type": "ping"})
