"""``sail``: run ``playbooks/sail.yml`` and show its progress."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ocaptain.cli import render
from ocaptain.cli.fold import fold
from ocaptain.cli.next_step import after_interrupt, after_voyage, fold_steps
from ocaptain.cli.progress import SailProgress
from ocaptain.cli.run import InterruptCounter, run_playbook
from ocaptain.cli.sail_plan import TypedTasks, plan_of_typed_tasks
from ocaptain.cli.views import machine_cost, print_status, standing
from ocaptain.cli.voyage_end import MAX_FAILURES, end_lines
from ocaptain.config import load_settings
from ocaptain.errors import Interrupted, OcaptainError, PartialError, UsageError
from ocaptain.names import FAILED_NOTE
from ocaptain.options import SailOptions
from ocaptain.paths import expand_home
from ocaptain.plan import load_plan
from ocaptain.prices import load_prices
from ocaptain.provider import choose_provider
from ocaptain.query import ENDED, NOT_SAILING, LedgerError, Query
from ocaptain.text import group_by_reason
from ocaptain.voyage.home import Home, VoyageDirectory
from ocaptain.voyage.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocaptain.ansible.runner import RunResult
    from ocaptain.config import Settings
    from ocaptain.query import Overview

FINAL_TASK = "Say what sails"


class FleetBusy(OcaptainError):
    """Another command is at work on the voyage's ships."""


@dataclass(frozen=True)
class SailArguments:
    """The arguments of ``sail`` beside the options of a voyage."""

    plan: Path | None
    hosts: str | None
    wait: bool
    new: bool
    resume: str | None
    keep: bool
    tasks: tuple[str, ...] = ()
    verify: str | None = None
    dry_run: bool = False


def run_sail(options: SailOptions, arguments: SailArguments, *, as_json: bool) -> int:
    """Run ``sail``; return the exit code."""
    _check_form(options, arguments)
    if not arguments.tasks:
        return _run(options, arguments, as_json=as_json)
    with plan_of_typed_tasks(TypedTasks(arguments.tasks, arguments.verify), options) as (plan, chosen):
        return _run(chosen, replace(arguments, plan=plan), as_json=as_json)


def _check_form(options: SailOptions, arguments: SailArguments) -> None:
    """Refuse arguments that do not go together."""
    ways = (arguments.plan is not None, arguments.resume is not None, bool(arguments.tasks))
    if sum(ways) != 1:
        raise UsageError("give a plan's directory, tasks (--task TEXT), or --resume ID: one of them")
    if arguments.verify is not None and not arguments.tasks:
        raise UsageError("--verify goes with --task; a plan has its own verify.sh")
    given = {"--new": arguments.new, "--hosts": arguments.hosts, "--dry-run": arguments.dry_run}
    if arguments.resume is not None and (
        refused := [*(flag for flag, value in given.items() if value), *options.flags_refused_on_resume()]
    ):
        taken = "--wait, --replace, --repo-settings, --task-list, --take-over, --keep and --json"
        message = f"--resume continues a voyage with its own options; it accepts only {taken}"
        raise UsageError(f"{message}; leave out {', '.join(refused)}")


def _run(options: SailOptions, arguments: SailArguments, *, as_json: bool) -> int:
    if arguments.dry_run and arguments.plan:
        from ocaptain.cli.dry_run import show_dry_run  # noqa: PLC0415 - the other ways need none of it

        if arguments.hosts:
            raise UsageError("--dry-run is not possible with --hosts: only Ansible can read the inventory")
        settings = load_settings()
        request = _new_request(arguments.plan, options, arguments)
        return show_dry_run(request, settings, as_json=as_json)
    directory, result = _sail(options, arguments)
    return _finish(directory, result, as_json=as_json, wait=arguments.wait)


def resume_voyage(directory: VoyageDirectory) -> OcaptainError | None:
    """Resume a voyage as ``sail --resume`` does; return the error that it ends with, None if it went on.

    What its tasks came to is no error here: nobody waited for that, and a quick voyage has ended by now.

    Raises:
        FleetBusy: another command is at work on its ships; nothing was done.
    """
    arguments = SailArguments(plan=None, hosts=None, wait=False, new=False, resume=directory.id, keep=False)
    sailed, result = _sail(SailOptions(), arguments)
    if sailed is None:
        return _preparation_error(result)
    seen = Query(directory.path).overview()
    if seen.state == "failed" and result.ok and not seen.is_gate_unusable:
        return None
    return _final_error(seen, result, wait=False)


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
    title = arguments.plan.absolute().name if arguments.plan else resumed.id if resumed else ""
    costs = _machine_costs(settings)
    with InterruptCounter().catching() as signals, SailProgress(title, costs) as progress:
        if resumed:
            progress.lock_fleet(resumed.path)
        if not progress.is_locked_elsewhere:
            progress.begin()
            stop = lambda: signals.count or int(progress.is_locked_elsewhere)  # noqa: E731 - one line, and only here
            result = run_playbook("sail", variables, progress.on_event, progress.on_idle, stop, inventory=inventory)
            progress.finish()
    if progress.is_locked_elsewhere:
        raise FleetBusy("another `sail` or `sink` is at work on this voyage's ships; wait for it, or interrupt it")
    if signals.count:
        # The voyage may have been made before its event reached us.
        known = progress.directory or resumed
        fresh = [known] if known else [voyage for voyage in home.voyages() if voyage.id not in before]
        raise Interrupted("interrupted.", _describe_existing(fresh))
    return progress.directory, result


def _machine_costs(settings: Settings) -> dict[str, Callable[[float], int]]:
    """Return by provider the cost of a number of seconds awake, in nano-dollars."""
    return {name: price.cost for name, price in load_prices(settings.prices).machines.items()}


def _check_before(plan: Path, options: SailOptions, arguments: SailArguments, settings: Settings) -> None:
    """Refuse what cannot sail before Ansible starts, which takes seconds."""
    request = _new_request(plan, options, arguments)
    directory = expand_home(plan).absolute()
    report = load_plan(directory)
    report.require_plan(directory)
    from ocaptain.voyage.prepare import check_before  # noqa: PLC0415 - a third of a second, for a plan without faults

    check_before(request, settings, report, on_hosts=arguments.hosts is not None)


def _new_request(plan: Path, options: SailOptions, arguments: SailArguments) -> Request:
    return Request(
        plan=expand_home(plan).absolute(),
        options=replace(options, repo=_absolute_path(options.repo)),
        on_active="new" if arguments.new else "refuse",
    )


def _playbook_variables(options: SailOptions, arguments: SailArguments, group: str | None) -> dict[str, Any]:
    """Return the variables of playbooks/sail.yml."""
    return {
        **asdict(options),
        "repo": _absolute_path(options.repo),
        "plan": str(expand_home(arguments.plan).absolute()) if arguments.plan else None,
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
        path = expand_home(text[:at]).absolute()
        if text[:at] and path.exists():
            return str(path), text[at + 1 :] or "all"
    raise UsageError(f"the inventory {text.partition(':')[0]} does not exist; --hosts takes INVENTORY[:GROUP]")


def _absolute_path(repo: str | None) -> str | None:
    """Make an existing path absolute, since Ansible runs in another directory; return anything else unchanged."""
    if repo is None or "://" in repo:
        return repo
    path = expand_home(repo).absolute()
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
        if error and _is_told(error, seen):
            render.print_next(step)
            return error.exit_code
        if error:
            error.details = (*error.details, *fold_steps(step, render.err().width))
        else:
            render.print_next(step)
    if error:
        raise error
    return 0


def _is_told(error: OcaptainError, seen: Overview) -> bool:
    """Whether an error only repeats what a terminal has just shown of each failed task; a pipe gets it all the same."""
    if render.out().is_piped or render.err().is_piped or seen.state != "failed" or not seen.note:
        return False
    return seen.note.startswith(FAILED_NOTE) and str(error).removeprefix(f"{seen.voyage} failed: ") == seen.note


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
        verb = "is complete, but sailed" if seen.state == "complete" else "sails"
        return PartialError(f"{seen.voyage} {verb} with fewer ships than asked for:", left_out)
    # Ansible reports a failure for a host that it lost once, even if the second try built the host.
    if not result.ok and FINAL_TASK not in result.results:
        return PartialError(f"{seen.voyage} sails, but the Ansible run failed:", result.failures or result.output)
    return None


def _print_result(directory: VoyageDirectory, seen: Overview) -> None:
    if seen.state not in ENDED:
        print_status(directory, with_next=False)
        return
    console = render.out()
    query, now = Query(directory.path), time.time()
    at_end = query.snapshot(now)
    stories = [query.why(task.id, has_captain=False) for task in at_end.failed[:MAX_FAILURES]]
    kept = {one.id: [ref.ref for attempt in one.attempts for ref in attempt.refs] for one in stories if one}
    for line in end_lines(at_end, kept, machine_cost(seen.provider), directory.path, now):
        console.print(line if console.is_plain else fold(line, console.width))
