"""A voyage in one line, for the list of all voyages: a few small rows, never the plan's texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.ledger.records import NOT_SAILING
from ocaptain.ledger.views import Sum, cost_as_dict, voyage_sum

if TYPE_CHECKING:
    from ocaptain.ledger.ledger import Ledger


@dataclass(frozen=True)
class Summary:
    """A voyage in one line.

    Attributes:
        name: of its plan.
        created: time, in seconds since 1970.
        tasks: number of tasks in each state, and of all (``total``).
        retrying: number of the tasks that failed before and are not over.
        ships_up, ships: how many exist, of those that belong to the fleet.
        is_less_proven: whether it is complete, but not proven where no agent was.
    """

    voyage: str
    name: str
    state: str
    paused_reason: str | None
    provider: str
    note: str | None
    created: float
    tasks: dict[str, int]
    retrying: int
    ships_up: int
    ships: int
    is_less_proven: bool
    spent: Sum
    awake_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape, but for times."""
        return {
            "name": self.name,
            "state": self.state,
            "paused_reason": self.paused_reason,
            "provider": self.provider,
            "tasks": self.tasks,
            "ships": {"up": self.ships_up, "total": self.ships},
            "cost": cost_as_dict(self.spent, self.awake_seconds),
        }


def summarize(ledger: Ledger) -> Summary:
    """Return a voyage in one line."""
    row, counts = ledger.summary_row(), ledger.count_tasks()
    states = [one["state"] for one in ledger.rows("ships", "position") if not one["replaced_by"]]
    is_less_proven = row["verify_clean"] == 0 and row["state"] == "complete" and ledger.verified_on() is not None
    return Summary(
        voyage=row["id"],
        name=row["name"],
        state=row["state"],
        paused_reason=row["paused_reason"],
        provider=row["provider"],
        note=row["note"],
        created=row["created"],
        tasks={"total": sum(counts.values()), **counts},
        retrying=row["retrying"],
        ships_up=sum(state not in NOT_SAILING for state in states),
        ships=len(states),
        is_less_proven=is_less_proven,
        spent=voyage_sum(ledger.total_spending()),
        awake_seconds=row["awake_seconds"],
    )
