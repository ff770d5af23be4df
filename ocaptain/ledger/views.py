"""A ledger as users see it: the documented shapes of ``status``, ``tasks`` and ``tasks/N.json``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.ledger.live import live_as_dict
from ocaptain.names import BY_PERSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ocaptain.ledger.ledger import Ledger


@dataclass(frozen=True)
class Sum:
    """What attempts used together.

    Attributes:
        attempts: number of attempts that reported usage.
        tokens_in, tokens_out, tokens_cached: read (cached or not), written, and read from the cache.
        cost_nano: nano-dollars of usage with a known price.
        unknown: number of attempts with usage without a known price.
        marks: ``api``, ``subscription``.
    """

    attempts: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    cost_nano: int = 0
    unknown: int = 0
    marks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape; the cost is null if no attempt reported usage."""
        return {
            "cost_usd": nano_to_usd(self.cost_nano) if self.attempts else None,
            "cost_unknown": self.unknown,
            "cost_mark": "+".join(self.marks) or None,
            "tokens": {"in": self.tokens_in, "out": self.tokens_out, "cached": self.tokens_cached},
        }


def nano_to_usd(nano: int) -> float:
    """Return nano-dollars as dollars, to a millionth: for people and JSON, never for sums."""
    return round(nano / 10**9, 6)


def sum_attempts(rows: Iterable[Mapping[str, Any]]) -> Sum:
    """Return what rows of attempts used (``tokens_in``, ``cost_nano``, ``usage``, …)."""
    known = [row for row in rows if row["tokens_in"] is not None]
    return Sum(
        attempts=len(known),
        tokens_in=sum(row["tokens_in"] for row in known),
        tokens_out=sum(row["tokens_out"] for row in known),
        tokens_cached=sum(row["tokens_cached"] for row in known),
        cost_nano=sum(row["cost_nano"] or 0 for row in known),
        unknown=sum(any(one["cost_nano"] is None for one in json.loads(row["usage"] or "[]")) for row in known),
        marks=tuple(sorted({row["cost_mark"] for row in known if row["cost_mark"]})),
    )


def voyage_sum(row: Mapping[str, Any]) -> Sum:
    """Return what all attempts used, from the sums that the ledger stores."""
    marks = tuple(mark for mark in ("api", "subscription") if row[mark])
    names = ("attempts", "tokens_in", "tokens_out", "tokens_cached", "cost_nano", "unknown")
    return Sum(**{name: row[name] for name in names}, marks=marks)


def cost_as_dict(spent: Sum, awake_seconds: float) -> dict[str, Any]:
    """Return the documented JSON shape of what a voyage costs."""
    return {
        "agents_usd": nano_to_usd(spent.cost_nano),
        "unknown": spent.unknown,
        "tokens": spent.as_dict()["tokens"],
        "awake_seconds": round(awake_seconds, 1),
    }


@dataclass(frozen=True)
class TaskView:
    """A task as ``tasks --json`` shows it."""

    id: str
    subject: str
    status: str
    owner: str | None
    attempt: int
    commit: str | None
    blocked_by: list[str]
    blocks: list[str]
    held_by: str | None
    #: Whether it waits for the user's approval.
    hold: bool
    check: dict[str, Any] | None
    reason: str | None
    spent: Sum

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "id": self.id,
            "subject": self.subject,
            "status": self.status,
            "owner": self.owner,
            "attempt": self.attempt,
            "commit": self.commit,
            "blockedBy": self.blocked_by,
            "blocks": self.blocks,
            "heldBy": self.held_by,
            "hold": self.hold,
            "check": self.check,
            "reason": self.reason,
            **self.spent.as_dict(),
        }


@dataclass(frozen=True)
class Landing:
    """A task that landed."""

    task: str
    subject: str
    ship: str | None
    commit: str


@dataclass(frozen=True)
class Overview:
    """The voyage as ``status`` shows it."""

    voyage: str
    name: str
    state: str
    paused_reason: str | None
    provider: str
    note: str | None
    tasks: dict[str, int]
    #: The tasks that wait for nothing but the user's approval.
    held_tasks: list[str]
    ships: list[dict[str, Any]]
    verify: dict[str, Any] | None
    proves: str | None
    #: Whether the verify passed, but not in a clean place as was asked for.
    is_less_proven: bool
    spent: Sum
    awake_seconds: float
    notices: list[dict[str, str]]
    #: What the trial of verify.sh on the start commit showed: ``outcome``, ``text``, ``ship``; None before its end.
    gate: dict[str, str] | None

    @property
    def is_gate_unusable(self) -> bool:
        """Whether the voyage ended because verify.sh could never run."""
        return self.state == "failed" and self.gate is not None and self.gate["outcome"] == "interpreter"

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "voyage": self.voyage,
            "state": self.state,
            "paused_reason": self.paused_reason,
            "provider": self.provider,
            "tasks": self.tasks,
            "held_tasks": self.held_tasks,
            "ships": [_ship_as_dict(one, time.time()) for one in self.ships],
            "verify": self.verify,
            "proves": self.proves,
            "name": self.name,
            "note": self.note,
            "notices": self.notices,
            "gate": self.gate,
            "cost": cost_as_dict(self.spent, self.awake_seconds),
        }


def task_files(ledger: Ledger, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the contents of ``tasks/N.json`` for some tasks, by id: the plan's task with its current state."""
    waits, blocks = _both_ends(ledger.edge_rows(tasks))
    return {
        row["id"]: {
            **{key: value for key, value in json.loads(row["raw"]).items() if key != "owner"},
            "status": row["status"],
            "blocks": blocks.get(row["id"], []),
            "blockedBy": waits.get(row["id"], []),
            **({"owner": row["ship"]} if row["ship"] else {}),
        }
        for row in ledger.task_rows(tasks)
    }


def _both_ends(edges: Iterable[Mapping[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return, by task, the tasks that it waits for, and the tasks that wait for it."""
    waits: dict[str, list[str]] = {}
    blocks: dict[str, list[str]] = {}
    for edge in edges:
        waits.setdefault(edge["task"], []).append(edge["waits"])
        blocks.setdefault(edge["waits"], []).append(edge["task"])
    return waits, blocks


def task_views(ledger: Ledger) -> list[TaskView]:
    """Return every task, in order."""
    waits, blocks = _both_ends(ledger.rows("edges", "task, waits"))
    attempts: dict[str, list[dict[str, Any]]] = {}
    for attempt in ledger.rows("attempts", "token"):
        attempts.setdefault(attempt["task"], []).append(attempt)
    evidence = {
        row["task"]: json.loads(row["evidence"]) for rows in attempts.values() for row in rows if row["evidence"]
    }
    return [
        TaskView(
            id=row["id"],
            subject=row["subject"],
            status=row["status"],
            owner=row["ship"],
            attempt=row["attempts"],
            commit=row["commit_id"],
            blocked_by=waits.get(row["id"], []),
            blocks=blocks.get(row["id"], []),
            held_by=BY_PERSON if row["held_by"] == row["id"] else row["held_by"],
            hold=not row["approved"] and row["status"] == "pending",
            check=(evidence.get(row["id"]) or {}).get("check"),
            reason=row["reason"],
            spent=sum_attempts(attempts.get(row["id"], ())),
        )
        for row in ledger.rows("tasks", "position")
    ]


def landings(ledger: Ledger) -> list[Landing]:
    """Return what landed, in the plan's order."""
    return [
        Landing(row["id"], row["subject"], row["ship"], row["commit_id"])
        for row in ledger.rows("tasks", "position")
        if row["commit_id"]
    ]


def describe_proof(verify: Mapping[str, Any] | None, ship: str | None) -> str | None:
    """Return what a voyage's state ``complete`` proves, as a sentence; None if it proves nothing.

    Args:
        verify: how the final verify ended.
        ship: that ran it.
    """
    if verify is None or not verify["ok"]:
        return None
    place = f" on {ship}" if ship else ""
    if verify["clean"]:
        return f"verify.sh passed in a fresh clone of the merged head{place}, where no agent was"
    return f"verify.sh passed on the merged head{place}, where agents may have changed what it uses"


def _ship_as_dict(ship: Mapping[str, Any], now: float) -> dict[str, Any]:
    shown = {key: value for key, value in ship.items() if key != "mirror"}
    return {**shown, "live": live_as_dict(ship["live"], now, ship["mirror"])}


def overview(ledger: Ledger) -> Overview:
    """Return the voyage's current state."""
    voyage = ledger.voyage()
    counts = ledger.count_tasks()
    working = ledger.tasks_by_ship()
    live = {one.ship: one.live for one in ledger.live_attempts(over=False)}
    verified_on = ledger.verified_on()
    verify = None
    if voyage.verify_ok is not None:
        verify = {
            "ok": bool(voyage.verify_ok),
            "exit_code": voyage.verify_code,
            "stage": ledger.verify_stage(),
            "clean": bool(voyage.verify_clean),
            "commit": voyage.verify_commit,
        }
    return Overview(
        voyage=voyage.id,
        name=voyage.name,
        state=voyage.state,
        paused_reason=voyage.paused_reason,
        provider=voyage.provider,
        note=voyage.note,
        tasks={"total": sum(counts.values()), **counts},
        held_tasks=ledger.held_tasks(),
        ships=[
            {
                "id": ship.id,
                "role": ship.role,
                "sprite": ship.sprite,
                "state": ship.state,
                "task": working.get(ship.id),
                "reason": ship.reason,
                "replaced_by": ship.replaced_by,
                "live": live.get(ship.id, {}) if ship.id in working else None,
                "mirror": None,
            }
            for ship in ledger.ships()
        ],
        verify=verify,
        proves=describe_proof(verify, verified_on),
        is_less_proven=bool(verified_on and voyage.verify_ok and voyage.verify_clean == 0),
        spent=voyage_sum(ledger.total_spending()),
        awake_seconds=sum(row["awake_seconds"] for row in ledger.rows("ships", "position")),
        notices=ledger.notices(),
        gate=ledger.gate_trial(),
    )
