"""``sink``: run ``playbooks/sink.yml`` for each voyage."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ocaptain import process
from ocaptain.cli import render
from ocaptain.cli.facts import counted, ships_awake
from ocaptain.cli.next_step import after_command
from ocaptain.cli.run import InterruptCounter, run_playbook
from ocaptain.cli.status_view import head_lines, progress_lines, ship_lines, task_lines
from ocaptain.cli.style import format_money
from ocaptain.cli.tables import paragraph
from ocaptain.cli.views import find_voyage, print_next_of, read_beside
from ocaptain.config import load_settings
from ocaptain.errors import Interrupted, OcaptainError, PartialError, UsageError
from ocaptain.names import HOSTS
from ocaptain.process import is_captain_running
from ocaptain.query import Query
from ocaptain.voyage.home import Home

if TYPE_CHECKING:
    from ocaptain.ansible.runner import Event, RunResult
    from ocaptain.cli.status_view import Beside
    from ocaptain.config import Settings
    from ocaptain.query import Snapshot
    from ocaptain.voyage.home import VoyageDirectory

RESCUE_TASK = "Stop the agents and fetch what they were at"
LOCK_SECONDS = 4.0
#: So many ships have a line each before the question, and so many of their tasks are named.
MAX_SHIPS = 8
MAX_NAMED = 5


def run_sink(voyage: str | None, *, all_active: bool, confirmed: bool, abandon: bool, as_json: bool) -> int:
    """Sink one voyage or all; return the exit code.

    Args:
        voyage: prefix of a voyage's id; None = the only active one.
        all_active: sink all active voyages; leftover ships, which no readable voyage owns, are swept too.
        confirmed: the user has agreed already; do not ask.
        abandon: destroy ships even if their work cannot be fetched.
        as_json: print a JSON document instead of text.

    Raises:
        UsageError: both a voyage and ``all_active`` are given, no voyage matches, or nobody can confirm.
        PartialError: some voyages or leftover ships remain.
        OcaptainError: the sink failed.
    """
    if all_active and voyage is not None:
        raise UsageError("give either a voyage's id or --all")
    settings = load_settings()
    chosen = Home(settings.voyages).active_voyages() if all_active else [find_voyage(voyage)]
    if not confirmed:
        _confirm(chosen, all_active=all_active, abandon=abandon)
    # Hosts belong to no provider: none of them can be left over without a voyage here that knows it.
    providers = {Query(directory.path).overview().provider for directory in chosen} - {HOSTS} if all_active else set()
    done, errors = _sink_all(chosen, abandon=abandon)
    if all_active:
        errors += _sweep_leftovers(settings, providers, confirmed=confirmed, abandon=abandon)
    fault = _combine_errors(errors, len(chosen))
    if as_json:
        _print_as_json(done, fault, all_active=all_active)
    else:
        _print_summaries(done, all_active=all_active)
    if fault:
        raise fault
    if all_active and not as_json:
        render.print_next(after_command("sink --all"))
    elif not as_json:
        print_next_of(chosen[0])
    return 0


def _sweep_leftovers(settings: Settings, providers: set[str], *, confirmed: bool, abandon: bool) -> list[OcaptainError]:
    """Sweep ships that no readable voyage owns; return the errors."""
    from ocaptain.cli.sweep import sweep_after_sink  # noqa: PLC0415 - loads the API's client

    errors: list[OcaptainError] = []
    if broken := Home(settings.voyages).describe_unreadable():
        errors.append(PartialError("these voyages cannot be read, and were not sunk:", broken))
    try:
        sweep_after_sink(settings, providers, force=confirmed, abandon=abandon)
    except OcaptainError as error:
        errors.append(error)
    return errors


def _print_as_json(done: list[dict[str, Any]], fault: OcaptainError | None, *, all_active: bool) -> None:
    error = {"error": render.error_as_dict(fault)}
    if all_active:
        render.print_json("sink_all", {"voyages": done, **error})
    elif done:  # else the error is all there is to say
        render.print_json("sink", {**done[0], **error})


def _sink_all(chosen: list[VoyageDirectory], *, abandon: bool) -> tuple[list[dict[str, Any]], list[OcaptainError]]:
    """Sink one voyage after the other, also after one failed; return summaries and errors."""
    console = render.err()
    done: list[dict[str, Any]] = []
    errors: list[OcaptainError] = []
    with InterruptCounter().catching() as signals:
        for directory in chosen:
            console.print(f"sinking {directory.id} …")
            try:
                result = _sink_one(directory, signals, abandon=abandon)
            except OcaptainError as error:
                errors.append(error)
                continue
            if signals.count:
                remedy = f"{directory.id} may be half sunk; finish with: ocaptain sink {directory.id}"
                raise Interrupted("interrupted.", [remedy])
            done.append(_summary(directory, result))
            if not result.ok:
                errors.append(result.error or OcaptainError(f"{directory.id}:", result.failures or result.output))
    return done, errors


def _combine_errors(errors: list[OcaptainError], asked: int) -> OcaptainError | None:
    """Combine errors into one, None if there are none."""
    if len(errors) < 2:
        return next(iter(errors), None)
    partial = len(errors) < asked or any(isinstance(one, PartialError) for one in errors)
    kind = PartialError if partial else OcaptainError
    return kind("not every voyage was sunk:", [line for error in errors for line in str(error).splitlines()])


def _confirm(chosen: list[VoyageDirectory], *, all_active: bool, abandon: bool) -> None:
    """Ask the user to confirm.

    Raises:
        UsageError: there is no terminal to ask at.
        Interrupted: the user gave no answer.
        OcaptainError: the answer is no.
    """
    busy = [directory for directory in chosen if Query(directory.path).state() != "sunk"]
    if not busy:
        return
    if not sys.stdin.isatty():
        which = "sink --all" if all_active else f"sink {busy[0].id}"
        raise UsageError(
            "nobody can confirm without a terminal, and nothing was done; to sink without being asked:"
            f" ocaptain {which} --force"
        )
    console = render.err()
    now = time.time()
    for directory in busy:
        seen = Query(directory.path).snapshot(now)
        beside = read_beside(directory, seen, has_captain=is_captain_running(directory.path))
        lines = sink_lines(seen, beside, now, console.width, abandon=abandon, is_one=len(busy) == 1)
        render.print_lines(console, lines)
    render.confirm("Fetch their work and destroy these ships?")


def sink_lines(
    seen: Snapshot, beside: Beside, now: float, width: int, *, abandon: bool, is_one: bool = True
) -> list[Text]:
    """Return what a person is to know before a sink: how the voyage stands, what is kept, what is lost.

    Args:
        seen: the voyage.
        beside: what is known beside it.
        now: in seconds since 1970.
        width: of the terminal, in cells.
        abandon: whether ships are destroyed even if their work cannot be fetched.
        is_one: whether it is the only voyage; of several less is said.
    """
    lines = [*head_lines(seen, now, width, has_captain=beside.has_captain), *progress_lines(seen, width)]
    if is_one:
        lines += [*task_lines(seen, beside, width), *ship_lines(seen, now, width, MAX_SHIPS)]
    for fact in sink_facts(seen, beside, abandon=abandon):
        lines += paragraph(Text("  "), fact, width)
    return lines


def sink_facts(seen: Snapshot, beside: Beside, *, abandon: bool) -> list[str]:
    """Return what a sink keeps and ends, a sentence each."""
    facts = []
    tasks = [ship.task for ship in seen.ships if ship.task]
    if tasks:
        more = f" and {len(tasks) - MAX_NAMED} more" if len(tasks) > MAX_NAMED else ""
        named = f"{', '.join(tasks[:MAX_NAMED])}{more}"
        who = f"1 agent is in the middle of task {named}: its" if len(tasks) == 1 else ""
        who = who or f"{len(tasks)} agents are in the middle of tasks {named}: their"
        facts.append(f"{who} state is fetched first{', and lost if it cannot be' if abandon else ''}")
    landed = seen.about.tasks["completed"]
    open_tasks = seen.about.tasks["total"] - landed
    left = f"; {open_tasks} {'is' if open_tasks == 1 else 'are'} not done" if open_tasks else ""
    stays = "stays" if landed == 1 else "stay"
    kept = f"{counted(landed, 'task')} landed, and {stays} here in its branch" if landed else "no task has landed"
    facts.append(f"{kept}{left}")
    up = sum(ship.is_up for ship in seen.ships)
    if seen.about.provider == HOSTS:
        return [*facts, f"{up} {'host stays' if up == 1 else 'hosts stay'}, without what ocaptain put there"]
    saved = beside.hour_nano * ships_awake(seen)
    end = f", which saves up to {format_money(saved)} an hour" if saved else ""
    return [*facts, f"{counted(up, 'ship')} on {seen.about.provider} will be destroyed{end}"]


def _sink_one(directory: VoyageDirectory, signals: InterruptCounter, *, abandon: bool) -> RunResult:
    console = render.err()

    def on_event(event: Event) -> None:
        if event.kind == "runner_on_ok" and event.task == RESCUE_TASK:
            for one in event.result.get("rescues", []):
                if one.get("ref"):
                    console.print(f"  {one['ship']}: work in progress is {one['ref']}")
                elif not one.get("ok"):
                    console.print(f"  {one['ship']}: {one.get('reason')}")

    variables = {"voyage": directory.id, "abandon": abandon}
    with process.fleet_lock(directory.path) as lock:
        for _ in range(3):
            # We may stop a replacement run that is under way, but not a user's `sail`.
            process.stop_replacement(directory.path)
            if lock.acquire_within(LOCK_SECONDS):
                return run_playbook("sink", variables, on_event, lambda: None, lambda: signals.count)
    raise OcaptainError(f"a `sail` or another `sink` is at work on {directory.id}; wait for it, or interrupt it")


def _summary(directory: VoyageDirectory, result: RunResult) -> dict[str, Any]:
    seen = Query(directory.path).overview()
    rescued = result.results.get(RESCUE_TASK, {})
    rescues = rescued.get("rescues", [])
    return {
        "voyage": seen.voyage,
        "state": seen.state,
        "rescued": [{"ship": one["ship"], "ref": one["ref"]} for one in rescues if one.get("ref")],
        "bundle": rescued.get("bundle"),
        "trouble": rescued.get("trouble"),
        "left": [ship["sprite"] for ship in seen.ships if ship["state"] != "gone"],
        "directory": str(directory.path),
    }


def _print_summaries(done: list[dict[str, Any]], *, all_active: bool) -> None:
    console = render.out()
    if all_active and not done:
        console.print("no voyage was sunk")
    for summary in done:
        if summary["state"] == "sunk":
            console.print(f"{summary['voyage']} is sunk; what landed is in {summary['directory']}")
        for one in summary["rescued"]:
            console.print(f"  {one['ship']}: {one['ref']}")
        if summary["trouble"]:
            console.print(f"  abandoned all the same: {summary['trouble']}")
        if summary["bundle"]:
            console.print(f"  work that had not landed (a clone of it was tested): {summary['bundle']}")
