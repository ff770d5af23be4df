"""Decide whether a voyage goes on, and if not, in which state it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ocaptain.names import FAILED_NOTE


@dataclass(frozen=True)
class VoyageStatus:
    """A voyage's state, as this decision needs it.

    Attributes:
        voyage: its id.
        working: number of tasks that a ship works on.
        pending: number of tasks that no ship has.
        failed: ids of the tasks that failed for good.
        claimable: whether a ship in service could claim a task now.
        held: whether a ship in service could claim a task that waits for the user's approval, or that a person gave
            back too often.
        has_ships: whether any ship is in service.
        may_replace: whether lost ships are being replaced, or will be.
        paused: whether no more tasks are handed out.
        denied: why no ship can work (the agents' credential was refused) or is to (verify.sh can never run), else None.
    """

    voyage: str
    working: int = 0
    pending: int = 0
    failed: tuple[str, ...] = ()
    claimable: bool = False
    held: bool = False
    has_ships: bool = True
    may_replace: bool = False
    paused: bool = False
    denied: str | None = None


@dataclass(frozen=True)
class NextStep:
    """What the captain does next.

    Attributes:
        next: ``wait`` until something changes, ``verify`` all that landed, or the state in which the voyage ends.
        reason: why a voyage failed, for people.
    """

    next: Literal["wait", "verify", "paused", "failed"]
    reason: str | None = None


def next_step(now: VoyageStatus) -> NextStep:
    """Decide what comes next. Tasks that ships work on are always finished first."""
    if now.working:
        return NextStep("wait")
    if now.denied:
        return NextStep("failed", now.denied)
    if now.paused:
        return NextStep("paused")
    if now.claimable or now.held or now.may_replace:
        return NextStep("wait")
    if now.failed:
        return NextStep("failed", f"{FAILED_NOTE}{', '.join(now.failed)}")
    if not now.pending:
        return NextStep("verify")
    if not now.has_ships:
        return NextStep("failed", f"no ship is left; `ocaptain sail --resume {now.voyage}` makes new ones")
    return NextStep("failed", "the tasks that are left are pinned to ships that are gone")
