"""A line for each event of a voyage: in words for a pipe, with symbol, subject and figures for a terminal. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli.board import landed_line
from ocaptain.cli.fold import fold
from ocaptain.cli.reason import brief_reason
from ocaptain.cli.style import BAD, BUSY, GOOD, QUIET, fit, format_time
from ocaptain.cli.style import symbol as state_symbol
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.query import Event, Snapshot
    from ocaptain.query.watch import Diffstat

_LONG_ID = re.compile(r"\b[0-9a-f]{40}\b")
SHOWN_EVENTS = frozenset(
    [
        "claim",
        "landed",
        "settings",
        "retry",
        "again",
        "held",
        "approved",
        "failed",
        "conflict",
        "lost",
        "late",
        "denied",
        "replace",
        "verify",
        "ship",
        "pause",
        "voyage",
        "gate:interpreter",
        "gate:missing",
        "gate:passes",
        "gate:late",
    ]
)
#: What a pause means, by its reason.
_PAUSES = {
    "provider": "the provider does not answer: nothing new is started until it does",
    "ours": "this machine or the repository fails: nothing new is started until that is mended",
}
#: What is said when a voyage runs, by :func:`tell_states`.
_WORK = {"running": "work begins", "running: again": "work goes on"}
_AGAIN = frozenset({"retry", "again", "conflict", "lost", "late", "denied", "replace"})
_MAX_TEXT = 160
_MAX_SUBJECT = 40
#: A line that is longer than a terminal is wide goes on below its beginning, behind the time of day.
_MAX_LINES = 2
_INDENT = 9


def merge_ship_events(events: Sequence[Event]) -> list[Event]:
    """Merge events in a row that say the same of several ships, such as that the account has no room for them."""
    merged: list[Event] = []
    for event in events:
        last = merged[-1] if merged else None
        if last and (last.kind, last.text) == ("ship", event.text) and event.kind == "ship":
            merged[-1] = replace(last, n=event.n, ship=f"{last.ship}, {event.ship}")
        else:
            merged.append(event)
    return merged


def tell_states(events: Sequence[Event], state: str) -> tuple[list[Event], str]:
    """Leave out that a voyage runs where that was said before, and mark where it runs again.

    Args:
        events: that come next.
        state: what was last said of the voyage; "" for nothing, "paused" for one that is resumed.

    Returns:
        The events, and what was said last.
    """
    told = []
    for event in events:
        if event.kind != "voyage":
            told.append(event)
        elif event.text != "running":
            told.append(event)
            state = event.text
        elif not state.startswith("running"):
            text = "running: again" if state else "running"
            told.append(replace(event, text=text))
            state = text
    return told, state


def _shorten_commit(found: re.Match[str]) -> str:
    return found[0][:10]


def format_event(event: Event) -> str:
    """Return a line that tells an event of the voyage."""
    text = clean_line(event.text, _MAX_TEXT)
    where = f" on {event.ship}" if event.ship else ""
    be = "are" if "," in (event.ship or "") else "is"
    about = {
        "claim": f"task {event.task} → {event.ship} ({text})",
        "landed": f"task {event.task} landed as {text[:10]} ({event.ship})",
        "ship": f"{event.ship} {be} {'built' if text == 'bootstrapping' else text}",
        "voyage": _WORK.get(text) or f"voyage: {text.partition(':')[0]}",  # the reason is printed once, at the end
        "pause": _PAUSES.get(text, f"pausing ({text}): what is under way is finished first"),
        "denied": f"task {event.task} goes back{where}" if event.task else "no ship can go on working",
        "replace": f"{event.ship} is replaced: {text}",
        "verify": f"final verify: {_LONG_ID.sub(_shorten_commit, text)}",
        "settings": f"task {event.task} landed settings: {text}",
        "retry": f"task {event.task} failed{where} and is tried again: {text}",
        "conflict": f"task {event.task}{where} is tried again: {text}",
        "lost": f"task {event.task}{where} was lost, and is tried again: {text}",
        "late": f"task {event.task}{where} was lost, and its work came late: {text}",
        "again": f"task {event.task} is tried again",
        "held": f"task {event.task} {text}",
        "approved": f"task {event.task} is approved",
        "failed": f"task {event.task} failed for good{where}: {text}",
    }
    if event.kind.startswith("gate:"):
        return text
    return about.get(event.kind, f"task {event.task} {event.kind}{where}: {text}")


def event_line(event: Event, seen: Snapshot, diff: Diffstat | None, now: float, width: int) -> Text:
    """Return an event for a terminal: ``14:02:20 ✗ #17 Add login: failed for good on ship-3: exit 3``.

    Args:
        event: one of :data:`SHOWN_EVENTS`.
        seen: the voyage after the event.
        diff: what a landing changed, None if that is not known.
        now: in seconds since 1970.
        width: of the terminal; a long reason goes on in a second line.
    """
    if event.kind == "landed":
        landed = next((one for one in reversed(seen.landed) if one.commit == event.text), None)
        if landed:
            return landed_line(landed, diff, now, width)
    line = Text.assemble((format_time(event.at, now=now), QUIET), " ", event_symbol(event), " ")
    task = seen.task.get(event.task) if event.task else None
    if event.kind == "claim" and task:
        again = f" ({fit(event.text, 20)})" if event.text != "attempt 1" else ""
        line.append(f"#{fit(task.id, 16)} → {fit(event.ship or '', 16)}{again}  ")
        line.append(fit(task.subject, max(0, width - line.cell_len)))
        return fold(line, width, indent=_INDENT, most=_MAX_LINES)
    words = format_event(replace(event, text=brief_reason(event.text)))
    begin = f"task {event.task} "
    if task and words.startswith(begin):
        subject = fit(task.subject, _MAX_SUBJECT)
        words = f"#{fit(task.id, 16)} {subject}{': ' if subject else ''}{words.removeprefix(begin)}"
    line.append(fit(words, 3 * _MAX_TEXT))
    return fold(line, width, indent=_INDENT, most=_MAX_LINES)


def event_symbol(event: Event) -> Text:
    """Return the symbol of an event in its colour."""
    if event.kind == "failed":
        return Text("✗", style=BAD)
    if event.kind in {"landed", "approved"}:
        return Text("✓", style=GOOD)
    if event.kind == "verify":
        return Text("✓", style=GOOD) if event.text.startswith("passed") else Text("✗", style=BAD)
    if event.kind in {"ship", "voyage"}:
        state = event.text.partition(":")[0]
        return Text("✓", style=GOOD) if state == "bootstrapping" else state_symbol(state)
    if event.kind == "gate:passes":  # as `status` marks it: nothing is proven
        return Text("!", style=BUSY)
    if event.kind in _AGAIN:
        return Text("↻", style=BUSY)
    return Text("●", style=BUSY) if event.kind == "claim" else Text("○", style=QUIET)
