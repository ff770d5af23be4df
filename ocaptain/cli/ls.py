"""``ls``: all voyages, newest first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.table import Table

from ocaptain.cli import render
from ocaptain.cli.next_step import after_command
from ocaptain.sources import voyages_directory
from ocaptain.voyage.home import Home
from ocaptain.voyage.listing import HEADER, cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.voyage.listing import Row

STATE = HEADER.index("STATE")


def show_voyages(*, as_json: bool) -> None:
    """List all voyages, also those that cannot be read."""
    home = Home(voyages_directory())
    rows, now = home.rows(), time.time()
    if as_json:
        render.print_json("ls", {"home": str(home.path), "voyages": [row.as_dict(now) for row in rows]})
        return
    if rows:
        console = render.out()
        console.show(voyage_table(rows, now, header=not console.is_piped))
    else:
        render.err().print(f"there is no voyage in {home.path}")
    render.print_next(after_command("ls", ok=bool(rows)))


def voyage_table(rows: Sequence[Row], now: float, *, header: bool = True) -> Table:
    """Return the voyages as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=header)
    for name in HEADER:
        table.add_column(name, no_wrap=name not in {"PLAN", "NOTE"}, overflow="fold")
    for row in rows:
        words = cells(row, now)
        table.add_row(*words[:STATE], render.coloured_state(words[STATE]), *words[STATE + 1 :])
    return table
