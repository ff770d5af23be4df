"""Whom to call: as many ships as there is work for, those first whose call costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Work:
    """Something to do.

    Attributes:
        name: of it; a task's id, or what the final verify is called.
        only: the one ship that may have it, None = any.
    """

    name: str
    only: str | None = None


@dataclass(frozen=True)
class Idle:
    """A ship without work.

    Attributes:
        ship: its id.
        connected: whether it need not be woken.
        called: whether it has been called and has not looked yet what there is.
    """

    ship: str
    connected: bool
    called: bool = False


def whom_to_call(work: Sequence[Work], idle: Sequence[Idle]) -> list[str]:
    """Return the ships to call now.

    What only one ship may have goes to that ship. For the rest, ships that were called already count
    first, then connected ones, then those that sleep. No ship is called twice.
    """
    left = {one.ship: one for one in sorted(idle, key=lambda one: (not one.called, not one.connected))}
    chosen: list[Idle] = []
    # The choosy first: any other ship will do for the rest.
    for one in sorted(work, key=lambda one: one.only is None):
        ship = one.only if one.only is not None else next(iter(left), None)
        found = left.pop(ship, None) if ship is not None else None
        if found is not None:
            chosen.append(found)
    return [one.ship for one in chosen if not one.called]
