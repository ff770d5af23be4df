"""Decide what the end of an attempt means for its task, its ship and the voyage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ocaptain.protocol.messages import Outcome, Snapshot, UnfitTree
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from ocaptain.agents.facts import AttemptVerdict

FIRST_PAUSE = 5.0  # seconds that a ship pauses after its agent found its service busy; doubles each time
MAX_PAUSE = 300.0
MAX_WAITS = 60  # attempts; about four hours and a half, as long as a usage limit may last
MAX_LOSSES = 10
MAX_TAIL = 4000


@dataclass(frozen=True)
class Decision:
    """What happens to a task whose attempt did not land.

    Attributes:
        kind: ``fail`` counts the attempt, ``return`` gives the task back without counting it.
        reason: for people, and for the next attempt.
        state: in which the attempt ends, if the task is returned.
        same_ship: whether the same ship is preferred for the next attempt.
        final: whether the task fails now, since another attempt would not help.
        pause: seconds for which the ship claims no tasks.
        credential_refused: whether the agents' credential was refused, so that no ship can work.
    """

    kind: Literal["fail", "return"]
    reason: str
    state: Literal["conflict", "denied", "lost", "waited"] = "lost"
    same_ship: bool = False
    final: bool = False
    pause: float = 0.0
    credential_refused: bool = False


def decide_after_ending(ending: AttemptVerdict, waits: int) -> Decision:
    """Decide after a model's run that did not end as ``done``.

    Args:
        ending: how the run ended.
        waits: number of attempts in a row, before this one, that found the agent's service busy.
    """
    match ending.kind:
        case "denied":
            return Decision("return", ending.reason, "denied", credential_refused=True)
        case "busy":
            pause = pause_seconds(waits, ending.wait)
            if pause is None:
                return Decision("fail", f"{ending.reason} (gave up after {waits} retries)")
            reason = f"{ending.reason}; retrying in {pause:.0f} s"
            return Decision("return", reason, "waited", same_ship=True, pause=pause)
        case "hopeless":
            return Decision("fail", ending.reason, final=True)
    return Decision("fail", ending.reason, same_ship=True)


def decide_after_loss(reason: str, losses: int) -> Decision:
    """Decide after a ship was lost or could not work.

    Args:
        reason: what happened.
        losses: how often the task was lost before; at :data:`MAX_LOSSES` this counts as a failure.
    """
    if losses >= MAX_LOSSES:
        return Decision("fail", f"{reason}; the task was lost {MAX_LOSSES} times before")
    return Decision("return", reason)


def pause_seconds(waits: int, asked: float) -> float | None:
    """Return for how many seconds a ship waits for a busy service, None if it has waited often enough.

    Args:
        waits: number of attempts in a row, before this one, that found it busy.
        asked: seconds that the service asks to wait.
    """
    return None if waits >= MAX_WAITS else min(MAX_PAUSE, max(asked, FIRST_PAUSE * 2**waits))


def failure_reason(outcome: Outcome) -> str | None:
    """Return why an attempt failed, None if its work can be offered."""
    tail = escape_control(outcome.tail[-MAX_TAIL:]).strip()
    output = f"; the end of its output:\n{tail}" if tail else ""
    match outcome:
        case Outcome(reason="timeout"):
            return f"the agent took longer than its time limit ({outcome.seconds:.0f} s){output}"
        case Outcome(reason="stall"):
            return f"the agent was silent for too long and was ended{output}"
        case Outcome(reason="died"):
            return f"the agent's supervisor was killed{output}"
        case Outcome(reason="exit", code=0, unfit=UnfitTree() as unfit):
            names = ", ".join(escape_control(path) for path in unfit.paths[:10])
            return f"the work cannot be landed: {escape_control(unfit.reason)}: {names}"
        case Outcome(reason="exit", code=0, snapshot=Snapshot()):
            return None
        case Outcome(reason="exit", code=0):
            return "the agent ended, but the ship offered no snapshot of its work"
    return f"the agent ended with exit code {outcome.code}{output}"
