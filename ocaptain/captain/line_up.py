"""What of the ready tasks comes last, since it writes the files of work at hand (``metadata.paths``).

::

    landing ──git ls-tree, in a thread, once──> tracked files ──> Overlaps (each pair is compared once)
    claim   ──ready tasks, tasks at work──> comes_last ──> what the claim leaves until nothing else is ready

How often a task was passed over is not stored: a new captain counts anew. A plan without ``paths`` costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ocaptain.git import Git, GitError
from ocaptain.plan import Overlaps, comes_last, count_passed_over

if TYPE_CHECKING:
    from ocaptain.ledger import Ledger

log = logging.getLogger("ocaptain.captain")


class LineUp:
    """The ready tasks of a voyage, in line.

    Args:
        ledger: of the voyage.
        git: its repository.
        ref: its branch.
    """

    def __init__(self, ledger: Ledger, git: Git, ref: str) -> None:
        self._ledger = ledger
        self._git = git
        self._ref = ref
        self._paths: dict[str, tuple[str, ...]] = {}
        self._passed_over: dict[str, int] = {}
        self._order: list[str] = []
        self._overlaps = Overlaps()
        self._reading: asyncio.Task[None] | None = None
        self._is_stale = False

    def begin(self) -> None:
        """Read which tasks have paths, and begin to read which files are tracked."""
        self._paths = self._ledger.paths()
        self.has_landed()

    def last(self) -> frozenset[str]:
        """Return the tasks that are left until nothing else is ready."""
        if not self._paths:
            return frozenset()
        self._order = self._ledger.ready_order()
        return comes_last(self._order, self._ledger.at_work(), self._paths, self._passed_over, self._overlaps)

    def claimed(self, task: str, last: frozenset[str]) -> None:
        """Count those that stood before a task that was claimed, after :meth:`last` was asked."""
        if last:
            self._passed_over = count_passed_over(self._passed_over, self._order, last, task)

    def has_landed(self) -> None:
        """Have the tracked files read again."""
        if self._paths:
            self._is_stale = True
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read(), name="tracked files")

    async def _read(self) -> None:
        while self._is_stale:
            self._is_stale = False
            try:
                names = await asyncio.to_thread(self._git.run, "ls-tree", "-r", "--name-only", "-z", self._ref)
            except GitError as error:  # it is only about the order: the files of before will do
                log.warning("the tracked files could not be listed: %s", error.message)
                return
            files = sorted(name.decode(errors="replace") for name in names.stdout.split(b"\0") if name)
            if files != self._overlaps.files:
                self._overlaps = Overlaps(files)
