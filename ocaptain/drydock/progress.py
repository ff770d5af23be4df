"""What drydock says while it starts: written to its log by the server, read there by whoever started it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MARK = "drydock: "  # begins such a line; whatever else is in the log is for an error's text


def say(text: str) -> None:
    """Write a line for whoever waits for drydock to start."""
    sys.stderr.write(f"{MARK}{text}\n")
    sys.stderr.flush()


def said_in(line: str) -> str | None:
    """Return what a line of the log says to whoever waits; None if it is for nobody."""
    return line.removeprefix(MARK).rstrip("\n") if line.startswith(MARK) else None


class LogReader:
    """Reads what was said in a log since the last look."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = 0

    def new_lines(self) -> list[str]:
        """Return the whole lines that were said since the last call."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._offset)
                whole, ended, _ = file.read().rpartition(b"\n")
        except OSError:  # not there yet
            return []
        self._offset += len(whole) + len(ended)
        lines = whole.decode("utf-8", "replace").split("\n")
        return [found for line in lines if (found := said_in(line)) is not None]
