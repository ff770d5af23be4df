"""Tables of every command, as lines: pure functions. Columns that may shrink share the room, and are cut by cells.

rows of cells ──lay_out──> lines of Text, each at most as wide as the terminal where the names leave room for that
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli.style import cells, fit, wrap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

#: Width of what is no terminal, or too narrow for a table: nothing is cut there.
UNBOUNDED = 100_000
GAP = 2
#: Of a voyage's id so much is shown at least: ``voyage-4f59``.
MIN_ID = 11
#: Columns that may shrink do not get narrower than that.
MIN_CELLS = 8

Cell = str | Text


def as_text(cell: Cell, style: str = "") -> Text:
    """Return a cell as Text; a string is text of others, and gets cleaned."""
    return cell if isinstance(cell, Text) else Text(fit(cell, UNBOUNDED), style=style)


def cut(cell: Text, width: int) -> Text:
    """Return a cell of at most ``width`` cells, in its style."""
    return cell if cells(cell.plain) <= width else Text(fit(cell.plain, width), style=cell.style)


def share(wanted: Sequence[int], room: int, least: int = MIN_CELLS) -> list[int]:
    """Share room among columns: each gets what it wants, or an equal part of what the small ones leave.

    Args:
        wanted: how many cells each would like.
        room: how many there are for all.
        least: no column gets less than that, unless it wants less.
    """
    given = [0] * len(wanted)
    left = room
    for rest, column in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        part = max(0, left) // (len(wanted) - rest)
        given[column] = min(wanted[column], max(least, part))
        left -= given[column]
    return given


def lay_out(
    rows: Sequence[Sequence[Cell]],
    width: int,
    *,
    flexible: Collection[int] = (),
    right: Collection[int] = (),
    indent: int = 0,
) -> list[Text]:
    """Return rows as aligned lines, without spaces at their ends; a column that is empty in all rows is left out.

    Args:
        rows: with the same number of cells each.
        width: of the terminal, in cells.
        flexible: columns that are cut where the room is short; the others never are.
        right: columns that stand at the right, as numbers do.
        indent: cells before each line.
    """
    table = [[as_text(cell) for cell in row] for row in rows]
    widths = [max(cells(cell.plain) for cell in column) for column in zip(*table, strict=True)]
    shown = [column for column, wide in enumerate(widths) if wide]
    elastic = [column for column in shown if column in flexible]
    fixed = sum(widths[column] for column in shown if column not in elastic)
    room = width - indent - fixed - GAP * (len(shown) - 1)
    for column, part in zip(elastic, share([widths[one] for one in elastic], room), strict=True):
        widths[column] = part
    return [
        join([(cut(row[column], widths[column]), widths[column], column in right) for column in shown], indent)
        for row in table
    ]


def join(parts: Sequence[tuple[Text, int, bool]], indent: int = 0) -> Text:
    """Return cells as a line.

    Args:
        parts: each with its width, and whether it stands at the right.
        indent: cells before the line.
    """
    line = Text(" " * indent)
    for at, (cell, wide, is_right) in enumerate(parts):
        space = " " * max(0, wide - cells(cell.plain))
        line.append(" " * GAP if at else "")
        line.append(space if is_right else "")
        line.append_text(cell)
        line.append("" if is_right else space)
    line.rstrip()
    return line


def unique_prefix(name: str, names: Iterable[str], least: int = MIN_ID) -> str:
    """Return the beginning of a name that begins no other one, of at least so many characters."""
    shared = max((_shared(name, one) for one in names if one != name), default=0)
    return name[: max(least, shared + 1)]


def _shared(one: str, other: str) -> int:
    """Return with how many same characters two names begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (first, second) in pairs if first != second), min(len(one), len(other)))


def unique_length(names: Iterable[str], least: int = MIN_ID) -> int:
    """Return how many characters tell all names apart, at least so many."""
    ordered = sorted(set(names))
    return max([least, *(_shared(*pair) + 1 for pair in pairwise(ordered))])


def pack(parts: Sequence[Text], width: int) -> list[Text]:
    """Return parts in as few lines as hold them; none is broken."""
    lines: list[Text] = []
    for part in parts:
        if lines and cells(lines[-1].plain) + GAP + cells(part.plain) <= width:
            lines[-1] = Text.assemble(lines[-1], " " * GAP, part)
        else:
            lines.append(part)
    return lines


def paragraph(lead: Text, text: str, width: int, *, most: int = 0, style: str = "") -> list[Text]:
    """Return text of others behind a lead, further lines below its beginning.

    Args:
        lead: what stands before it: ``✗ ``.
        text: whatever it is.
        width: of the terminal, in cells.
        most: how many lines; 0 = all.
        style: of the text.
    """
    before = cells(lead.plain)
    lines = wrap(text, max(2, width - before), most=most)
    return [Text.assemble(lead if not at else " " * before, (line, style)) for at, line in enumerate(lines)]
