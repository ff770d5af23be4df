"""``events``: all that happens on a voyage, as it happens; and how one event is told, for ``logs`` as well."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli import render
from ocaptain.cli.fold import fold
from ocaptain.cli.lines import Painter, format_utc, parse_since, wait_for_news, write_line
from ocaptain.cli.reason import brief_reason
from ocaptain.cli.style import STATE_SYMBOLS, cells, fit, format_time, sign_colour, tsv_line
from ocaptain.cli.views import find_voyage
from ocaptain.cli.voyage_news import format_event, merge_ship_events, tell_states
from ocaptain.errors import UsageError
from ocaptain.query import ENDED, LedgerError, Query
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from ocaptain.query import Event

POLL_SECONDS = 0.25
BUSY_SECONDS = 60.0  # a ledger that is followed may be locked for so long
_SIGNS = {
    **dict.fromkeys(("landed", "approved", "adopted", "restored", "local", "gate:passes"), "✓"),
    **dict.fromkeys(("failed", "lost", "refused", "left out", "gate:interpreter"), "✗"),
    **dict.fromkeys(("retry", "conflict", "late", "again", "replace", "denied", "forgiven", "waited"), "↻"),
    "claim": "●",
}
#: What a ship does between two tasks: for programs.
_NOISE = frozenset({("ship", "idle"), ("ship", "asleep")})
#: How the answer to a command begins, and the command.
_VERBS = {"retried: ": "retry", "changed: ": "retry", "approved: ": "approve"}
_MAX_SUBJECT = 40
_MAX_WORDS = 200
_TOLD_WITHOUT_TASK = frozenset({"ship", "voyage", "pause", "denied", "replace", "verify"})  # by format_event


@dataclass(frozen=True)
class EventChoice:
    """Which events are shown.

    Attributes:
        after: only those with a higher number.
        since: only those of this time or later, as the user wrote it; None = all.
        tasks, ships: only those of one of these; empty = all.
    """

    after: int = 0
    since: str | None = None
    tasks: Collection[str] = ()
    ships: Collection[str] = ()

    def has(self, event: Event, earliest: float) -> bool:
        """Whether an event is shown; ``earliest``: what ``since`` means, in seconds since 1970."""
        return (
            event.at >= earliest
            and (not self.tasks or event.task in self.tasks)
            and (not self.ships or event.ship in self.ships)
        )


def event_sign(event: Event) -> str:
    """Return the symbol of an event."""
    if event.kind == "verify":
        return "✓" if event.text.startswith("passed") else "✗"
    if event.kind in {"ship", "voyage"}:
        return STATE_SYMBOLS.get(event.text.partition(":")[0], "○")
    return _SIGNS.get(event.kind, "○")


def event_words(event: Event) -> str:
    """Return an event as one clean line."""
    if event.task is None and event.kind not in _TOLD_WITHOUT_TASK and not event.kind.startswith("gate:"):
        where = f" ({event.ship})" if event.ship else ""
        return clean_line(f"{event.kind}{where}: {clean_line(event.text, 160)}")
    return clean_line(format_event(replace(event, text=brief_reason(event.text))))


def event_json(event: Event) -> str:
    """Return an event as a JSON object on one line."""
    fields = {
        "n": event.n,
        "at": format_utc(event.at, digits=3),
        "kind": event.kind,
        "ship": event.ship,
        "task": event.task,
        "text": event.text,
    }
    return json.dumps(fields)


def event_record(event: Event) -> str:
    """Return an event as a record for a pipe: number, time, kind, ship, task, text."""
    fields = (event.kind, event.ship, event.task, event.text)
    return tsv_line(event.n, format_utc(event.at), *(one and clean_line(one) for one in fields))


class Teller:
    """Tells events to people: with the subjects of tasks, and without what only programs want to know.

    Args:
        subjects: of the tasks.
        painter: for the terminal.
        width: of the terminal, in cells.
    """

    def __init__(self, subjects: Mapping[str, str], painter: Painter, width: int) -> None:
        self._subjects = subjects
        self._painter = painter
        self._width = width
        self._state = ""  # of the voyage

    def lines(self, events: Iterable[Event], now: float) -> Iterator[str]:
        """Yield what is to be printed of events that come next; ``now``: in seconds since 1970."""
        told, self._state = tell_states([one for one in events if (one.kind, one.text) not in _NOISE], self._state)
        for event in merge_ship_events(told):
            sign, shown = event_sign(event), format_time(event.at, now=now)
            lead = f"{shown} {sign} "
            text = fold(
                Text(f"{lead}{self._words(event, self._width - cells(lead))}"), self._width, indent=len(shown) + 1
            ).plain
            paint = self._painter.paint
            yield f"{paint(shown, 'dim')} {paint(sign, sign_colour(sign))} {text[len(lead) :]}"

    def _words(self, event: Event, room: int) -> str:
        """Return what an event says; ``room``: cells that a line has for it."""
        if told := _KINDS.get(event.kind):
            return told(event)
        if (event.kind, event.text) == ("pause", "user"):
            return "you: pause (what is under way is finished first)"
        words, begin = event_words(event), f"task {event.task} "
        subject, name = self._subjects.get(event.task or "", ""), f"#{event.task}"
        if not subject or not words.startswith(begin):
            return words
        rest = words.removeprefix(begin)
        if event.kind in {"claim", "landed"}:
            head = f"{name} {rest}  "
            return f"{head}{fit(subject, max(0, room - cells(head)))}".rstrip()
        return f"{name} {fit(subject, _MAX_SUBJECT)}: {rest}"


def _words_of_command(event: Event) -> str:
    """Return a command as it was typed: ``you: retry 17``; what is none that we know stays as it is."""
    try:
        told = json.loads(event.text)
        said, tasks = str(told["said"]), " ".join(map(str, told["tasks"]))
    except (ValueError, KeyError, TypeError):
        return event_words(event)
    verb = next((verb for start, verb in _VERBS.items() if said.startswith(start)), "")
    return clean_line(f"you: {verb} {tasks}" if verb else f"you: {said}", _MAX_WORDS)


#: How a kind of event is told to people that is told otherwise to programs.
_KINDS: dict[str, Callable[[Event], str]] = {"command": _words_of_command}


def pages(query: Query, after: int) -> Iterator[Event]:
    """Yield all events after a number; a voyage has many, so they are read in parts."""
    for page in _read_pages(query, after):
        yield from page


def _read_pages(query: Query, after: int) -> Iterator[Sequence[Event]]:
    while page := query.events(after):
        yield page
        after = page[-1].n


def show_events(voyage: str | None, choice: EventChoice, *, follow: bool, as_json: bool) -> None:
    """Print events; with ``follow`` until the voyage has ended.

    Raises:
        UsageError: there is no such ship or task, or ``since`` is no time.
        LedgerError: the ledger cannot be read; one that is followed, for more than :data:`BUSY_SECONDS`.
        ReaderGone: nobody reads what is printed.
    """
    directory = find_voyage(voyage)
    query = Query(directory.path)
    earliest = -math.inf if choice.since is None else parse_since(choice.since, time.time())
    require_known(query, directory.id, ships=choice.ships, tasks=choice.tasks)
    form = _choose_form(query, as_json=as_json)
    last, unread_since = choice.after, None
    while True:
        try:
            # Asked before the events are read: all that belongs to the end is among them.
            has_ended = not follow or query.state() in ENDED
            for page in _read_pages(query, last):
                for line in form([event for event in page if choice.has(event, earliest)]):
                    write_line(line)
                last = page[-1].n
            if has_ended:
                return
            unread_since = None
        except LedgerError:  # it is busy, or has just been moved
            now = time.monotonic()
            unread_since = unread_since or now
            if not follow or now - unread_since > BUSY_SECONDS:
                raise
        wait_for_news(POLL_SECONDS)


def _choose_form(query: Query, *, as_json: bool) -> Callable[[Iterable[Event]], Iterable[str]]:
    console = render.out()
    if as_json:
        render.print_no_other_json()
        return lambda events: map(event_json, events)
    if console.is_piped:
        return lambda events: map(event_record, events)
    teller = Teller(query.subjects(), Painter(console), console.width)
    return lambda events: teller.lines(events, time.time())


def require_known(
    query: Query,
    voyage: str,
    *,
    ships: Collection[str] = (),
    tasks: Collection[str] = (),
    names: Collection[str] = (),
) -> None:
    """Require that these ships, tasks, and names of either are the voyage's.

    Raises:
        UsageError: one is not.
    """
    if not (ships or tasks or names):
        return
    known_ships = [ship.id for ship in query.ships()]
    known_tasks = query.subjects()
    for noun, given, known in (
        ("ship", ships, {*known_ships}),
        ("task", tasks, known_tasks.keys()),
        ("ship or task", names, {*known_ships, *known_tasks}),
    ):
        for name in given:
            if name not in known:
                theirs = f"its ships are {', '.join(known_ships)}" if "ship" in noun else "see `ocaptain tasks`"
                raise UsageError(f"{voyage} has no {noun} {clean_line(name, 60)!r}; {theirs}")
