"""What a voyage's telemetry says: the sums that agents reported, and the voyage's own course for its trace.

telemetry.db ──> Reported        ledger.db ──> Course ──> :func:`ocaptain.telemetry.spans.voyage_spans`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.telemetry.spans import Course
from ocaptain.telemetry.store import FILE_NAME, Reported, read_reported

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.ledger import Ledger

__all__ = ["Reported", "read_course", "telemetry_path", "voyage_reported"]


def telemetry_path(directory: Path) -> Path:
    """Return where a voyage's telemetry is stored."""
    return directory / FILE_NAME


def voyage_reported(directory: Path) -> Reported | None:
    """Return what a voyage's agents reported, None if they reported nothing, or it cannot be read now."""
    found = read_reported(telemetry_path(directory))
    return found if found and (found.calls or found.lost) else None


def read_course(ledger: Ledger) -> Course:
    """Return what a ledger says of its voyage.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    voyage = ledger.voyage()
    return Course(voyage.id, voyage.state, voyage.created, ledger.rows("events", "n"), ledger.rows("attempts", "token"))
