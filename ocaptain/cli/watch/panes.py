"""The parts of the screen: a list with a chosen row, and lines of text that may grow.

Each draws only the lines that are seen, and again only those that changed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from ocaptain.cli.style import HEAD, QUIET, fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from textual import events

    from ocaptain.cli.watch.rows import Row

_REVERSE = Style(reverse=True)
_BOLD = Style(bold=True)


class Lines(Widget):
    """Lines that are drawn one by one; a subclass says what they are."""

    DEFAULT_CSS = "Lines { height: 1; width: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._drawn: list[tuple[Text, Style | None]] = []

    def draw_lines(self, width: int, height: int) -> list[tuple[Text, Style | None]]:
        """Return each line that is seen, and a style that lies over all of it."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw the lines again that look different now."""
        size = self.size
        if not size.width or not size.height:
            return
        lines = self.draw_lines(size.width, size.height)[: size.height]
        before = self._drawn
        self._drawn = lines
        if len(before) != len(lines):
            self.refresh()
            return
        changed = [y for y, (one, other) in enumerate(zip(lines, before, strict=True)) if not _is_same(one, other)]
        if changed:
            self.refresh(*(Region(0, y, size.width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        """Return a line as Textual wants it."""
        width = self.size.width
        base = self.rich_style
        if y >= len(self._drawn):
            return Strip.blank(width, base)
        text, over = self._drawn[y]
        console = self.app.console
        own = console.get_style(text.style)  # which Rich leaves out of a text that has no other style
        strip = Strip(text.render(console)).apply_style(own).adjust_cell_length(width).apply_style(base)
        if over is None:
            return strip
        return Strip([type(one)(one.text, (one.style or Style()) + over) for one in strip], width)

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._drawn = []
        self.redraw()


def _is_same(one: tuple[Text, Style | None], other: tuple[Text, Style | None]) -> bool:
    return one[1] == other[1] and one[0] == other[0] and one[0].style == other[0].style


class Rows(Lines, can_focus=True):
    """A list under a title, with a chosen row.

    Args:
        clock: seconds since 1970.
        id: of the widget.
    """

    class Chosen(Message):
        """Another row was chosen."""

    def __init__(self, clock: Callable[[], float], *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._clock = clock
        self._title = ""
        self._rows: Sequence[Row] = ()
        self._at: dict[str, int] = {}
        self._top = 0
        self._cursor = 0

    @property
    def chosen(self) -> str | None:
        """The key of the chosen row, None if there is none."""
        return self._rows[self._cursor].key or None if self._rows else None

    @property
    def row_count(self) -> int:
        """The number of rows, headings too."""
        return len(self._rows)

    def show(self, title: str, rows: Sequence[Row]) -> None:
        """Show rows; the chosen one stays chosen wherever it went."""
        before, self._title, self._rows = self.chosen, title, rows
        self._at = {row.key: number for number, row in enumerate(rows) if row.key}
        self._cursor = self._at.get(before or "", min(self._cursor, max(0, len(rows) - 1)))
        if self._rows and not self._rows[self._cursor].key:
            self._cursor = self._nearest(self._cursor, 1)
        self.redraw()
        if self.chosen != before:
            self.post_message(self.Chosen())

    def choose(self, key: str) -> bool:
        """Choose a row; return whether there is such a row."""
        if key in self._at:
            self._move_to(self._at[key])
        return key in self._at

    def draw_lines(self, width: int, height: int) -> list[tuple[Text, Style | None]]:
        """Return the title and the rows that are seen."""
        room = max(0, height - 1)
        self._top = max(0, min(self._top, len(self._rows) - room, self._cursor))
        self._top = max(self._top, self._cursor - room + 1)
        below = len(self._rows) - self._top - room
        more = " ".join(f"{sign}{count}" for sign, count in (("↑", self._top), ("↓", below)) if count > 0)
        now = self._clock()
        lines: list[tuple[Text, Style | None]] = [(_title(self._title, more, width, has_focus=self.has_focus), None)]
        for number in range(self._top, min(len(self._rows), self._top + room)):
            over = None if number != self._cursor else _REVERSE if self.has_focus else _BOLD
            lines.append((self._rows[number].draw(width, now), over))
        return lines

    def on_key(self, event: events.Key) -> None:
        """Move the choice."""
        page = max(1, self.size.height - 2)
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -page, "pagedown": page}
        steps |= {"home": -len(self._rows), "end": len(self._rows)}
        if event.key in steps:
            event.stop()
            self._move_to(self._cursor + steps[event.key])

    def on_focus(self) -> None:
        """Show where the keys go."""
        self.redraw()

    def on_blur(self) -> None:
        """Likewise."""
        self.redraw()

    def on_mouse_scroll_down(self) -> None:
        """Choose the next row."""
        self._move_to(self._cursor + 1)

    def on_mouse_scroll_up(self) -> None:
        """Choose the row before."""
        self._move_to(self._cursor - 1)

    def _move_to(self, number: int) -> None:
        if not self._rows:
            return
        wanted = max(0, min(number, len(self._rows) - 1))
        wanted = self._nearest(wanted, 1 if wanted >= self._cursor else -1)
        if wanted != self._cursor:
            self._cursor = wanted
            self.post_message(self.Chosen())
        if wanted and not any(row.key for row in self._rows[:wanted]):
            self._top = 0  # the headings above the first row
        self.redraw()

    def _nearest(self, number: int, way: int) -> int:
        """Return the row at or next to a number that can be chosen: in that way first, then in the other."""
        for numbers in (range(number, len(self._rows) if way > 0 else -1, way), range(number, -1, -1)):
            for one in numbers:
                if self._rows[one].key:
                    return one
        return self._cursor if self._cursor < len(self._rows) else 0


class TextPane(Lines, can_focus=True):
    """Lines of text under a title; the last ones are seen until the user scrolls up.

    Args:
        most: lines that are kept; the oldest are dropped.
        is_folded: whether long lines are folded; else they are cut.
        id: of the widget.
    """

    def __init__(self, most: int, *, is_folded: bool, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._lines: deque[Text] = deque(maxlen=most)
        self._title = ""
        self._is_folded = is_folded
        self._top: int | None = None  # number of the first line that is seen, None: the last ones are, also new ones
        self._first = 0  # the first line that was seen last

    def set_title(self, title: str) -> None:
        """Set the title."""
        self._title = title
        self.redraw()

    def clear(self) -> None:
        """Forget all lines."""
        self._lines.clear()
        self._top = None

    def add(self, lines: Iterable[Text]) -> None:
        """Add lines at the end."""
        new = list(lines)
        dropped = max(0, len(self._lines) + len(new) - (self._lines.maxlen or 0))
        self._lines.extend(new)
        if self._top is not None:
            self._top = max(0, self._top - dropped)
        self.redraw()

    def show_first(self) -> None:
        """Scroll to the first line."""
        self._top = 0
        self.redraw()

    def draw_lines(self, width: int, height: int) -> list[tuple[Text, Style | None]]:
        """Return the title and the lines that are seen."""
        room = max(0, height - 1)
        seen: list[Text] = []
        end = len(self._lines)
        if self._top is not None:
            end = self._first = min(self._top, len(self._lines))
            while end < len(self._lines) and len(seen) < room:
                seen += self._fold(self._lines[end], width)
                end += 1
            if end == len(self._lines) and len(seen) <= room:
                self._top = None  # the last line is seen
        if self._top is None:
            self._first, seen = len(self._lines), []
            while self._first > 0 and len(seen) < room:
                self._first -= 1
                seen[:0] = self._fold(self._lines[self._first], width)
            seen = seen[-room:] if room else []
        above, below = self._first, len(self._lines) - end
        more = " ".join(f"{sign}{count}" for sign, count in (("↑", above), ("↓", below)) if count)
        head = _title(self._title, more, width, has_focus=self.has_focus)
        return [(head, None), *((line, None) for line in seen[:room])]

    def _fold(self, line: Text, width: int) -> list[Text]:
        if line.cell_len <= width:
            return [line]
        if self._is_folded:
            return list(line.wrap(self.app.console, width, overflow="fold"))
        cut = line.copy()
        cut.truncate(width, overflow="ellipsis")
        return [cut]

    def on_key(self, event: events.Key) -> None:
        """Scroll."""
        page = max(1, self.size.height - 2)
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -page, "pagedown": page, "space": page}
        steps |= {"home": -len(self._lines), "end": len(self._lines)}
        if event.key in steps:
            event.stop()
            self._scroll(steps[event.key])

    def on_focus(self) -> None:
        """Show where the keys go."""
        self.redraw()

    def on_blur(self) -> None:
        """Likewise."""
        self.redraw()

    def on_mouse_scroll_down(self) -> None:
        """Scroll down."""
        self._scroll(3)

    def on_mouse_scroll_up(self) -> None:
        """Scroll up."""
        self._scroll(-3)

    def _scroll(self, lines: int) -> None:
        self._top = max(0, min(len(self._lines), self._first + lines))
        self.redraw()


class Fixed(Lines):
    """Lines without a title, which are set from outside.

    Args:
        make: returns the lines for a width.
        id: of the widget.
    """

    def __init__(self, make: Callable[[int], list[Text]], *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._make = make

    def draw_lines(self, width: int, height: int) -> list[tuple[Text, Style | None]]:
        """Return the lines."""
        return [(line, None) for line in self._make(width)[:height]]


def _title(title: str, more: str, width: int, *, has_focus: bool) -> Text:
    room = max(0, width - len(more) - 3)
    sign = "▸ " if has_focus else "  "
    line = Text(f"{sign}{fit(title, room)}", style=HEAD if has_focus else f"{HEAD} {QUIET}")
    return line.append(f"{' ' * max(1, width - line.cell_len - len(more))}{more}") if more else line
