"""Logs as they grow: bounded, and safe to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.cli.style import clean_columns

if TYPE_CHECKING:
    from pathlib import Path

MAX_LINE = 1500  # characters; what is longer is cut


class LogTail:
    """Reads a log file as it grows. Not for several threads at once.

    Args:
        path: of the file, which may not exist yet.
        limit: bytes that are read at most at once; of a longer file, or one that grew by more, the last ones.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._offset = 0
        self._rest = b""
        #: Whether something was left out.
        self.is_cut = False

    def read(self) -> list[str]:
        """Return the lines that are new, each clean and cut to :data:`MAX_LINE`.

        A last line without an end is returned when it has not grown since the last look.
        """
        try:
            size = self.path.stat().st_size
            if size < self._offset:  # it was written anew
                self._offset, self._rest = 0, b""
            if size == self._offset:
                rest, self._rest = self._rest, b""
                return [_clean(rest)] if rest else []
            with self.path.open("rb") as file:
                if size - self._offset > self._limit:
                    self.is_cut = True
                    file.seek(size - self._limit)
                    file.readline(self._limit)  # the rest of a line
                    self._rest = b""
                else:
                    file.seek(self._offset)
                data = file.read(self._limit)
                self._offset = file.tell()
        except OSError:
            return []
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-self._limit :]
        return [_clean(line) for line in lines]


def _clean(line: bytes) -> str:
    return clean_columns(line[: 4 * MAX_LINE].decode(errors="replace"), MAX_LINE)
