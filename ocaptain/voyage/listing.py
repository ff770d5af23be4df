"""The list of all voyages: a line each, also for one that cannot be read."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from ocaptain.process import is_captain_running
from ocaptain.protocol.usage import format_dollars
from ocaptain.query import ENDED, LedgerError, Query, Summary
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

HEADER = ("ID", "PLAN", "STATE", "DONE", "SHIPS", "AGE", "COST", "NOTE")
#: Of what cannot be read.
UNREADABLE = "unreadable"
NOTHING = "-"


@dataclass(frozen=True)
class Row:
    """A voyage of the list.

    Attributes:
        directory: the voyage's.
        summary: None if the ledger cannot be read.
        problem: why not.
        has_captain: whether a captain runs on this machine.
        created: time, in seconds since 1970; of the directory, if the ledger does not say it.
    """

    directory: Path
    summary: Summary | None
    problem: str | None
    has_captain: bool
    created: float

    def as_dict(self, now: float) -> dict[str, Any]:
        """Return the documented JSON shape; what is not known is null."""
        known = self.summary.as_dict() if self.summary else dict.fromkeys(_KNOWN)
        created = self.created if self.summary else None
        return {
            "voyage": self.directory.name,
            **known,
            "created_at": created and dt.datetime.fromtimestamp(created, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "age_seconds": created and round(max(0.0, now - created), 1),
            "captain": self.has_captain,
            "note": describe(self),
            "problem": self.problem,
            "directory": str(self.directory),
        }


_KNOWN = ("name", "state", "paused_reason", "provider", "tasks", "ships", "cost")


def read_rows(directories: Iterable[Path]) -> list[Row]:
    """Return a row for each voyage's directory, newest first; each ledger is open for a few small queries."""
    return sorted(map(_read_row, directories), key=lambda row: row.created, reverse=True)


def _read_row(directory: Path) -> Row:
    try:
        summary = Query(directory).summary()
        return Row(directory, summary, None, is_captain_running(directory), float(summary.created))
    except (LedgerError, OSError, ValueError, TypeError) as error:
        # The last two are of a file that is a ledger but for the values in it.
        known = isinstance(error, LedgerError | OSError)
        problem = clean_line(str(error) if known else f"its ledger has values that make no sense: {error}")
    try:
        created = directory.stat().st_mtime
    except OSError:
        created = 0.0
    return Row(directory, None, problem, has_captain=False, created=created)


def describe(row: Row) -> str:
    """Return what is worth to know of a voyage beside its numbers, "" for nothing."""
    if row.summary is None:
        return row.problem or UNREADABLE
    seen, notes = row.summary, []
    if seen.paused_reason:
        is_paused = seen.state == "paused" or seen.paused_reason in {"ours", "provider"}  # at once, until it passes
        notes.append(f"{'paused' if is_paused else 'pausing'}: {seen.paused_reason}")
    if seen.state in {"running", "verifying"} and not row.has_captain:
        notes.append("no captain runs")
    if seen.tasks["failed"]:
        notes.append(f"{seen.tasks['failed']} failed")
    if seen.retrying:
        notes.append(f"{seen.retrying} retrying")
    if seen.is_less_proven:
        notes.append("not proven where no agent was")
    if seen.state in ENDED and seen.ships_up:
        notes.append("not sunk: ships still cost" if seen.provider == "sprites" else "not sunk")
    return ", ".join(notes)


def format_age(seconds: float) -> str:
    """Format an age for a narrow column (``40s``, ``4m``, ``2h``, ``12d``)."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def format_ships(up: int, total: int) -> str:
    """Format how many ships exist, of those that belong to the fleet: ``5 up``, ``4/5 up``, ``-``."""
    return NOTHING if not up else f"{up} up" if up == total else f"{up}/{total} up"


def cells(row: Row, now: float) -> tuple[str, ...]:
    """Return the cells of a row, in the order of :data:`HEADER`; none is empty: what is not known is ``-``."""
    note = describe(row) or NOTHING
    seen = row.summary
    if seen is None:
        return (row.directory.name, NOTHING, UNREADABLE, *[NOTHING] * 4, note)
    cost = f"{format_dollars(seen.spent.cost_nano)}{'+' if seen.spent.unknown else ''}"
    return (
        seen.voyage,
        clean_line(seen.name) or NOTHING,
        seen.state,
        f"{seen.tasks['completed']}/{seen.tasks['total']}",
        format_ships(seen.ships_up, seen.ships),
        format_age(now - row.created),
        cost if seen.spent.attempts else NOTHING,
        note,
    )


def lines(rows: Sequence[Row], now: float) -> list[str]:
    """Return the list as aligned lines of text, with a header."""
    table = [HEADER, *(cells(row, now) for row in rows)]
    widths = [max(cell_len(line[column]) for line in table) for column in range(len(HEADER))]
    return [
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
