"""The worker's journal: the records that the captain has not acknowledged yet, on disk, of limited size.

There are four classes with separate numbers, sent in this order: ``result`` (never dropped),
``log``, ``telemetry`` and ``otlp`` (beyond a limit the oldest are dropped, and the captain is told).

On disk: ``<class>-<first number>.jsonl``, one record a line, a new file about every MiB. Nothing
is held in memory but the files' names and sizes. What is acknowledged costs no write: whole files
are removed; the newest of a class stays, since its last line says where the numbering is. So an
acknowledgement cannot fail on a full disk, and an append that fails leaves the journal as it was:
the file is closed, and the next append opens it and cuts off what was written in part.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import uuid
from pathlib import Path
from typing import Iterable, Iterator

from ocaptain.protocol import CLASSES, Message, class_of_record, decode_line, encode_line, make_record, read_record
from ocaptain.protocol.files import write_atomic

SEGMENT_BYTES = 1024 * 1024
#: On disk, of a class that may be dropped.
MAX_BYTES = {"log": 64 * 1024 * 1024, "telemetry": 32 * 1024 * 1024, "otlp": 32 * 1024 * 1024}
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class _Segment:
    """One file: the number of its first record, and how many of its bytes are valid."""

    def __init__(self, path: Path, first: int, size: int = 0) -> None:
        self.path = path
        self.first = first
        self.size = size


class _RecordClass:
    """The records of one class."""

    def __init__(self, directory: Path, name: str, segment_bytes: int) -> None:
        self.name = name
        self.last = 0
        self.segments: list[_Segment] = []
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._fd: int | None = None
        self._load_segments()

    def _load_segments(self) -> None:
        for path in sorted(self._directory.glob(f"{self.name}-*.jsonl")):
            with contextlib.suppress(ValueError, OSError):
                first = int(path.name[len(self.name) + 1 : -len(".jsonl")])
                self.segments.append(_Segment(path, first, path.stat().st_size))
        if self.segments:
            newest = self.segments[-1]
            self.last, newest.size = newest.first - 1, 0
            for number, _, end in _read_sound_records(newest.path, 0, None, newest.first - 1):
                self.last, newest.size = number, end

    @property
    def first(self) -> int:
        """Number of the oldest record that may exist."""
        return self.segments[0].first if self.segments else self.last + 1

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self.segments)

    def append(self, body: Message, *, durable: bool) -> int:
        number = self.last + 1
        line = encode_line(make_record(number, body))
        if not self.segments or self.segments[-1].size >= self._segment_bytes:
            self.rotate()
        segment = self.segments[-1]
        try:
            fd = self._open(segment)
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(fd, rest) :]
            if durable:
                os.fsync(fd)
        except OSError:
            self.close()
            raise
        segment.size += len(line)
        self.last = number
        return number

    def _open(self, segment: _Segment) -> int:
        """Open the newest file for appending; cut off a partly written record."""
        if self._fd is None:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                segment.size = min(segment.size, os.fstat(fd).st_size)  # somebody may have cut it
                os.ftruncate(fd, segment.size)
            except OSError:
                os.close(fd)
                raise
            self._fd = fd
        return self._fd

    def rotate(self) -> None:
        """Start another file."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        segment = _Segment(self._directory / f"{self.name}-{self.last + 1:016d}.jsonl", self.last + 1)
        os.close(os.open(segment.path, os.O_WRONLY | os.O_CREAT, 0o600))
        self.close()
        self.segments.append(segment)

    def remove_up_to(self, upto: int) -> None:
        """Remove the files in which all records have numbers up to ``upto``."""
        while len(self.segments) > 1 and self.segments[1].first - 1 <= upto:
            self.drop_oldest()

    def drop_oldest(self) -> bool:
        """Remove the oldest file; return False if none can be removed."""
        if len(self.segments) == 1 and self.segments[0].size:
            try:
                self.rotate()
            except OSError:
                return False
        if len(self.segments) < 2:
            return False
        oldest = self.segments.pop(0)
        with contextlib.suppress(OSError):
            oldest.path.unlink()
        return True

    def close(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None


class Journal:
    """The journal (see the module).

    Args:
        directory: of its files; made if missing.
        old_journal: the single file of an earlier version; its records are imported.
        max_bytes: limit on disk, by class; for classes that may be dropped.
        segment_bytes: size at which a new file is begun.
    """

    def __init__(
        self,
        directory: Path,
        old_journal: Path | None = None,
        *,
        max_bytes: dict[str, int] | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._max_bytes = MAX_BYTES if max_bytes is None else max_bytes
        self._classes = {name: _RecordClass(directory, name, segment_bytes) for name in CLASSES}
        self.name = ""
        with contextlib.suppress(OSError, ValueError):
            self.name = uuid.UUID((directory / "name").read_text()).hex
        if not self.name:
            self.start_new_numbering()
        if old_journal is not None and old_journal.exists():
            self._import_old_journal(old_journal)

    def _import_old_journal(self, old_journal: Path) -> None:
        with old_journal.open("rb") as lines:
            for line in lines:
                message = decode_line(line)
                found = read_record(message) if message and message["type"] == "record" else None
                if found is None:
                    continue
                try:
                    self.append(found[1], durable=class_of_record(found[1]) == "result")
                except OSError:
                    if class_of_record(found[1]) == "result":
                        raise
        old_journal.unlink()

    def first(self, record_class: str) -> int:
        """Return the number of the oldest record of a class that may exist."""
        return self._classes[record_class].first

    def last(self, record_class: str) -> int:
        """Return the number of the newest record of a class."""
        return self._classes[record_class].last

    def size(self, record_class: str) -> int:
        """Return the bytes of a class on disk."""
        return self._classes[record_class].size

    def newest(self, record_class: str) -> Message | None:
        """Return the newest record's body of a class; None if there is none on disk."""
        for segment in reversed(self._classes[record_class].segments):
            last = collections.deque(_read_sound_records(segment.path, 0, segment.size, 0), maxlen=1)
            if last:
                return last[0][1]
        return None

    def append(self, body: Message, *, durable: bool) -> int:
        """Append a record to its class; if ``durable`` it is on disk when this returns.

        If the disk is full, the oldest telemetry and then the oldest logs are dropped for a result.

        Raises:
            OSError: it could not be written; the journal is unchanged.
        """
        record_class = self._classes[class_of_record(body)]
        while True:
            try:
                number = record_class.append(body, durable=durable)
            except OSError as error:
                if record_class.name != "result" or error.errno not in _NO_SPACE or not self._make_room():
                    raise
            else:
                break
        max_bytes = self._max_bytes.get(record_class.name)
        while max_bytes is not None and record_class.size > max_bytes and len(record_class.segments) > 1:
            record_class.drop_oldest()
        return number

    def _make_room(self) -> bool:
        return any(self._classes[name].drop_oldest() for name in reversed(CLASSES) if name != "result")

    def acknowledge(self, upto: dict[str, int]) -> None:
        """Remove the records up to the numbers ``upto`` (by class); only whole files are removed."""
        for name, number in upto.items():
            if name in self._classes:
                self._classes[name].remove_up_to(number)

    def reader(self) -> Reader:
        """Return a reader that begins with the oldest record."""
        return Reader(self._classes.values())

    def start_new_numbering(self) -> None:
        """Take a new name, because the captain has seen records with these numbers that do not exist any more."""
        self.name = uuid.uuid4().hex
        with contextlib.suppress(OSError):  # then a worker that starts again takes yet another name
            write_atomic(self._directory / "name", self.name.encode())

    def close(self) -> None:
        """Close the files."""
        for record_class in self._classes.values():
            record_class.close()


class Reader:
    """Reads the journal for one channel; keeps no record in memory."""

    def __init__(self, classes: Iterable[_RecordClass]) -> None:
        self._classes = {one.name: one for one in classes}
        #: By class: the last number that was read, and behind which byte of which file it ended.
        self._at: dict[str, tuple[int, Path | None, int]] = dict.fromkeys(self._classes, (0, None, 0))

    def seek(self, name: str, after: int) -> None:
        """Continue after record ``after`` of a class."""
        if name in self._at:
            self._at[name] = (after, None, 0)

    def read(self, name: str, max_records: int) -> list[tuple[int, Message]]:
        """Return the next records of a class, at most ``max_records``; a gap shows in their numbers."""
        after, path, offset = self._at[name]
        record_class, records = self._classes[name], []
        for index, segment in enumerate(record_class.segments):
            if index + 1 < len(record_class.segments) and record_class.segments[index + 1].first - 1 <= after:
                continue
            start = offset if segment.path == path else 0
            for number, body, end in _read_sound_records(segment.path, start, segment.size, after):
                after = number
                self._at[name] = (number, segment.path, end)
                records.append((number, body))
                if len(records) >= max_records:
                    return records
        return records


def _read_sound_records(path: Path, start: int, size: int | None, after: int) -> Iterator[tuple[int, Message, int]]:
    """Yield the sound records of a file with numbers that grow from ``after``: number, body, where it ends.

    Without ``size``, up to the first that is not sound; else up to ``size``, leaving those out.
    """
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        file.seek(start)
        end = start
        for line in file:
            end += len(line)
            message = decode_line(line) if line.endswith(b"\n") and (size is None or end <= size) else None
            found = read_record(message) if message else None
            if found is not None and found[0] > after:
                after = found[0]
                yield found[0], found[1], end
            elif (size is None and found is None) or (size is not None and end > size):
                return
