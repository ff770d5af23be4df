"""``sail``: runs ``playbooks/sail.yml`` and draws what happens."""

from __future__ import annotations

import contextlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live

from ocaptain.cli import render
from ocaptain.cli.run import Signals, run_playbook
from ocaptain.config import load_settings
from ocaptain.errors import Interrupted, OcaptainError, PartialError, UsageError
from ocaptain.process import work_lock
from ocaptain.provider import choose_provider
from ocaptain.query import ENDED, NOT_SAILING, LedgerError, Query
from ocaptain.text import clean_line
from ocaptain.voyage.home import Home, VoyageDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.ansible.runner import Event, RunResult
    from ocaptain.locks import Lock
    from ocaptain.options import SailOptions
    from ocaptain.query import Event as VoyageEvent
    from ocaptain.query import Overview, TaskView

PREPARE = "Check everything and prepare the voyage"
AGAIN = "Bootstrap what could not be reached once more"
LAUNCH = "Start the captain"
LAST = "Say what sails"
HOLD_SECONDS = 2.0
_LONG_ID = re.compile(r"\b[0-9a-f]{40}\b")
SHOWN_EVENTS = frozenset(
    [
        "claim",
        "landed",
        "settings",
        "retry",
        "again",
        "failed",
        "conflict",
        "lost",
        "late",
        "denied",
        "replace",
        "verify",
        "ship",
        "voyage",
    ]
)


class Watch:
    """Follows a run: what Ansible tells, then what the ledger tells."""

    def __init__(self) -> None:
        self.directory: VoyageDirectory | None = None
        self._console = render.err()
        self._live: Live | None = None
        self._seen = 0
        self._again = False
        self._work: Lock | None = None
        self.refused = False

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        self._let_go()

    def hold(self, directory: Path) -> None:
        """Take the voyage's fleet for this run; if somebody else has it, the run is to end."""
        if self._work is None:
            self._work = work_lock(directory)
            self.refused = not self._work.acquire_within(HOLD_SECONDS)

    def _let_go(self) -> None:
        if self._work:
            self._work.release()

    def _say(self, line: str) -> None:
        self._console.print(clean_line(line))

    def on_event(self, event: Event) -> None:
        """Take an event of Ansible's."""
        if event.kind == "playbook_on_play_start":
            self._again = event.task == AGAIN
            if not self._again:
                self._say(f"{event.task} …")
        elif event.kind == "runner_on_start" and self._again and event.host != "localhost":
            self._again = False
            self._say(f"{AGAIN} …")  # on a good day there is no such ship
        elif event.kind == "runner_on_ok" and event.task == PREPARE:
            for note in event.result.get("notes", []):
                self._say(str(note))
            made = event.result["voyage"]
            self.directory = VoyageDirectory(Path(made["directory"]))
            self.hold(self.directory.path)
            verb = "goes on" if made["resumed"] else "is prepared"
            self._say(f"{made['id']} {verb}: {fleet_words(made['ships'])} on {made['provider']}")
            if made["resumed"]:
                self._take_up(self.directory)
        elif event.kind == "runner_on_ok" and event.task == LAUNCH:
            self._let_go()  # what is left to do is to wait
        elif event.kind == "runner_on_unreachable" or (event.kind == "runner_on_failed" and event.host != "localhost"):
            self._say(f"{event.host}: {event.task}: {event.result.get('msg', 'failed')}")
        self.on_pause()

    def _take_up(self, directory: VoyageDirectory) -> None:
        """Show nothing of before as if it happened now, and say if there is nothing that can be tried."""
        query = Query(directory.path)
        with contextlib.suppress(LedgerError):
            self._seen = query.last_event()
            if left := nothing_to_try(query.state(), query.tasks()):
                self._say(left)

    def on_pause(self) -> None:
        """Look at the ledger."""
        if self.directory is None:
            return
        try:
            query = Query(self.directory.path)
            news = query.events(self._seen)
            seen = query.overview() if self._live else None
        except LedgerError:
            return
        for event in news:
            self._seen = event.n
            if event.kind in SHOWN_EVENTS:
                self._say(event_line(event))
        if self._live and seen:
            self._live.update(render.status_lines(seen))


def fleet_words(ships: Sequence[Mapping[str, Any]]) -> str:
    """Return how many ships sail, as people say it."""
    extra = sum(ship["role"] == "verify" for ship in ships)
    work = len(ships) - extra
    if not extra:
        return f"{work} ships"
    return f"{work} + {extra} for verify" if work else f"{extra} for verify"


def nothing_to_try(state: str, tasks: Sequence[TaskView]) -> str | None:
    """Return why a voyage that is taken up has nothing to do, None if it has."""
    if state == "complete":
        return "it is complete: nothing is left to do"
    failed = [task.id for task in tasks if task.status == "failed"]
    open_ones = [
        task for task in tasks if task.status == "in_progress" or (task.status == "pending" and not task.held_by)
    ]
    if failed and not open_ones:
        return f"nothing is tried again: task {', '.join(failed)} failed for good, and the rest is done or waits for it"
    return None


def _first_ten(found: re.Match[str]) -> str:
    return found[0][:10]


def event_line(event: VoyageEvent) -> str:
    """Return an event of the voyage as a line."""
    text = clean_line(event.text, 160)
    where = f" on {event.ship}" if event.ship else ""
    about = {
        "claim": f"task {event.task} → {event.ship} ({text})",
        "landed": f"task {event.task} landed as {text[:10]} ({event.ship})",
        "ship": f"{event.ship} is {text}",
        "voyage": f"voyage: {text.partition(':')[0]}",  # why is said at the end, once
        "denied": f"task {event.task} goes back{where}" if event.task else "no ship can go on working",
        "replace": f"{event.ship} is replaced: {text}",
        "verify": f"final verify: {_LONG_ID.sub(_first_ten, text)}",
        "settings": f"task {event.task} landed settings: {text}",
        "retry": f"task {event.task} failed{where} and is tried again: {text}",
        "again": f"task {event.task} is tried again",
        "failed": f"task {event.task} failed for good{where}: {text}",
    }
    return about.get(event.kind, f"task {event.task} {event.kind}{where}: {text}")


@dataclass(frozen=True)
class Asked:
    """What the command line asks for beside the options of a voyage."""

    plan: Path | None
    hosts: str | None
    wait: bool
    new: bool
    resume: str | None
    keep: bool


def run_sail(options: SailOptions, asked: Asked, *, as_json: bool) -> int:
    """Sail; return the exit code."""
    if (asked.plan is None) == (asked.resume is None):
        raise UsageError("name a plan's directory, or --resume ID (one of them)")
    given = {"--new": asked.new, "--hosts": asked.hosts}
    if asked.resume and (refused := [*(flag for flag, value in given.items() if value), *options.refused_on_resume()]):
        taken = "--wait, --replace, --repo-settings, --take-over, --keep and --json"
        message = f"--resume goes on with a voyage as it is; it takes {taken}"
        raise UsageError(f"{message}; leave out {', '.join(refused)}")
    settings = load_settings()  # a wrong configuration is said at once, and in one line
    choose_provider(settings, options.provider)
    inventory, group = split_hosts(asked.hosts) if asked.hosts else (None, None)
    home = Home(settings.voyages)
    resumed = home.find(asked.resume) if asked.resume else None
    before = {voyage.id for voyage in home.voyages()}
    variables = _untemplated(_variables(options, asked, group))
    with Signals().caught() as signals, Watch() as watch:
        if resumed:
            watch.hold(resumed.path)
        if not watch.refused:
            stop = lambda: signals.count or int(watch.refused)  # noqa: E731 - one line, and only here
            result = run_playbook("sail", variables, watch.on_event, watch.on_pause, stop, inventory=inventory)
            watch.on_pause()
    if watch.refused:
        raise OcaptainError("another `sail` or `sink` is at work on this voyage's ships; wait for it, or interrupt it")
    if signals.count:
        # It may have been made before we could be told.
        known = watch.directory or resumed
        fresh = [known] if known else [voyage for voyage in home.voyages() if voyage.id not in before]
        raise Interrupted("interrupted.", _what_exists(fresh))
    return _end(watch.directory, result, as_json=as_json, wait=asked.wait)


def _variables(options: SailOptions, asked: Asked, group: str | None) -> dict[str, Any]:
    """Return the variables of playbooks/sail.yml."""
    return {
        **asdict(options),
        "repo": _from_here(options.repo),
        "plan": str(asked.plan.expanduser().absolute()) if asked.plan else None,
        "voyage": asked.resume,
        "wait": asked.wait,
        "on_active": "new" if asked.new else "refuse",
        "keep": asked.keep,
        "ocaptain_hosts": group,
    }


def split_hosts(text: str) -> tuple[str, str]:
    """Return the inventory and the pattern of its hosts that ``INVENTORY[:GROUP]`` means; all, if it names none.

    Raises:
        UsageError: there is no such inventory.
    """
    # Both may hold colons: the longest path that is there counts.
    for at in (len(text), *(found.start() for found in reversed([*re.finditer(":", text)]))):
        path = Path(text[:at]).expanduser().absolute()
        if text[:at] and path.exists():
            return str(path), text[at + 1 :] or "all"
    raise UsageError(f"there is no inventory {text.partition(':')[0]}; --hosts takes INVENTORY[:GROUP]")


def _from_here(repo: str | None) -> str | None:
    """Return a path as an absolute one, since Ansible runs elsewhere; anything else unchanged."""
    if repo is None or "://" in repo:
        return repo
    path = Path(repo).expanduser().absolute()
    return str(path) if path.exists() else repo


def _untemplated(variables: dict[str, Any]) -> dict[str, Any]:
    """Return variables that Ansible takes literally: a user's line may hold ``{{``."""
    return {
        name: {"__ansible_unsafe": value}
        if isinstance(value, str) and ("{{" in value or "{%" in value or "{#" in value)
        else value
        for name, value in variables.items()
    }


def _what_exists(found: list[VoyageDirectory]) -> list[str]:
    lines = []
    for directory in found:
        with contextlib.suppress(LedgerError):
            seen = Query(directory.path).overview()
            lines.append(f"{seen.voyage} exists ({seen.state}), with up to {len(seen.ships)} ships on {seen.provider}")
        lines += [f"go on with:  ocaptain sail --resume {directory.id}", f"or end it:   ocaptain sink {directory.id}"]
    return lines or ["nothing was created"]


def _end(directory: VoyageDirectory | None, result: RunResult, *, as_json: bool, wait: bool) -> int:
    """Show the voyage; raise what the run ended with."""
    if directory is None:
        raise result.error or OcaptainError(
            "Ansible failed before the voyage was prepared:", result.failures or result.output
        )
    seen = Query(directory.path).overview()
    error = _fault(seen, result, wait=wait)
    if as_json:
        facts = {"directory": str(directory.path), "error": render.error_object(error)}
        render.print_json("sail", {**seen.as_dict(), **facts})
    else:
        _show(directory, seen)
    if error:
        raise error
    return 0


def _fault(seen: Overview, result: RunResult, *, wait: bool) -> OcaptainError | None:
    """Return what the run is to end with, None if all is as it was asked for."""
    if result.error and not result.ok:
        return result.error
    left_out = [
        f"{ship['id']}: {ship['reason'] or ship['state']}"
        for ship in seen.ships
        if ship["state"] in NOT_SAILING and not ship["replaced_by"] and ship["role"] == "work"
    ]
    if seen.state == "failed" or (wait and seen.state != "complete"):
        return OcaptainError(f"{seen.voyage} is {seen.state}:", result.failures or [seen.note or "see its logs"])
    if seen.state == "complete" and seen.is_less_proven:
        return PartialError(f"{seen.voyage} is complete, but not proven where no agent was: {seen.note}", left_out)
    if left_out:
        return PartialError(f"{seen.voyage} sails with fewer ships than asked for:", left_out)
    # Ansible is never content with a host that it lost, even if the host was built at the second go.
    if not result.ok and LAST not in result.results:
        return PartialError(f"{seen.voyage} sails, but Ansible broke off:", result.failures or result.output)
    return None


def _show(directory: VoyageDirectory, seen: Overview) -> None:
    console = render.out()
    console.print(render.status_lines(seen))
    if seen.state in ENDED and (landings := Query(directory.path).landings()):
        console.print("landed, one commit a task:")
        console.print(render.landed_table(landings))
    console.print(f"  {directory.path}")
