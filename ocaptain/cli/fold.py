"""Text in its colours over several lines: broken between words, each line but the first set in. Pure functions."""

from __future__ import annotations

from rich.cells import chop_cells
from rich.text import Text

_LEAST = 2  # cells: a wide character has room


def fold(line: Text, width: int, *, indent: int = 2, most: int = 0) -> Text:
    """Return a line as several, each of at most ``width`` cells.

    Args:
        line: one line of clean text.
        width: of the terminal, in cells.
        indent: cells that each line but the first is set in, if there is room.
        most: how many lines; what is cut ends with ``…``. 0 = all.
    """
    indent = indent if width >= 3 * indent + _LEAST else 0
    parts: list[Text] = []
    room = max(_LEAST, width)
    while line.cell_len > room and (not most or len(parts) < most - 1):
        at = _end_of_line(line.plain, room, indent)
        parts.append(line[:at])
        line = line[at:]
        while line.plain.startswith(" "):
            line = line[1:]
        room = max(_LEAST, width - indent)
    if line.cell_len > room:
        line = line.copy()
        line.truncate(room, overflow="ellipsis")
    return Text("\n" + " " * indent).join([*parts, line])


def _end_of_line(text: str, room: int, indent: int) -> int:
    """Return where a line ends: at its last space in the second half of the room, else in a word."""
    end = max(1, len(chop_cells(text, room)[0]))
    space = text.rfind(" ", max(indent, 1), end + 1)
    return space if space > end // 2 else end
