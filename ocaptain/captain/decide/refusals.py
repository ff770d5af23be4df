"""Whether a ship that says that the agents' credential was refused is believed.

One ship may lie, or have a clock or a network of its own; its word alone stops no fleet. A second ship
that meets the same confirms it, a landing of another one contradicts it. Where nobody else can tell,
its word counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


def is_confirmed(ship: str, said_before: AbstractSet[str], sailing: AbstractSet[str], pin: str | None) -> bool:
    """Whether the fleet stops.

    Args:
        ship: that says so.
        said_before: ships that said so before.
        sailing: ships that sail.
        pin: the one ship that may have the task, if only one may.
    """
    others = sailing - {ship}
    return bool(said_before - {ship}) or not others or pin == ship
