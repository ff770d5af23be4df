"""Waiting for the end of a voyage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.errors import OcaptainError, Paused
from ocaptain.ledger.records import ENDED
from ocaptain.voyage.fleet import Outcome, outcome

if TYPE_CHECKING:
    from ocaptain.voyage.home import VoyageDirectory

POLL_SECONDS = 0.1
LOOK_SECONDS = 0.2  # at a voyage that may take hours: each look opens its ledger
MAX_RESTARTS = 5


def wait(directory: VoyageDirectory) -> Outcome:
    """Wait until the voyage has ended; a captain that died is started again.

    Raises:
        OcaptainError: the captain dies again and again.
    """
    restarts = 0
    while (now := outcome(directory)).state not in ENDED:
        if now.state == "paused":
            raise Paused(_how_to_go_on(directory.id, now.note))
        if now.state == "sinking":
            raise OcaptainError(
                f"{directory.id} is being sunk; `ocaptain sail --resume {directory.id}` takes it up again"
            )
        if not process.is_running(directory.path):
            time.sleep(POLL_SECONDS)
            if outcome(directory).state in ENDED or process.is_running(directory.path):
                continue
            if restarts == MAX_RESTARTS:
                log = directory.path / "captain.log"
                remedy = f"`ocaptain sail --resume {directory.id}` goes on"
                raise OcaptainError(f"the captain of {directory.id} ended {restarts} times (log: {log}); {remedy}")
            restarts += 1
            process.start(directory.path)
        time.sleep(LOOK_SECONDS)
    return now


def _how_to_go_on(voyage: str, note: str | None) -> str:
    """Return why a voyage is paused, and what goes on with it."""
    why = f": {note}" if note else ""
    remedy = "" if note and "--resume" in note else f"; go on with `ocaptain sail --resume {voyage}`"
    return f"{voyage} is paused{why}{remedy}"
