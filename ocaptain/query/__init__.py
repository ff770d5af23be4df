"""Read-only queries about a voyage; the answers are data.

    command line, Ansible's action ──question──> query ──reads──> ledger, files of the voyage's directory

Each query is complete in itself and changes nothing. The caller holds no ledger open, so that the same
queries could be sent to a captain on another machine.
"""

from ocaptain.ledger.costs import By, Costs, Line
from ocaptain.ledger.records import ENDED, NOT_SAILING, LedgerError, ShipRow
from ocaptain.ledger.summary import Summary
from ocaptain.ledger.views import Landing, Overview, TaskView
from ocaptain.query.local import Event, Log, Query
from ocaptain.query.snapshot import LandedLine, Phase, ShipLine, Snapshot, TaskLine
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
