"""What to type next: a line after a command, for people."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ocaptain.cli.style import cells
from ocaptain.query import NOT_SAILING
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.query import Overview

_MAX_NAMED = 3
_HEAD, _BETWEEN = "next: ", " · "


@dataclass(frozen=True)
class Standing:
    """What the next step of a voyage depends on.

    Attributes:
        failed: tasks that failed for good.
        landed: number of tasks that landed.
        ships_up: number of its ships that exist.
        has_captain: whether a captain runs on this machine.
        is_pausing: whether it is asked to pause, and finishes what is under way.
        held: tasks that wait for approval.
    """

    voyage: str
    state: str
    failed: tuple[str, ...] = ()
    landed: int = 0
    ships_up: int = 0
    has_captain: bool = True
    is_pausing: bool = False
    held: tuple[str, ...] = ()


def standing_of(seen: Overview, failed: tuple[str, ...], *, has_captain: bool) -> Standing:
    """Return what the next step of a voyage depends on."""
    up = sum(ship["state"] not in NOT_SAILING for ship in seen.ships)
    is_pausing = seen.state != "paused" and seen.paused_reason in {"user", "budget", "limit"}
    held = tuple(seen.held_tasks)
    return Standing(seen.voyage, seen.state, failed, seen.tasks["completed"], up, has_captain, is_pausing, held)


def after_voyage(at: Standing) -> str:
    """Return what to type next, after a command about a voyage."""
    name = at.voyage
    resume, sink = f"ocaptain sail --resume {name}", f"ocaptain sink {name}"
    if at.ships_up:
        sink += f" ({at.ships_up} {'ship is' if at.ships_up == 1 else 'ships are'} still up)"
    clone = [f"ocaptain clone {name}"] if at.landed else []
    why = [f"ocaptain why {name} {clean_line(at.failed[0])}"] if at.failed else []
    match at.state:
        case "running" | "verifying" if at.is_pausing:
            return _join(f"ocaptain status {name}", f"{resume} (goes on)")
        case "running" | "verifying":
            steps = [f"ocaptain logs {name} -f", f"ocaptain pause {name}"] if at.has_captain else [f"{resume} --wait"]
            approve = [f"ocaptain approve {name} {clean_line(at.held[0])}"] if at.held else []
            return _join(*approve, *steps, *why, f"ocaptain sink {name}")
        case "preparing" | "paused":
            return _join(resume, *why, sink)
        case "complete":
            return _join(*clone, sink if at.ships_up else "ocaptain ls")
        case "failed":
            failed = [clean_line(task) for task in at.failed]
            named = f" {' '.join(failed)}" if len(failed) <= _MAX_NAMED else ""  # none named = all that failed
            recover = [*why, f"ocaptain retry {name}{named}"] if failed else []
            steps = recover or [f"ocaptain logs {name} -n 50"]
            return _join(*steps, *clone, *([sink] if at.ships_up else []))
        case "sinking":
            return _join(f"ocaptain sink {name}")
    return _join(*clone, "ocaptain ls")


def after_task(at: Standing, task: str, held_by: str | None = None) -> str:
    """Return what to type next, after a command that told of one task, which another may hold that failed."""
    if held_by and held_by in at.failed and at.state not in {"verifying", "complete", "sinking", "sunk"}:
        return _join(*(f"ocaptain {verb} {at.voyage} {clean_line(held_by)}" for verb in ("why", "retry")))
    if task in at.failed and at.state not in {"verifying", "complete", "sinking", "sunk"}:
        return _join(*(f"ocaptain {verb} {at.voyage} {clean_line(task)}" for verb in ("retry", "logs")))
    return after_voyage(at)


def after_interrupt(at: Standing, provider: str) -> list[str]:
    """Return what to say of a voyage when Ctrl-C has ended a `sail`: what goes on, and how to go on."""
    name = at.voyage
    ships = f"{at.ships_up} {'ship' if at.ships_up == 1 else 'ships'} on {provider}"
    if at.state in {"running", "verifying"} and at.has_captain:
        return [
            f"watching has ended: {name} sails on, with {ships}",
            f"watch again:  ocaptain watch {name}",
            f"pause it:     ocaptain pause {name}",
            f"or end it:    ocaptain sink {name}",
        ]
    return [
        f"{name} exists ({at.state}), with up to {ships}",
        f"resume it:  ocaptain sail --resume {name}",
        f"or end it:  ocaptain sink {name}",
    ]


Command = Literal[
    "doctor",
    "plan new",
    "plan show",
    "plan graph",
    "plan check",
    "plan simulate",
    "drydock start",
    "drydock status",
    "drydock stop",
    "telemetry start",
    "telemetry stop",
    "ls",
    "clone",
    "sweep",
    "sink --all",
]


#: What to type after a command that found all in order or not (None: in both cases); ``{}`` is its directory.
_AFTER: dict[tuple[Command, bool | None], tuple[str, ...]] = {
    ("plan new", None): ("change them, then: ocaptain plan check {}",),
    ("plan show", None): ("ocaptain plan simulate {}", "ocaptain sail {}"),
    ("plan graph", None): ("ocaptain plan show {}", "ocaptain sail {}"),
    ("ls", True): ("ocaptain status ID", "ocaptain sink ID"),
    ("sweep", False): ("ocaptain sweep",),
    ("sweep", True): ("ocaptain ls",),
    ("sink --all", None): ("ocaptain ls",),
    ("drydock status", False): ("ocaptain drydock start", "ocaptain ls"),
    ("drydock status", True): ("ocaptain ls",),
    ("drydock stop", None): ("ocaptain drydock start", "ocaptain ls"),
    ("telemetry start", None): ("ocaptain telemetry export --receiver", "ocaptain telemetry stop"),
    ("telemetry stop", None): ("ocaptain telemetry export --receiver",),
}


def after_command(command: Command, *, ok: bool = True, place: Path | None = None, ships: int | None = None) -> str:
    """Return what to type next, after a command that is about no voyage.

    Args:
        command: that was given.
        ok: whether it found all in order; of ``ls`` whether there is a voyage, of ``sweep`` whether nothing is left, of
            ``drydock status`` whether it is running.
        place: the directory that it was about.
        ships: how many are enough.
    """
    where = clean_line(shlex.quote(str(place))) if place else "PLAN"
    match command, ok:
        case "doctor", False:
            return _join("mend each FAULT, then: ocaptain doctor")
        case "plan check", False:
            return _join(f"mend these, then: ocaptain plan check {where}")
        case "plan simulate", _:
            return _join(f"ocaptain sail {where}" + (f" -n {ships}" if ships else ""))
        case "clone", _:
            return _join(f"cd {where}")
    steps = _AFTER.get((command, ok)) or _AFTER.get((command, None)) or ("ocaptain sail {}",)
    return _join(*(step.format(where) for step in steps))


def _join(*steps: str) -> str:
    return f"{_HEAD}{_BETWEEN.join(steps)}"


def fold_steps(line: str, width: int) -> list[str]:
    """Return what to type next in as many lines as it needs, broken between commands alone: each can be copied.

    Args:
        line: as this module's other functions return it.
        width: in cells; a command that is wider stays whole.
    """
    lines: list[str] = []
    for step in line.split(_BETWEEN):
        if lines and cells(lines[-1] + _BETWEEN + step) <= width:
            lines[-1] += _BETWEEN + step
        else:
            lines.append(f"{' ' * len(_HEAD)}{step}" if lines else step)
    return lines
