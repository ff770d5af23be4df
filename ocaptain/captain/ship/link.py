"""An open channel to a ship, and the results in its journal that no command waits for yet."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ocaptain.captain.channel import Channel, OtherProtocol, Superseded, supported_protocol
from ocaptain.captain.transport.base import ShipFault
from ocaptain.ledger import OlderLedger
from ocaptain.protocol import INLINE_BYTES, INLINE_CHARACTERS, MAX_LINE, PART_BYTES, PROTOCOL
from ocaptain.protocol.codec import Malformed, from_dict, to_dict
from ocaptain.protocol.envelope import Call
from ocaptain.protocol.messages import Bundle, Cancel, Failure, Part, SavedWork, command_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ocaptain.captain.cursors import Cursors
    from ocaptain.captain.ship.context import Context
    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Claim
    from ocaptain.protocol.envelope import Notice, ResultBody
    from ocaptain.protocol.messages import Check, Command, Start, Verify

CANCEL_SECONDS = 120.0
LINE_HEAD = 4096  # bytes: more than a command's line has beside its arguments
INLINE_SINCE = 3  # the first protocol whose bundles travel inside of messages
#: Failure codes of a ship that cannot make the commit from the bundle: the whole history is sent then.
NEEDS_ALL = frozenset({"need_full", "damaged"})
REFUSES_SAVED = NEEDS_ALL | {"saved"}  # codes of a start whose reference a ship may lack; workers of before have no own


@dataclass(frozen=True)
class Answer:
    """A ship's result of a command.

    Attributes:
        number: of its record, to be settled when its effect is in the ledger.
        name: id of the command.
        ok, data: see :class:`ocaptain.protocol.messages.Result`; nothing of it is checked yet.
    """

    number: int
    name: str
    ok: bool
    data: Mapping[str, Any]

    @classmethod
    def of(cls, number: int, body: ResultBody) -> Answer:
        """Return the answer that a record holds."""
        return cls(number, body.id, body.ok, body.data)

    def failure(self) -> Failure:
        """Return why it failed; an empty failure if the ship's data cannot be parsed."""
        try:
            return from_dict(Failure, self.data)
        except Malformed:
            return Failure()


class Link:
    """Sends commands to one ship and returns their results; made by :meth:`open`."""

    def __init__(
        self, ship: str, context: Context, transport: Transport, channel: Channel, parked: list[Answer]
    ) -> None:
        self.ship = ship
        self.channel = channel
        self._context = context
        self._transport = transport
        self._parked = parked

    @classmethod
    async def open(
        cls,
        ship: str,
        context: Context,
        transport: Transport,
        cursors: Cursors,
        on_record: Callable[[str, Notice], None],
        protocol: int = PROTOCOL,
    ) -> Link:
        """Open the channel and receive the results in the journal; speaks an older worker's protocol if need be.

        Args:
            ship: its id.
            context: of the voyage.
            transport: to the ship.
            cursors: of its journal.
            on_record: called with the ship and each record that is no result.
            protocol: that its worker spoke last.

        Raises:
            TransportError: the ship cannot be reached.
        """
        opened_in = partial(cls._open, ship, context, transport, cursors, on_record)
        try:
            return await opened_in(protocol)
        except OtherProtocol as refused:
            return await opened_in(supported_protocol(refused))

    @classmethod
    async def _open(
        cls,
        ship: str,
        context: Context,
        transport: Transport,
        cursors: Cursors,
        on_record: Callable[[str, Notice], None],
        protocol: int,
    ) -> Link:
        parked: list[Answer] = []
        channel = Channel(
            await transport.open(),
            cursors,
            on_record=partial(on_record, ship),
            on_orphan=lambda number, result: parked.append(Answer.of(number, result)),
            on_trouble=partial(context.show_reason, ship),
            protocol=protocol,
        )
        ledger = context.ledger
        try:
            await channel.open(context.voyage.id, ship, ledger.epoch or 0, ledger.next_generation())
        except BaseException as error:
            await channel.close()
            if isinstance(error, Superseded):
                _check_ledger_age(context, ship, error.knows)
            raise
        return cls(ship, context, transport, channel, parked)

    def take_parked(self, name: str | None = None) -> Answer | None:
        """Remove and return the parked result of a command, or the oldest one; None if there is none."""
        found = next((one for one in self._parked if name in {None, one.name}), None)
        if found:
            self._parked.remove(found)
        return found

    async def settle(self, number: int) -> None:
        """Let the worker forget a result whose effect is in the ledger."""
        await self.channel.settle(number)
        cursors = self.channel.cursors
        self._context.ledger.set_ship_cursors(self.ship, str(cursors.journal), cursors.settled_numbers())

    async def call(self, name_id: str, command: Command, seconds: float | None = None) -> Answer:
        """Call a command; arguments that are too long for a line are sent as files.

        Raises:
            TransportError: the channel broke, or no answer came in ``seconds``.
            ShipFault: its worker, of an earlier version, takes no command of this length.
        """
        call = Call(name_id, command_name(command), to_dict(command))
        if _is_long(call.args):
            call = await self._send_arguments(call)
        return Answer.of(*await self.channel.call(call, seconds=seconds))

    async def _send_arguments(self, call: Call) -> Call:
        """Send the arguments of a command as files; return the command that names them."""
        if not self.channel.takes_parts:
            if len(await asyncio.to_thread(json.dumps, call.args)) > MAX_LINE - LINE_HEAD:
                remedy = f"bring it a new one: ocaptain sail --resume {self._context.voyage.id}"
                raise ShipFault(f"its worker is of an earlier version, which takes no texts this long; {remedy}")
            return call
        pieces = await asyncio.to_thread(_split_arguments, call.args)
        name = f"arguments-{hashlib.sha256(call.id.encode()).hexdigest()[:24]}"
        parts = []
        for index, (data, digest) in enumerate(pieces):
            path = f".ocaptain/in/{name}.{index}"
            await self._transport.put(path, data)
            parts.append(Part(path, len(data), digest))
        return replace(call, args={}, parts=tuple(parts))

    async def cancel(self, token: int) -> None:
        """Have the worker end an attempt that its ship does not hold any more."""
        answer = await self.call(f"cancel:{token}:{os.urandom(4).hex()}", Cancel(token), CANCEL_SECONDS)
        await self.settle(answer.number)

    async def call_with_commit(
        self, commit: str, name_id: str, command: Start | Check | Verify, seconds: float | None = None
    ) -> Answer:
        """Call a command that needs ``commit`` on the ship: send what is missing, or all if it asks for that.

        Raises:
            TransportError: the channel broke, or no answer came in ``seconds``.
            GitError: the bundle cannot be made.
        """
        have = self._context.ledger.ship_row(self.ship).head
        has_commit = have is not None and await asyncio.to_thread(self._context.git.is_ancestor, commit, have)
        for attempt in range(2):
            bundle = None if has_commit and not attempt else await self._send_bundle(commit, None if attempt else have)
            answer = await self.call(name_id, replace(command, bundle=bundle), seconds)
            if answer.ok or answer.failure().code not in NEEDS_ALL or attempt:
                break
            await self.settle(answer.number)
        if answer.ok:
            self._context.ledger.set_ship_head(self.ship, commit)
        return answer

    async def send_saved(self, ref: str, commit: str, have: str) -> SavedWork:
        """Send a saved commit to a ship that has, or is about to have, ``have``; return what its worker needs to know.

        Raises:
            TransportError: the ship cannot be reached.
            GitError: the bundle cannot be made.
        """
        return SavedWork(await self._send_bundle(commit, have), ref, commit)

    async def _send_bundle(self, commit: str, have: str | None) -> Bundle:
        """Send a bundle of ``commit``, a small one inside the message; return what the worker needs to know."""
        async with self._context.bundles.open_bundle(commit, have) as bundle:
            if self.channel.protocol >= INLINE_SINCE and sum(part.size for part in bundle.parts) <= INLINE_BYTES:
                data = [await bundle.read(part) for part in bundle.parts]
                return Bundle((), bundle.ref, base64.b64encode(b"".join(data)).decode(), bundle.refs)
            parts = []
            for index, part in enumerate(bundle.parts):
                path = f".ocaptain/in/{bundle.name}.{index}"
                await self._transport.put(path, await bundle.read(part))
                parts.append(Part(path, part.size, part.sha256))
            return Bundle(tuple(parts), bundle.ref, refs=bundle.refs)


def _is_long(value: Any) -> bool:
    """Whether the texts of a JSON value have more characters than a line should."""
    left, rest = INLINE_CHARACTERS, [value]
    while rest and left >= 0:
        one = rest.pop()
        if isinstance(one, str):
            left -= len(one)
        elif isinstance(one, dict):
            rest += [*one, *one.values()]
        elif isinstance(one, list):
            rest += one
    return left < 0


def _split_arguments(args: Mapping[str, Any]) -> list[tuple[bytes, str]]:
    """Return the pieces of the arguments' JSON, and the SHA-256 of each."""
    data = json.dumps(args, ensure_ascii=False, separators=(",", ":")).encode()
    pieces = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
    return [(piece, hashlib.sha256(piece).hexdigest()) for piece in pieces]


def _check_ledger_age(context: Context, ship: str, theirs: tuple[int, int]) -> None:
    """Check why a ship knows a newer captain or channel: a channel of ours was faster, or our ledger is an old copy.

    No other captain can be in command, since we hold the voyage's lock.

    Args:
        context: of the voyage.
        ship: its id.
        theirs: epoch and generation that the ship knows.

    Raises:
        OlderLedger: the ledger has not handed these numbers out yet.
    """
    ours = (context.ledger.epoch or 0, context.ledger.generation())
    if theirs <= ours:
        return
    if not context.takes_over:
        raise OlderLedger(context.voyage.id, ship, theirs, ours)
    context.ledger.raise_fence(*theirs)


def command_id(name: str, claim: Claim) -> str:
    """Return the id of a command of an attempt; tokens are unique only in one opening of the ledger.

    Attempts of an earlier version have no opening, and neither have the ids of their commands.
    """
    return f"{name}:{claim.token}:{claim.opening}" if claim.opening else f"{name}:{claim.token}"
