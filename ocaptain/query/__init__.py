"""Read-only queries about a voyage; the answers are data.

    command line, Ansible's action ──question──> query ──reads──> ledger, files of the voyage's directory

Each query is complete in itself and changes nothing. The caller holds no ledger open, so that the same
queries could be sent to a captain on another machine. What answers a question is imported when it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.lazy import lazy_names
from ocaptain.ledger.records import ENDED, NOT_SAILING, LedgerError, ShipRow
from ocaptain.query.local import Event, Query

if TYPE_CHECKING:
    from ocaptain.ledger.costs import By, Costs, Line
    from ocaptain.ledger.summary import Summary
    from ocaptain.ledger.views import Landing, Overview, TaskView
    from ocaptain.query.logs import Log, LogLine, LogReader
    from ocaptain.query.phases import Phase
    from ocaptain.query.snapshot import LandedLine, ShipLine, Snapshot, TaskLine
    from ocaptain.query.why import AttemptView, TaskStory

__all__ = [
    "ENDED",
    "NOT_SAILING",
    "AttemptView",
    "By",
    "Costs",
    "Event",
    "LandedLine",
    "Landing",
    "LedgerError",
    "Line",
    "Log",
    "LogLine",
    "LogReader",
    "Overview",
    "Phase",
    "Query",
    "ShipLine",
    "ShipRow",
    "Snapshot",
    "Summary",
    "TaskLine",
    "TaskStory",
    "TaskView",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ocaptain.ledger.costs": ("By", "Costs", "Line"),
        "ocaptain.ledger.summary": ("Summary",),
        "ocaptain.ledger.views": ("Landing", "Overview", "TaskView"),
        "ocaptain.query.logs": ("Log", "LogLine", "LogReader"),
        "ocaptain.query.phases": ("Phase",),
        "ocaptain.query.snapshot": ("LandedLine", "ShipLine", "Snapshot", "TaskLine"),
        "ocaptain.query.why": ("AttemptView", "TaskStory"),
    },
)
