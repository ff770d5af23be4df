"""What opens over the screen: a text, the log of a task, a question, a search."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from ocaptain.cli.style import HEAD, QUIET
from ocaptain.cli.watch.logs import LogTail
from ocaptain.cli.watch.panes import Fixed, TextPane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.app import ComposeResult

    from ocaptain.query import Log

#: Of a task's logs, the last bytes and lines are shown.
LOG_BYTES = 4 * 1024 * 1024
LOG_LINES = 20_000
POLL_SECONDS = 0.5
_MOST_LINES = 100_000


class Page(ModalScreen[None]):
    """A text over the whole screen.

    Args:
        title: above it.
        make: returns its lines for a width.
    """

    DEFAULT_CSS = "Page { background: $background; } Page TextPane { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, "close", show=False) for key in ("escape", "q", "l", "d", "w", "c", "question_mark", "enter")
    ]

    def __init__(self, title: str, make: Callable[[int], Sequence[Text]]) -> None:
        super().__init__()
        self.pane = TextPane(_MOST_LINES, is_folded=True, id="page")
        self._heading = title
        self._make = make

    def compose(self) -> ComposeResult:
        """Make the parts."""
        yield self.pane
        yield Fixed(lambda _: [Text("Esc closes · ↑ ↓ PgUp PgDn Home End", style=QUIET)], id="page-keys")

    def on_mount(self) -> None:
        """Show the text."""
        self.pane.focus()
        self.fill()

    def on_resize(self) -> None:
        """Make the text for the new width."""
        self.fill()

    def fill(self) -> None:
        """Show the text from its beginning."""
        self.pane.set_title(self._heading)
        self.pane.clear()
        self.pane.add(self._make(self.app.size.width))
        self.pane.show_first()

    def action_close(self) -> None:
        """Go back to the screen below."""
        self.dismiss(None)


class LogPage(Page):
    """The whole log of a task, which grows.

    Args:
        title: above it.
        find_logs: returns the logs of the task's attempts, oldest first.
        command: that prints all of it.
    """

    def __init__(self, title: str, find_logs: Callable[[], Sequence[Log]], command: str) -> None:
        super().__init__(title, lambda _: ())
        self.pane = TextPane(LOG_LINES, is_folded=True, id="page")
        self._find_logs = find_logs
        self._command = command
        self._tails: list[LogTail] = []

    def fill(self) -> None:
        """Begin to read; what was read stays when the size changes."""
        self.pane.set_title(self._heading)

    def on_mount(self) -> None:
        """Begin to read."""
        super().on_mount()
        self.run_worker(self._follow())

    async def _follow(self) -> None:
        while True:
            lines = await asyncio.to_thread(self._read)
            if lines:
                self.pane.add(lines)
            await asyncio.sleep(POLL_SECONDS)

    def _read(self) -> list[Text]:
        """Return the new lines of all attempts, each begun by its name; in a thread."""
        lines: list[Text] = []
        known = {tail.path for tail in self._tails}
        for log in self._find_logs():
            if log.path not in known:
                lines += self._new_lines()
                self._tails.append(LogTail(log.path, LOG_BYTES))
                lines.append(Text(f"── {log.ship} {log.label}", style=HEAD))
                new = self._new_lines()
                if self._tails[-1].is_cut:
                    lines.append(Text(f"(only the end is shown; all of it: {self._command})", style=QUIET))
                lines += new
        return lines or self._new_lines()

    def _new_lines(self) -> list[Text]:
        return [Text(line) for line in self._tails[-1].read()] if self._tails else []


class Question(ModalScreen[bool]):
    """A question, answered by y or n.

    Args:
        question: what is asked.
        details: what the user should know before.
    """

    DEFAULT_CSS = """
    Question { align: center middle; background: transparent; }
    Question Vertical { width: 70; max-width: 100%; height: auto; max-height: 100%; border: round $foreground;
        padding: 0 1; background: $background; }
    Question Static { width: 100%; height: auto; background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", show=False),
        *(Binding(key, "answer(False)", show=False) for key in ("n", "escape", "q")),
    ]

    def __init__(self, question: str, details: Sequence[str] = ()) -> None:
        super().__init__()
        self._text = Text("\n").join([Text(question, style=HEAD), *map(Text, details)])

    def compose(self) -> ComposeResult:
        """Make the parts."""
        with Vertical():
            yield Static(self._text)
            yield Static(Text.assemble(("y", HEAD), " yes   ", ("n", HEAD), " no (Esc)"))

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001 - as Textual calls it
        """Take the answer."""
        self.dismiss(answer)


class Search(ModalScreen[str]):
    """Asks what to look for; "" is the last one again.

    Args:
        last: what was looked for last.
    """

    DEFAULT_CSS = """
    Search { align: left bottom; background: transparent; }
    Search Input { border: none; height: 1; width: 100%; padding: 0; background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", show=False)]

    def __init__(self, last: str) -> None:
        super().__init__()
        self._last = last

    def compose(self) -> ComposeResult:
        """Make the parts."""
        again = f"; Enter: {self._last!r} again" if self._last else ""
        yield Input(placeholder=f"find a task by id or subject{again}", select_on_focus=False, max_length=100)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the answer."""
        self.dismiss(event.value.strip() or self._last)

    def action_cancel(self) -> None:
        """Look for nothing."""
        self.dismiss("")
