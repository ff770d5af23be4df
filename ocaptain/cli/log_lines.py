"""``logs``: the output of the agents and what became of their tasks, in the order of time."""

from __future__ import annotations

import math
import re
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.cli import render
from ocaptain.cli.event_lines import event_sign, event_words, pages, require_known
from ocaptain.cli.lines import Painter, format_utc, parse_since, wait_for_news
from ocaptain.cli.style import fit, format_clock, format_time, ship_colour, sign_colour, tsv_line
from ocaptain.cli.views import find_voyage, print_next_of
from ocaptain.errors import UsageError
from ocaptain.names import VERIFY_SHIP
from ocaptain.query import ENDED, Event, LedgerError, LogLine, LogReader, Query
from ocaptain.query.logs import SAME_MOMENT, Source, ascending, merge
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from types import FrameType

    from ocaptain.query import Log

POLL_SECONDS = 0.2
BUSY_SECONDS = 60.0
#: A last line without an end is printed so long after its attempt's: the rest of it may be under way.
LATE_SECONDS = 2.0
MATCH_SECONDS = 1.0  # of the processor's time, for one line
MAX_LABEL = 24
SHOWN = frozenset({"claim", "landed", "failed", "retry", "conflict", "lost", "late", "denied", "waited", "verify"})


@dataclass(frozen=True)
class LogChoice:
    """Which lines are shown: all conditions must hold.

    Attributes:
        names: of ships or tasks, one of which it must be of; empty = any.
        ships, tasks: likewise.
        since: only those of this time or later, as the user wrote it; None = all.
        grep: a regular expression that their text must match; None = any.
        tail: only so many of the last ones; None = all.
    """

    names: Collection[str] = ()
    ships: Collection[str] = ()
    tasks: Collection[str] = ()
    since: str | None = None
    grep: str | None = None
    tail: int | None = None

    def has_log(self, log: Log) -> bool:
        """Whether lines of a log may be shown."""
        return (
            (not self.names or log.belongs_to(self.names))
            and (not self.ships or log.ship in self.ships or (log.task is None and VERIFY_SHIP in self.ships))
            and (not self.tasks or log.task in self.tasks)
        )

    def has_event(self, event: Event) -> bool:
        """Whether an event may be shown between the lines."""
        about = {event.ship, event.task} - {None}
        return (
            event.kind in SHOWN
            and (event.kind == "verify" or event.task is not None)
            and (not self.names or bool(about & {*self.names}))
            and (not self.ships or event.ship in self.ships)
            and (not self.tasks or event.task in self.tasks)
        )


class TextPattern:
    """A regular expression that is given up if it takes too long, as some do on some texts.

    Raises:
        UsageError: it is no regular expression.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            self._pattern = re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            shown = clean_line(text, 60)
            raise UsageError(f"--grep {shown!r} is not a regular expression: {clean_line(str(error))}") from error
        signal.signal(signal.SIGVTALRM, self._give_up)  # Python's matcher looks for signals while it works

    def _give_up(self, _number: int, _frame: FrameType | None) -> None:
        shown = clean_line(self._text, 60)
        raise UsageError(f"--grep {shown!r} takes too long on a line; give one without repetitions inside repetitions")

    def matches(self, text: str) -> bool:
        """Whether it is found in a text.

        Raises:
            UsageError: that took more than :data:`MATCH_SECONDS`.
        """
        signal.setitimer(signal.ITIMER_VIRTUAL, MATCH_SECONDS)
        try:
            return self._pattern.search(text) is not None
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


class Words:
    """Tells events between the lines.

    Args:
        subjects: of the tasks.
    """

    def __init__(self, subjects: Mapping[str, str]) -> None:
        self._subjects = subjects
        self._began: dict[tuple[str | None, str | None], list[float]] = {}

    def learn(self, logs: Iterable[Log]) -> None:
        """Learn when each attempt began."""
        self._began.clear()
        for log in logs:
            self._began.setdefault((log.task, log.ship), []).append(log.began)

    def of(self, event: Event) -> str:
        """Return what an event says, without its symbol: ``#41 landed 4f73232 ship-3 1:02``."""
        if event.kind == "claim":
            again = "" if event.text == "attempt 1" else f", {event.text}"
            subject = fit(self._subjects.get(event.task or "", ""), 200)
            return fit(f"#{event.task} begins on {event.ship}{again}: {subject}", 400)
        if event.kind == "landed":
            began = self._began.get((event.task, event.ship), ())
            at = next((one for one in reversed(began) if one <= event.at + SAME_MOMENT), None)
            took = "" if at is None else f" {format_clock(event.at - at)}"
            return fit(f"#{event.task} landed {event.text[:7]} {event.ship}{took}", 400)
        return event_words(event)


class Form:
    """How lines are printed: for a terminal with colours, for a pipe as records."""

    def __init__(self, words: Words) -> None:
        console = render.out()
        self._is_piped = console.is_piped
        self._paint = Painter(console).paint
        self._words = words
        self._width = 0
        self._time: tuple[int, str] = (-1, "")

    def learn(self, logs: Iterable[Log]) -> None:
        """Learn how wide the names of attempts are, so that what they print is in one column."""
        widths = (len(_name(log)) for log in logs)
        self._width = max(self._width, min(MAX_LABEL, max(widths, default=0)))

    def line(self, item: LogLine | Event) -> str:
        """Return an item as a line."""
        if self._is_piped:
            return self._record(item)
        shown = self._paint(self._format_time(item.at), "dim")
        if isinstance(item, Event):
            sign = event_sign(item)
            return f"{shown} {self._paint(sign, sign_colour(sign))} {self._paint(self._words.of(item), 'bold')}"
        name = fit(_name(item.log), 80).ljust(self._width)
        return f"{shown} {self._paint(name, ship_colour(item.log.ship))} | {item.text.expandtabs()}".rstrip()

    def _record(self, item: LogLine | Event) -> str:
        if isinstance(item, Event):
            text = f"{event_sign(item)} {self._words.of(item)}"
            return tsv_line(format_utc(item.at), item.ship, item.task or "verify", text)
        return tsv_line(format_utc(item.at), item.log.ship, item.log.label, item.text)

    def _format_time(self, at: float) -> str:
        if self._time[0] != int(at):
            self._time = (int(at), format_time(at, now=time.time()))
        return self._time[1]


def _name(log: Log) -> str:
    return f"{log.ship} {log.label}" if log.task else f"{log.ship or ''} verify".strip()


def _at(item: LogLine | Event) -> float:
    return item.at


@dataclass
class LogView:
    """What is read of a voyage's logs and events, and how far.

    Attributes:
        query: the voyage's.
        choice: which lines.
        earliest: what ``choice.since`` means, in seconds since 1970.
        pattern: what ``choice.grep`` means.
        last_event: number of the last event that was read.
    """

    query: Query
    choice: LogChoice
    words: Words
    form: Form
    earliest: float = -math.inf
    pattern: TextPattern | None = None
    last_event: int = 0

    def __post_init__(self) -> None:
        self._readers: dict[Any, LogReader] = {}

    def look(self, *, is_over: bool, now: float) -> list[tuple[LogReader, int]]:
        """Find the logs, and up to where each can be read now; ``is_over``: nothing more comes."""
        logs = self.query.logs()
        self.words.learn(logs)
        found = []
        for log in filter(self.choice.has_log, logs):
            reader = self._readers.setdefault(log.path, LogReader(log))
            reader.log = log
            if log.ended is not None and log.ended < self.earliest:
                continue
            ended = is_over or (log.ended is not None and log.ended < now - LATE_SECONDS)
            end = reader.end(partial=ended)
            if end > reader.offset:
                found.append((reader, end))
        self.form.learn(reader.log for reader, _ in found)
        return found

    def new(self, found: list[tuple[LogReader, int]]) -> Iterator[LogLine | Event]:
        """Yield all that is new, oldest first. To be read to its end."""
        events = ascending(iter(self._new_events()), _at)
        sources = [Source(-math.inf, lambda: events)]
        for reader, end in found:
            lines = reader.lines(end, self.earliest)
            sources.append(Source(reader.log.began, _opener(ascending(lines, _at))))
        yield from filter(self._matches, merge(sources))
        for reader, end in found:
            reader.offset = end

    def last(self, found: list[tuple[LogReader, int]], count: int) -> list[LogLine | Event]:
        """Return the last lines of all that is new, oldest first."""
        events = ascending(reversed(self._new_events()), lambda one: -one.at)
        sources = [Source(-math.inf, lambda: events)]
        for reader, end in reversed(found):
            lines = reader.lines_back(end, self.earliest)
            bound = -math.inf if reader.log.ended is None else -reader.log.ended
            sources.append(Source(bound, _opener(ascending(lines, lambda one: -one.at))))
        latest: list[LogLine | Event] = []
        for item in merge(sources) if count else ():
            if self._matches(item):
                latest.append(item)
                if len(latest) == count:
                    break
        for reader, end in found:
            reader.offset = end
        return latest[::-1]

    def _new_events(self) -> list[Event]:
        found = []
        last = self.last_event
        for event in pages(self.query, last):
            last = event.n
            if event.at >= self.earliest and self.choice.has_event(event):
                found.append(event)
        self.last_event = last  # not before all could be read: otherwise they are read again
        return found

    def _matches(self, item: LogLine | Event) -> bool:
        if self.pattern is None:
            return True
        return self.pattern.matches(self.words.of(item) if isinstance(item, Event) else item.text)


def _opener(items: Iterator[tuple[float, Any]]) -> Any:
    return lambda: items


def show_logs(voyage: str | None, choice: LogChoice, *, follow: bool) -> None:
    """Print log lines; with ``follow`` until the voyage has ended.

    Raises:
        UsageError: there is no such ship or task, ``grep`` is no regular expression, or ``since`` no time.
        LedgerError: the ledger cannot be read; one that is followed, for more than :data:`BUSY_SECONDS`.
        ReaderGone: nobody reads what is printed.
    """
    directory = find_voyage(voyage)
    earliest = -math.inf if choice.since is None else parse_since(choice.since, time.time())
    pattern = None if choice.grep is None else TextPattern(choice.grep)
    query = Query(directory.path)
    require_known(query, directory.id, ships=choice.ships, tasks=choice.tasks, names=choice.names)
    words = Words(query.subjects())
    form = Form(words)
    view = LogView(query, choice, words, form, earliest, pattern)
    found = view.look(is_over=not follow, now=time.time())
    _print(form, view.new(found) if choice.tail is None else view.last(found, choice.tail))
    if follow:
        _follow(view, form)
    print_next_of(directory)


def _follow(view: LogView, form: Form) -> None:
    unread_since: float | None = None
    has_ended = False
    while not has_ended:
        try:
            # Asked before the logs are read: all that belongs to the end is among them.
            is_over = view.query.state() in ENDED
            _print(form, view.new(view.look(is_over=is_over, now=time.time())))
            has_ended, unread_since = is_over, None
        except LedgerError:  # it is busy, or has just been moved
            now = time.monotonic()
            unread_since = unread_since or now
            if now - unread_since > BUSY_SECONDS:
                raise
        if not has_ended:
            wait_for_news(POLL_SECONDS)


def _print(form: Form, items: Iterable[LogLine | Event]) -> None:
    for item in items:
        sys.stdout.write(f"{form.line(item)}\n")
    sys.stdout.flush()
