"""When each piece of an attempt's log was written: a small file beside the log.

    logs/ship-0/7.1.log     what the agent printed, as the captain got it, piece by piece
    logs/ship-0/7.1.times   a record of 16 bytes a piece: from which byte on, and when

Both numbers ascend, so that a time is found by bisection. A record is written before its piece: if the captain dies
between the two, the piece comes again, and its record takes the place of the one that has no bytes. What is torn at
the end does not count. A log without such a file is one piece: then its times are those of its attempt.
"""

from __future__ import annotations

import math
import os
import struct
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_RECORD = struct.Struct(">Qd")
MAX_BYTES = 4 * 1024 * 1024
MIN_GAP_SECONDS = 0.05
#: Of the age of the attempt: how near to each other two times may be, so that a file stays small however long it runs.
_GAP_SHARE = 1 / 16384


def times_path(log: Path) -> Path:
    """Return the file with the times of a log."""
    return log.with_suffix(".times")


def time_of_piece(said: float | None, *, now: float, last: float) -> float:
    """Return when a piece was written, in seconds since 1970: never before the one before it.

    Args:
        said: by the ship; its clock counts only if what it says can be true. None = it says nothing.
        now: by our clock: the piece has just arrived.
        last: of the piece before it, else of the attempt's start.
    """
    if said is not None and last <= said <= now:
        return said
    return max(last, now)


def note_piece(log: Path, offset: int, said: float | None, *, began: float, now: float) -> None:
    """Note when the piece that comes next was written.

    Args:
        log: the log's path.
        offset: bytes of the log before the piece.
        said: when, by the ship, in seconds since 1970; None = unknown.
        began: when the attempt began.
        now: by our clock.

    Raises:
        OSError: the file cannot be read or written; it is sound nevertheless.
    """
    fd = os.open(times_path(log), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(fd).st_size
        end, last = size - size % _RECORD.size, began
        while end:
            known, at = _RECORD.unpack(os.pread(fd, _RECORD.size, end - _RECORD.size))
            if known < offset and math.isfinite(at):
                last = max(began, at)
                break
            end -= _RECORD.size  # its piece never came
        if end < size:
            os.ftruncate(fd, end)
        at = time_of_piece(said, now=now, last=last)
        gap = max(MIN_GAP_SECONDS, (at - began) * _GAP_SHARE)
        if (not end or at - last >= gap) and end + _RECORD.size <= MAX_BYTES:
            os.pwrite(fd, _RECORD.pack(offset, at), end)
    finally:
        os.close(fd)


class Times:
    """The times of a log, read as they grow.

    Args:
        log: the log's path; there may be no file with its times.
        began: when its attempt began, in seconds since 1970.
        ended: when it ended, None if it has not: no line is later.
    """

    def __init__(self, log: Path, began: float, ended: float | None = None) -> None:
        self._path = times_path(log)
        self._earliest = began
        self._latest = math.inf if ended is None else max(began, ended)
        self._data = b""
        self._piece = (0, 0, 0.0)  # the last one that was asked for: from, up to, when
        self.refresh()

    def refresh(self) -> None:
        """Read what is new."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < len(self._data):
                    self._data = b""
                file.seek(len(self._data))
                self._data += file.read(MAX_BYTES - len(self._data))
        except OSError:
            self._data = b""
        self._data = self._data[: len(self._data) - len(self._data) % _RECORD.size]
        self._piece = (0, 0, 0.0)

    def _record(self, index: int) -> tuple[int, float]:
        offset, at = _RECORD.unpack_from(self._data, index * _RECORD.size)
        return offset, self._within(at)

    def _within(self, at: float) -> float:
        return min(max(at, self._earliest), self._latest) if math.isfinite(at) else self._earliest

    def at(self, offset: int) -> float:
        """Return when the byte at ``offset`` was written."""
        first, end, when = self._piece
        if not first <= offset < end:
            count = len(self._data) // _RECORD.size
            index = bisect_right(range(count), offset, key=lambda one: self._record(one)[0])
            first, when = self._record(index - 1) if index else (0, self._earliest)
            end = self._record(index)[0] if index < count else 2**63
            self._piece = (first, end, when)
        return when

    def first_since(self, at: float) -> int | None:
        """Return from which byte on all is of ``at`` or later, None if nothing is."""
        if at <= self._earliest:
            return 0
        count = len(self._data) // _RECORD.size
        index = bisect_left(range(count), at, key=lambda one: self._record(one)[1])
        return self._record(index)[0] if index < count else None
