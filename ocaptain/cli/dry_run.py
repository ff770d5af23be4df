"""``sail --dry-run``: what would be made, and how long it would take. Nothing is made and nothing is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ocaptain.cli import render, style
from ocaptain.cli.facts import counted
from ocaptain.cli.plan_show import plan_as_dict, plan_lines
from ocaptain.names import VERIFY_SHIP
from ocaptain.plan import build_jobs, known_estimates, load_plan
from ocaptain.plan.simulate import simulate
from ocaptain.text import clean_line
from ocaptain.voyage.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ocaptain.config import Settings
    from ocaptain.plan import Plan
    from ocaptain.voyage.request import Prepared, Request


def show_dry_run(request: Request, settings: Settings, *, as_json: bool) -> int:
    """Check a request as `sail` does and show what it would make; return the exit code.

    Raises:
        UsageError: it cannot sail.
    """
    directory = request.plan
    if directory is None:
        raise ValueError("a dry run is of a plan")
    plan = load_plan(directory).require_plan(directory)
    prepared = prepare(request, settings, check=True, forecast=True)
    shown = describe(plan, prepared, request.options.repo)
    if as_json:
        render.print_json("dry_run", shown)
        return 0
    console = render.out()
    for line in lines(shown, None if console.is_plain else console.width):
        console.print(line)
    render.print_next("next: the same without --dry-run")
    return 0


def describe(plan: Plan, prepared: Prepared, repo: str | None) -> dict[str, Any]:
    """Return the documented JSON shape of what would be made.

    Args:
        plan: the plan.
        repo: the repository that was asked for, None for the plan's own.
        prepared: the voyage as it would be made, or the active one that would go on.
    """
    work = [name for name, _ in prepared.ships if name != VERIFY_SHIP]
    run = simulate(build_jobs(plan.tasks), len(work))
    estimated = len(known_estimates(plan.tasks))
    is_known = estimated > 0 and not run.stuck
    return {
        "voyage": prepared.id if prepared.resumed else None,
        "provider": prepared.provider,
        "ships": [{"id": name, "name": target} for name, target in prepared.ships],
        "notes": list(prepared.notes),
        "estimated_tasks": estimated,
        "work_seconds": round(run.work, 1) if is_known else None,
        "makespan_seconds": round(run.makespan, 1) if is_known else None,
        "ship_seconds": round(run.makespan * run.ships, 1) if is_known else None,
        "stuck": list(run.stuck),
        "plan": {**plan_as_dict(plan), **({"repo": repo} if repo else {})},
    }


def lines(shown: Mapping[str, Any], width: int | None) -> Iterator[str]:
    """Return what would be made, for people.

    Args:
        shown: of :func:`describe`.
        width: of the terminal; None = lines of any length.
    """
    ships = [ship["id"] for ship in shown["ships"]]
    extra = " and 1 for the final verify" if VERIFY_SHIP in ships else ""
    count = len(ships) - bool(extra)
    verb = f"{shown['voyage']} would go on" if shown["voyage"] else "a new voyage would be made"
    yield f"{verb}: {counted(count, 'ship')}{extra} on {shown['provider']}; nothing is made now"
    for note in shown["notes"]:
        yield f"  {clean_line(note)}"
    yield from plan_lines(shown["plan"], width)
    yield ""
    yield from _time_lines(shown, count)


def _time_lines(shown: Mapping[str, Any], ships: int) -> Iterator[str]:
    tasks = len(shown["plan"]["tasks"])
    if shown["stuck"]:
        yield f"{', '.join(map(clean_line, shown['stuck']))}: pinned to ships that this fleet lacks"
    if shown["makespan_seconds"] is not None:
        wall, ship = (style.format_seconds(shown[name]) for name in ("makespan_seconds", "ship_seconds"))
        work = style.format_seconds(shown["work_seconds"])
        yield f"about {wall} on {counted(ships, 'ship')} ({ship} of ship time for {work} of work)"
        if missing := tasks - shown["estimated_tasks"]:
            yield f"  {missing} of {tasks} tasks have no estimate; each counts as the mean of the others"
    else:
        why = "no task has an estimate" if not shown["estimated_tasks"] else "not every task can be worked on"
        yield f"how long: not known, {why}"
    yield "not known: how long the ships take to be built, tries that fail, and what the agents cost"
