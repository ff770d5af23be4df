"""What a running ``sail`` shows: the plays, the voyage's events, and its live screen.

events of Ansible ──> Building ──┐
ledger ──Watcher──> Snapshot ────┼──> board ──> the lines at the bottom of a terminal
logs   ──Watcher──> actions ─────┘
events of the ledger ──> lines that scroll above; without a terminal there is nothing else
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from ocaptain.cli import render
from ocaptain.cli.board import Extras, board
from ocaptain.cli.building import LAUNCH_TASK, PREPARE_TASK, Building, building_lines, with_steps
from ocaptain.cli.diff_reader import DiffReader
from ocaptain.cli.facts import counted
from ocaptain.cli.fold import fold
from ocaptain.cli.style import QUIET, format_time
from ocaptain.cli.views import shortest_name
from ocaptain.cli.voyage_news import SHOWN_EVENTS, event_line, format_event, merge_ship_events, tell_states
from ocaptain.process import fleet_lock
from ocaptain.query import LedgerError, Query
from ocaptain.query.watch import Watcher
from ocaptain.text import clean_line
from ocaptain.voyage.home import VoyageDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ocaptain.ansible.runner import Event
    from ocaptain.locks import Lock
    from ocaptain.query import Event as VoyageEvent
    from ocaptain.query import Snapshot

PROVISION_PLAY = "Provision the fleet"
RETRY_PLAY = "Bootstrap what could not be reached once more"
LOCK_SECONDS = 2.0
#: Between two frames at least, and how long a landing waits for what it changed.
FRAME_SECONDS = 0.25
_DIFF_SECONDS = 1.0
#: A read of the ledger that took a second of processor time is not repeated for so many; short ones always are.
_REST_PER_READ = 20
_SHORT_READ = 0.01
#: States of ships that the live screen shows, and that change too often to be told above it.
_SEEN_BELOW = frozenset({"idle", "working", "asleep"})
#: Lines that the live screen leaves to what scrolls above: this part of a terminal, and so many at least.
_LEFT_PART, _LEFT_LINES = 4, 2


@dataclass(frozen=True)
class _Waiting:
    """An event that is to be printed, and since when it waits, on the clock that never goes back."""

    event: VoyageEvent
    since: float


def live_height(terminal: int) -> int:
    """Return how many lines the live screen may have on a terminal of that many."""
    return max(1, terminal - max(_LEFT_LINES, terminal // _LEFT_PART))


def wrapped_rows(lines: Sequence[Text], width: int) -> int:
    """Return how many rows more than lines there are on a terminal that has become so narrow."""
    return sum(max(0, line.cell_len - 1) // max(1, width) for line in lines)


class SailProgress:
    """Shows the progress of a run: the events of Ansible, then those of the ledger.

    Args:
        title: name of the plan, or id of the voyage.
        machine_cost: by provider, the cost of a number of seconds of a machine awake, in nano-dollars.
        clock: seconds since 1970.

    Attributes:
        directory: of the voyage, None until it is prepared.
        is_locked_elsewhere: whether another command works on the voyage's fleet, so that this run must end.
    """

    def __init__(
        self,
        title: str = "",
        machine_cost: Mapping[str, Callable[[float], int]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory: VoyageDirectory | None = None
        self.is_locked_elsewhere = False
        self._clock = clock
        self._machine_cost = machine_cost or {}
        self._console = render.live()
        self._live: Live | None = None
        self._last_event = 0
        self._named = ""  # the voyage in commands about its tasks
        self._told_held: frozenset[str] = frozenset()  # tasks that were said to wait for approval
        self._is_retrying = False
        self._state = ""  # of the voyage, as it was last told
        self._fleet_lock: Lock | None = None
        self._building = Building(title, clock())
        self._watcher: Watcher | None = None
        self._diffs: DiffReader | None = None
        self._seen: Snapshot | None = None
        self._look_at = 0.0
        self._waiting: deque[_Waiting] = deque()
        self._drawn_at = 0.0
        self._drawn: list[Text] = []
        self._width = self._console.width

    def __enter__(self) -> Self:
        if self._console.can_redraw:
            self._live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop")
            self._live.start()
            self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._flush(is_last=True)
            self._live.stop()
        self._release_fleet()

    def begin(self) -> None:
        """Say what comes first: Ansible takes a second before it says anything."""
        self._print_step(PREPARE_TASK)

    def lock_fleet(self, directory: Path) -> None:
        """Lock the voyage's fleet for this run; sets ``is_locked_elsewhere`` if another command holds the lock."""
        if self._fleet_lock is None:
            self._fleet_lock = fleet_lock(directory)
            self.is_locked_elsewhere = not self._fleet_lock.acquire_within(LOCK_SECONDS)

    def _release_fleet(self) -> None:
        if self._fleet_lock:
            self._fleet_lock.release()

    def _print(self, line: str, at: float | None = None) -> None:
        when = format_time(self._clock() if at is None else at)
        text = Text.assemble((when, QUIET), f" {clean_line(line)}")
        self._console.print(fold(text, self._console.width, indent=len(when) + 1) if self._live else text)

    def _print_step(self, step: str) -> None:
        if not self._live:  # which shows it with its time
            self._print(f"{step} …")

    def on_event(self, event: Event) -> None:
        """Show an event of Ansible's."""
        self._building.note(event)
        if event.kind == "playbook_on_play_start":
            self._is_retrying = event.task == RETRY_PLAY
            if event.task != PROVISION_PLAY and not self._is_retrying:
                self._print_step(event.task)
        elif event.kind == "runner_on_start" and self._is_retrying and event.host != "localhost":
            self._is_retrying = False
            self._print(f"{RETRY_PLAY} …")  # usually there is no such ship
        elif event.kind == "runner_on_ok" and event.task == PREPARE_TASK:
            self._on_prepared(event.result)
        elif event.kind == "runner_on_ok" and event.task == LAUNCH_TASK:
            self._release_fleet()  # from here on the run only waits
        elif event.kind == "runner_on_unreachable" or (event.kind == "runner_on_failed" and event.host != "localhost"):
            self._print(event.failure)
        self.on_idle()

    def _on_prepared(self, result: Mapping[str, Any]) -> None:
        for note in result.get("notes", []):
            self._print(str(note))
        made = result["voyage"]
        self.directory = VoyageDirectory(Path(made["directory"]))
        self._named = shortest_name(self.directory)
        self.lock_fleet(self.directory.path)
        verb = "is resumed" if made["resumed"] else "is prepared"
        self._print(f"{made['id']} {verb}: {describe_fleet(made['ships'])} on {made['provider']}")
        self._print_step(PROVISION_PLAY)
        self._building.begin_ships(made["ships"])
        if made["resumed"]:
            self._state = "paused"
            self._skip_old_events(self.directory)

    def _skip_old_events(self, directory: VoyageDirectory) -> None:
        """Skip the events of earlier runs; print what they said that still holds."""
        query = Query(directory.path)
        with contextlib.suppress(LedgerError):
            self._last_event = query.last_event()
            if query.state() == "complete":
                self._print("it is complete: nothing is left to do")
            self._told_held = frozenset(held := query.overview().held_tasks)
            for task in held:
                self._print(f"task {task} waits for approval: ocaptain approve {directory.id} {task}")

    def on_idle(self) -> None:
        """Show what is new in the ledger, and the time."""
        self._mend_after_resize()
        self._look()
        self._flush()
        self._draw()

    def finish(self) -> None:
        """Show what is new for the last time."""
        self._look_at = 0.0
        self._mend_after_resize()
        self._look()
        self._flush(is_last=True)

    def _look(self) -> None:
        """Read the ledger if it has changed, and take the new events in."""
        if self.directory is None or time.monotonic() < self._look_at:
            return
        if self._watcher is None:
            self._watcher = Watcher(self.directory.path, self._clock)
            self._diffs = DiffReader(self.directory.path) if self._live else None
        began = time.thread_time()
        try:
            seen = self._watcher.snapshot()
            if seen is self._seen:
                return
            news = Query(self.directory.path).events(self._last_event)
        except (LedgerError, KeyError, TypeError, ValueError):  # it is busy, or damaged: what ends the run says so
            return
        self._seen = seen
        took = time.thread_time() - began
        self._look_at = time.monotonic() + (took * _REST_PER_READ if took > _SHORT_READ else 0.0)
        told, self._state = tell_states(news, self._state)
        self._last_event = news[-1].n if news else self._last_event
        for event in merge_ship_events(told):
            if self._is_news(event):
                self._waiting.append(_Waiting(event, time.monotonic()))
                if self._diffs and event.kind == "landed":
                    self._diffs.ask(event.text)

    def _is_news(self, event: VoyageEvent) -> bool:
        """Whether an event is to be printed."""
        if event.kind == "held" and event.task in self._told_held:
            return False  # each captain announces anew what waits for approval
        if self._live and event.kind == "ship" and event.text in _SEEN_BELOW:
            return False
        return event.kind in SHOWN_EVENTS

    def _flush(self, *, is_last: bool = False) -> None:
        """Print the events in their order; a landing waits a little for what it changed."""
        while self._waiting:
            event, since = self._waiting[0].event, self._waiting[0].since
            if self._seen is None or self._diffs is None:
                self._print(format_event(event), event.at)
            else:
                is_known = event.kind != "landed" or event.text in self._diffs.known
                if not is_known and not is_last and time.monotonic() < since + _DIFF_SECONDS:
                    return
                diff = self._diffs.diffs.get(event.text)
                self._console.print(event_line(event, self._seen, diff, self._clock(), self._console.width))
            self._waiting.popleft()

    def _mend_after_resize(self) -> None:
        """Erase what a terminal that became narrower made of the last frame: its lines now take several rows each."""
        if self._live is None:
            return
        before, self._width = self._width, self._console.width
        if self._width < before and (extra := wrapped_rows(self._drawn, self._width)):
            erase_row = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
            self._console.control(Control(ControlType.CARRIAGE_RETURN, *erase_row * extra))

    def _draw(self) -> None:
        """Draw the live screen, if it has changed and the last frame is old enough."""
        if self._live is None or time.monotonic() < self._drawn_at + FRAME_SECONDS:
            return
        self._drawn_at = time.monotonic()
        size = self._console.size
        # Whole seconds: else each clock on the screen would change at a moment of its own, and with each the frame.
        lines = self._lines(float(int(self._clock())), size.width, live_height(size.height))
        if lines != self._drawn:
            self._drawn = lines
            self._live.update(Group(*lines), refresh=True)

    def _lines(self, now: float, width: int, height: int) -> list[Text]:
        if self._seen is None or self._watcher is None:
            return building_lines(self._building, now, width, height)
        seen, steps = with_steps(self._seen, self._building)
        machine = self._machine_cost.get(seen.about.provider, lambda _: 0)
        return board(seen, Extras({**steps, **self._watcher.actions()}, machine, self._named), now, width, height)


def describe_fleet(ships: Sequence[Mapping[str, Any]]) -> str:
    """Return how many ships sail: ``1 ship``, ``3 + 1 for verify``."""
    extra = sum(ship["role"] == "verify" for ship in ships)
    work = len(ships) - extra
    if not extra:
        return counted(work, "ship")
    return f"{work} + {extra} for verify" if work else f"{extra} for verify"
