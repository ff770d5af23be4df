"""Text in its colours over several lines: broken between words, each line but the first set in. Pure functions."""

from __future__ import annotations

from rich.cells import chop_cells
from rich.text import Text

_LEAST = 2  # cells: a wide character has room
_MOST_PER_CELL = 4  # characters, since some have no width: a line of more of them ends sooner


def fold(line: Text, width: int, *, indent: int = 2, most: int = 0) -> Text:
    """Return a line as several, each of at most ``width`` cells.

    Args:
        line: one line of clean text.
        width: of the terminal, in cells.
        indent: cells that each line but the first is set in, if there is room.
        most: how many lines; what is cut ends with ``…``. 0 = all.
    """
    indent = indent if width >= 3 * indent + _LEAST else 0
    text = line.plain
    cuts: list[int] = []  # where lines end and the next ones begin, in turn
    start, room = 0, max(_LEAST, width)
    while (not most or len(cuts) < 2 * (most - 1)) and (end := _end_of_line(text, start, room)) < len(text):
        start = end + len(text[end:]) - len(text[end:].lstrip(" "))
        cuts += [end, start]
        room = max(_LEAST, width - indent)
    parts = list(line.divide(cuts))[::2]
    parts[-1].truncate(room, overflow="ellipsis")
    return Text("\n" + " " * indent).join(parts)


def _end_of_line(text: str, start: int, room: int) -> int:
    """Return where a line ends: at its last space in the second half of the room, else in a word."""
    piece = text[start : start + _MOST_PER_CELL * room]
    whole = (chop_cells(piece, room) or [""])[0]
    if len(whole) == len(piece):
        return start + len(whole)
    space = piece.rfind(" ", len(whole) // 2, len(whole) + 1)
    return start + (space if space > 0 else max(1, len(whole)))
