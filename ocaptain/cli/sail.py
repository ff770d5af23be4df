"""``sail``: run ``playbooks/sail.yml`` and show its progress."""

from __future__ import annotations

import contextlib
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live

from ocaptain.cli import render
from ocaptain.cli.next_step import after_interrupt, after_voyage
from ocaptain.cli.run import InterruptCounter, run_playbook
from ocaptain.cli.views import standing
from ocaptain.config import load_settings
from ocaptain.errors import Interrupted, OcaptainError, PartialError, UsageError
from ocaptain.options import SailOptions
from ocaptain.plan import load_plan
from ocaptain.process import fleet_lock
from ocaptain.provider import choose_provider
from ocaptain.query import ENDED, NOT_SAILING, LedgerError, Query
from ocaptain.text import clean_line, group_by_reason
from ocaptain.voyage.home import Home, VoyageDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.ansible.runner import Event, RunResult
    from ocaptain.config import Settings
    from ocaptain.locks import Lock
    from ocaptain.query import Event as VoyageEvent
    from ocaptain.query import Overview

PROVISION_PLAY = "Provision the fleet"
PREPARE_TASK = "Check everything and prepare the voyage"
RETRY_PLAY = "Bootstrap what could not be reached once more"
LAUNCH_TASK = "Start the captain"
FINAL_TASK = "Say what sails"
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
            for task in query.overview().held_tasks:
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
            if event.kind in SHOWN_EVENTS:
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
        "denied": f"task {event.task} goes back{where}" if event.task else "no ship can go on working",
        "replace": f"{event.ship} is replaced: {text}",
        "verify": f"final verify: {_LONG_ID.sub(_shorten_commit, text)}",
        "settings": f"task {event.task} landed settings: {text}",
        "retry": f"task {event.task} failed{where} and is tried again: {text}",
        "again": f"task {event.task} is tried again",
        "held": f"task {event.task} {text}",
        "approved": f"task {event.task} is approved",
        "failed": f"task {event.task} failed for good{where}: {text}",
    }
    if event.kind.startswith("gate:"):
        return text
    return about.get(event.kind, f"task {event.task} {event.kind}{where}: {text}")


@dataclass(frozen=True)
class SailArguments:
    """The arguments of ``sail`` beside the options of a voyage."""

    plan: Path | None
    hosts: str | None
    wait: bool
    new: bool
    resume: str | None
    keep: bool


def run_sail(options: SailOptions, arguments: SailArguments, *, as_json: bool) -> int:
    """Run ``sail``; return the exit code."""
    if (arguments.plan is None) == (arguments.resume is None):
        raise UsageError("give either a plan's directory or --resume ID")
    given = {"--new": arguments.new, "--hosts": arguments.hosts}
    if arguments.resume is not None and (
        refused := [*(flag for flag, value in given.items() if value), *options.flags_refused_on_resume()]
    ):
        taken = "--wait, --replace, --repo-settings, --take-over, --keep and --json"
        message = f"--resume continues a voyage with its own options; it accepts only {taken}"
        raise UsageError(f"{message}; leave out {', '.join(refused)}")
    directory, result = _sail(options, arguments)
    return _finish(directory, result, as_json=as_json, wait=arguments.wait)


def resume_voyage(directory: VoyageDirectory) -> OcaptainError | None:
    """Resume a voyage as ``sail --resume`` does; return the error that it ends with, None if it goes on."""
    arguments = SailArguments(plan=None, hosts=None, wait=False, new=False, resume=directory.id, keep=False)
    sailed, result = _sail(SailOptions(), arguments)
    if sailed is None:
        return _preparation_error(result)
    return _final_error(Query(directory.path).overview(), result, wait=False)


def _sail(options: SailOptions, arguments: SailArguments) -> tuple[VoyageDirectory | None, RunResult]:
    """Run the playbook; return the voyage's directory, None if it was not prepared, and the result."""
    settings = load_settings()  # report a wrong configuration before anything else
    choose_provider(settings, options.provider)
    inventory, group = parse_hosts(arguments.hosts) if arguments.hosts else (None, None)
    home = Home(settings.voyages)
    resumed = home.find(arguments.resume) if arguments.resume is not None else None
    if arguments.plan:
        _check_before(arguments.plan, options, arguments, settings)
    before = {voyage.id for voyage in home.voyages()}
    variables = _without_templating(_playbook_variables(options, arguments, group))
    with InterruptCounter().catching() as signals, SailProgress() as progress:
        if resumed:
            progress.lock_fleet(resumed.path)
        if not progress.is_locked_elsewhere:
            stop = lambda: signals.count or int(progress.is_locked_elsewhere)  # noqa: E731 - one line, and only here
            result = run_playbook("sail", variables, progress.on_event, progress.on_idle, stop, inventory=inventory)
            progress.on_idle()
    if progress.is_locked_elsewhere:
        raise OcaptainError("another `sail` or `sink` is at work on this voyage's ships; wait for it, or interrupt it")
    if signals.count:
        # The voyage may have been made before its event reached us.
        known = progress.directory or resumed
        fresh = [known] if known else [voyage for voyage in home.voyages() if voyage.id not in before]
        raise Interrupted("interrupted.", _describe_existing(fresh))
    return progress.directory, result


def _check_before(plan: Path, options: SailOptions, arguments: SailArguments, settings: Settings) -> None:
    """Refuse what cannot sail before Ansible starts, which takes seconds."""
    directory = plan.expanduser().absolute()
    report = load_plan(directory)
    report.require_plan(directory)
    from ocaptain.voyage.prepare import check_before  # noqa: PLC0415 - a third of a second, for a plan without faults
    from ocaptain.voyage.request import Request  # noqa: PLC0415

    request = Request(
        plan=directory,
        options=replace(options, repo=_absolute_path(options.repo)),
        on_active="new" if arguments.new else "refuse",
    )
    check_before(request, settings, report, on_hosts=arguments.hosts is not None)


def _playbook_variables(options: SailOptions, arguments: SailArguments, group: str | None) -> dict[str, Any]:
    """Return the variables of playbooks/sail.yml."""
    return {
        **asdict(options),
        "repo": _absolute_path(options.repo),
        "plan": str(arguments.plan.expanduser().absolute()) if arguments.plan else None,
        "voyage": arguments.resume,
        "wait": arguments.wait,
        "on_active": "new" if arguments.new else "refuse",
        "keep": arguments.keep,
        "ocaptain_hosts": group,
    }


def parse_hosts(text: str) -> tuple[str, str]:
    """Parse ``INVENTORY[:GROUP]``; return the inventory's path and the host pattern (``all`` if none is given).

    Raises:
        UsageError: the inventory does not exist.
    """
    # Both may contain colons: the longest path that exists is the inventory.
    for at in (len(text), *(found.start() for found in reversed([*re.finditer(":", text)]))):
        path = Path(text[:at]).expanduser().absolute()
        if text[:at] and path.exists():
            return str(path), text[at + 1 :] or "all"
    raise UsageError(f"the inventory {text.partition(':')[0]} does not exist; --hosts takes INVENTORY[:GROUP]")


def _absolute_path(repo: str | None) -> str | None:
    """Make an existing path absolute, since Ansible runs in another directory; return anything else unchanged."""
    if repo is None or "://" in repo:
        return repo
    path = Path(repo).expanduser().absolute()
    return str(path) if path.exists() else repo


def _without_templating(variables: dict[str, Any]) -> dict[str, Any]:
    """Mark values as unsafe, so that Ansible takes a ``{{`` in a user's text literally."""
    return {
        name: {"__ansible_unsafe": value}
        if isinstance(value, str) and ("{{" in value or "{%" in value or "{#" in value)
        else value
        for name, value in variables.items()
    }


def _describe_existing(found: list[VoyageDirectory]) -> list[str]:
    lines = []
    for directory in found:
        try:
            lines += after_interrupt(standing(directory), Query(directory.path).overview().provider)
        except LedgerError as error:
            lines += [str(error), f"or end it:  ocaptain sink {directory.id}"]
    return lines or ["nothing was created"]


def _finish(directory: VoyageDirectory | None, result: RunResult, *, as_json: bool, wait: bool) -> int:
    """Print the voyage; raise the error that the run ended with, if any."""
    if directory is None:
        raise _preparation_error(result)
    seen = Query(directory.path).overview()
    error = _final_error(seen, result, wait=wait)
    if as_json:
        facts = {"directory": str(directory.path), "error": render.error_as_dict(error)}
        render.print_json("sail", {**seen.as_dict(), **facts})
    else:
        _print_result(directory, seen)
        step = after_voyage(standing(directory))
        if error:
            error.details = (*error.details, step)
        else:
            render.print_next(step)
    if error:
        raise error
    return 0


def _preparation_error(result: RunResult) -> OcaptainError:
    return result.error or OcaptainError(
        "Ansible failed before the voyage was prepared:", result.failures or result.output
    )


def _final_error(seen: Overview, result: RunResult, *, wait: bool) -> OcaptainError | None:
    """Return the error that the run ends with, None if the voyage is as requested."""
    if seen.is_gate_unusable:
        return UsageError(f"{seen.voyage} is failed: {seen.note}")
    if result.error and not result.ok:
        return result.error
    reasons = {
        ship["id"]: ship["reason"] or ship["state"]
        for ship in seen.ships
        if ship["state"] in NOT_SAILING and not ship["replaced_by"] and ship["role"] == "work"
    }
    left_out = group_by_reason(reasons)
    if seen.state == "failed" or (wait and seen.state != "complete"):
        return OcaptainError(f"{seen.voyage} is {seen.state}:", result.failures or [seen.note or "see its logs"])
    if seen.state == "complete" and seen.is_less_proven:
        return PartialError(f"{seen.voyage} is complete, but not proven where no agent was: {seen.note}", left_out)
    if left_out:
        return PartialError(f"{seen.voyage} sails with fewer ships than asked for:", left_out)
    # Ansible reports a failure for a host that it lost once, even if the second try built the host.
    if not result.ok and FINAL_TASK not in result.results:
        return PartialError(f"{seen.voyage} sails, but the Ansible run failed:", result.failures or result.output)
    return None


def _print_result(directory: VoyageDirectory, seen: Overview) -> None:
    console = render.out()
    console.show(render.render_status(seen, plain=console.is_plain))
    if seen.state in ENDED and (landings := Query(directory.path).landings()):
        console.print("landed, one commit a task:")
        console.show(render.landed_table(landings, plain=console.is_plain))
    console.print(f"  {directory.path}")
