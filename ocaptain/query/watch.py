"""Watching a voyage: what has changed since the last look, for as little work as can be.

ledger.db, ledger.db-wal ──changed?──> Snapshot
log of each attempt      ──grown?────> its last line: what the agent does now
repo.git                 ──once──────> lines that a landing added and removed
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.git import Git, GitError
from ocaptain.ledger import LedgerUnwritable
from ocaptain.query.local import Query
from ocaptain.query.telemetry import telemetry_path, voyage_reported
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ocaptain.query.snapshot import Snapshot
    from ocaptain.telemetry.store import Reported

#: A file's time of change may be so much older than the change.
_CLOCK_SECONDS = 0.05
#: How long a look waits for others who have locked the ledger: until the next one, the screen shows what it has.
_PATIENCE = 0.2
_TAIL_BYTES = 4096
_MAX_ACTION = 200
_DIFF_SECONDS = 10.0
#: What draws in a log and is no text: colours, the cursor, titles. Logs that we keep have a `?` for the escape.
_DRAWING = re.compile(r"(?:\x1b\[|\x9b|\?\[(?=[0-9;]*m))[0-9:;<=>?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")
_COMMIT = re.compile("[0-9a-f]{7,64}")
_COUNT = re.compile(r"([0-9]+) (insertion|deletion)")


#: Bytes that continue a character of UTF-8.
_CONTINUING = bytes(range(0x80, 0xC0))
#: What changes when a file does; nothing for a file that is not there.
_Mark = tuple[Any, ...]


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
        ticks: seconds of a clock that never goes back.
    """

    def __init__(
        self, directory: Path, clock: Callable[[], float] = time.time, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self.directory = directory
        self._clock = clock
        self._ticks = ticks
        self._query = Query(directory, patience=_PATIENCE)
        self._seen: Snapshot | None = None
        self._mark: tuple[_Mark, ...] | None = None
        self._marked = 0.0  # since when, by ticks
        self._is_settled = False
        self._actions: dict[str, tuple[_Mark, str]] = {}
        self._diffs: dict[str, Diffstat | None] = {}
        self._reported: tuple[tuple[_Mark, ...], Reported | None] = ((), None)

    def snapshot(self) -> Snapshot:
        """Return the voyage as it is now: the very object of the last call if nothing has changed.

        If others have locked the ledger, it is what was seen last.

        Raises:
            LedgerError: the ledger cannot be read. A later call may succeed.
        """
        mark = tuple(map(_file_mark, (self.directory / "ledger.db", self.directory / "ledger.db-wal")))
        ticks = self._ticks()
        if mark != self._mark:
            self._mark, self._marked, self._is_settled = mark, ticks, False
        if self._seen is None or not self._is_settled:
            now = self._clock()
            is_old = all(0 <= changed / 1e9 < now - _CLOCK_SECONDS for changed, *_ in filter(None, mark))
            try:
                self._seen = self._query.snapshot(now)
            except LedgerUnwritable:
                if self._seen is None:
                    raise
                return self._seen
            # Else it may change again in the same tick of the file's clock. A clock that was set back tells nothing.
            self._is_settled = is_old or ticks - self._marked > _CLOCK_SECONDS
        return self._seen

    def actions(self) -> dict[str, str]:
        """Return what each ship that works does now, by ship: the last line of its attempt's log."""
        actions = {}
        for ship in self._seen.ships if self._seen else ():
            if ship.log is None:
                continue
            path = self.directory / ship.log
            with contextlib.suppress(OSError):
                mark = _mark_of(path.stat())
                known = self._actions.get(ship.id)
                if known is None or known[0] != (*mark, str(path)):
                    self._actions[ship.id] = known = ((*mark, str(path)), _last_line(path))
                actions[ship.id] = known[1]
        return actions

    def reported(self) -> Reported | None:
        """Return what agents reported by OTLP so far, None if nothing."""
        store = telemetry_path(self.directory)
        mark = tuple(map(_file_mark, (store, store.with_name(f"{store.name}-wal"))))
        if mark != self._reported[0]:
            self._reported = (mark, voyage_reported(self.directory))
        return self._reported[1]

    def diffstats(self, commits: Iterable[str]) -> dict[str, Diffstat]:
        """Return what commits on the voyage's branch changed; those that cannot be read are left out."""
        asked = dict.fromkeys(commits)
        for commit in asked:
            if commit not in self._diffs:
                self._diffs[commit] = _diffstat(self.directory / "repo.git", commit)
        return {commit: found for commit in asked if (found := self._diffs[commit])}


def _mark_of(known: os.stat_result) -> _Mark:
    """Return what changes with a file: it may be another one of its name, of the same size and an earlier time.

    Not when its inode changed: SQLite gives its log an owner each time root opens it.
    """
    return (known.st_mtime_ns, known.st_size, known.st_ino, known.st_dev)


def _file_mark(path: Path) -> _Mark:
    try:
        return _mark_of(path.stat())
    except OSError:
        return ()


def _last_line(path: Path) -> str:
    """Return the last line of a log that says something.

    Raises:
        OSError: it is no file, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe in its place holds nobody up
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
        known = os.fstat(descriptor)
        if not stat.S_ISREG(known.st_mode):
            return ""
        start = max(0, known.st_size - _TAIL_BYTES)
        file.seek(start)
        data = file.read(_TAIL_BYTES)
    text = (data.lstrip(_CONTINUING) if start else data).decode(errors="replace")  # never half a character
    lines = (clean_line(_DRAWING.sub("", line), _MAX_ACTION) for line in reversed(text.splitlines()))
    return next((line for line in lines if line), "")


def _diffstat(repository: Path, commit: str) -> Diffstat | None:
    if not _COMMIT.fullmatch(commit):
        return None
    argv = ("diff", "--shortstat", "--no-renames", "--no-ext-diff", "--no-textconv", f"{commit}^1", commit, "--")
    try:
        told = Git(repository).run(*argv, seconds=_DIFF_SECONDS).stdout.decode()
    except GitError:
        return None
    counts = {kind: int(number) for number, kind in _COUNT.findall(told)}
    return Diffstat(counts.get("insertion", 0), counts.get("deletion", 0))
