"""``logs``: the output of the agents, from the voyage's directory."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.cli.views import find_voyage, print_next_of
from ocaptain.errors import UsageError
from ocaptain.query import ENDED, LedgerError, Query
from ocaptain.text import clean_line, escape_control

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from ocaptain.query import Log

POLL_SECONDS = 0.2


@dataclass
class _LogReader:
    """Reads a log file as it grows.

    Attributes:
        log: the file.
        offset: bytes that were read already.
    """

    log: Log
    offset: int = 0

    def new_lines(self, *, partial: bool) -> Iterator[str]:
        """Yield the lines that are new; ``partial``: also a last one that has no line end yet."""
        try:
            with self.log.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except OSError:
            return
        end = len(data) if partial else data.rfind(b"\n") + 1
        self.offset += end
        for line in data[:end].decode(errors="replace").splitlines():
            yield f"{self.log.label} | {escape_control(line)}"


def show_logs(voyage: str | None, *, names: Collection[str], follow: bool, grep: str | None, tail: int | None) -> None:
    """Print log lines; with ``follow`` until the voyage has ended.

    Raises:
        UsageError: there is no such ship or task, or ``grep`` is no regular expression.
    """
    directory = find_voyage(voyage)
    try:
        pattern = re.compile(grep) if grep is not None else None
    except re.error as error:
        raise UsageError(f"--grep {grep!r} is not a regular expression: {error}") from error
    query = Query(directory.path)
    if names:
        _require_known_names(query, directory.id, names)
    readers: dict[Path, _LogReader] = {}

    def new_lines(*, partial: bool) -> Iterator[str]:
        for log in query.logs():
            if not names or log.belongs_to(names):
                readers.setdefault(log.path, _LogReader(log))
        for reader in readers.values():
            yield from (line for line in reader.new_lines(partial=partial) if not pattern or pattern.search(line))

    first = new_lines(partial=not follow)
    _print_lines(deque(first, tail) if tail is not None else first)
    while follow:
        try:
            has_ended = query.state() in ENDED
            _print_lines(new_lines(partial=has_ended))
        except LedgerError:
            return
        if has_ended:
            break
        time.sleep(POLL_SECONDS)
    print_next_of(directory)


def _require_known_names(query: Query, voyage: str, names: Collection[str]) -> None:
    """Raise an error for a name that is neither a ship nor a task of the voyage."""
    ships = [ship.id for ship in query.ships()]
    known = {*ships, *(task.id for task in query.tasks())}
    for name in names:
        if name not in known:
            shown = repr(clean_line(name, 60))
            raise UsageError(f"{voyage} has no ship or task {shown}; its ships are {', '.join(ships)}")


def _print_lines(lines: Iterator[str] | deque[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
