"""Decide which lost ships are replaced, and how.

A ship whose sprite is gone is made again under its name, so that tasks pinned to it can run. A ship
that is lost or broken but still exists is left as it is, since its work may be nowhere else; a new
ship takes its place, and ``sink`` fetches its work later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.config import MAX_SHIPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.ledger import ShipRow
    from ocaptain.presence import Presence

#: States of a ship that is out of service and does not come back by itself.
LOST = frozenset({"lost", "failed", "gone"})
MAX_REPLACEMENTS_PER_SHIP = 2


@dataclass(frozen=True)
class Replacements:
    """Which ships to replace.

    Attributes:
        recreate: ships to make again under their own name.
        substitute: ships that a new ship takes the place of.
    """

    recreate: tuple[str, ...] = ()
    substitute: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.recreate or self.substitute)


def plan_replacements(ships: Sequence[ShipRow], existing: Presence, replaced_before: int) -> Replacements:
    """Decide which ships to replace. A ship is left as it is while it is unknown whether it exists.

    Args:
        ships: of the voyage.
        existing: which sprites exist.
        replaced_before: number of replacements that this voyage has begun; each ship may be replaced twice on
            average, so that a fault that breaks every ship does not cost money without end.
    """
    # ship-verify is made again when it is needed (decide/verify.py).
    sailing = [ship for ship in ships if ship.replaced_by is None and ship.role == "work"]
    budget = min(MAX_REPLACEMENTS_PER_SHIP * len(sailing) - replaced_before, MAX_SHIPS - len(ships))
    lost = [ship for ship in sailing if ship.state in LOST][: max(0, budget)]
    return Replacements(
        recreate=tuple(ship.id for ship in lost if ship.sprite in existing.gone),
        substitute=tuple(ship.id for ship in lost if ship.sprite in existing.there),
    )
