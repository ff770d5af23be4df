"""Leases age by the captain's ticks, not by any clock.

A tick adds what passed since the last one, but at most :data:`MAX_TICK` seconds, however late
it comes. So a laptop that slept, or a captain that was stopped, takes no task away; and since
nothing is stored, a captain that starts again begins every lease afresh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

TICK = 1.0
MAX_TICK = 2.0
LEASE_SECONDS = 60.0
#: After which a ship that holds no task and cannot be reached counts as lost: a cold one takes seconds to come.
UNREACHED_SECONDS = 600.0


def time_passed(last: float | None, now: float) -> float:
    """Return the seconds that a tick at ``now`` adds; ``last`` is the time of the tick before."""
    return min(MAX_TICK, max(0.0, now - last)) if last is not None else 0.0


@dataclass(frozen=True)
class Leases:
    """For how many seconds each silent ship has been silent; ships that are heard are not in it."""

    silent: Mapping[str, float]
    last: float | None = None

    def tick(
        self, now: float, silent: AbstractSet[str], *, clock_stopped: bool = False, limit: float | None = None
    ) -> tuple[Leases, frozenset[str]]:
        """Age the leases of the ships that are silent now.

        Args:
            now: a monotonic time, seconds.
            silent: ships that have no channel, and whose lease this is.
            clock_stopped: whether no time passes, since no ship could be heard now, whatever it does.
            limit: seconds that a lease lasts; by default :data:`LEASE_SECONDS`.

        Returns:
            The new leases, and the ships whose lease lapsed with this tick.
        """
        passed = time_passed(self.last, now) if not clock_stopped else 0.0
        lasts = LEASE_SECONDS if limit is None else limit
        ages = {ship: self.silent.get(ship, 0.0) + passed for ship in silent}
        lapsed = frozenset(ship for ship, age in ages.items() if age >= lasts)
        kept = {ship: age for ship, age in ages.items() if ship not in lapsed}
        return replace(self, silent=kept, last=now), lapsed
