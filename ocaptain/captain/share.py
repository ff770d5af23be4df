"""How much of the captain's event loop one ship may take. Pure bookkeeping.

What a ship sends is read on the event loop that serves all ships. Each ship has a credit of :data:`CREDIT` seconds,
which grows again by the ship's share of half of the loop. A ship that has used it up is read later: its stream fills,
and it waits.
"""

from __future__ import annotations

CREDIT = 0.05
ALL_SHIPS = 0.5  # of the loop's time
FEW_SHIPS = 4  # up to this number, each ship has an eighth of the loop
MAX_WAIT = 2.0  # seconds; a ship that waits is not silent


class Share:
    """The credit of one ship.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: float) -> None:
        self._credit = CREDIT
        self._at = now

    def spend(self, now: float, used: float, ships: int) -> float:
        """Charge a ship for its use of the loop; return for how many seconds nothing more is read of it.

        Args:
            now: the time, on the same clock.
            used: seconds for which the loop served it.
            ships: number of ships that share the loop.
        """
        rate = ALL_SHIPS / max(FEW_SHIPS, ships)
        self._credit = min(CREDIT, self._credit + (now - self._at) * rate) - used
        self._at = now
        return min(MAX_WAIT, max(0.0, -self._credit / rate))
