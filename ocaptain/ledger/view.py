"""What users see of a ledger: the documented shapes of ``status``, ``tasks`` and ``tasks/N.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ocaptain.ledger.ledger import Ledger


@dataclass(frozen=True)
class TaskView:
    """A task as ``tasks --json`` shows it, and its raw file."""

    id: str
    subject: str
    status: str
    owner: str | None
    attempt: int
    commit: str | None
    blocked_by: list[str]
    blocks: list[str]
    held_by: str | None
    check: dict[str, Any] | None
    reason: str | None
    raw: dict[str, Any]

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
            "check": self.check,
            "reason": self.reason,
        }

    def as_file(self) -> dict[str, Any]:
        """Return what ``tasks/N.json`` holds: the plan's task with its state of now."""
        state: dict[str, Any] = {"status": self.status, "blocks": self.blocks, "blockedBy": self.blocked_by}
        content = {key: value for key, value in self.raw.items() if key != "owner"} | state
        return content | ({"owner": self.owner} if self.owner else {})


@dataclass(frozen=True)
class Overview:
    """The voyage as ``status`` shows it."""

    voyage: str
    name: str
    state: str
    provider: str
    note: str | None
    tasks: dict[str, int]
    ships: list[dict[str, Any]]
    verify: dict[str, Any] | None
    landed: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "voyage": self.voyage,
            "state": self.state,
            "provider": self.provider,
            "tasks": self.tasks,
            "ships": self.ships,
            "verify": self.verify,
            "name": self.name,
            "note": self.note,
        }


def task_views(ledger: Ledger) -> list[TaskView]:
    """Return every task, in order."""
    waits: dict[str, list[str]] = {}
    blocks: dict[str, list[str]] = {}
    for edge in ledger.rows("edges", "task, waits"):
        waits.setdefault(edge["task"], []).append(edge["waits"])
        blocks.setdefault(edge["waits"], []).append(edge["task"])
    evidence = {row["task"]: json.loads(row["evidence"]) for row in ledger.rows("attempts", "token") if row["evidence"]}
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
            held_by=row["held_by"],
            check=(evidence.get(row["id"]) or {}).get("check"),
            reason=row["reason"],
            raw=json.loads(row["raw"]),
        )
        for row in ledger.rows("tasks", "position")
    ]


def overview(ledger: Ledger) -> Overview:
    """Return the voyage as it stands."""
    voyage = ledger.voyage()
    counts = ledger.counts()
    tasks = ledger.rows("tasks", "position")
    working = {row["ship"]: row["id"] for row in tasks if row["status"] == "in_progress"}
    verify = None
    if voyage.verify_ok is not None:
        verify = {
            "ok": bool(voyage.verify_ok),
            "exit_code": voyage.verify_code,
            "clean": bool(voyage.verify_clean),
            "commit": voyage.verify_commit,
        }
    return Overview(
        voyage=voyage.id,
        name=voyage.name,
        state=voyage.state,
        provider=voyage.provider,
        note=voyage.note,
        tasks={"total": sum(counts.values()), **counts},
        ships=[
            {
                "id": ship.id,
                "sprite": ship.sprite,
                "state": ship.state,
                "task": working.get(ship.id),
                "reason": ship.reason,
                "replaced_by": ship.replaced_by,
            }
            for ship in ledger.ships()
        ],
        verify=verify,
        landed=[
            {"task": row["id"], "subject": row["subject"], "ship": row["ship"], "commit": row["commit_id"]}
            for row in tasks
            if row["commit_id"]
        ],
    )
