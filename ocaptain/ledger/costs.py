"""What a voyage cost, split by ship, task or model. Sums are whole nano-dollars."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ocaptain.ledger.views import Sum, nano_to_usd, sum_attempts

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocaptain.ledger.ledger import Ledger

By = Literal["ship", "task", "model"]


@dataclass(frozen=True)
class Line:
    """A part of the cost.

    Attributes:
        name: of the ship, task or model.
        about: its state or subject, for people.
        spent: what agents used.
        awake_seconds, machine_nano: of the ship; None where machine costs are not split this way.
    """

    name: str
    about: str
    spent: Sum
    awake_seconds: float | None = None
    machine_nano: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        machine = {} if self.machine_nano is None else {"machine_usd": nano_to_usd(self.machine_nano)}
        awake = {} if self.awake_seconds is None else {"awake_seconds": round(self.awake_seconds, 1)}
        about = {"name": self.name, "attempts": self.spent.attempts, "cost_nano": self.spent.cost_nano}
        return {**about, **self.spent.as_dict(), **awake, **machine}


@dataclass(frozen=True)
class Costs:
    """The cost of a voyage: its parts, and the total with machines included."""

    by: By
    lines: list[Line]
    total: Line

    @property
    def total_nano(self) -> int:
        """Agents and machines together, as far as prices are known."""
        return self.total.spent.cost_nano + (self.total.machine_nano or 0)

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        total = {key: value for key, value in self.total.as_dict().items() if key != "name"}
        return {
            "by": self.by,
            "lines": [line.as_dict() for line in self.lines],
            "total": {**total, "total_usd": nano_to_usd(self.total_nano)},
        }


def compute_costs(ledger: Ledger, by: By, machine: Callable[[float], int]) -> Costs:
    """Return what a voyage cost so far.

    Args:
        ledger: of the voyage.
        by: how it is split.
        machine: returns the cost of some seconds awake, in nano-dollars.
    """
    attempts = ledger.rows("attempts", "token")
    ships = ledger.rows("ships", "position")
    awake = sum(ship["awake_seconds"] for ship in ships)
    total = Line(
        ledger.voyage().id, "", sum_attempts(attempts), awake, sum(machine(ship["awake_seconds"]) for ship in ships)
    )
    return Costs(by, _lines(ledger, by, machine, attempts, ships), total)


def _lines(
    ledger: Ledger,
    by: By,
    machine: Callable[[float], int],
    attempts: list[dict[str, Any]],
    ships: list[dict[str, Any]],
) -> list[Line]:
    if by == "ship":
        return [
            Line(
                ship["id"],
                ship["state"],
                sum_attempts(row for row in attempts if row["ship"] == ship["id"]),
                ship["awake_seconds"],
                machine(ship["awake_seconds"]),
            )
            for ship in ships
        ]
    if by == "task":
        return [
            Line(task["id"], task["subject"], sum_attempts(row for row in attempts if row["task"] == task["id"]))
            for task in ledger.rows("tasks", "position")
        ]
    models: dict[str, list[dict[str, Any]]] = {}
    for row in attempts:
        parts: dict[str, list[dict[str, Any]]] = {}
        for one in json.loads(row["usage"] or "[]"):
            parts.setdefault(one["model"], []).append(one)
        for model, part in parts.items():
            read, out, cached, short, long = map(sum, zip(*(one["tokens"] for one in part), strict=True))
            models.setdefault(model, []).append(
                {
                    "tokens_in": read + cached + short + long,
                    "tokens_out": out,
                    "tokens_cached": cached,
                    "cost_nano": sum(one["cost_nano"] or 0 for one in part),
                    "cost_mark": row["cost_mark"],
                    "usage": json.dumps(part),
                }
            )
    return [Line(model, "", sum_attempts(rows)) for model, rows in sorted(models.items())]
