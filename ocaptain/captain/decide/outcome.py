"""Decide what the end of an attempt means for its task, its ship and the voyage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ocaptain.protocol.messages import Outcome, Snapshot, UnfitTree
from ocaptain.text import clean_line, escape_control

if TYPE_CHECKING:
    from ocaptain.agents.facts import AttemptVerdict

FIRST_PAUSE = 5.0  # seconds that a ship pauses after its agent found its service busy; doubles each time
MAX_PAUSE = 300.0
MAX_WAITS = 60  # attempts; about four hours and a half, as long as a usage limit may last
MAX_LOSSES = 10
MAX_TAIL = 4000
CANNOT_EXECUTE, NOT_FOUND = 126, 127  # exit codes of every shell (POSIX.1-2017, Shell Command Language, 2.8.2)
#: How bash (``bash: line 1: WORD: why``), dash (``sh: 1: WORD: why``) and ``env`` and its like (``env: 'WORD': why``)
#: name what they could not run.
_NOT_RUN = re.compile(
    r"^(?P<who>[^:\n]+): (?:(?:line )?(?P<line>[0-9]+): (?:exec: )?(?P<word>[^\n]+?)"
    r"|(?:failed to run command )?[‘'](?P<quoted>[^\n]+)[’'])"  # noqa: RUF001 - as GNU writes them
    r": (?P<why>command not found|not found|No such file or directory|Permission denied|Is a directory"
    r"|cannot execute\b[^\n]*|bad interpreter\b[^\n]*|Exec format error)$",
    re.MULTILINE,
)
_LAST_LINES = 5  # of the output: what a shell says last before it ends with such a code
_REMEDY = (
    "commit it or install it by a role (voyage.json's `setup` is run before the gate and the final verify alone,"
    " not for tasks)"
)
#: How the reason begins if work is elsewhere than in the files.
ELSEWHERE = "nothing changed in the files of the checked-out branch"


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
        hold: whether no ship gets the task until the user retries it, if it is returned.
        credential_refused: whether the agents' credential was refused, so that no ship can work.
    """

    kind: Literal["fail", "return"]
    reason: str
    state: Literal["conflict", "denied", "lost", "waited"] = "lost"
    same_ship: bool = False
    final: bool = False
    pause: float = 0.0
    credential_refused: bool = False
    hold: bool = False


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


def decide_after_command(outcome: Outcome) -> Decision | None:
    """Decide after the run of a shell line; None if its work can be offered.

    A program that is not on the ship is not there for another attempt either, so the task fails at once.
    """
    if outcome.reason == "exit" and outcome.code in {CANNOT_EXECUTE, NOT_FOUND}:
        return Decision("fail", f"{_describe_missing(outcome)}{_quote_output(outcome)}", final=True)
    failure = failure_reason(outcome)
    return Decision("fail", failure, same_ship=True) if failure else None


def _describe_missing(outcome: Outcome) -> str:
    """Return what could not be run, as far as the shell has said it: the line itself, or a script that it runs."""
    last = "\n".join(escape_control(outcome.tail[-MAX_TAIL:]).strip().splitlines()[-_LAST_LINES:])
    found = [*_NOT_RUN.finditer(last)]
    ended = f"the agent ended with exit code {outcome.code}"
    if not found:
        code = "a program is not there" if outcome.code == NOT_FOUND else "a program is there and cannot be executed"
        return f"{ended}, by which a shell says that {code}: if it is not on the ship: {_REMEDY}"
    who, line, why = found[-1]["who"], found[-1]["line"], found[-1]["why"]
    place = f" in its line {line}" if line else ""
    word = f"`{found[-1]['word'] or found[-1]['quoted']}`{'' if who == 'bash' else f', which {who} runs{place},'}"
    if outcome.code == CANNOT_EXECUTE:
        mode = "give it its executable bit (git update-index --chmod=+x), or, if its program is not on the ship:"
        return f"{ended}: {word} cannot be executed ({why}): {mode} {_REMEDY}"
    if why.startswith(("cannot execute", "bad interpreter")):
        return (
            f"{ended}: {word} cannot be executed: the program that its first line names is not on the ship: {_REMEDY}"
        )
    return f"{ended}: {word} is not on the ship: {_REMEDY}"


def decide_work_elsewhere(outcome: Outcome, *, again: bool) -> Decision | None:
    """Decide about an attempt whose files are unchanged, though it committed or stashed work; None if it is not so.

    Args:
        outcome: how the attempt ended.
        again: whether the task was handed back for this before; now it counts as a failure.
    """
    snapshot, other = outcome.snapshot, outcome.other
    tips = [tip for tip in other.tips if tip.is_work] if other else []
    if snapshot is None or not snapshot.empty or not tips:
        return None
    places = ", ".join(f"{_place(tip.name)} (commit {tip.commit})" for tip in tips[:5])
    reason = f"{ELSEWHERE}: your work is on {places}; put it on the checked-out branch, for example by git cherry-pick"
    return Decision("fail" if again else "return", reason, "conflict", same_ship=True)


def _place(name: str) -> str:
    """Return an agent's name for a commit as people say it."""
    name = clean_line(name, 100)
    for prefix, word in (("refs/heads/", "branch "), ("refs/tags/", "tag "), ("refs/stash", "the stash")):
        name = name.replace(prefix, word, 1)
    return name


def failure_reason(outcome: Outcome) -> str | None:
    """Return why an attempt failed, None if its work can be offered."""
    output = _quote_output(outcome)
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


def _quote_output(outcome: Outcome) -> str:
    tail = escape_control(outcome.tail[-MAX_TAIL:]).strip()
    return f"; the end of its output:\n{tail}" if tail else ""
