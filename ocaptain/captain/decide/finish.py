"""Whether a voyage goes on, and what becomes of it if not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Standing:
    """How a voyage stands.

    Attributes:
        voyage: its id.
        working: tasks that a ship is at.
        pending: tasks that no ship has.
        failed: tasks that failed for good, by id.
        claimable: whether a ship that sails may take a task now.
        sails: whether any ship sails.
        hopes: whether lost ships are being replaced, or will be.
        paused: whether nothing more is to be handed out.
        denied: why no ship can go on working, None if they can.
    """

    voyage: str
    working: int = 0
    pending: int = 0
    failed: tuple[str, ...] = ()
    claimable: bool = False
    sails: bool = True
    hopes: bool = False
    paused: bool = False
    denied: str | None = None


@dataclass(frozen=True)
class Finish:
    """What is to be done.

    Attributes:
        next: ``wait`` until something changes, ``verify`` all that landed, or the voyage's last state.
        why: for people, of a voyage that failed.
    """

    next: Literal["wait", "verify", "paused", "failed"]
    why: str | None = None


def finish(now: Standing) -> Finish:
    """Decide. What a ship is at is brought home first, whatever else there is."""
    if now.working:
        return Finish("wait")
    if now.denied:
        return Finish("failed", now.denied)
    if now.paused:
        return Finish("paused")
    if now.claimable or now.hopes:
        return Finish("wait")
    if now.failed:
        return Finish("failed", f"failed for good: task {', '.join(now.failed)}")
    if not now.pending:
        return Finish("verify")
    if not now.sails:
        return Finish("failed", f"no ship is left; `ocaptain sail --resume {now.voyage}` makes new ones")
    return Finish("failed", "the tasks that are left are pinned to ships that are gone")
