"""Replacing ships that are lost while the voyage sails.

::

    a ship is lost ──decide (decide/replace.py)──> noted in the ledger
        ──`ocaptain sail --resume` in the background──> made, built by Ansible; it joins (arrivals.py), or a new
          captain takes over, if this one still follows the machine that was lost

The run is a process of its own in a session of its own, so that the captain's end does not end
it; ``replace.pid`` names it, for :func:`ocaptain.process.stop_replacement`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.captain.decide.replace import Replacements, plan_replacements
from ocaptain.presence import Presence

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ocaptain.ledger import Ledger

LOOK_SECONDS = 5.0  # between two looks, while a ship is lost
GRACE_SECONDS = 120.0  # after an outage the provider's list answers before the ships do
log = logging.getLogger("ocaptain.captain")


class Fleet:
    """Replaces lost ships.

    Args:
        directory: the voyage's.
        ledger: of the captain.
        find_existing: tells which of some sprites exist.
    """

    def __init__(
        self, directory: Path, ledger: Ledger, find_existing: Callable[[frozenset[str]], Awaitable[Presence]]
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._find_existing = find_existing
        self._looked: float | None = None
        self._silent_since: dict[str, float] = {}
        self._run: subprocess.Popen[bytes] | None = None

    def may_replace(self) -> bool:
        """Whether a ship may still be added: a replacement is under way, or one may be started."""
        return process.is_replacement_running(self._directory) or bool(self._missing_ships())

    def _missing_ships(self, existing: Presence | None = None) -> Replacements:
        """Return which ships to replace; without ``existing``, as if every sprite were gone."""
        voyage = self._ledger.voyage()
        if not voyage.replace_lost or not self._ledger.has_open_tasks():
            return Replacements()
        ships = self._ledger.ships()
        existing = existing or Presence(gone=frozenset(ship.sprite for ship in ships))
        return plan_replacements(ships, existing, voyage.replacements)

    async def replace_lost_ships(self) -> None:
        """Start replacing lost ships, if the voyage asks for that; called at each tick."""
        if self._run is not None:
            self._run.poll()  # so that it leaves no zombie
        now = time.monotonic()
        if (self._looked is not None and now - self._looked < LOOK_SECONDS) or process.is_building(self._directory):
            return
        self._looked = now
        if not (missing := self._missing_ships()):
            return
        existing = await self._find_existing(frozenset(self._ledger.ship_row(ship).sprite for ship in missing.recreate))
        if existing.unknown:
            log.warning("cannot tell which lost ships still exist, so they are not replaced yet: %s", existing.why)
        decided = self._missing_ships(existing)
        decided = replace(decided, substitute=tuple(ship for ship in decided.substitute if self._is_overdue(ship, now)))
        if not decided:
            return
        self._ledger.replace_ships(decided.recreate, decided.substitute)
        log.info("replacing %s", ", ".join((*decided.recreate, *decided.substitute)))
        self._run = process.start_replacement(self._directory)

    def _is_overdue(self, ship: str, now: float) -> bool:
        """Whether a ship that exists is replaced now: a broken one is at once, a silent one only after a while."""
        if self._ledger.ship_row(ship).state == "failed":
            return True
        return now - self._silent_since.setdefault(ship, now) > GRACE_SECONDS
