"""``ls``: all voyages, newest first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli import render
from ocaptain.cli.next_step import after_command
from ocaptain.cli.style import BUSY, HEAD, QUIET, fit, with_symbol
from ocaptain.cli.tables import GAP, UNBOUNDED, as_text, lay_out, paragraph, unique_length
from ocaptain.sources import voyages_directory
from ocaptain.voyage.home import Home
from ocaptain.voyage.listing import HEADER, NOTHING, cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.voyage.listing import Row

ID, PLAN, STATE, COST, NOTE = (HEADER.index(name) for name in ("ID", "PLAN", "STATE", "COST", "NOTE"))
RIGHT = (HEADER.index("AGE"), COST)
#: A plan's name has so much room where a line is short of it.
MAX_PLAN = 16
#: A note has so many lines of its own at most.
MAX_LINES = 3


def show_voyages(*, as_json: bool) -> None:
    """List all voyages, also those that cannot be read."""
    home = Home(voyages_directory())
    rows, now = home.rows(), time.time()
    if as_json:
        render.print_json("ls", {"home": str(home.path), "voyages": [row.as_dict(now) for row in rows]})
        return
    console = render.out()
    if not rows:
        render.err().print(f"there is no voyage in {home.path}")
    elif console.is_piped:
        render.print_records(cells(row, now) for row in rows)
    else:
        render.print_lines(console, voyage_lines(rows, now, console.width))
    render.print_next(after_command("ls", ok=bool(rows)))


def voyage_lines(rows: Sequence[Row], now: float, width: int) -> list[Text]:
    """Return the voyages as a table.

    Where the width is short of room, ids are shown as prefixes that name one voyage each; where that does not do, what
    is noted of a voyage has a line of its own.

    Args:
        rows: the voyages, at least one.
        now: in seconds since 1970.
        width: of the terminal, in cells.
    """
    table = [cells(row, now) for row in rows]
    names = [words[ID] for words in table]
    short = unique_length(names)
    for with_note, length in ((True, UNBOUNDED), (True, short), (False, UNBOUNDED), (False, short)):
        lines = lay_out(_cells(table, length, with_note=with_note, narrow=length == short), width, right=RIGHT)
        if max(line.cell_len for line in lines) <= width:
            break
    lines[0].stylize(HEAD)
    if with_note:
        return lines
    found = [lines[0]]
    for line, words in zip(lines[1:], table, strict=True):
        note = words[NOTE] if words[NOTE] != NOTHING else ""
        found += [line, *(paragraph(Text(" " * GAP), note, width, most=MAX_LINES, style=QUIET) if note else [])]
    return found


def _cells(table: Sequence[Sequence[str]], length: int, *, with_note: bool, narrow: bool) -> list[list[str | Text]]:
    head: list[str | Text] = [*HEADER[:NOTE], HEADER[NOTE] if with_note else ""]
    found = [head]
    has_cost = any(words[COST] != NOTHING for words in table)
    head[COST] = HEADER[COST] if has_cost else ""
    for words in table:
        row: list[str | Text] = [*words]
        row[ID] = words[ID][:length]
        row[PLAN] = fit(words[PLAN], MAX_PLAN if narrow else UNBOUNDED)
        row[STATE] = with_symbol(words[STATE])
        row[COST] = words[COST] if has_cost else ""
        row[NOTE] = as_text(words[NOTE] if with_note and words[NOTE] != NOTHING else "", BUSY)
        found.append(row)
    return found
