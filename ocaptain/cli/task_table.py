"""The tasks as people read them, worst first: pure functions of a snapshot, the time and the width.

Snapshot ──sort_tasks──> Row (group, detail) ──task_lines──> a line a task, failed ones with their whole reason
    └────task_records──> fields for a pipe
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from ocaptain.cli.reason import brief_reason
from ocaptain.cli.style import BAD, BUSY, HEAD, QUIET, cells, format_clock, symbol, wrap
from ocaptain.cli.tables import GAP, MIN_CELLS, UNBOUNDED, as_text, cut, join, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocaptain.query.snapshot import Snapshot, TaskLine

Group = Literal["failed", "retrying", "working", "held", "ready", "waiting", "landed"]
GROUPS: tuple[Group, ...] = ("failed", "retrying", "working", "held", "ready", "waiting", "landed")
#: State of a symbol and colour of the text by group.
_SYMBOLS = {"working": "in_progress", "landed": "completed", "ready": "pending", "waiting": "pending"}
_STYLES = {"failed": BAD, "retrying": BUSY, "waiting": QUIET, "landed": QUIET}
#: Of those that nobody works on yet, so many are shown; of all others each.
MAX_QUIET = 12
_QUIET_GROUPS = frozenset({"ready", "waiting"})
#: So many tasks that one waits for are named.
_MAX_NAMED = 4
#: With less room than that for subject and reason, they have a line of their own.
_MIN_ROOM = 24
#: The snapshot has no more of a reason.
_MAX_REASON = 1000
HEADER = ("TASK", "SHIP", "TRY", "TIME", "SUBJECT")


@dataclass(frozen=True)
class Row:
    """A task in the list.

    Attributes:
        group: where it stands.
        detail: why, what it waits for, or what it landed as.
    """

    task: TaskLine
    group: Group
    detail: str

    @property
    def sign(self) -> Text:
        """Its symbol."""
        return symbol(_SYMBOLS.get(self.group, self.group))


def group_of(task: TaskLine) -> Group:
    """Return where a task stands."""
    if task.status == "failed":
        return "failed"
    if task.status == "completed":
        return "landed"
    if task.is_retrying:
        return "retrying"
    if task.status == "in_progress":
        return "working"
    if task.held_by or task.waits:
        return "waiting"
    return "held" if task.hold else "ready"


def detail_of(task: TaskLine) -> str:
    """Return what is to be known of a task beside its subject, "" for nothing."""
    match group_of(task):
        case "failed" | "retrying":
            reason = task.reason or ""
            return f"{reason}…" if len(reason) >= _MAX_REASON else reason
        case "landed":
            return (task.commit or "")[:10]
        case "waiting":
            approval = ", then approval" if task.hold else ""
            return f"held by {task.held_by}" if task.held_by else f"after {_name(task.waits)}{approval}"
        case "held":
            return "waits for approval"
    return ""


def _name(tasks: Sequence[str]) -> str:
    more = f" and {len(tasks) - _MAX_NAMED} more" if len(tasks) > _MAX_NAMED else ""
    return f"{', '.join(tasks[:_MAX_NAMED])}{more}"


def format_tries(task: TaskLine) -> str:
    """Return which try of how many is under way, or was the last one: ``2/3``; "" if nobody has tried."""
    if not task.attempt:
        return ""
    others = task.status in {"in_progress", "completed"}  # what is under way, or did it, did not fail
    return f"{min(task.tries + others, task.max_tries)}/{task.max_tries}"


def sort_tasks(tasks: Iterable[TaskLine]) -> list[Row]:
    """Return the tasks worst first; in a group as in the plan."""
    rows = []
    for task in tasks:
        group, detail = group_of(task), detail_of(task)
        rows.append(Row(task, group, brief_reason(detail) if group in {"failed", "retrying"} else detail))
    return sorted(rows, key=lambda row: GROUPS.index(row.group))


def task_lines(
    seen: Snapshot, now: float, width: int, *, show_all: bool = False, status: str | None = None
) -> list[Text]:
    """Return the table for a terminal.

    Args:
        seen: the voyage.
        now: in seconds since 1970.
        width: of the terminal, in cells.
        show_all: whether each task has a line; else those that landed, and many that wait, are counted.
        status: only tasks in this state, all of them.
    """
    rows = sort_tasks(one for one in seen.tasks if status in {None, one.status})
    shown, counts = (rows, []) if show_all or status else _pick(rows)
    return [*_table(shown, now, width), *(_count_line(group, count, seen.about.voyage) for group, count in counts)]


def _pick(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[str, int]]]:
    """Return the rows that are shown, and how many others there are of which kind."""
    quiet = [row for row in rows if row.group in _QUIET_GROUPS]
    left_out = {id(row) for row in quiet[MAX_QUIET:]} if len(quiet) > MAX_QUIET + 1 else set()
    landed = sum(row.group == "landed" for row in rows)
    counts = [(name, count) for name, count in (("more wait", len(left_out)), ("landed", landed)) if count]
    return [row for row in rows if row.group != "landed" and id(row) not in left_out], counts


def _count_line(what: str, count: int, voyage: str) -> Text:
    sign = symbol("completed" if what == "landed" else "pending")
    return Text.assemble(sign, f" {count} {what} ", (f"(ocaptain tasks {voyage} --all)", QUIET))


def _facts(row: Row, now: float) -> list[Text]:
    task = row.task
    clock = format_clock(task.elapsed(now)) if task.attempt and task.status != "pending" else ""
    name = as_text(task.id)
    return [Text.assemble(row.sign, " ", name), as_text(task.ship or ""), Text(format_tries(task)), Text(clock)]


def _table(rows: Sequence[Row], now: float, width: int) -> list[Text]:
    if not rows:
        return []
    facts = [[Text(f"  {HEADER[0]}"), *map(Text, HEADER[1:4])], *(_facts(row, now) for row in rows)]
    used = [any(line[column] for line in facts[1:]) for column in range(len(facts[0]))]
    facts = [[cell if used[at] else Text() for at, cell in enumerate(line)] for line in facts]
    heads = lay_out(facts, UNBOUNDED, right=[2, 3])
    left = max(cells(line.plain) for line in heads) + GAP
    has_own_line = width - left < _MIN_ROOM
    left = 2 * GAP if has_own_line else left
    subject_width = _subject_width(rows, width - left)
    title = Text(HEADER[4])
    lines = [heads[0] if has_own_line else join([(heads[0], left - GAP, False), (title, 0, False)])]
    for row, head in zip(rows, heads[1:], strict=True):
        about = _about(row, width - left, subject_width)
        if not has_own_line:
            lines.append(join([(head, left - GAP, False), (about.pop(0), 0, False)]))
        else:
            lines.append(head)
        lines += [Text.assemble(" " * left, line) for line in about]
    lines[0].stylize(HEAD)
    return lines


def _subject_width(rows: Sequence[Row], room: int) -> int:
    """Return the width of subjects that have something beside them, so that all that stands there is aligned.

    Reasons of failed tasks do not count: where they find no room they have lines of their own.
    """
    subject = max(cells(as_text(row.task.subject).plain) for row in rows)
    details = [cells(as_text(row.detail).plain) for row in rows if row.group != "failed"]
    detail = max(details, default=0) or min(cells(as_text(row.detail).plain) for row in rows)
    return max(MIN_CELLS, min(subject, room - GAP - min(detail, room // 2)))


def _about(row: Row, room: int, own: int) -> list[Text]:
    """Return subject and detail in a line; of a failed task the whole detail, on more lines if need be.

    Args:
        row: the task.
        room: cells for both.
        own: cells for a subject that has a detail beside it.
    """
    subject, detail = as_text(row.task.subject), as_text(row.detail, _STYLES.get(row.group, ""))
    if not detail:
        return [cut(subject, room)]
    left = room - GAP - own
    if row.group == "failed" and (cells(subject.plain) > own or cells(detail.plain) > left):
        more = wrap(row.detail, max(2, room - GAP))
        return [cut(subject, room), *(Text.assemble(" " * GAP, (line, BAD)) for line in more)]
    return [join([(cut(subject, own), own, False), (cut(detail, left), 0, False)])]


def task_records(seen: Snapshot, now: float, status: str | None = None) -> list[tuple[str, ...]]:
    """Return the fields of each task for a pipe, in the plan's order.

    They are: id, status, ship, try, time, what it waits for, commit, subject, reason.
    """
    return [
        (
            one.id,
            one.status,
            one.ship or "",
            format_tries(one),
            format_clock(one.elapsed(now)) if one.attempt else "",
            detail_of(one) if group_of(one) in {"waiting", "held"} else "",
            one.commit or "",
            one.subject,
            one.reason or "" if one.status != "completed" else "",
        )
        for one in seen.tasks
        if status in {None, one.status}
    ]
