"""Unpack what an agent left for people, and put it in its task's place.

::

    archive of a ship ──header by header, each name judged──> .incoming-… ──one rename──> .TASK.new
         ──the old folder goes──> TASK/ ──> .TASK.json (of which attempt)

A captain that dies before that one rename leaves the old files, one that dies after it the new ones:
:meth:`Store.settle` does the rest. No name of an archive is used before it was judged, and everything is written
below a folder that was made here a moment ago, so that no link can be on the way.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ocaptain.protocol.artifacts import BLOCK, END, MAX_BYTES, MAX_FILES, Names
from ocaptain.protocol.files import sync_directory, write_atomic
from ocaptain.query.artifacts import INCOMING, OLD, Record, Shelf
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1024 * 1024
MAX_NAME = 200
MAX_LEFT_OUT = 20  # that are named


class BadArchive(ValueError):
    """An archive is not what a worker writes."""


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive.

    Attributes:
        files: how many.
        size: bytes of them.
        left_out: names that cannot be here, and why.
    """

    files: int = 0
    size: int = 0
    left_out: tuple[str, ...] = ()


class Store(Shelf):
    """The directory ``artifacts`` of a voyage, for its captain."""

    def __init__(self, voyage: Path) -> None:
        super().__init__(voyage)
        self._moving = threading.Lock()  # two attempts at a task may bring theirs at the same time

    def settle(self) -> None:
        """Finish what a captain that died began; only the one in command of the voyage may call it.

        What cannot be done now is for the next captain: whoever reads finds the new files where they are.
        """
        for task in self.waiting():
            with contextlib.suppress(OSError):
                self._take_place(task)
        for prefix in (INCOMING, OLD):
            for left in self.path.glob(f"{prefix}*"):
                shutil.rmtree(left, ignore_errors=True)
        for left in self.path.glob("..*"):  # of a record that was being written
            with contextlib.suppress(OSError):
                left.unlink()

    def newest(self, task: str) -> int:
        """Return the number of the attempt whose artifacts a task has, 0 if it has none."""
        record = self.record(task)
        return record.attempt if record else 0

    def keep(self, task: str, attempt: int, ship: str, archive: BinaryIO, left_out: tuple[str, ...] = ()) -> Unpacked:
        """Unpack an archive and put its files in the place of those of an earlier attempt.

        Args:
            task: its id.
            attempt: number of the attempt.
            ship: that made it.
            archive: from its beginning.
            left_out: what the ship says it has left out.

        Returns:
            What came out; nothing is put in place if no file did.

        Raises:
            BadArchive: it is not what a worker writes; nothing has changed.
            OSError: it cannot be written; nothing has changed.
        """
        self.path.mkdir(exist_ok=True)
        incoming = Path(tempfile.mkdtemp(prefix=INCOMING, dir=self.path))
        try:
            incoming.chmod(0o755)
            found = unpack(archive, incoming)
            if found.files:
                with self._moving:
                    if attempt >= self.newest(task):
                        self._put(task, incoming, Record(attempt, ship, (*left_out, *found.left_out)))
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return found

    def _put(self, task: str, folder: Path, record: Record) -> None:
        if self.fresh(task).exists():  # of a captain that died
            self._take_place(task)
        sync_directory(folder)
        folder.rename(self.fresh(task))
        sync_directory(self.path)
        self._take_place(task)
        write_atomic(self.record_path(task), json.dumps(asdict(record)).encode(), 0o644)

    def _take_place(self, task: str) -> None:
        """Move a task's new files to their place; may have been begun before."""
        if self.folder(task).exists():
            old = Path(tempfile.mkdtemp(prefix=OLD, dir=self.path))
            self.folder(task).rename(old / "files")
            self.fresh(task).rename(self.folder(task))
            shutil.rmtree(old, ignore_errors=True)
        else:
            self.fresh(task).rename(self.folder(task))


def unpack(archive: BinaryIO, folder: Path) -> Unpacked:
    """Write the files of an archive into an empty folder that nobody else writes to.

    Raises:
        BadArchive: it has anything but plain headers of regular files, or more than the limits allow.
        OSError: a file cannot be written.
    """
    names, files, size, left_out = Names(), 0, 0, []
    for count, header in enumerate(_headers(archive), 1):
        size += header.size
        if count > MAX_FILES or size > MAX_BYTES:
            raise BadArchive(f"it has more than {MAX_FILES} files, or more than {MAX_BYTES} bytes")
        problem = names.take(header.name)
        if problem:
            left_out.append(f"{clean_line(header.name, MAX_NAME)}: {problem}")
            size -= header.size
            _copy(archive, header.size, None)
        else:
            path = folder / header.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                _copy(archive, header.size, file)
                file.flush()
                os.fsync(file.fileno())
            files += 1
        _read(archive, -header.size % BLOCK)
    return Unpacked(files, size, tuple(left_out[:MAX_LEFT_OUT]))


def _headers(archive: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield each header of an archive; the caller reads what follows it. Raises BadArchive."""
    while (block := _read(archive, BLOCK)) != END[:BLOCK]:
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise BadArchive(f"it has a header that no worker writes: {error}") from error
        if header.type != tarfile.REGTYPE or header.size < 0:
            raise BadArchive("it has something else than regular files")
        yield header
    if _read(archive, BLOCK) != END[BLOCK:] or archive.read(1):
        raise BadArchive("something follows its end")


def _copy(archive: BinaryIO, size: int, file: BinaryIO | None) -> None:
    for begin in range(0, size, CHUNK_BYTES):
        data = _read(archive, min(CHUNK_BYTES, size - begin))
        if file:
            file.write(data)


def _read(archive: BinaryIO, size: int) -> bytes:
    """Read exactly ``size`` bytes. Raises BadArchive."""
    data = archive.read(size)
    if len(data) != size:
        raise BadArchive("it ends too early")
    return data
