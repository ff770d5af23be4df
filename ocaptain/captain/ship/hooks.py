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
    """A part that follows ships; a moment that it does not need does nothing.

    Each method returns soon: what takes long is a task of the hook's own. Whatever it raises is logged and
    changes nothing.
    """

    def joined(self, ship: str, transport: Transport) -> None:
        """Its channel is open."""

    def attempt_begins(self, ship: str, claim: Claim) -> None:
        """It is about to be told to start an attempt, or one is found that goes on."""

    def attempt_ended(self, ship: str, claim: Claim) -> None:
        """What the attempt brought is dealt with, whatever it was, or the channel to it broke."""

    def channel_closed(self, ship: str) -> None:
        """Its channel was let go of, or broke."""

    def lost(self, ship: str, reason: str) -> None:
        """It is gone for good, or cannot work."""

    def leaving(self, ship: str) -> None:
        """The voyage has ended, and its channel is still open."""


class Hooks:
    """All hooks of a voyage, told one after the other.

    Args:
        hooks: of each part.
    """

    def __init__(self, hooks: Sequence[ShipHook] = ()) -> None:
        self._hooks = tuple(hooks)

    def joined(self, ship: str, transport: Transport) -> None:
        """See :class:`ShipHook`, as for all that follow."""
        self._notify("joined", ship, transport)

    def attempt_begins(self, ship: str, claim: Claim) -> None:
        """An attempt is about to start."""
        self._notify("attempt_begins", ship, claim)

    def attempt_ended(self, ship: str, claim: Claim) -> None:
        """An attempt is dealt with."""
        self._notify("attempt_ended", ship, claim)

    def channel_closed(self, ship: str) -> None:
        """A channel is closed."""
        self._notify("channel_closed", ship)

    def lost(self, ship: str, reason: str) -> None:
        """A ship is lost."""
        self._notify("lost", ship, reason)

    def leaving(self, ship: str) -> None:
        """The voyage has ended."""
        self._notify("leaving", ship)

    def _notify(self, moment: str, *args: object) -> None:
        for hook in self._hooks:
            try:
                getattr(hook, moment)(*args)
            except Exception:
                log.exception("%s: a hook failed at %r", args[0], moment)
