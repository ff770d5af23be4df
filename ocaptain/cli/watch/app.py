"""The application: reads the voyage twice a second, draws what changed, and does what the keys say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Container

from ocaptain.cli import board
from ocaptain.cli.style import GOOD
from ocaptain.cli.watch.acts import ActingApp
from ocaptain.cli.watch.keys import KEYS, key_line
from ocaptain.cli.watch.pages import POLL_SECONDS
from ocaptain.cli.watch.panes import Fixed, Rows, TextPane
from ocaptain.cli.watch.programs import OURSELVES
from ocaptain.cli.watch.rows import ship_rows, task_rows
from ocaptain.cli.watch.seen import Reader, Seen, notice_lines
from ocaptain.cli.watch.size import MIN_HEIGHT, MIN_WIDTH, is_too_small, share_room
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from textual.app import ComposeResult

    from ocaptain.voyage.home import VoyageDirectory

CLOCK_SECONDS = 1.0
SAID_SECONDS = 20.0
PANE_LINES = 1000
_LOW_HEIGHT = 18  # below, there is less of the head


class WatchApp(ActingApp):
    """Watches one voyage.

    Args:
        directory: the voyage's.
        machine: cost of a number of seconds of a machine awake, in nano-dollars.
        environ: the environment of programs that it starts.
        program: how ocaptain is run.
        clock: seconds since 1970.
    """

    CSS = """
    Screen { layout: vertical; background: $background; overflow: hidden; }
    #head, #notices, #keys, #small { width: 100%; }
    #lists { height: auto; width: 100%; }
    #tasks.beside { border-left: solid ansi_bright_black; }
    #small { display: none; }
    """
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key.keys, key.action, key.label, show=False) for key in KEYS),
        Binding("ctrl+c", "leave", show=False, priority=True),
    ]

    def __init__(
        self,
        directory: VoyageDirectory,
        machine: Callable[[float], int] = lambda _: 0,
        environ: Mapping[str, str] = os.environ,
        program: Sequence[str] = OURSELVES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(ansi_color=True)  # the colours that the user gave the terminal; none with NO_COLOR
        self.theme = "ansi-dark"
        self.directory = directory
        self.environ = environ
        self.program = program
        self.seen = Seen()
        self._machine = machine
        self._clock = clock
        self._reader = Reader(directory.path)
        self._look = asyncio.Event()
        self._said: tuple[float, Text] | None = None
        self._with_landed = False
        self.ships = Rows(clock, id="ships")
        self.tasks = Rows(clock, id="tasks")
        self.log_pane = TextPane(PANE_LINES, is_folded=False, id="log")
        self._head = Fixed(self._head_lines, id="head")
        self._notices = Fixed(self._notice_lines, id="notices")
        self._keys = Fixed(self._key_lines, id="keys")
        self._small = Fixed(self._small_lines, id="small")
        self._lists = Container(self.ships, self.tasks, id="lists")

    @property
    def fault(self) -> Exception | None:
        """The exception that ended the application, None if the user did."""
        return self._exception

    def _fatal_error(self) -> None:
        """End, without Textual's page-long traceback: it is for a file, not for the terminal."""
        self._close_messages_no_wait()

    def compose(self) -> ComposeResult:
        """Make the parts."""
        yield self._head
        yield self._lists
        yield self.log_pane
        yield self._notices
        yield self._keys
        yield self._small

    def on_mount(self) -> None:
        """Begin to read and to draw."""
        self.ships.focus()
        self.start(self._watch)
        self.set_interval(CLOCK_SECONDS, self.draw)

    def on_resize(self) -> None:
        """Share the room anew."""
        self.arrange()

    async def _watch(self) -> None:
        while True:
            self._look.clear()
            self._show(await asyncio.to_thread(self._reader.read, self.ships.chosen))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._look.wait()

    def look(self) -> None:
        """Read again at once."""
        self._look.set()

    def _show(self, seen: Seen) -> None:
        before, self.seen = self.seen, seen
        if seen.snapshot is not None and (seen.snapshot is not before.snapshot or seen.actions != before.actions):
            self._fill_lists(with_tasks=seen.snapshot is not before.snapshot)
        if seen.is_new_log:
            self.log_pane.clear()
            self.log_pane.set_title(self._log_title())
            self.arrange()
        if seen.lines:
            self.log_pane.add(Text(line) for line in seen.lines)
        self.draw()

    def _fill_lists(self, *, with_tasks: bool) -> None:
        snapshot = self.seen.snapshot
        if snapshot is None:
            return
        up = sum(ship.is_up for ship in snapshot.ships)
        self.ships.show(f"ships {up}/{len(snapshot.ships)} up", ship_rows(snapshot, self.seen.actions))
        if with_tasks:
            counts = snapshot.about.tasks
            failed = f", {counts['failed']} failed" if counts["failed"] else ""
            title = f"tasks {counts['completed']}/{counts['total']} landed{failed}"
            self.tasks.show(title, task_rows(snapshot, with_landed=self._with_landed))
            self.arrange()

    def draw(self) -> None:
        """Draw what changed, also with the clock."""
        if self._said and self._clock() - self._said[0] > SAID_SECONDS:
            self._said = None
        self._fit_heights()
        for part in (self._head, self.ships, self.tasks, self.log_pane, self._notices, self._keys):
            part.redraw()

    def say(self, words: str, style: str = GOOD) -> None:
        """Show the answer to a key."""
        self._said = (self._clock(), Text(clean_line(words), style=style))
        self.draw()

    def arrange(self) -> None:
        """Give each part its place and size."""
        width, height = self.size
        small = is_too_small(width, height)
        self._small.display = small
        for part in (self._head, self._lists, self.log_pane, self._notices, self._keys):
            part.display = not small
        if small:
            self._small.styles.height = height
            self._small.redraw()
            return
        heads, notices = len(self._head_lines(width)), len(self._notice_lines(width))
        self._head.styles.height, self._notices.styles.height = heads, notices
        room = height - heads - notices - 1
        size = share_room(width, room, self.ships.row_count, self.tasks.row_count, has_log=self.seen.log is not None)
        self._lists.styles.layout = "horizontal" if size.is_beside else "vertical"
        for rows, (wide, high) in ((self.ships, size.ships), (self.tasks, size.tasks)):
            rows.styles.width, rows.styles.height = wide, high
        self.tasks.set_class(size.is_beside, "beside")
        self.log_pane.styles.height = size.log
        self.log_pane.display = size.log > 0
        if not size.log and self.focused is self.log_pane:
            self.ships.focus()

    def _fit_heights(self) -> None:
        """Arrange anew if head or notices need another number of lines."""
        width, height = self.size
        wanted = (len(self._head_lines(width)), len(self._notice_lines(width)))
        if not is_too_small(width, height) and wanted != (self._head.size.height, self._notices.size.height):
            self.arrange()

    def _head_lines(self, width: int) -> list[Text]:
        seen, now = self.seen.snapshot, self._clock()
        if seen is None:
            return [Text(f"{self.directory.id}: reading …")]
        lines = [board.head_line(seen, now, width)]
        if self.size.height >= _LOW_HEIGHT:
            lines.append(board.phases_line(seen, now, width))
        lines.append(board.progress_line(seen, board.money_of(seen, self._machine), now, width))
        return lines

    def _notice_lines(self, width: int) -> list[Text]:
        most = max(2, self.size.height // 4)  # what matters most comes first
        return notice_lines(self.seen, self._said[1] if self._said else None, width)[:most]

    def _key_lines(self, width: int) -> list[Text]:
        can = [key.action for key in KEYS if self.check_action(key.action, ())]
        labels = {"pause": "resume"} if self.can_resume else {}
        return [key_line(can, labels | ({"all": "fewer"} if self._with_landed else {}), width)]

    def _small_lines(self, width: int) -> list[Text]:
        wide, high = self.size
        words = f"this terminal is too small: it has {wide}x{high}, watch needs {MIN_WIDTH}x{MIN_HEIGHT}; q leaves"
        return list(Text(words).wrap(self.console, max(1, width), overflow="fold"))

    def _log_title(self) -> str:
        path, snapshot = self.seen.log, self.seen.snapshot
        if path is None or snapshot is None:
            return "log"
        task = snapshot.task.get(path.name.removesuffix(".log").rpartition(".")[0])
        return f"log of {path.parent.name} #{task.id} {task.subject}" if task else f"log of {path.parent.name}"

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        """Read the log of the ship that was chosen."""
        del event
        self.look()
        self._keys.redraw()

    def action_all(self) -> None:
        """Show each landed task, or counts."""
        self._with_landed = not self._with_landed
        self._fill_lists(with_tasks=True)
        self.draw()

    def show_all(self) -> None:
        """Show each landed task."""
        self._with_landed = True
        self._fill_lists(with_tasks=True)

    async def action_quit(self) -> None:
        """Leave, by Textual's own key."""
        self.action_leave()

    def action_leave(self) -> None:
        """Stop watching."""
        self.exit()
