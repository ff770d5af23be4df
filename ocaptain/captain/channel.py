"""The captain's end of a channel: hello, records exactly once and in order, commands.

A record counts when it is sound, follows the last one of its class and is of the journal that the
cursors count in. A gap or a damaged record makes the captain pull again from its cursor; duplicates
are dropped. A record is acknowledged only when it is done with: a ``result`` when its effect is in
the ledger (:meth:`Channel.settle`), anything else at once.

A worker of protocol 1 has one numbering for all records: here they are of the class ``all``, in
which nothing is acknowledged beyond an unsettled result.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ocaptain.captain.transport.base import Stream, TransportError
from ocaptain.protocol import (
    CLASSES,
    COMMAND,
    PROTOCOL,
    PROTOCOLS,
    Lines,
    Message,
    class_of,
    decode,
    encode,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ocaptain.captain.cursors import Cursors

HELLO_SECONDS = 30.0
ACKNOWLEDGE_EVERY = 20
PING_SECONDS = 10.0
SILENCE_SECONDS = 45.0
REST_SECONDS = 20.0
log = logging.getLogger("ocaptain.captain")


#: The class of all records of a worker of protocol 1.
ALL = "all"
Number = Annotated[int, Field(ge=0, le=2**53)]


class Welcome(BaseModel):
    """The worker's answer to hello."""

    model_config = ConfigDict(extra="ignore", strict=True)

    journal: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$")]
    first: dict[str, Number] | Number
    last: dict[str, Number] | Number
    busy: Annotated[int, Field(ge=1, le=2**53)] | None = None


class Superseded(TransportError):
    """The worker knows a newer captain or channel."""


class OtherProtocol(TransportError):
    """The worker speaks another version of the protocol.

    Attributes:
        speaks: that one.
    """

    def __init__(self, speaks: int) -> None:
        super().__init__(
            f"its worker speaks protocol {speaks}, this ocaptain speaks up to {PROTOCOL}: use the newer ocaptain"
        )
        self.speaks = speaks


class Channel:
    """An open channel. Made by :meth:`open`.

    Args:
        stream: to the worker.
        cursors: of its journal.
        protocol: that is spoken.
        on_record: called for each record that is no result.
        on_orphan: called for a result that nobody waits for: (record number, id, ok, data).
        on_trouble: called with the reason why the worker waits, empty when it does not any more.
    """

    def __init__(
        self,
        stream: Stream,
        cursors: Cursors,
        on_record: Callable[[Message], None],
        on_orphan: Callable[[int, str, bool, dict[str, Any]], None],
        on_trouble: Callable[[str], None] = lambda _: None,
        protocol: int = PROTOCOL,
    ) -> None:
        self.cursors = cursors
        self.busy: int | None = None
        self.protocol = protocol
        self._on_trouble = on_trouble
        self._classes = CLASSES if protocol > 1 else (ALL,)  # the first is the one that results are of
        self._resting: asyncio.Future[dict[str, int]] | None = None
        self._backlog = 0
        self._stream = stream
        self._on_record = on_record
        self._on_orphan = on_orphan
        self._waiting: dict[str, asyncio.Future[tuple[int, bool, dict[str, Any]]]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self._heard = asyncio.get_running_loop().time()
        self._welcomed: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self._progress = asyncio.Event()
        self._acknowledged: dict[str, int] = {}
        self.broken: asyncio.Future[TransportError] = asyncio.get_running_loop().create_future()

    async def open(self, hello: Mapping[str, Any]) -> None:
        """Say hello and wait until the results that the journal has are here. Logs come when they come.

        Raises:
            TransportError: no welcome came, or the stream broke.
            Superseded: the worker obeys somebody newer.
            OtherProtocol: the worker does not understand this one.
        """
        self._reader = asyncio.create_task(self._read())
        self._beat = asyncio.create_task(self._heartbeat())
        after: object = self.cursors.of(ALL).settled if self.protocol == 1 else self.cursors.settled()
        position = {"journal": self.cursors.journal, "after": after}
        await self._send({"type": "hello", "protocol": self.protocol, **hello, **position})
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                welcome: Welcome = await self._or_broken(self._welcomed)
                self.busy = welcome.busy
                while self.cursors.of(self._classes[0]).seen < self._backlog:
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
            self._welcome(Welcome.model_validate(message))
        elif kind == "refused":
            if speaks := _other_protocol(message, self.protocol):
                raise OtherProtocol(speaks)
            raise Superseded(f"the worker refused: {message.get('reason')}")
        elif kind == "record" and self._welcomed.done():
            found = read_record(message)
            if found is not None:
                await self._record(*found)
                return
            for name in self._classes:  # of which class it was is not to be trusted
                await self._pull(name)
        elif self._welcomed.done():
            self._told(kind, message)

    def _welcome(self, welcome: Welcome) -> None:
        first, last = (one if isinstance(one, dict) else {ALL: one} for one in (welcome.first, welcome.last))
        if any(name not in first or name not in last for name in self._classes):
            raise TransportError("a welcome without the numbers of its journal")
        self.cursors.welcome(welcome.journal, {name: first[name] for name in self._classes})
        self._backlog = last[self._classes[0]]
        self._welcomed.set_result(welcome)

    def _told(self, kind: str, message: Message) -> None:
        """Take what a worker of protocol 2 says beside its journal."""
        if kind == "dropped" and message.get("class") in CLASSES and _is_number(message.get("upto")):
            missed = self.cursors.of(message["class"]).skip(message["upto"])
            if missed:
                log.warning("%d records (%s) were dropped on the ship for want of space", missed, message["class"])
            self._progress.set()
        elif kind == "trouble" and isinstance(message.get("reason"), str):
            self._on_trouble(message["reason"])
        elif kind == "resting" and self._resting and not self._resting.done():
            told = message.get("last")
            numbers: dict[str, Any] = told if isinstance(told, dict) else {}
            self._resting.set_result({name: numbers[name] for name in CLASSES if _is_number(numbers.get(name))})

    async def _pull(self, name: str) -> None:
        which = {} if name == ALL else {"class": name}
        await self._send({"type": "pull", **which, "after": self.cursors.of(name).seen})

    async def _record(self, number: int, body: Message) -> None:
        result = body.get("kind") == "result"
        name = ALL if self.protocol == 1 else class_of(body)
        verdict = self.cursors.of(name).take(number, hold=result)
        if verdict == "pull":
            await self._pull(name)
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
        settled = self.cursors.settled()
        if sum(settled.values()) - sum(self._acknowledged.values()) >= ACKNOWLEDGE_EVERY:
            await self.acknowledge()

    async def acknowledge(self) -> None:
        """Tell the worker what is done with."""
        settled = self.cursors.settled()
        if settled != self._acknowledged:
            self._acknowledged = settled
            await self._send({"type": "ack", "upto": settled[ALL] if self.protocol == 1 else settled})

    async def settle(self, number: int) -> None:
        """Note that a result's effect is durable, and let the worker forget it."""
        self.cursors.of(self._classes[0]).settle(number)
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
            await self._send({"type": COMMAND, "id": name_id, "name": name, "args": dict(args)})
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError as error:
            raise TransportError(f"{name} was not answered in {seconds:g} s") from error
        finally:
            self._waiting.pop(name_id, None)

    async def rest(self) -> None:
        """Tell the worker that there is nothing for it, and wait until all that it has written is here.

        Then its ship may sleep: nothing keeps it awake but this channel. It waits as long as records come
        at least every :data:`REST_SECONDS`.

        Raises:
            TransportError: the channel broke.
        """
        if self.protocol == 1:
            return
        self._resting = asyncio.get_running_loop().create_future()
        await self._send({"type": "rest"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                last = await self._or_broken(self._resting)
            while any(self.cursors.of(name).seen < number for name, number in last.items()):
                self._progress.clear()
                async with asyncio.timeout(REST_SECONDS):
                    await self._or_broken(asyncio.ensure_future(self._progress.wait()))
        await self.acknowledge()

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


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _other_protocol(refusal: Message, mine: int) -> int | None:
    """Return which protocol a worker that refused speaks, None if that was not why."""
    told = refusal.get("protocol")
    if told is None:  # the first version says it in words only
        found = re.search(r"this worker speaks ([0-9]{1,6})$", str(refusal.get("reason")))
        told = int(found[1]) if found else None
    return told if type(told) is int and told != mine else None


def speak(refused: OtherProtocol) -> int:
    """Return the protocol in which to greet a worker that refused another.

    Raises:
        OtherProtocol: this captain speaks none that the worker does.
    """
    if refused.speaks not in PROTOCOLS:
        raise refused
    return refused.speaks
