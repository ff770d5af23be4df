"""A line for each ship: what it works on, since when, what it does; or why it does not. Pure functions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli.reason import brief_reason
from ocaptain.cli.style import BAD, BUSY, QUIET, cells, fit, format_clock, pad, symbol
from ocaptain.cli.task_table import format_tries
from ocaptain.names import BY_PERSON
from ocaptain.query import ENDED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.query.snapshot import ShipLine, Snapshot, TaskLine

#: What a ship does that has no task, by its state.
_WORDS = {
    "provisioning": "is being built",
    "bootstrapping": "is built, and waits for the captain",
    "asleep": "asleep",
    "draining": "takes no more tasks",
}
_MAX_ID = 16
#: Room for a subject and an action beside each other; with less only the subject is shown.
_MIN_BOTH = 36


def ship_lines(seen: Snapshot, actions: Mapping[str, str], now: float, width: int, limit: int) -> list[Text]:
    """Return a line a ship, in the fleet's order, at most ``limit``: of more the most important, the rest a count.

    Args:
        seen: the voyage.
        actions: what each ship does now, by ship.
        now: in seconds since 1970.
        width: in cells.
        limit: number of lines.
    """
    ships = [ship for ship in seen.ships if is_shown(ship, seen)]
    if limit < 1 or not ships:
        return []
    shown = ships
    if len(ships) > limit:
        ranked = sorted(range(len(ships)), key=lambda at: (*importance(ships[at], seen, now), at))
        shown = [ships[at] for at in sorted(ranked[: limit - 1])]
    ids = max((len(ship.id) for ship in shown), default=0)
    tasks = [task for ship in shown if (task := task_of(ship, seen))]
    names = max((len(fit(one.id, _MAX_ID)) + 1 for one in tasks), default=0)
    states = max((len(_state(one, now)) for one in tasks), default=0)
    waits = idle_reason(seen) if any(ship.state == "idle" for ship in shown) else ""
    lines = []
    for ship in shown:
        line = Text(f"{pad(ship.id, min(ids, _MAX_ID))}  ")
        if task := task_of(ship, seen):
            line.append(pad(f"#{fit(task.id, _MAX_ID)}", names))
            line.append(f" {_state(task, now).ljust(states)}  ", style=BUSY)
            line.append_text(_doing(task, ship.reason or actions.get(ship.id, ""), width - cells(line.plain)))
        else:
            line.append_text(_not_at_work(ship, seen, actions.get(ship.id, waits), now, width - cells(line.plain)))
        lines.append(line)
    if len(shown) < len(ships):
        rest = [ship for ship in ships if ship not in shown]
        lines.append(Text(fit(_count(rest, alone=not shown), width), style=QUIET))
    for line in lines:
        if cells(line.plain) > width:
            line.truncate(width, overflow="ellipsis")
    return lines


def task_of(ship: ShipLine, seen: Snapshot) -> TaskLine | None:
    """Return the task that a ship works on."""
    return seen.task.get(ship.task) if ship.task else None


def is_shown(ship: ShipLine, seen: Snapshot) -> bool:
    """Whether a ship matters now: one that is gone, or for the final verify and asleep until then, does not."""
    if ship.role == "verify":
        return ship.is_up and (seen.about.state == "verifying" or ship.state not in {"asleep", "idle"})
    return ship.state != "gone"


def importance(ship: ShipLine, seen: Snapshot, now: float) -> tuple[int, float]:
    """Return the rank of a ship, for sorting: lost, tries a task again, at work longest, being built, idle, asleep."""
    if not ship.is_up:
        return (4, 0.0) if ship.replaced_by else (0, 0.0)
    if task := task_of(ship, seen):
        return (1 if task.is_retrying else 2, -(task.elapsed(now) or 0.0))
    return ({"provisioning": 3, "bootstrapping": 3, "idle": 5, "asleep": 6}.get(ship.state, 4), 0.0)


def _state(task: TaskLine, now: float) -> str:
    """Return ``● 0:31``, or with the number of its try ``↻ 2/3 0:31``."""
    clock = format_clock(task.elapsed(now))
    return f"↻ {format_tries(task)} {clock}" if task.is_retrying else f"● {clock}"


def _doing(task: TaskLine, action: str, room: int) -> Text:
    """Return the subject of a task, and what is done for it now."""
    last = fit(action, room) or (f"again: {brief_reason(task.reason)}" if task.is_retrying and task.reason else "")
    if room < _MIN_BOTH or not last:
        return Text(fit(task.subject, max(0, room)))
    subject = min(room * 3 // 5 - 2, 70)
    return Text.assemble(pad(task.subject, subject), "  ", (fit(last, room - subject - 2), QUIET))


def _not_at_work(ship: ShipLine, seen: Snapshot, about: str, now: float, room: int) -> Text:
    """Return why a ship has no task; ``about``: the step of its building, or what idle ships wait for."""
    if not ship.is_up:
        return _lost(ship, seen, now, room)
    if ship.role == "verify" and seen.about.state == "verifying":
        return Text.assemble(symbol("verifying"), f" {fit('runs verify.sh on the merged head', room - 2)}")
    words = _WORDS.get(ship.state, "idle")
    colour = BUSY if ship.state in {"provisioning", "bootstrapping", "draining"} else QUIET
    is_told = ship.state == "provisioning" or (ship.state == "idle" and ship.role == "work")
    reason = ship.reason or (about if is_told else "")
    line = f"{words}: {reason}" if reason else words
    return Text.assemble(symbol(ship.state), (f" {fit(line, room - 2)}", colour))


def _lost(ship: ShipLine, seen: Snapshot, now: float, room: int) -> Text:
    """Return since when and why a ship is lost, and where its task went."""
    went = []
    if ship.replaced_by:
        went.append(f"{ship.replaced_by} sails in its place")
    if ship.lost_task and ship.lost_task in seen.task:
        went.append(where_task_went(seen.task[ship.lost_task]))
    after = f"; {', '.join(went)}" if went else ""
    since = f" {format_clock(now - ship.lost_at)} ago" if ship.lost_at is not None else ""
    head = fit(f"✗ {ship.state}{since}", max(0, room))
    reason = fit(ship.reason or "", max(0, room - len(head) - len(after) - 2))
    return Text.assemble((head, BAD), fit(f"{': ' if reason else ''}{reason}{after}", max(0, room - len(head))))


def where_task_went(task: TaskLine) -> str:
    """Return where a task went that a lost ship had."""
    name = f"#{fit(task.id, _MAX_ID)}"
    if task.status == "completed":
        return f"{name} landed"
    if task.status == "failed":
        return f"{name} failed"
    return f"{name} went to {task.ship}" if task.status == "in_progress" and task.ship else f"{name} waits for a ship"


def idle_reason(seen: Snapshot) -> str:
    """Return what ships without a task wait for."""
    if seen.about.state in {*ENDED, "sinking"}:
        return "the voyage is over"
    if seen.about.paused_reason:
        return f"no new task: paused ({seen.about.paused_reason})"
    if seen.about.state == "paused":
        return "no new task: paused"
    if seen.about.state == "verifying":
        return "all is done; the final verify runs"
    pending = [one for one in seen.tasks if one.status == "pending"]
    free = [one for one in pending if one.held_by is None and not one.hold]
    if any(not one.waits for one in free):
        return "gets a task next"
    if free:
        first = min(free, key=lambda one: len(one.waits))
        return f"waits for {_names(first.waits)}"
    if approve := [one.id for one in pending if one.hold and one.held_by is None]:
        return f"{_names(approve)} {'waits' if len(approve) == 1 else 'wait'} for approval"
    if back := [one.id for one in pending if one.held_by == BY_PERSON]:
        return f"{_names(back)} {'waits' if len(back) == 1 else 'wait'} for `ocaptain retry`: given back too often"
    if held := list(dict.fromkeys(one.held_by for one in pending if one.held_by)):
        return f"what is left is held by {_names(held)}, which failed"
    return "no task is left"


def _names(tasks: Sequence[str]) -> str:
    """Return tasks by name: ``#4``, ``#4 and 2 more``."""
    first = f"#{fit(tasks[0], _MAX_ID)}"
    return f"{first} and {len(tasks) - 1} more" if len(tasks) > 1 else first


def _count(ships: Sequence[ShipLine], *, alone: bool) -> str:
    """Return how many ships are not shown, and what they do: ``+ 38 ships: 30 working, 8 idle``."""
    states = Counter("working" if ship.task else ship.state for ship in ships)
    told = ", ".join(f"{number} {state}" for state, number in states.most_common())
    return f"{'' if alone else '+ '}{len(ships)} {'ship' if len(ships) == 1 else 'ships'}: {told}"
