"""The ledger: a voyage's database and the only truth about it."""

from ocaptain.ledger.ledger import Ledger
from ocaptain.ledger.records import (
    Claim,
    Contradiction,
    TakenOver,
    Intent,
    LedgerError,
    LedgerUnwritable,
    NewVoyage,
    OlderLedger,
    ShipRow,
    Spent,
    Voyage,
)
from ocaptain.ledger.views import Landing, Overview, TaskView, landings, overview, task_files, task_views

__all__ = [
    "Claim",
    "Contradiction",
    "TakenOver",
    "Intent",
    "Landing",
    "Ledger",
    "LedgerError",
    "LedgerUnwritable",
    "NewVoyage",
    "OlderLedger",
    "Overview",
    "ShipRow",
    "Spent",
    "TaskView",
    "Voyage",
    "landings",
    "overview",
    "task_files",
    "task_views",
]
