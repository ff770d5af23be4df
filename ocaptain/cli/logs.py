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
from ocaptain.ledger import LedgerError
from ocaptain.ledger.ledger import ENDED
from ocaptain.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ocaptain.voyage.home import VoyageDirectory

POLL_SECONDS = 0.2


@dataclass
class _Source:
    """A log file and how much of it was shown."""

    label: str
    path: Path
    shown: int = 0

    def lines(self, *, whole: bool) -> Iterator[str]:
        """Yield complete lines that are new; with ``whole`` also an unfinished last one."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.shown)
                data = file.read()
        except OSError:
            return
        end = len(data) if whole else data.rfind(b"\n") + 1
        self.shown += end
        for line in data[:end].decode(errors="replace").splitlines():
            yield f"{self.label} | {clean(line)}"


def _sources(directory: VoyageDirectory, ship: str | None, known: dict[Path, _Source]) -> list[_Source]:
    """Return the logs in the order in which their attempts began, the final verify last."""
    with directory.ledger() as ledger:
        for attempt in ledger.rows("attempts", "token"):
            path = directory.path / "logs" / attempt["ship"] / f"{attempt['task']}.{attempt['number']}.log"
            if ship in {None, attempt["ship"]}:
                known.setdefault(path, _Source(f"{attempt['ship']} {attempt['task']}#{attempt['number']}", path))
        verify = directory.path / "logs" / "verify.log"
        if ship is None and ledger.voyage().verify_ok is not None:
            known.setdefault(verify, _Source("verify", verify))
    return list(known.values())


def show_logs(voyage: str | None, *, ship: str | None, follow: bool, grep: str | None, tail: int | None) -> None:
    """Print log lines; with ``follow`` until the voyage has ended."""
    directory = find(voyage)
    try:
        pattern = re.compile(grep) if grep is not None else None
    except re.error as error:
        raise UsageError(f"--grep {grep!r} is not a regular expression: {error}") from error
    with directory.ledger() as ledger:
        ships = [row.id for row in ledger.ships()]
    if ship is not None and ship not in ships:
        raise UsageError(f"{directory.id} has no ship {ship!r}; it has {', '.join(ships)}")
    known: dict[Path, _Source] = {}

    def fresh(*, whole: bool) -> Iterator[str]:
        for source in _sources(directory, ship, known):
            yield from (line for line in source.lines(whole=whole) if not pattern or pattern.search(line))

    first = fresh(whole=not follow)
    _print(deque(first, tail) if tail is not None else first)
    while follow:
        try:
            over = directory.voyage().state in ENDED
        except LedgerError:
            return
        _print(fresh(whole=over))
        if over:
            return
        time.sleep(POLL_SECONDS)


def _print(lines: Iterator[str] | deque[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
