"""Reads what landings changed in a thread of its own: git takes as long as it takes, and no screen waits for it."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from ocaptain.query.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocaptain.query.watch import Diffstat


class DiffReader:
    """Reads what commits changed.

    Args:
        directory: the voyage's.

    Attributes:
        known: what is read, by commit; None for what could not be.
    """

    def __init__(self, directory: Path) -> None:
        self.known: dict[str, Diffstat | None] = {}
        self._asked: set[str] = set()
        self._wanted: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._watcher = Watcher(directory)
        threading.Thread(target=self._work, name="diffs", daemon=True).start()

    def ask(self, commit: str) -> None:
        """Ask for what a commit changed; it comes into ``known`` some time."""
        if commit not in self._asked:
            self._asked.add(commit)
            self._wanted.put(commit)

    @property
    def diffs(self) -> Mapping[str, Diffstat]:
        """What is known, by commit."""
        return {commit: diff for commit, diff in list(self.known.items()) if diff}

    def _work(self) -> None:
        while True:
            commit = self._wanted.get()
            self.known[commit] = self._watcher.diffstats([commit]).get(commit)
