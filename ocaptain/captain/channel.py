"""The captain's end of a channel: hello, records exactly once and in order, commands.

A record is used if it is valid, follows the last one of its class and is of the journal that the
cursors belong to. After a gap or a damaged record the captain pulls again from its cursor; duplicates
are dropped. A record is acknowledged only when it is processed: a ``result`` when its effect is in
the ledger (:meth:`Channel.settle`), any other record at once.

A ship may send anything: :mod:`ocaptain.captain.reading` limits what that costs, and data that no worker sends is a
fault of the ship.

A worker of protocol 1 has one numbering for all records: here they are of the class ``all``, in
which nothing is acknowledged beyond an unsettled result.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ocaptain.captain.gaps import Missing
from ocaptain.captain.reading import MessageReader, Throttle
from ocaptain.captain.transport.base import ShipFault, Stream, TransportError
from ocaptain.protocol import CLASSES, PROTOCOL, PROTOCOLS, Message, class_of_record, encode_line, read_record
from ocaptain.protocol.codec import Malformed
from ocaptain.protocol.envelope import (
    Ack,
    Call,
    Dropped,
    Hello,
    Ping,
    Pull,
    Refusal,
    Rest,
    Resting,
    ResultBody,
    Seen,
    Trouble,
    Welcome,
    pack,
    read_body,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocaptain.captain.cursors import Cursors
    from ocaptain.protocol.envelope import Notice, ToWorker

HELLO_SECONDS = 30.0
ACKNOWLEDGE_EVERY = 20
PING_SECONDS = 10.0
SILENCE_SECONDS = 45.0
REST_SECONDS = 20.0
MAX_ORPHANS = 4 * 1024 * 1024  # bytes of results that no command waits for
MAX_TROUBLE = 1000  # characters
ALL = "all"  # the class of all records of a worker of protocol 1
log = logging.getLogger("ocaptain.captain")


class Superseded(TransportError):
    """The worker obeys a newer captain or channel.

    Attributes:
        knows: that captain's epoch and that channel's generation; (0, 0) if it does not say.
    """

    def __init__(self, refused: Refusal) -> None:
        super().__init__(f"the worker refused this captain: {refused.reason}")
        self.knows = (refused.epoch or 0, refused.generation or 0)


class OtherProtocol(TransportError):
    """The worker speaks another version of the protocol.

    Attributes:
        speaks: the worker's version.
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
        protocol: version that is spoken.
        on_record: called for each record that is no result.
        on_orphan: called for a result that no command waits for, with its record's number.
        on_trouble: called with the reason why the worker waits, "" when it does not wait any more.

    Attributes:
        cursors: of the journal.
        busy: token of the attempt that the ship works on, None if none; by its welcome.
        busy_with: id of the command that started it, None if unknown.
        takes_parts: whether the worker reads the arguments of a command from files; by its welcome.
        commands: names of the commands that the worker says it knows.
        on_seen: called with each answer to a look; None = there is nobody who asks.
        protocol: version that is spoken.
        broken: done when the channel is broken, with the reason.
    """

    def __init__(
        self,
        stream: Stream,
        cursors: Cursors,
        on_record: Callable[[Notice], None],
        on_orphan: Callable[[int, ResultBody], None],
        on_trouble: Callable[[str], None] = lambda _: None,
        protocol: int = PROTOCOL,
    ) -> None:
        self.cursors = cursors
        self.busy: int | None = None
        self.busy_with: str | None = None
        self.takes_parts = False
        self.commands: tuple[str, ...] = ()
        self.on_seen: Callable[[Seen], None] | None = None
        self.protocol = protocol
        self._trouble = Throttle(on_trouble)
        self._missed = 0  # records
        self._warn = Throttle(log.warning)
        self._classes: tuple[str, ...] = CLASSES if protocol > 1 else (ALL,)  # the first is the one that results are of
        self._resting: asyncio.Future[dict[str, int]] | None = None
        self._backlog = 0
        self._stream = stream
        self._on_record = on_record
        self._on_orphan = on_orphan
        self._waiting: dict[str, asyncio.Future[tuple[int, ResultBody]]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self._reading = MessageReader(stream)
        self._welcomed: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self._progress = asyncio.Event()
        self._acknowledged: dict[str, int] = {}
        self._orphans = 0  # bytes
        self._lost = Missing()
        self.broken: asyncio.Future[TransportError | ShipFault] = asyncio.get_running_loop().create_future()

    async def open(self, voyage: str, ship: str, epoch: int, generation: int) -> None:
        """Say hello and wait until the results in the journal have arrived; logs may arrive later.

        Raises:
            TransportError: no welcome came, or the stream broke.
            ShipFault: it sends what no worker sends.
            Superseded: the worker obeys a newer captain or channel.
            OtherProtocol: the worker does not speak this version.
        """
        self._reader = asyncio.create_task(self._read())
        self._beat = asyncio.create_task(self._heartbeat())
        after = self.cursors.of(ALL).settled_upto if self.protocol == 1 else self.cursors.settled_numbers()
        await self.send(Hello(self.protocol, voyage, ship, epoch, generation, self.cursors.journal, after, CLASSES))
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                welcome: Welcome = await self._or_broken(self._welcomed)
                self.busy, self.busy_with, self.commands = welcome.busy, welcome.command, welcome.commands
                self.takes_parts = bool(welcome.parts)
                while self.cursors.of(self._classes[0]).seen < self._backlog:
                    self._progress.clear()
                    await self._or_broken(asyncio.ensure_future(self._progress.wait()))
        except TimeoutError as error:
            late = "the worker did not answer hello"
            if self._welcomed.done():
                late = "the worker answered hello, but the results in its journal did not arrive"
            raise TransportError(f"{late} in {HELLO_SECONDS:g} s") from error

    async def _or_broken(self, future: asyncio.Future[Any]) -> Any:
        await asyncio.wait([future, self.broken], return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        future.cancel()
        raise self.broken.result()

    async def send(self, message: ToWorker) -> None:
        """Send a message. Raises TransportError."""
        await self._stream.send(encode_line(pack(message)))

    async def _read(self) -> None:
        try:
            async for message in self._reading.messages():
                await self._take(message)
            error: TransportError | ShipFault = TransportError("the stream ended")
        except (TransportError, ShipFault) as broken:
            error = broken
        except Exception as unexpected:  # noqa: BLE001 - whatever a ship sends must not stop the captain
            error = TransportError(f"a message could not be handled: {type(unexpected).__name__}: {unexpected}")
        self._break(error)

    def _break(self, error: TransportError | ShipFault) -> None:
        """Mark the channel as broken, and fail every command that waits for a result."""
        if not self.broken.done():
            self.broken.set_result(error)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # marked as seen: it is reported where it is awaited, or nowhere

    async def _take(self, message: Message) -> None:
        if message["type"] == "record":
            await self._take_record(message)
            return
        try:
            found = unpack(message)
        except Malformed as error:
            if message["type"] in {"welcome", "refused"}:
                raise TransportError(f"the worker's answer to hello cannot be understood: {error}") from error
            return  # noise
        if self._welcomed.done():
            self._handle_notice(found)
        elif isinstance(found, Welcome):
            self._welcome(found)
        if isinstance(found, Refusal):
            if speaks := _other_protocol(found, self.protocol):
                raise OtherProtocol(speaks)
            raise Superseded(found)

    def _handle_notice(self, found: object) -> None:
        """Handle a message that a worker of protocol 2 sends beside its journal."""
        if isinstance(found, Dropped) and found.class_ in CLASSES:
            if missed := self.cursors.of(found.class_).skip_dropped(found.upto):
                self._missed += missed
                self._warn.submit(f"{self._missed} records were dropped on the ship, which had no space for them")
            self._progress.set()
        elif isinstance(found, Trouble):
            self._trouble.submit(found.reason[:MAX_TROUBLE])
        elif isinstance(found, Seen) and self.on_seen:
            self.on_seen(found)
        elif isinstance(found, Resting) and self._resting and not self._resting.done():
            self._resting.set_result({name: found.last[name] for name in CLASSES if name in found.last})

    async def _take_record(self, message: Message) -> None:
        if not self._welcomed.done():
            return
        if found := read_record(message):
            await self._record(*found)
            return
        for name in self._classes:  # the class that it claims cannot be trusted
            await self._pull(name)

    def _welcome(self, welcome: Welcome) -> None:
        first, last = (one if isinstance(one, Mapping) else {ALL: one} for one in (welcome.first, welcome.last))
        needed = self._classes[:3]  # `otlp` came later
        self._classes = tuple(name for name in self._classes if name in first and name in last)
        if self._classes[: len(needed)] != needed:
            raise TransportError("the worker's welcome lacks the numbers of its journal")
        self.cursors.start_channel(welcome.journal, {name: first[name] for name in self._classes})
        self._backlog = last[self._classes[0]]
        self._welcomed.set_result(welcome)

    async def _pull(self, name: str, number: int | None = None) -> None:
        """Ask for records again, if that is due: record ``number`` does not follow the last one."""
        if self._lost.meet(name, self.cursors.of(name).seen, number):
            await self._ask_again(name)

    async def _ask_again(self, name: str) -> None:
        await self.send(Pull(self.cursors.of(name).seen, None if name == ALL else name))

    async def _record(self, number: int, body: Message) -> None:
        is_result = body.get("kind") == "result"
        name = ALL if self.protocol == 1 else class_of_record(body)
        verdict = self.cursors.of(name).accept(number, hold=is_result)
        if verdict == "pull":
            await self._pull(name, number)
        elif verdict == "use":
            found = read_body(body)
            if is_result:
                self._result(number, found if isinstance(found, ResultBody) else ResultBody())
            else:
                if found and not isinstance(found, ResultBody):
                    self._on_record(found)
                await self._acknowledge()
        self._progress.set()

    def _result(self, number: int, body: ResultBody) -> None:
        if (future := self._waiting.pop(body.id, None)) and not future.done():
            future.set_result((number, body))
        else:
            self._orphans += self._reading.line
            if self._orphans > MAX_ORPHANS:
                raise ShipFault(f"it sent more than {MAX_ORPHANS} bytes of results that no command waits for")
            self._on_orphan(number, body)

    async def _acknowledge(self) -> None:
        settled = self.cursors.settled_numbers()  # not for every log line: the journal is cut in steps anyhow
        if sum(settled.values()) - sum(self._acknowledged.values()) >= ACKNOWLEDGE_EVERY:
            await self.acknowledge()

    async def acknowledge(self) -> None:
        """Tell the worker up to which records all are processed."""
        settled = self.cursors.settled_numbers()
        if settled != self._acknowledged:
            self._acknowledged = settled
            await self.send(Ack(settled[ALL] if self.protocol == 1 else settled))

    async def settle(self, number: int) -> None:
        """Note that a result's effect is stored, and let the worker forget it."""
        self.cursors.of(self._classes[0]).settle(number)
        with contextlib.suppress(TransportError):
            await self.acknowledge()

    async def call(self, command: Call, *, seconds: float | None = None) -> tuple[int, ResultBody]:
        """Send a command; return its record's number and its result. Settle that number when it is processed.

        Raises:
            TransportError: the channel broke, or ``seconds`` passed.
        """
        if self.broken.done():
            raise self.broken.result()
        future: asyncio.Future[tuple[int, ResultBody]] = asyncio.get_running_loop().create_future()
        self._waiting[command.id] = future
        try:
            await self.send(command)
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError as error:
            raise TransportError(f"the ship did not answer the command {command.name} in {seconds:g} s") from error
        finally:
            self._waiting.pop(command.id, None)

    async def rest(self) -> None:
        """Tell the worker that there is no work, and wait until all that it has written has arrived.

        Then its ship may sleep: only this channel keeps it awake. The wait lasts as long as records arrive
        at least every :data:`REST_SECONDS`.

        Raises:
            TransportError: the channel broke.
        """
        if self.protocol == 1:
            return
        self._resting = asyncio.get_running_loop().create_future()
        await self.send(Rest())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                last = await self._or_broken(self._resting)
            for name, number in last.items():
                if self.cursors.of(name).seen < number:  # it was sent before this answer, and lost
                    await self._ask_again(name)
            while any(self.cursors.of(name).seen < number for name, number in last.items()):
                self._progress.clear()
                async with asyncio.timeout(REST_SECONDS):
                    await self._or_broken(asyncio.ensure_future(self._progress.wait()))
        await self.acknowledge()

    async def close(self) -> None:
        """Close the channel; the worker goes on by itself."""
        tasks = [task for task in (self._reader, self._beat) if task]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # also if the actor is cancelled while it closes
            self._trouble.close()
            self._warn.close()
            self._reading.close()
            self._break(TransportError("the channel was closed"))
            await self._stream.close()

    async def _heartbeat(self) -> None:
        """Ping the worker regularly: one that hangs behind a live stream is as silent as a dead one."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            if asyncio.get_running_loop().time() - self._reading.heard > SILENCE_SECONDS:
                self._break(TransportError(f"the worker was silent for {SILENCE_SECONDS:g} s"))
                return
            with contextlib.suppress(TransportError):
                await self.send(Ping())
                if self._welcomed.done():
                    seen = {name: self.cursors.of(name).seen for name in self._classes}
                    for name in self._lost.beat(seen, self._classes[:1] if self._waiting else ()):
                        await self._ask_again(name)


def _other_protocol(refusal: Refusal, mine: int) -> int | None:
    """Return the protocol of a worker that refused ours, None if it refused for another reason."""
    speaks = refusal.protocol
    if speaks is None:  # the first version has it only in the text
        found = re.search(r"this worker speaks ([0-9]{1,6})$", refusal.reason)
        speaks = int(found[1]) if found else None
    return speaks if speaks != mine else None


def supported_protocol(refused: OtherProtocol) -> int:
    """Return the protocol to use with a worker that refused ours.

    Raises:
        OtherProtocol: this captain does not speak the worker's version.
    """
    if refused.speaks not in PROTOCOLS:
        raise refused
    return refused.speaks
