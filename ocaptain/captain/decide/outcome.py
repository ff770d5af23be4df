"""What the end of an attempt means for its task, its ship and the voyage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ocaptain.protocol.messages import Outcome, Snapshot, UnfitTree
from ocaptain.text import clean

if TYPE_CHECKING:
    from ocaptain.agents.facts import Ending

FIRST_PAUSE = 5.0  # seconds; of a ship whose agent found its service busy; it doubles
MAX_PAUSE = 300.0
MAX_WAITS = 60  # about four hours and a half, as long as a limit may last
MAX_LOSSES = 10
MAX_TAIL = 4000


@dataclass(frozen=True)
class Decision:
    """What becomes of a task whose attempt brought nothing to land.

    Attributes:
        kind: ``fail`` counts the attempt, ``return`` gives the task back without counting it.
        reason: for people, and for the next attempt.
        state: of the attempt, if the task is returned.
        same_ship: whether the ship that had it is preferred for the next attempt.
        final: whether another attempt is of no use.
        pause: seconds for which the ship claims nothing.
        refused: whether the agents' credential was refused, so that no ship can work.
    """

    kind: Literal["fail", "return"]
    reason: str
    state: Literal["conflict", "denied", "lost", "waited"] = "lost"
    same_ship: bool = False
    final: bool = False
    pause: float = 0.0
    refused: bool = False


def after_ending(ending: Ending, waits: int) -> Decision:
    """Decide after an agent's own ending, which is not ``done``.

    Args:
        ending: how it ended.
        waits: attempts in a row that found the agent's service busy before.
    """
    match ending.kind:
        case "denied":
            return Decision("return", ending.reason, "denied", refused=True)
        case "busy":
            pause = pause_of(waits, ending.wait)
            if pause is None:
                return Decision("fail", f"{ending.reason} (it waited {waits} times before)")
            reason = f"{ending.reason}; retrying in {pause:.0f} s"
            return Decision("return", reason, "waited", same_ship=True, pause=pause)
        case "hopeless":
            return Decision("fail", ending.reason, final=True)
    return Decision("fail", ending.reason, same_ship=True)


def after_loss(reason: str, losses: int) -> Decision:
    """Decide after a ship was lost, or could not work.

    Args:
        reason: what happened.
        losses: how often the task was lost before; one that is lost again and again is a failure after all.
    """
    if losses >= MAX_LOSSES:
        return Decision("fail", f"{reason}; it was lost {MAX_LOSSES} times before")
    return Decision("return", reason)


def pause_of(waits: int, asked: float) -> float | None:
    """Return for how many seconds a ship waits for a busy service, None if it did so for long enough.

    Args:
        waits: attempts in a row that found it busy before.
        asked: seconds that the service wants.
    """
    return None if waits >= MAX_WAITS else min(MAX_PAUSE, max(asked, FIRST_PAUSE * 2**waits))


def failure_of(outcome: Outcome) -> str | None:
    """Return why an attempt failed by itself, None if it is to be offered."""
    tail = clean(outcome.tail[-MAX_TAIL:]).strip()
    said = f"; it said last:\n{tail}" if tail else ""
    match outcome:
        case Outcome(reason="timeout"):
            return f"the agent took longer than its time limit ({outcome.seconds:.0f} s){said}"
        case Outcome(reason="stall"):
            return f"the agent was silent for too long and was ended{said}"
        case Outcome(reason="died"):
            return f"the agent's supervisor was killed{said}"
        case Outcome(reason="exit", code=0, unfit=UnfitTree() as unfit):
            names = ", ".join(clean(path) for path in unfit.paths[:10])
            return f"the work cannot be taken: {clean(unfit.reason)}: {names}"
        case Outcome(reason="exit", code=0, snapshot=Snapshot()):
            return None
        case Outcome(reason="exit", code=0):
            return "the ship offered nothing"
    return f"the agent ended with exit code {outcome.code}{said}"
