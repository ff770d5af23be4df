"""``logs``: what the agents said, from the voyage's directory."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.cli.views import find
from ocaptain.errors import UsageError
from ocaptain.query import ENDED, LedgerError, Query
from ocaptain.text import clean, clean_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from ocaptain.query import Log

POLL_SECONDS = 0.2


@dataclass
class _Source:
    """A log file and how much of it was shown."""

    log: Log
    shown: int = 0

    def lines(self, *, whole: bool) -> Iterator[str]:
        """Yield complete lines that are new; with ``whole`` also an unfinished last one."""
        try:
            with self.log.path.open("rb") as file:
                file.seek(self.shown)
                data = file.read()
        except OSError:
            return
        end = len(data) if whole else data.rfind(b"\n") + 1
        self.shown += end
        for line in data[:end].decode(errors="replace").splitlines():
            yield f"{self.log.label} | {clean(line)}"


def show_logs(voyage: str | None, *, names: Collection[str], follow: bool, grep: str | None, tail: int | None) -> None:
    """Print log lines; with ``follow`` until the voyage has ended.

    Raises:
        UsageError: there is no such ship or task, or ``grep`` is no regular expression.
    """
    directory = find(voyage)
    try:
        pattern = re.compile(grep) if grep is not None else None
    except re.error as error:
        raise UsageError(f"--grep {grep!r} is not a regular expression: {error}") from error
    query = Query(directory.path)
    if names:
        _check(query, directory.id, names)
    known: dict[Path, _Source] = {}

    def fresh(*, whole: bool) -> Iterator[str]:
        for log in query.logs():
            if not names or log.is_of(names):
                known.setdefault(log.path, _Source(log))
        for source in known.values():
            yield from (line for line in source.lines(whole=whole) if not pattern or pattern.search(line))

    first = fresh(whole=not follow)
    _print(deque(first, tail) if tail is not None else first)
    while follow:
        try:
            over = query.state() in ENDED
            _print(fresh(whole=over))
        except LedgerError:
            return
        if over:
            return
        time.sleep(POLL_SECONDS)


def _check(query: Query, voyage: str, names: Collection[str]) -> None:
    """Refuse what is neither a ship nor a task of the voyage."""
    ships = [ship.id for ship in query.ships()]
    there = {*ships, *(task.id for task in query.tasks())}
    for name in names:
        if name not in there:
            shown = repr(clean_line(name, 60))
            raise UsageError(f"{voyage} has no ship and no task {shown}; its ships are {', '.join(ships)}")


def _print(lines: Iterator[str] | deque[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
