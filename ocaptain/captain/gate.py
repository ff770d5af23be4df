"""The trial of the gate: once a voyage, on the first ship that has a task, at the same time as its agent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ocaptain.captain.decide.trial import MAX_TRIES, judge_gate_trial
from ocaptain.protocol.shebang import named_programs

if TYPE_CHECKING:
    from ocaptain.captain.decide.trial import GateTrial
    from ocaptain.ledger import Ledger
    from ocaptain.protocol.messages import TrialResult

log = logging.getLogger("ocaptain.captain")


class Gate:
    """Keeps account of the trial.

    Args:
        ledger: of the captain; holds the result.

    Attributes:
        stopped: why the voyage stops, None if it does not.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        found = ledger.gate_trial()
        # One that stopped the voyage is tried again when it is resumed: somebody may have mended the ship.
        self._is_open = found is None or found["outcome"] == "interpreter"
        self._tries = 0
        self.stopped: str | None = None

    def take(self) -> bool:
        """Return whether the caller's ship is to try it now; no other ship does until :meth:`release`."""
        if not self._is_open or self._tries >= MAX_TRIES:
            return False
        self._is_open = False
        self._tries += 1
        return True

    def release(self, reason: str) -> None:
        """Let another ship try it, since this one could not."""
        log.info("the trial of verify.sh could not be run: %s", reason)
        self._is_open = True

    def record(self, ship: str, result: TrialResult, seconds: float) -> GateTrial:
        """Store a result; return what it means.

        Args:
            ship: that ran it.
            result: as it reports.
            seconds: its time limit.
        """
        voyage = self._ledger.voyage()
        found = judge_gate_trial(result, named_programs(voyage.verify_script), seconds)
        self._ledger.add_event(f"gate:{found.outcome}", found.text, ship=ship)
        log.info("trial of verify.sh on %s: %s", ship, found.text)
        if found.stops:
            remedy = f"mend verify.sh or have `setup` bring it, `ocaptain sink {voyage.id}`, then sail again"
            self.stopped = f"{found.text}; {remedy}"
        return found
