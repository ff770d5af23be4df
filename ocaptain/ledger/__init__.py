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
from ocaptain.ledger.view import Overview, TaskView, overview, task_files, task_views

__all__ = [
    "Claim",
    "Fenced",
    "Intent",
    "Ledger",
    "LedgerError",
    "NewVoyage",
    "Overview",
    "ShipRow",
    "Spent",
    "TaskView",
    "Voyage",
    "overview",
    "task_files",
    "task_views",
]
