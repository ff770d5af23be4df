"""``doctor``: whether a voyage could sail from here, and what to do if not."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ocaptain.cli import render
from ocaptain.text import clean_line
from ocaptain.voyage.doctor import examine

SIGNS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "fault": ("FAULT", "red")}


def run_doctor(provider: str | None, *, as_json: bool) -> int:
    """Examine and show; return the exit code: 1 if `sail` would fail."""
    found = examine(provider)
    ok = all(one.status != "fault" for one in found)
    if as_json:
        render.print_json("doctor", {"ok": ok, "checks": [one.as_dict() for one in found]})
        return 0 if ok else 1
    table = Table.grid(padding=(0, 2))
    for one in found:
        sign, style = SIGNS[one.status]
        shown = Text(clean_line(one.detail))
        if one.remedy:
            shown.append(f"\n→ {clean_line(one.remedy)}", style="bold")
        table.add_row(Text(sign, style=style), one.name, shown)
    render.out().print(table)
    return 0 if ok else 1
