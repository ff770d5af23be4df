"""Decide whether to believe a ship that reports that the agents' credential was refused.

One ship may lie, or have a wrong clock or a broken network, so its report alone does not stop the fleet. The
same report of a second ship confirms it, a landing of another ship contradicts it. If no other ship could
confirm it, one report is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


def is_refusal_confirmed(
    ship: str, reported_before: AbstractSet[str], sailing: AbstractSet[str], pin: str | None
) -> bool:
    """Whether the report is confirmed, so that the fleet stops.

    Args:
        ship: that reports it now.
        reported_before: ships that reported it before.
        sailing: all ships in service.
        pin: the one ship that may have the task, if only one may.
    """
    others = sailing - {ship}
    return bool(reported_before - {ship}) or not others or pin == ship
