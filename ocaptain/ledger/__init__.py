"""The ledger: a voyage's database and the only truth about it."""

from ocaptain.ledger.claims import MAX_FAILURES
from ocaptain.ledger.ledger import Ledger
from ocaptain.ledger.local import LocalIntent
from ocaptain.ledger.records import (
    Claim,
    Contradiction,
    Intent,
    LedgerError,
    LedgerUnwritable,
    NewVoyage,
    OlderLedger,
    ShipRow,
    Spent,
    TakenOver,
    Voyage,
)
from ocaptain.ledger.repairs import TaskChange
from ocaptain.ledger.views import Landing, Overview, TaskView, landings, overview, task_files, task_views

__all__ = [
    "MAX_FAILURES",
    "Claim",
    "Contradiction",
    "Intent",
    "Landing",
    "Ledger",
    "LedgerError",
    "LedgerUnwritable",
    "LocalIntent",
    "NewVoyage",
    "OlderLedger",
    "Overview",
    "ShipRow",
    "Spent",
    "TakenOver",
    "TaskChange",
    "TaskView",
    "Voyage",
    "landings",
    "overview",
    "task_files",
    "task_views",
]
