"""An open channel to a ship, and the results of its journal that nobody waits for yet."""

from __future__ import annotations

import asyncio
import base64
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ocaptain.captain.channel import Channel, OtherProtocol, Superseded, speak
from ocaptain.ledger import OlderLedger
from ocaptain.protocol import INLINE_BYTES, PROTOCOL
from ocaptain.protocol.codec import Malformed, from_dict, to_dict
from ocaptain.protocol.envelope import Call
from ocaptain.protocol.messages import Bundle, Cancel, Failure, Part, command_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ocaptain.captain.cursors import Cursors
    from ocaptain.captain.ship.context import Context
    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Claim
    from ocaptain.protocol.envelope import AgentBody, LogBody, ResultBody
    from ocaptain.protocol.messages import Check, Command, Start, Verify

CANCEL_SECONDS = 120.0
INLINE_SINCE = 3  # the first protocol whose bundles travel inside of messages
#: What a ship answers a command whose commit it cannot make of the bundle: all of it is sent then.
NEEDS_ALL = frozenset({"need_full", "damaged"})


@dataclass(frozen=True)
class Answer:
    """How a command ended, as the ship says.

    Attributes:
        number: of its record; it is settled when its effect is in the ledger.
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
        """Return why it failed; what cannot be understood is no reason."""
        try:
            return from_dict(Failure, self.data)
        except Malformed:
            return Failure()


class Link:
    """The way of commands to one ship and of their results back; made by :meth:`open`."""

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
        on_record: Callable[[str, LogBody | AgentBody], None],
        protocol: int = PROTOCOL,
    ) -> Link:
        """Open the channel and have the results that the journal has; an older worker in its own protocol.

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
            return await opened_in(speak(refused))

    @classmethod
    async def _open(
        cls,
        ship: str,
        context: Context,
        transport: Transport,
        cursors: Cursors,
        on_record: Callable[[str, LogBody | AgentBody], None],
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
                _look_who_is_older(context, ship, error.knows)
            raise
        return cls(ship, context, transport, channel, parked)

    def take_parked(self, name: str | None = None) -> Answer | None:
        """Return the parked result of a command, or the oldest one; it is parked no more."""
        found = next((one for one in self._parked if name in {None, one.name}), None)
        if found:
            self._parked.remove(found)
        return found

    async def settle(self, number: int) -> None:
        """Let the worker forget a result whose effect is in the ledger."""
        await self.channel.settle(number)
        cursors = self.channel.cursors
        self._context.ledger.ship_cursors(self.ship, str(cursors.journal), cursors.settled())

    async def call(self, name_id: str, command: Command, seconds: float | None = None) -> Answer:
        """Call a command.

        Raises:
            TransportError: the channel broke, or no answer came in ``seconds``.
        """
        call = Call(name_id, command_name(command), to_dict(command))
        return Answer.of(*await self.channel.call(call, seconds=seconds))

    async def cancel(self, token: int) -> None:
        """Have the worker end an attempt that the ship does not hold any more."""
        answer = await self.call(f"cancel:{token}:{os.urandom(4).hex()}", Cancel(token), CANCEL_SECONDS)
        await self.settle(answer.number)

    async def call_with_commit(
        self, commit: str, name_id: str, command: Start | Check | Verify, seconds: float | None = None
    ) -> Answer:
        """Call a command that needs ``commit`` on the ship: send what is missing, all of it if it must be.

        Raises:
            TransportError: the channel broke, or no answer came in ``seconds``.
            GitError: the bundle cannot be made.
        """
        have = self._context.ledger.ship_row(self.ship).head
        there = have is not None and await asyncio.to_thread(self._context.git.is_ancestor, commit, have)
        for attempt in range(2):
            bundle = None if there and not attempt else await self._send_bundle(commit, None if attempt else have)
            answer = await self.call(name_id, replace(command, bundle=bundle), seconds)
            if answer.ok or answer.failure().code not in NEEDS_ALL or attempt:
                break
            await self.settle(answer.number)
        if answer.ok:
            self._context.ledger.ship_has(self.ship, commit)
        return answer

    async def _send_bundle(self, commit: str, have: str | None) -> Bundle:
        """Send a bundle of ``commit``, a small one inside the message; return what the worker needs to know."""
        async with self._context.cargo.lend(commit, have) as cargo:
            if self.channel.protocol >= INLINE_SINCE and sum(part.size for part in cargo.parts) <= INLINE_BYTES:
                data = [await cargo.read(part) for part in cargo.parts]
                return Bundle((), cargo.ref, base64.b64encode(b"".join(data)).decode())
            parts = []
            for index, part in enumerate(cargo.parts):
                path = f".ocaptain/in/{cargo.name}.{index}"
                await self._transport.put(path, await cargo.read(part))
                parts.append(Part(path, part.size, part.sha256))
            return Bundle(tuple(parts), cargo.ref)


def _look_who_is_older(context: Context, ship: str, theirs: tuple[int, int]) -> None:
    """A ship knows a newer captain or channel: of ours, which was faster; or of a ledger that ours was once.

    Nobody else can command: whoever does holds the voyage's lock, and that is ours.

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
    """Return the id of a command of an attempt: of this opening of the ledger, in which tokens are unique.

    Attempts that an earlier version handed out have no opening, and their commands none in the id.
    """
    return f"{name}:{claim.token}:{claim.opening}" if claim.opening else f"{name}:{claim.token}"
