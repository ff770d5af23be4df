"""How a process becomes one of a ship's for the kernel's accounts, before it runs anything of the ship.

It does so itself: whoever is enrolled from outside may have forked before, and what it forked would be missed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ocaptain.drydock import oom

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Enrolment:
    """Files of the host that a command, or an init, writes to before its first instruction: score, control groups.

    They are opened before the ship's namespaces are joined, so nothing of the ship is asked; that process closes them.
    """

    def __init__(self) -> None:
        self._procfs = -1
        self._groups: list[int] = []

    def open(self, group_files: Sequence[Path]) -> None:
        """Open the files.

        Raises:
            OSError: a group is gone, because the ship has ended.
        """
        self._procfs = oom.open_procfs()
        for file in group_files:
            self._groups.append(os.open(file, os.O_WRONLY | os.O_CLOEXEC))

    def descriptors(self) -> list[int]:
        """Return what is open; the caller closes it."""
        return [*self._groups, *([self._procfs] if self._procfs >= 0 else [])]

    def close(self) -> None:
        """Close the files."""
        for fd in self.descriptors():
            os.close(fd)
        self._procfs, self._groups = -1, []

    def open_score(self, pid: int | None = None) -> int | None:
        """Return a descriptor of a process's score, for :func:`.oom.raise_opened`.

        Args:
            pid: as the machine sees it; None = the calling process.

        Raises:
            OSError: the kernel refuses it.
        """
        return oom.open_score(self._procfs, pid)

    def join_groups(self) -> None:
        """Put the calling process into the groups.

        Raises:
            OSError: the kernel refuses it.
        """
        for group in self._groups:
            os.write(group, b"0")  # the calling process (cgroups(7))
