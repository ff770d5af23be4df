"""Wait for the end of a voyage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.errors import OcaptainError, Paused
from ocaptain.ledger.records import ENDED
from ocaptain.voyage.fleet import Outcome, read_outcome

if TYPE_CHECKING:
    from ocaptain.voyage.home import VoyageDirectory

POLL_SECONDS = 0.1
LOOK_SECONDS = 0.2  # between two looks at the ledger, each of which opens it
MAX_RESTARTS = 5


def wait_for_end(directory: VoyageDirectory) -> Outcome:
    """Wait until the voyage has ended; restart a captain that died.

    Raises:
        Paused: the voyage is paused.
        OcaptainError: the voyage is being sunk, or the captain died more than :data:`MAX_RESTARTS` times.
    """
    restarts = 0
    while (now := read_outcome(directory)).state not in ENDED:
        if now.state == "paused":
            raise Paused(_paused_message(directory.id, now.note))
        if now.state == "sinking":
            raise OcaptainError(f"{directory.id} is being sunk; resume it with `ocaptain sail --resume {directory.id}`")
        if not process.is_captain_running(directory.path):
            time.sleep(POLL_SECONDS)
            if read_outcome(directory).state in ENDED or process.is_captain_running(directory.path):
                continue
            if restarts == MAX_RESTARTS:
                log = directory.path / "captain.log"
                remedy = f"resume with `ocaptain sail --resume {directory.id}`"
                raise OcaptainError(f"the captain of {directory.id} ended {restarts} times (log: {log}); {remedy}")
            restarts += 1
            process.start_captain(directory.path)
        time.sleep(LOOK_SECONDS)
    return now


def _paused_message(voyage: str, note: str | None) -> str:
    """Return why a voyage is paused, and how to resume it."""
    why = f": {note}" if note else ""
    remedy = "" if note and "--resume" in note else f"; resume with `ocaptain sail --resume {voyage}`"
    return f"{voyage} is paused{why}{remedy}"
