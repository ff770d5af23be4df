"""What a running ``sail`` shows: the plays, the voyage's events, and its status."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live

from ocaptain.cli import render
from ocaptain.process import fleet_lock
from ocaptain.query import LedgerError, Query
from ocaptain.text import clean_line
from ocaptain.voyage.home import VoyageDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.ansible.runner import Event
    from ocaptain.locks import Lock
    from ocaptain.query import Event as VoyageEvent

PROVISION_PLAY = "Provision the fleet"
PREPARE_TASK = "Check everything and prepare the voyage"
RETRY_PLAY = "Bootstrap what could not be reached once more"
LAUNCH_TASK = "Start the captain"
LOCK_SECONDS = 2.0
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


class SailProgress:
    """Shows the progress of a run: the events of Ansible, then those of the ledger.

    Attributes:
        directory: of the voyage, None until it is prepared.
        is_locked_elsewhere: whether another command works on the voyage's fleet, so that this run must end.
    """

    def __init__(self) -> None:
        self.directory: VoyageDirectory | None = None
        self._console = render.err()
        self._live: Live | None = None
        self._last_event = 0
        self._told_held: frozenset[str] = frozenset()  # tasks that were said to wait for approval
        self._is_retrying = False
        self._fleet_lock: Lock | None = None
        self.is_locked_elsewhere = False

    def __enter__(self) -> Self:
        if not self._console.is_plain:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        self._release_fleet()

    def lock_fleet(self, directory: Path) -> None:
        """Lock the voyage's fleet for this run; sets ``is_locked_elsewhere`` if another command holds the lock."""
        if self._fleet_lock is None:
            self._fleet_lock = fleet_lock(directory)
            self.is_locked_elsewhere = not self._fleet_lock.acquire_within(LOCK_SECONDS)

    def _release_fleet(self) -> None:
        if self._fleet_lock:
            self._fleet_lock.release()

    def _print(self, line: str) -> None:
        self._console.print(clean_line(line))

    def on_event(self, event: Event) -> None:
        """Show an event of Ansible's."""
        if event.kind == "playbook_on_play_start":
            self._is_retrying = event.task == RETRY_PLAY
            if event.task == PROVISION_PLAY:  # it begins with the checks, which may refuse
                self._print(f"{PREPARE_TASK} …")
            elif not self._is_retrying:
                self._print(f"{event.task} …")
        elif event.kind == "runner_on_start" and self._is_retrying and event.host != "localhost":
            self._is_retrying = False
            self._print(f"{RETRY_PLAY} …")  # usually there is no such ship
        elif event.kind == "runner_on_ok" and event.task == PREPARE_TASK:
            for note in event.result.get("notes", []):
                self._print(str(note))
            made = event.result["voyage"]
            self.directory = VoyageDirectory(Path(made["directory"]))
            self.lock_fleet(self.directory.path)
            verb = "is resumed" if made["resumed"] else "is prepared"
            self._print(f"{made['id']} {verb}: {describe_fleet(made['ships'])} on {made['provider']}")
            self._print(f"{PROVISION_PLAY} …")
            if made["resumed"]:
                self._skip_old_events(self.directory)
        elif event.kind == "runner_on_ok" and event.task == LAUNCH_TASK:
            self._release_fleet()  # from here on the run only waits
        elif event.kind == "runner_on_unreachable" or (event.kind == "runner_on_failed" and event.host != "localhost"):
            self._print(f"{event.host}: {event.task}: {event.result.get('msg', 'failed')}")
        self.on_idle()

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
        """Show what is new in the ledger."""
        if self.directory is None:
            return
        try:
            query = Query(self.directory.path)
            news = query.events(self._last_event)
            seen = query.overview() if self._live else None
        except LedgerError:
            return
        for event in merge_ship_events(news):
            self._last_event = event.n
            # Each captain announces anew what waits for approval.
            if event.kind in SHOWN_EVENTS and not (event.kind == "held" and event.task in self._told_held):
                self._print(format_event(event))
        if self._live and seen:
            self._live.update(render.render_status(seen))


def describe_fleet(ships: Sequence[Mapping[str, Any]]) -> str:
    """Return how many ships sail: ``3 ships``, ``3 + 1 for verify``."""
    extra = sum(ship["role"] == "verify" for ship in ships)
    work = len(ships) - extra
    if not extra:
        return f"{work} ships"
    return f"{work} + {extra} for verify" if work else f"{extra} for verify"


def merge_ship_events(events: Sequence[VoyageEvent]) -> list[VoyageEvent]:
    """Merge events in a row that say the same of several ships, such as that the account has no room for them."""
    merged: list[VoyageEvent] = []
    for event in events:
        last = merged[-1] if merged else None
        if last and (last.kind, last.text) == ("ship", event.text) and event.kind == "ship":
            merged[-1] = replace(last, n=event.n, ship=f"{last.ship}, {event.ship}")
        else:
            merged.append(event)
    return merged


def _shorten_commit(found: re.Match[str]) -> str:
    return found[0][:10]


#: What a pause means, by its reason.
_PAUSES = {
    "provider": "the provider does not answer: nothing new is started until it does",
    "ours": "this machine or the repository fails: nothing new is started until that is mended",
}


def format_event(event: VoyageEvent) -> str:
    """Return a line that tells an event of the voyage."""
    text = clean_line(event.text, 160)
    where = f" on {event.ship}" if event.ship else ""
    be = "are" if "," in (event.ship or "") else "is"
    about = {
        "claim": f"task {event.task} → {event.ship} ({text})",
        "landed": f"task {event.task} landed as {text[:10]} ({event.ship})",
        "ship": f"{event.ship} {be} {'built' if text == 'bootstrapping' else text}",
        "voyage": f"voyage: {text.partition(':')[0]}",  # the reason is printed once, at the end
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
