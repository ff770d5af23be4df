"""What becomes of ships that cannot be reached: their tasks go to others, and in the end they count as lost.

A sprite may be wedged: its status is ``running``, and every call to it hangs. A captain cannot tell it from one that
is slow to wake, so time decides. Its task waits for :data:`~.decide.leases.LEASE_SECONDS`; a ship without a task is
left alone for :data:`~.decide.leases.UNREACHED_SECONDS` and then counts as lost, so that ``--replace`` makes another.
It is tried on and on; if it comes, it works again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.captain.decide import leases
from ocaptain.captain.decide.leases import Leases
from ocaptain.captain.decide.replace import LOST

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from ocaptain.captain.pool import Pool
    from ocaptain.ledger import Ledger


class SilentShips:
    """Follows the ships that cannot be reached; called at each tick."""

    def __init__(self, ledger: Ledger, pool: Pool) -> None:
        self._ledger = ledger
        self._pool = pool
        self._holding = Leases({})
        self._idle = Leases({})

    def tick(self, now: float, silent: AbstractSet[str], *, clock_stopped: bool) -> None:
        """Age the silence of ships.

        Args:
            now: a monotonic time, seconds.
            silent: ships that have no channel and do not sleep.
            clock_stopped: whether no time passes, since no ship could be heard now, whatever it does.
        """
        holding = {name for name in silent if self._ledger.held_claim(name)}
        self._holding, lapsed = self._holding.tick(now, holding, clock_stopped=clock_stopped)
        for name in lapsed:
            self._pool.take_task_from(name, f"{name} was silent for too long", ship_state="lost")
        idle = {
            name
            for name in silent - holding
            if self._pool.actors[name].takes_tasks and self._ledger.ship_row(name).state not in LOST
        }
        limit = leases.UNREACHED_SECONDS
        self._idle, lapsed = self._idle.tick(now, idle, clock_stopped=clock_stopped, limit=limit)
        for name in lapsed:
            reason = self._ledger.ship_row(name).reason or "it does not answer"
            self._ledger.set_ship(name, "lost", f"it could not be reached for {limit:g} s: {reason}")
