"""Watching a voyage: what has changed since the last look, for as little work as can be.

ledger.db, ledger.db-wal ──changed?──> Snapshot
log of each attempt      ──grown?────> its last line: what the agent does now
repo.git                 ──once──────> lines that a landing added and removed
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.git import Git, GitError
from ocaptain.query.local import Query
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ocaptain.query.snapshot import Snapshot

#: A file's time of change may be so much older than the change.
_CLOCK_SECONDS = 0.05
_TAIL_BYTES = 4096
_MAX_ACTION = 200
_DIFF_SECONDS = 10.0
_COUNT = re.compile(r"([0-9]+) (insertion|deletion)")


@dataclass(frozen=True)
class Diffstat:
    """Lines that a commit added and removed."""

    added: int
    removed: int


class Watcher:
    """Watches one voyage. Not for several threads at once.

    Args:
        directory: the voyage's.
        clock: seconds since 1970.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self._clock = clock
        self._seen: Snapshot | None = None
        self._mark: tuple[tuple[int, int], ...] | None = None
        self._actions: dict[str, tuple[int, str]] = {}
        self._diffs: dict[str, Diffstat | None] = {}

    def snapshot(self) -> Snapshot:
        """Return the voyage as it is now: the very object of the last call if nothing has changed.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        mark = tuple(map(_file_mark, (self.directory / "ledger.db", self.directory / "ledger.db-wal")))
        if self._seen is None or mark != self._mark:
            now = self._clock()
            is_settled = all(changed / 1e9 < now - _CLOCK_SECONDS for changed, _ in mark)
            self._seen = Query(self.directory).snapshot(now)
            self._mark = mark if is_settled else None  # else it may change again in the same tick of the file's clock
        return self._seen

    def actions(self) -> dict[str, str]:
        """Return what each ship that works does now, by ship: the last line of its attempt's log."""
        actions = {}
        for ship in self._seen.ships if self._seen else ():
            if ship.log is None:
                continue
            path = self.directory / ship.log
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                known = self._actions.get(str(path))
                if known is None or known[0] != size:
                    self._actions[str(path)] = known = (size, _last_line(path, size))
                actions[ship.id] = known[1]
        return actions

    def diffstats(self, commits: Iterable[str]) -> dict[str, Diffstat]:
        """Return what commits on the voyage's branch changed; those that cannot be read are left out."""
        for commit in commits:
            if commit not in self._diffs:
                self._diffs[commit] = _diffstat(self.directory / "repo.git", commit)
        return {commit: found for commit, found in self._diffs.items() if found}


def _file_mark(path: Path) -> tuple[int, int]:
    try:
        known = path.stat()
    except OSError:
        return (0, 0)
    return (known.st_mtime_ns, known.st_size)


def _last_line(path: Path, size: int) -> str:
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read(_TAIL_BYTES).decode(errors="replace").splitlines()
    return next((clean for line in reversed(lines) if (clean := clean_line(line, _MAX_ACTION))), "")


def _diffstat(repository: Path, commit: str) -> Diffstat | None:
    try:
        told = Git(repository).run("diff", "--shortstat", f"{commit}^1", commit, seconds=_DIFF_SECONDS).stdout.decode()
    except GitError:
        return None
    counts = {kind: int(number) for number, kind in _COUNT.findall(told)}
    return Diffstat(counts.get("insertion", 0), counts.get("deletion", 0))
