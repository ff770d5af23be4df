"""The lines of the lists of ships and tasks. Pure: rows from a snapshot, and a row, the time and a width to text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli.reason import brief_reason
from ocaptain.cli.style import BAD, BUSY, GOOD, HEAD, QUIET, cells, fit, format_clock, pad, symbol
from ocaptain.cli.task_table import format_tries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ocaptain.query import ShipLine, Snapshot, TaskLine

CRITICAL = "◆"
_MAX_ID = 12
#: From the first on, a subject and what is said of it have a column each; from the second on, the ship has one, too.
_SPLIT_WIDTH, _SHIP_WIDTH = 45, 60


@dataclass(frozen=True)
class Row:
    """A line of a list.

    Attributes:
        key: id of the ship or task; "" for a heading, which cannot be chosen.
        is_critical: whether the task is of the chain that decides when the voyage ends.
        id_width: cells of the column of ids.
        task_width: of a ship, cells of the column of its task's id.
        text: of a heading.
        action: what the ship does.
    """

    key: str
    id_width: int = 0
    task_width: int = 0
    text: str = ""
    task: TaskLine | None = None
    ship: ShipLine | None = None
    action: str = ""
    is_critical: bool = False

    def draw(self, width: int, now: float) -> Text:
        """Return the line, of at most ``width`` cells.

        Args:
            width: in cells.
            now: in seconds since 1970.
        """
        if self.ship is not None:
            line = _draw_ship(self, self.ship, width, now)
        elif self.task is not None:
            line = _draw_task(self, self.task, width, now)
        else:
            line = Text(fit(self.text, width), style=QUIET)
        return line


def ship_rows(snapshot: Snapshot, actions: Mapping[str, str]) -> list[Row]:
    """Return a row for each ship: those that exist first."""
    ships = sorted(snapshot.ships, key=lambda ship: not ship.is_up)
    wide = _id_width([ship.id for ship in ships])
    task_wide = 1 + _id_width([ship.task for ship in ships if ship.task])
    return [
        Row(
            key=ship.id,
            id_width=wide,
            task_width=task_wide,
            ship=ship,
            task=snapshot.task.get(ship.task or ""),
            action=ship.reason or actions.get(ship.id, ""),
        )
        for ship in ships
    ]


def task_rows(snapshot: Snapshot, *, with_landed: bool) -> list[Row]:
    """Return the tasks: failed ones first, then those at work, then the others wave by wave.

    What has landed is a count for each wave, or a row each with ``with_landed``.
    """
    chain = frozenset(snapshot.forecast.chain)
    wide = _id_width([task.id for task in snapshot.tasks])

    def rows_of(tasks: Sequence[TaskLine]) -> Iterator[Row]:
        for task in tasks:
            yield Row(key=task.id, id_width=wide, task=task, is_critical=task.id in chain)

    first = [*snapshot.failed, *sorted(_of(snapshot.tasks, "in_progress"), key=lambda task: task.tries, reverse=True)]
    waves: dict[int, list[TaskLine]] = {}
    for task in snapshot.tasks:
        waves.setdefault(task.wave, []).append(task)
    open_rows: list[Row] = list(rows_of(first))
    over_rows: list[Row] = []
    for number, tasks in sorted(waves.items()):
        pending, landed = _of(tasks, "pending"), _of(tasks, "completed")
        shown = [*rows_of(pending), *(rows_of(landed) if with_landed else ())]
        counts = ", ".join(f"{len(some)} {word}" for some, word in ((landed, "landed"), (pending, "to come")) if some)
        if counts:
            heading = Row("", text=f"wave {number}: {counts}")
            (open_rows if pending else over_rows).extend([heading, *shown])
    return [*open_rows, *over_rows]


def _of(tasks: Sequence[TaskLine], status: str) -> list[TaskLine]:
    return [task for task in tasks if task.status == status]


def _id_width(ids: Sequence[str]) -> int:
    return min(_MAX_ID, max((len(one) for one in ids), default=1))


def _draw_ship(row: Row, ship: ShipLine, width: int, now: float) -> Text:
    line = Text.assemble(pad(ship.id, row.id_width), " ", symbol(ship.state), " ", style="" if ship.is_up else QUIET)
    task = row.task
    if task is None:
        sails_on = f", {ship.replaced_by} sails in its place" if ship.replaced_by else ""
        why = f": {ship.reason}" if ship.reason else ""
        role = " (final verify)" if ship.role == "verify" else ""
        said = fit(f"{ship.state}{role}{sails_on}{why}", width - cells(line.plain))
        return line.append(said, style=BAD if ship.state == "lost" else QUIET)
    line.append(f"{pad(f'#{task.id}', row.task_width)} ", style=HEAD)
    line.append(f"{format_clock(task.elapsed(now)):>5} ")
    if task.tries:
        line.append(f"↻{format_tries(task)} ", style=BUSY)
    _append_both(line, task.subject, row.action, width, QUIET)
    return line


def _draw_task(row: Row, task: TaskLine, width: int, now: float) -> Text:
    sign = Text("↻", style=BUSY) if task.is_retrying else symbol(task.status)
    line = Text.assemble(sign, " ", pad(task.id, row.id_width))
    line.append(f" {CRITICAL} " if row.is_critical else "   ", style=HEAD)
    line.append(f"{format_clock(task.elapsed(now) if task.attempt else None):>5} ")
    if width >= _SHIP_WIDTH:
        line.append(f"{pad(task.ship or '', 9)} ", style=QUIET)
    if task.is_retrying:
        line.append(f"{format_tries(task)} ", style=BUSY)
    said, style = _said_of(task)
    _append_both(line, task.subject, said, width, style)
    return line


def _said_of(task: TaskLine) -> tuple[str, str]:
    """Return what is said of a task besides its subject, and its style."""
    if task.status == "failed":
        return brief_reason(task.reason or ""), BAD
    if task.status == "completed":
        return (task.commit or "")[:10], GOOD
    if task.held_by:
        return f"held by {task.held_by}", BUSY
    if task.hold:
        return "waits for approval", BUSY
    if task.waits:
        more = f" and {len(task.waits) - 3} more" if len(task.waits) > 3 else ""
        return f"after {', '.join(task.waits[:3])}{more}", QUIET
    return (brief_reason(task.reason or "") if task.is_retrying else ""), QUIET


def _append_both(line: Text, subject: str, said: str, width: int, style: str) -> None:
    """Append a subject and what is said of it: side by side, or the latter first where there is little room."""
    room = width - cells(line.plain)
    said = fit(said, room)
    if room < _SPLIT_WIDTH or not said:
        if said:
            line.append(said, style=style)
            line.append(f"  {fit(subject, width - cells(line.plain) - 2)}".rstrip(), style=QUIET)
        else:
            line.append(fit(subject, room))
    else:
        left = room * 9 // 20
        line.append(f"{pad(subject, left)}  ")
        line.append(fit(said, room - left - 2), style=style)
    line.truncate(max(0, width))
