"""What agents left for people: ``artifacts/`` in a voyage's directory. The captain writes it, everybody reads it.

::

    artifacts/TASK/…           the files of the task's newest attempt that left some
    artifacts/.TASK.new/       those that are about to take their place; whoever reads takes these first
    artifacts/.TASK.json       of which attempt they are, and what was left out (Record)
    artifacts/.incoming-…/     what is being written, artifacts/.old-…/ what is being removed: nobody reads them

A task's id begins with a letter or a digit, so that no name here is another one's.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocaptain.protocol.codec import Malformed, from_dict
from ocaptain.protocol.files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

INCOMING, OLD = ".incoming-", ".old-"
_NEW = ".new"
_LOOKS = 3  # while the captain puts other files in a task's place


@dataclass(frozen=True)
class Record:
    """Where a task's artifacts are from.

    Attributes:
        attempt: number of the attempt.
        ship: that made it.
        left_out: what of them is not here, and why.
    """

    attempt: int
    ship: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArtifactFile:
    """A file: its path below the task's folder, and its bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class TaskArtifacts:
    """The artifacts of a task.

    Attributes:
        task: its id.
        folder: where the files are.
        files: in the order of their paths.
        record: None if it cannot be read.
    """

    task: str
    folder: Path
    files: tuple[ArtifactFile, ...]
    record: Record | None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def as_dict(self) -> dict[str, Any]:
        """Return it in the form of ``docs/json/artifacts.json``."""
        return {
            "task": self.task,
            "attempt": self.record.attempt if self.record else None,
            "ship": self.record.ship if self.record else None,
            "directory": str(self.folder),
            "size_bytes": self.size,
            "files": [{"path": file.path, "size_bytes": file.size} for file in self.files],
            "left_out": list(self.record.left_out) if self.record else [],
        }


class Shelf:
    """The directory ``artifacts`` of a voyage, for reading.

    Args:
        voyage: the voyage's directory.
    """

    def __init__(self, voyage: Path) -> None:
        self.path = voyage / "artifacts"

    def folder(self, task: str) -> Path:
        """Return the folder of a task's files."""
        return self.path / task

    def fresh(self, task: str) -> Path:
        """Return the folder of files that are about to take their place."""
        return self.path / f".{task}{_NEW}"

    def record_path(self, task: str) -> Path:
        """Return the file that says where a task's files are from."""
        return self.path / f".{task}.json"

    def record(self, task: str) -> Record | None:
        """Return where a task's files are from, None if it is not known."""
        with contextlib.suppress(Malformed):
            return from_dict(Record, read_json(self.record_path(task)))
        return None

    def waiting(self) -> list[str]:
        """Return the tasks whose files are about to take their place."""
        hidden = [name[1 : -len(_NEW)] for name in self._names() if name.startswith(".") and name.endswith(_NEW)]
        return [name for name in hidden if name and not name.startswith(".")]

    def read(self, tasks: list[str] | None = None) -> list[TaskArtifacts]:
        """Return the artifacts of all tasks that have some, in the order of their ids.

        Args:
            tasks: only these.
        """
        known = {name for name in self._names() if not name.startswith(".")} | set(self.waiting())
        wanted = sorted(known if tasks is None else known.intersection(tasks), key=_by_number)
        return [found for task in wanted if (found := self._read(task))]

    def _names(self) -> list[str]:
        try:
            return [one.name for one in self.path.iterdir()]
        except OSError:
            return []

    def _read(self, task: str) -> TaskArtifacts | None:
        for _ in range(_LOOKS):
            fresh = self.fresh(task)
            folder = fresh if fresh.is_dir() else self.folder(task)
            with contextlib.suppress(OSError):
                files = sorted(_files(folder, ""), key=lambda file: file.path)
                record = self.record(task)
                return TaskArtifacts(task, folder, tuple(files), record) if files or record else None
        return None


def _files(folder: Path, prefix: str) -> Iterator[ArtifactFile]:
    """Yield all files below a folder; links are never followed. Raises OSError."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield ArtifactFile(prefix + entry.name, entry.stat(follow_symlinks=False).st_size)


def _by_number(task: str) -> tuple[int, int, str]:
    """Sort 2 before 10, and numbers before other ids."""
    return (0, int(task), task) if task.isdecimal() else (1, 0, task)
