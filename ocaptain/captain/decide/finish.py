"""Whether a voyage goes on, and what becomes of it if not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class VoyageStatus:
    """How a voyage stands.

    Attributes:
        voyage: its id.
        working: tasks that a ship is at.
        pending: tasks that no ship has.
        failed: tasks that failed for good, by id.
        claimable: whether a ship that sails may take a task now.
        has_ships: whether any ship sails.
        may_replace: whether lost ships are being replaced, or will be.
        paused: whether nothing more is to be handed out.
        denied: why no ship can go on working, None if they can.
    """

    voyage: str
    working: int = 0
    pending: int = 0
    failed: tuple[str, ...] = ()
    claimable: bool = False
    has_ships: bool = True
    may_replace: bool = False
    paused: bool = False
    denied: str | None = None


@dataclass(frozen=True)
class NextStep:
    """What is to be done.

    Attributes:
        next: ``wait`` until something changes, ``verify`` all that landed, or the voyage's last state.
        why: for people, of a voyage that failed.
    """

    next: Literal["wait", "verify", "paused", "failed"]
    why: str | None = None


def next_step(now: VoyageStatus) -> NextStep:
    """Decide. What a ship is at is brought home first, whatever else there is."""
    if now.working:
        return NextStep("wait")
    if now.denied:
        return NextStep("failed", now.denied)
    if now.paused:
        return NextStep("paused")
    if now.claimable or now.may_replace:
        return NextStep("wait")
    if now.failed:
        return NextStep("failed", f"failed for good: task {', '.join(now.failed)}")
    if not now.pending:
        return NextStep("verify")
    if not now.has_ships:
        return NextStep("failed", f"no ship is left; `ocaptain sail --resume {now.voyage}` makes new ones")
    return NextStep("failed", "the tasks that are left are pinned to ships that are gone")
