"""Moments in a ship's life at which other parts (mesh, mirrors, telemetry) may do something of their own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Claim

log = logging.getLogger("ocaptain.captain")


class ShipHook(Protocol):
    """Callbacks of a part that follows ships; each method may do nothing.

    Each method must return soon: long work belongs in a task of the hook's own. An exception is logged and
    has no other effect.
    """

    def channel_opened(self, ship: str, transport: Transport) -> None:
        """Handle that the ship's channel is open."""

    def attempt_begins(self, ship: str, claim: Claim) -> None:
        """Handle that an attempt is about to start on the ship, or that a running one was found there."""

    def attempt_ended(self, ship: str, claim: Claim) -> None:
        """Handle that an attempt has ended and its result was processed, or that its channel broke."""

    async def lets_go(self, ship: str) -> None:
        """Handle that the ship's channel is about to be closed, so that the ship may sleep; awaited, so be quick."""

    def channel_closed(self, ship: str) -> None:
        """Handle that the ship's channel was closed, or broke."""

    def ship_lost(self, ship: str, reason: str) -> None:
        """Handle that the ship is gone for good, or cannot work."""

    def voyage_ended(self, ship: str) -> None:
        """Handle that the voyage has ended; the ship's channel is still open."""


class Hooks:
    """All hooks of a voyage, called one after the other.

    Args:
        hooks: of each part.
    """

    def __init__(self, hooks: Sequence[ShipHook] = ()) -> None:
        self._hooks = tuple(hooks)

    def channel_opened(self, ship: str, transport: Transport) -> None:
        """Call each hook's method of this name; see :class:`ShipHook`. The same holds for all methods below."""
        self._notify("channel_opened", ship, transport)

    def attempt_begins(self, ship: str, claim: Claim) -> None:
        """An attempt is about to start."""
        self._notify("attempt_begins", ship, claim)

    def attempt_ended(self, ship: str, claim: Claim) -> None:
        """An attempt is dealt with."""
        self._notify("attempt_ended", ship, claim)

    async def lets_go(self, ship: str) -> None:
        """A channel is about to be closed; each hook is waited for."""
        for hook in self._hooks:
            try:
                await hook.lets_go(ship)
            except Exception:
                log.exception("%s: a hook failed at 'lets_go'", ship)

    def channel_closed(self, ship: str) -> None:
        """A channel is closed."""
        self._notify("channel_closed", ship)

    def ship_lost(self, ship: str, reason: str) -> None:
        """A ship is lost."""
        self._notify("ship_lost", ship, reason)

    def voyage_ended(self, ship: str) -> None:
        """The voyage has ended."""
        self._notify("voyage_ended", ship)

    def _notify(self, moment: str, *args: object) -> None:
        for hook in self._hooks:
            try:
                getattr(hook, moment)(*args)
            except Exception:
                log.exception("%s: a hook failed at %r", args[0], moment)
