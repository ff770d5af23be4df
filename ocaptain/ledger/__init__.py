"""The ledger: a voyage's database and the only truth about it."""

from ocaptain.ledger.ledger import (
    Claim,
    Fenced,
    Intent,
    Ledger,
    LedgerError,
    NewVoyage,
    ShipRow,
    Spent,
    Voyage,
)
from ocaptain.ledger.view import Landing, Overview, TaskView, landings, overview, task_files, task_views

__all__ = [
    "Claim",
    "Fenced",
    "Intent",
    "Landing",
    "Ledger",
    "LedgerError",
    "NewVoyage",
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
