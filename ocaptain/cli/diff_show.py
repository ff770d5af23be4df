"""``diff``: what ships' agents have changed against the commits that they began with.

A patch holds an agent's text: whatever a terminal could act upon is shown as an escape, on a pipe, too. So it is for
reading; the exact bytes are in the commit that standard error names.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

from rich.text import Text

from ocaptain.cli import render
from ocaptain.cli.style import BAD, GOOD, HEAD, format_seconds
from ocaptain.cli.views import find_voyage
from ocaptain.errors import UsageError
from ocaptain.query import Query
from ocaptain.query.live import read_changed_files, write_diff
from ocaptain.text import clean_line, escape_control

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.query.live import Change

MAX_LINE = 1 << 16  # bytes of a line that are handled at once
MAX_SHOWN = 10_000  # lines of a patch on a screen


def show_diff(voyage: str | None, ship: str | None, *, stat: bool, as_json: bool = False) -> None:
    """Show what agents have changed.

    Args:
        voyage: id of the voyage or a prefix; None = the only active one.
        ship: only this one's; None = all that work.
        stat: whether only files and counts are shown.
        as_json: print JSON instead of text: the commits, and the files with their counts.

    Raises:
        UsageError: the voyage has no such ship.
        OcaptainError: git failed.
    """
    directory = find_voyage(voyage)
    query = Query(directory.path)
    if ship is not None and ship not in (names := [one.id for one in query.ships()]):
        raise UsageError(f"{directory.id} has no ship {clean_line(ship, 70)!r}; it has {', '.join(names)}")
    changes = query.changes(ship)
    if as_json:
        shown = [change_as_dict(directory.path / "repo.git", change, time.time()) for change in changes]
        render.print_json("diff", {"voyage": directory.id, "changes": shown})
        return
    err = render.err()
    if not changes:
        err.print(f"{ship or 'no ship'} {'has no task, and left nothing' if ship else 'has a task'}")
    for change in changes:
        err.print(Text(escape_control(headline(change, time.time())), style=HEAD))
        if change.commit:
            with tempfile.TemporaryFile() as file:
                write_diff(directory.path / "repo.git", change, file, stat=stat)
                file.seek(0)
                _print_patch(file)


def change_as_dict(repository: Path, change: Change, now: float) -> dict[str, Any]:
    """Return the form of ``docs/json/diff.json`` of a change.

    Args:
        repository: ``repo.git``.
        change: the attempt's.
        now: in seconds since 1970.

    Raises:
        GitError: git failed.
    """
    return {
        "ship": change.ship,
        "task": change.task,
        "repository": str(repository),
        "base": change.base or None,
        "commit": change.commit or None,
        "behind_seconds": round(max(0.0, now - change.at), 1) if change.at else None,
        "problem": change.problem or None,
        "files": [asdict(file) for file in read_changed_files(repository, change)],
    }


def change_lines(repository: Path, change: Change, now: float) -> list[Text]:
    """Return a change for a screen: whose it is, how old, and its patch, of which the first lines are shown.

    Args:
        repository: ``repo.git``.
        change: the attempt's.
        now: in seconds since 1970.

    Raises:
        GitError: git failed.
    """
    lines = [Text(escape_control(headline(change, now)), style=HEAD)]
    if not change.commit:
        return lines
    with tempfile.TemporaryFile() as file:
        write_diff(repository, change, file, stat=False)
        file.seek(0)
        while len(lines) <= MAX_SHOWN and (line := file.readline(MAX_LINE)):
            text = escape_control(line.decode(errors="surrogateescape").rstrip("\n"))
            lines.append(Text(text, style=_style(text)))
        if file.read(1):
            lines.append(Text(f"only the first {MAX_SHOWN} lines; all of it: ocaptain diff {change.ship}"))
    return lines


def headline(change: Change, now: float) -> str:
    """Return whose change it is, how old, and how git shows it.

    Args:
        change: the attempt's.
        now: in seconds since 1970.
    """
    whose = f"{change.ship}, task {clean_line(change.task, 64)}"
    if not change.commit:
        why = change.problem or "nothing has changed, or its files were not fetched yet"
        return f"{whose}: {why}"
    age = "as its last attempt left it" if change.at is None else f"{format_seconds(now - change.at)} ago"
    problem = f"; {change.problem}" if change.problem else ""
    return f"{whose}, {age} (git diff {change.base[:12]} {change.commit[:12]}){problem}"


def _print_patch(file: BinaryIO) -> None:
    """Print a patch line by line, as text without anything that a terminal could act upon."""
    console = render.out()
    is_plain = console.is_piped or console.no_color
    while line := file.readline(MAX_LINE):
        text = escape_control(line.decode(errors="surrogateescape"))
        if is_plain:
            sys.stdout.write(text)
        else:
            console.print(Text(text, style=_style(text), end=""), end="")


def _style(line: str) -> str:
    if line.startswith(("+++", "---", "diff --git ")):
        return HEAD
    return {"+": GOOD, "-": BAD, "@": "cyan"}.get(line[:1], "")
