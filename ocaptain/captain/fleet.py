"""Replacing ships that are lost while the voyage sails.

::

    a ship is lost ──decide (decide/replace.py)──> noted in the ledger
        ──`ocaptain sail --resume` in the background──> made, built by Ansible, launched:
          a new captain takes over, which knows them (this one is stopped for it)

The run is a process of its own in a session of its own, so that the captain's end does not end
it; ``replace.pid`` names it, for :func:`ocaptain.process.stop_replacement`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.background import start_module
from ocaptain.captain.decide.replace import Replacements, replacements
from ocaptain.presence import Existing

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ocaptain.ledger import Ledger

LOOK_SECONDS = 5.0  # between two looks, while a ship is lost
GRACE_SECONDS = 120.0  # after an outage the provider's list answers before the ships do
log = logging.getLogger("ocaptain.captain")


def start_replacement(directory: Path) -> subprocess.Popen[bytes]:
    """Begin a run that makes the ships that the ledger wants and that are not there."""
    run = start_module("ocaptain", ["sail", "--resume", directory.name, "--json"], directory / "replace.log")
    process.note_replacement(directory, run.pid)
    return run


class Fleet:
    """Looks after the number of ships.

    Args:
        directory: the voyage's.
        ledger: of the captain.
        exist: says which of these sprites exist.
    """

    def __init__(self, directory: Path, ledger: Ledger, exist: Callable[[frozenset[str]], Awaitable[Existing]]) -> None:
        self._directory = directory
        self._ledger = ledger
        self._exist = exist
        self._looked: float | None = None
        self._silent_since: dict[str, float] = {}
        self._run: subprocess.Popen[bytes] | None = None

    def may_replace(self) -> bool:
        """Whether a ship may still come: a replacement is under way, or one may be begun."""
        return process.replaces(self._directory) or bool(self._missing_ships())

    def _missing_ships(self, exist: Existing | None = None) -> Replacements:
        """Return what is to be replaced; without ``exist`` whether anything is, if all were gone."""
        voyage = self._ledger.voyage()
        counts = self._ledger.counts()
        if not voyage.replace_lost or not counts["pending"] + counts["in_progress"]:
            return Replacements()
        ships = self._ledger.ships()
        exist = exist or Existing(gone=frozenset(ship.sprite for ship in ships))
        return replacements(ships, exist, voyage.replacements)

    async def look_after(self) -> None:
        """Begin what is to be replaced, if that is wished; called at each tick."""
        if self._run is not None:
            self._run.poll()  # so that it is no zombie
        now = time.monotonic()
        if (self._looked is not None and now - self._looked < LOOK_SECONDS) or process.replaces(self._directory):
            return
        self._looked = now
        for ship in self._ledger.ships():
            if ship.state == "provisioning" and ship.role == "work":  # and nobody is at it
                self._ledger.set_ship(ship.id, "failed", f"it could not be made: {self._directory / 'replace.log'}")
        if not (missing := self._missing_ships()):
            return
        exist = await self._exist(frozenset(self._ledger.ship_row(ship).sprite for ship in missing.again))
        if exist.unknown:
            log.warning("lost ships are not replaced now: %s", exist.why)
        decided = self._missing_ships(exist)
        decided = replace(decided, fresh=tuple(ship for ship in decided.fresh if self._is_overdue(ship, now)))
        if not decided:
            return
        self._ledger.replace_ships(decided.again, decided.fresh)
        log.info("replacing %s", ", ".join((*decided.again, *decided.fresh)))
        self._run = start_replacement(self._directory)

    def _is_overdue(self, ship: str, now: float) -> bool:
        """Whether a ship that exists is to be given up: a broken one is, a silent one may only be late."""
        if self._ledger.ship_row(ship).state == "failed":
            return True
        return now - self._silent_since.setdefault(ship, now) > GRACE_SECONDS
