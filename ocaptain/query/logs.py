"""Logs of a voyage, line by line: of one file from either end, of all of them in the order of time.

Nothing is read that is not shown: the last lines are read backwards, those since a time from where they begin, and
of a thousand attempts only those are open that overlap in time. A line has a limit, so that memory has one.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from ocaptain.log_times import Times
from ocaptain.names import VERIFY_SHIP
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

#: Bytes of a line that are shown; of the rest only how many there are.
MAX_LINE = 64 * 1024
_BLOCK = 256 * 1024
#: The ledger notes an attempt's start or end and the event of it one after the other: what an agent printed is between.
SAME_MOMENT = 0.05
_T = TypeVar("_T")


@dataclass(frozen=True)
class Log:
    """A log file: the output of an attempt or of the final verify.

    Attributes:
        path: path of the file, which may not exist yet.
        ship, task, attempt: the attempt; for the final verify only the ship that ran it.
        began, ended: of the attempt, in seconds since 1970; ``ended`` is None if it is under way.
    """

    path: Path
    ship: str | None = None
    task: str | None = None
    attempt: int | None = None
    began: float = 0.0
    ended: float | None = None

    @property
    def label(self) -> str:
        """The attempt, as people name it: ``41#1``."""
        return f"{self.task}#{self.attempt}" if self.task else "verify"

    def belongs_to(self, names: Collection[str]) -> bool:
        """Whether it belongs to one of these ships or tasks."""
        return self.ship in names or self.task in names or (self.task is None and VERIFY_SHIP in names)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a log.

    Attributes:
        at: when it began, in seconds since 1970.
        text: clean: what a terminal could act upon is an escape.
    """

    at: float
    log: Log
    text: str


class LogReader:
    """Reads the lines of a log as it grows.

    Args:
        log: the log.

    Attributes:
        offset: bytes that were read already.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.offset = 0
        self._searched = 0  # up to here there is no line end behind ``offset``

    def size(self) -> int:
        """Return the size of the file, 0 if there is none."""
        try:
            return self.log.path.stat().st_size
        except OSError:
            return 0

    def end(self, *, partial: bool) -> int:
        """Return where the last line ends that can be read; ``partial``: also one that has no line end yet."""
        size = self.size()
        if partial or size <= self.offset:
            return max(size, self.offset)
        try:
            with self.log.path.open("rb") as file:
                found = _rfind_line_end(file, max(self.offset, self._searched), size)
        except OSError:
            return self.offset
        self._searched = size
        return self.offset if found is None else found + 1

    def lines(self, end: int, since: float = -math.inf) -> Iterator[LogLine]:
        """Yield the lines from :attr:`offset` to ``end`` that began at ``since`` or later; moves nothing."""
        times = self._times()
        try:
            with self.log.path.open("rb") as file:
                start = times.first_since(since)
                if start is None:
                    return
                start = _next_line(file, max(start, self.offset), end)
                for offset, data, size in _read_lines(file, start, end):
                    yield LogLine(times.at(offset), self.log, clean_log_line(data, size))
        except OSError:
            return

    def lines_back(self, end: int, since: float = -math.inf) -> Iterator[LogLine]:
        """Yield the same lines as :meth:`lines`, the last one first."""
        times = self._times()
        try:
            with self.log.path.open("rb") as file:
                for offset, data, size in _read_lines_back(file, self.offset, end):
                    at = times.at(offset)
                    if at < since:
                        return
                    yield LogLine(at, self.log, clean_log_line(data, size))
        except OSError:
            return

    def _times(self) -> Times:
        log = self.log
        if log.ended is None:
            return Times(log.path, log.began + SAME_MOMENT)
        margin = max(0.0, min(SAME_MOMENT, (log.ended - log.began) / 2))
        return Times(log.path, log.began + margin, log.ended - margin)


def clean_log_line(data: bytes, size: int) -> str:
    """Return a line of a log as one clean line; of a progress bar what it came to.

    Args:
        data: the line, or the beginning of one that is long.
        size: bytes of the whole line.
    """
    text = data.decode(errors="replace")
    if "\r" in text:
        text = next((part for part in reversed(text.split("\r")) if part.strip()), "")
    text = escape_control(text).rstrip()
    return text if size <= len(data) else f"{text} … [{size - len(data)} more bytes]"


def _rfind_line_end(file: BinaryIO, start: int, end: int) -> int | None:
    """Return where the last line end between two offsets is, None if there is none."""
    while end > start:
        begin = max(start, end - _BLOCK)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found
        end = begin
    return None


def _next_line(file: BinaryIO, start: int, end: int) -> int:
    """Return where the first line begins at ``start`` or later; ``end`` if none does."""
    if start == 0:
        return 0
    at = start - 1
    while at < end:
        file.seek(at)
        block = file.read(min(_BLOCK, end - at))
        if not block:
            break
        found = block.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(block)
    return end


def _read_lines(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield lines: where each begins, its first bytes, and how many it has."""
    file.seek(start)
    begin, head, size, at = start, b"", 0, start
    while at < end and (block := file.read(min(_BLOCK, end - at))):
        position = 0
        while (found := block.find(b"\n", position)) >= 0:
            size += found - position
            yield begin, (head + block[position:found])[:MAX_LINE], size
            begin, head, size, position = at + found + 1, b"", 0, found + 1
        head = (head + block[position : position + MAX_LINE])[:MAX_LINE]
        size += len(block) - position
        at += len(block)
    if size:
        yield begin, head, size


def _read_lines_back(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield the lines of :func:`_read_lines`, the last one first."""
    stop, at, is_first = end, end, True  # the line that is looked for ends at ``stop``; it is read from ``at`` on
    while at > start:
        begin = max(start, at - _BLOCK)
        file.seek(begin)
        block = file.read(at - begin)
        position = len(block)
        while (found := block.rfind(b"\n", 0, position)) >= 0:
            line = begin + found + 1
            if not is_first or line < stop:
                yield line, _line_at(file, block, begin, line, stop), stop - line
            stop, position, is_first = line - 1, found, False
        at = begin
    if end > start and (not is_first or stop > start):
        file.seek(start)
        yield start, file.read(min(MAX_LINE, stop - start)), stop - start


def _line_at(file: BinaryIO, block: bytes, begin: int, line: int, stop: int) -> bytes:
    """Return the first bytes of a line that ends at ``stop``: from a block that begins at ``begin``, else the file."""
    if stop <= begin + len(block):
        return block[line - begin : stop - begin][:MAX_LINE]
    file.seek(line)
    return file.read(min(MAX_LINE, stop - line))


@dataclass(frozen=True)
class Source:
    """What is merged: items whose keys ascend.

    Attributes:
        bound: no key is smaller.
        open: returns the items with their keys; called when the first may be needed.
    """

    bound: float
    open: Callable[[], Iterator[tuple[float, Any]]]


def merge(sources: Sequence[Source]) -> Iterator[Any]:
    """Yield the items of all sources in the order of their keys; of equal ones, in the order of the sources.

    A source is opened as late as can be, and done with when it has no more items.
    """
    waiting = sorted(enumerate(sources), key=lambda one: one[1].bound, reverse=True)
    heap: list[tuple[float, int, Any, Iterator[tuple[float, Any]]]] = []
    while heap or waiting:
        while waiting and (not heap or waiting[-1][1].bound <= heap[0][0]):
            number, source = waiting.pop()
            items = source.open()
            if (first := next(items, None)) is not None:
                heapq.heappush(heap, (first[0], number, first[1], items))
        if not heap:
            continue
        _, number, item, items = heap[0]
        yield item
        if (following := next(items, None)) is not None:
            heapq.heapreplace(heap, (following[0], number, following[1], items))
        else:
            heapq.heappop(heap)


def ascending(items: Iterator[_T], key: Callable[[_T], float]) -> Iterator[tuple[float, _T]]:
    """Yield items with keys that ascend: what a clock that went back says is of the time before it."""
    highest = -math.inf
    for item in items:
        highest = max(highest, key(item))
        yield highest, item
