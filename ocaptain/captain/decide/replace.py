"""Which lost ships are replaced, and how: a decision, and nothing else.

A ship whose sprite is gone is made again under its name, so that tasks pinned to it go on. One
that is lost or broken but still exists is left as it is, since its work may be there and nowhere
else; another ship sails in its place, and ``sink`` deals with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.config import MAX_SHIPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.ledger import ShipRow
    from ocaptain.presence import Existing

#: A ship in one of these does not sail, and will not by itself.
LOST = frozenset({"lost", "failed", "gone"})
REPLACED_PER_SHIP = 2


@dataclass(frozen=True)
class Replacements:
    """Ships to make again under their name, and ships that another one stands in for."""

    again: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.again or self.fresh)


def replacements(ships: Sequence[ShipRow], exist: Existing, begun: int) -> Replacements:
    """Decide what is to be replaced. A ship of which nobody knows whether it exists is left as it is.

    Args:
        ships: of the voyage.
        exist: which sprites exist.
        begun: replacements that this voyage began already; each ship may be replaced twice on the
            average, so that something that breaks every ship does not bill for ever.
    """
    # ship-verify is made again when it is needed (decide/verify.py).
    sailing = [ship for ship in ships if ship.replaced_by is None and ship.role == "work"]
    budget = min(REPLACED_PER_SHIP * len(sailing) - begun, MAX_SHIPS - len(ships))
    lost = [ship for ship in sailing if ship.state in LOST][: max(0, budget)]
    return Replacements(
        again=tuple(ship.id for ship in lost if ship.sprite in exist.gone),
        fresh=tuple(ship.id for ship in lost if ship.sprite in exist.there),
    )
