"""Why a task is where it is: each attempt with its verdict and what is kept of it, or what it waits for."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ocaptain.ledger.records import NOT_SAILING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocaptain.ledger import Ledger, Voyage

#: What the states of an attempt mean, for people.
VERDICTS = {
    "claimed": "is being worked on",
    "running": "is being worked on",
    "offered": "ended, and is being checked or landed",
    "landed": "landed",
    "failed": "failed",
    "conflict": "does not merge with what landed meanwhile; does not count as a failure",
    "lost": "was lost; does not count as a failure",
    "late": "was lost, and its work came late and was saved",
    "sunk": "was ended by a sink",
    "waited": "found its agent's service busy; does not count as a failure",
    "denied": "had its agent's credential refused; does not count as a failure",
}


#: Of ``conflict``, where the work was not even tried to be merged.
HANDED_BACK = "was handed back; does not count as a failure"


@dataclass(frozen=True)
class KeptRef:
    """A ref of the voyage's repository that keeps work of an attempt.

    Attributes:
        ref, commit: its name and the commit.
        command: a shell line that shows it.
    """

    ref: str
    commit: str
    command: str


@dataclass(frozen=True)
class LandingView:
    """How an attempt's work landed.

    Attributes:
        commit: of the voyage's branch.
        command: a shell line that shows it.
        settings: what it changed of the settings of agents, a line each.
        collisions: its new paths that macOS and Windows take for another one, each with that one.
    """

    commit: str
    command: str
    settings: tuple[str, ...] = ()
    collisions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class AttemptView:
    """An attempt as ``why`` shows it.

    Attributes:
        attempt: its number.
        ship: that made it.
        state: as the ledger has it.
        verdict: what that means, for people.
        reason: why it did not land, in full.
        exit_code: of its agent.
        seconds: that its agent took, as the ship measured.
        started, ended: Unix seconds.
        check: how the task's check ended, None if it was not run.
        conflicts: files that others had changed, too.
        refs: what is kept of its work.
        landing: how it landed, None if it did not.
        log: file with all that its agent printed; there may be none yet.
        log_skipped: bytes of that which its ship had no room for.
    """

    attempt: int
    ship: str
    state: str
    verdict: str
    reason: str | None
    exit_code: int | None
    seconds: float | None
    started: float
    ended: float | None
    check: dict[str, Any] | None
    conflicts: tuple[str, ...]
    refs: tuple[KeptRef, ...]
    landing: LandingView | None
    log: str
    log_skipped: int

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "attempt": self.attempt,
            "ship": self.ship,
            "state": self.state,
            "verdict": self.verdict,
            "reason": self.reason,
            "exit_code": self.exit_code,
            "agent_seconds": self.seconds,
            "started_at": _timestamp(self.started),
            "ended_at": None if self.ended is None else _timestamp(self.ended),
            "check": self.check,
            "conflicts": list(self.conflicts),
            "refs": [vars(one) for one in self.refs],
            "landing": self.landing and asdict(self.landing),
            "log": self.log,
            "log_skipped": self.log_skipped,
        }


@dataclass(frozen=True)
class TaskStory:
    """A task as ``why`` shows it.

    Attributes:
        id, subject, status, commit: of the task.
        tries: how many failures count against it.
        waits: why it is not worked on, a sentence each, with what to do; empty if it is, or has landed.
        attempts: all of them, oldest first.
    """

    id: str
    subject: str
    status: str
    commit: str | None
    tries: int
    waits: tuple[str, ...]
    attempts: tuple[AttemptView, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "task": {
                "id": self.id,
                "subject": self.subject,
                "status": self.status,
                "commit": self.commit,
                "tries": self.tries,
            },
            "waits": list(self.waits),
            "attempts": [one.as_dict() for one in self.attempts],
        }


def tell_task(ledger: Ledger, directory: Path, task: str, *, has_captain: bool) -> TaskStory | None:
    """Return why a task is where it is, None if the voyage has no such task.

    Args:
        ledger: the voyage's.
        directory: likewise.
        task: its id.
        has_captain: whether a captain is in command.
    """
    row = next(iter(ledger.task_rows([task])), None)
    if row is None:
        return None
    show = f"git -C {shlex.quote(str(directory / 'repo.git'))} log -p -1 --first-parent"
    kept: dict[int, list[KeptRef]] = {}
    for ref in ledger.rows("saved_refs", "at, ref"):
        kept.setdefault(ref["token"], []).append(KeptRef(ref["ref"], ref["commit_id"], f"{show} {ref['ref']}"))
    attempts = [
        _attempt_view(
            one, tuple(kept.get(one["token"], ())), _landing_view(one, row, show), attempt_log(directory, one)
        )
        for one in ledger.rows("attempts", "token")
        if one["task"] == task
    ]
    return TaskStory(
        id=task,
        subject=row["subject"],
        status=row["status"],
        commit=row["commit_id"],
        tries=row["tries"],
        waits=tuple(_reasons_to_wait(ledger, row, has_captain=has_captain)),
        attempts=tuple(attempts),
    )


def attempt_log(directory: Path, row: Mapping[str, Any]) -> Path:
    """Return the file with the output of an attempt, which may not exist yet."""
    return directory / "logs" / str(row["ship"]) / f"{row['task']}.{row['number']}.log"


def _landing_view(attempt: Mapping[str, Any], task: Mapping[str, Any], show: str) -> LandingView | None:
    """Return how an attempt's work landed, None if it did not; ``show``: the shell line that shows a commit."""
    if attempt["state"] != "landed" or attempt["token"] != task["token"]:
        return None
    evidence, commit = json.loads(attempt["evidence"] or "{}"), task["commit_id"]
    collisions = tuple((new, old) for new, old in evidence.get("collisions", ()))
    return LandingView(commit, f"{show} {commit}", tuple(evidence.get("settings", ())), collisions)


def _attempt_view(
    row: Mapping[str, Any], refs: tuple[KeptRef, ...], landing: LandingView | None, log: Path
) -> AttemptView:
    evidence = json.loads(row["evidence"] or "{}")
    agent = evidence.get("agent") or {}
    verdict = VERDICTS.get(row["state"], row["state"])
    return AttemptView(
        attempt=row["number"],
        ship=row["ship"],
        state=row["state"],
        verdict=HANDED_BACK if row["state"] == "conflict" and "conflict" not in evidence else verdict,
        reason=row["reason"],
        exit_code=row["exit_code"] if row["exit_code"] is not None else agent.get("exit_code"),
        seconds=row["seconds"] if row["seconds"] is not None else agent.get("seconds"),
        started=row["started"],
        ended=row["ended"],
        check=evidence.get("check"),
        conflicts=tuple((evidence.get("conflict") or {}).get("paths", ())),
        refs=refs,
        landing=landing,
        log=str(log),
        log_skipped=row["log_skipped"],
    )


def _reasons_to_wait(ledger: Ledger, row: Mapping[str, Any], *, has_captain: bool) -> list[str]:
    """Return why no ship works on a task, all that must change first."""
    voyage, task = ledger.voyage(), row["id"]
    if row["status"] == "failed":
        return [f"it failed for good; try it again: ocaptain retry {voyage.id} {task}"]
    if row["status"] != "pending":
        return []
    found = []
    if (held_by := row["held_by"]) == task:
        found.append(f"it is held by a person, who gave it back too often: ocaptain retry {voyage.id} {task}")
    elif held_by:
        look = f"ocaptain why {voyage.id} {held_by}; ocaptain retry {voyage.id} {held_by}"
        given_back = ledger.task_rows([held_by])[0]["held_by"] == held_by
        why = "which people gave back too often" if given_back else "which failed for good"
        found.append(f"it is held by task {held_by}, {why}: {look}")
    before = [edge["waits"] for edge in ledger.edge_rows([task]) if edge["task"] == task]
    waits = [one for one in ledger.task_rows(before) if one["status"] != "completed" and one["id"] != held_by]
    if waits:
        names = ", ".join(f"{one['id']} ({one['status']})" for one in waits)
        found.append(f"it waits for task {names}")
    if not row["approved"]:
        found.append(f"it waits for approval: ocaptain approve {voyage.id} {task}")
    if pin := row["pin"]:
        found += _reasons_of_pin(ledger, voyage.id, task, pin)
    is_retried = bool(held_by) and voyage.state == "failed"  # which starts a captain
    found += _reasons_of_voyage(voyage, has_captain=has_captain or is_retried)
    return found or ["it is ready: the next free ship gets it"]


def _reasons_of_voyage(voyage: Voyage, *, has_captain: bool) -> list[str]:
    resume = f"ocaptain sail --resume {voyage.id}"
    if voyage.state in {"sinking", "sunk"}:
        return [f"the voyage is {voyage.state}"]
    if voyage.paused_reason in {"ours", "provider"} and has_captain:
        return [f"the voyage is paused ({voyage.paused_reason}), and goes on by itself"]
    if voyage.paused_reason:
        return [f"the voyage is paused ({voyage.paused_reason}): {resume}"]
    return [] if has_captain else [f"no captain is running: {resume}"]


def _reasons_of_pin(ledger: Ledger, voyage: str, task: str, pin: str) -> list[str]:
    ship = next((one for one in ledger.ships() if one.id == pin), None)
    if ship is None or ship.state in NOT_SAILING:
        remedy = f"let any ship have it: ocaptain retry {voyage} {task} --any"
        return [f"it is pinned to {pin}, which does not sail ({ship.state if ship else 'not of this fleet'}); {remedy}"]
    if working := ledger.tasks_by_ship().get(pin):
        return [f"it is pinned to {pin}, which works on task {working}"]
    return []


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
