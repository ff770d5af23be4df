"""``plan check`` and ``plan simulate``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ocaptain.cli import render
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.plan import Finding, Run, enough_ships, jobs_of, load_plan, simulate
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocaptain.plan import Plan

FAULTY = 2
MAX_SHIPS = 500


def check(directory: Path, *, as_json: bool) -> int:
    """Show what a look at a plan found; return the exit code."""
    report = load_plan(directory.expanduser())
    warnings = [*report.warnings, *(_in_repository(report.plan, directory.expanduser()) if report.plan else ())]
    if as_json:
        render.print_json(
            "plan_check",
            {
                "ok": report.plan is not None,
                "tasks": len(report.plan.tasks) if report.plan else None,
                "faults": [fault.as_dict() for fault in report.faults],
                "warnings": [warning.as_dict() for warning in warnings],
            },
        )
        return 0 if report.plan else FAULTY
    problems = render.err()
    for warning in warnings:
        problems.print(f"warning: {clean_line(str(warning))}")
    for fault in report.faults:
        problems.print(clean_line(str(fault)))
    if report.plan is None:
        return FAULTY
    plan = report.plan
    checks = sum(1 for task in plan.tasks.values() if task.metadata.verify)
    render.out().print(f"{clean_line(plan.name)}: {len(plan.tasks)} tasks, {checks} with a check of their own: ok")
    return 0


def _in_repository(plan: Plan, directory: Path) -> list[Finding]:
    """Return what the plan's repository would set of agents, or why that cannot be said; never a fault."""
    from ocaptain.config import load_settings  # noqa: PLC0415 - only where there is a repository to look at
    from ocaptain.scratch import scratch_directory  # noqa: PLC0415
    from ocaptain.voyage import source  # noqa: PLC0415

    if not plan.manifest.repo:
        return []
    try:
        named = source.resolve(plan.manifest.repo, directory)
        with scratch_directory("check") as place:
            found = source.look(named, load_settings(), place)
    except OcaptainError as error:
        what = f"could not be looked at for settings of agents: {error.message}"
        return [Finding("voyage.json", "repo", clean_line(what, 500), "check it, if it is to be there already")]
    return [Finding(one.path, "", f"(in {plan.manifest.repo}) {one.sets}", one.note) for one in found]


def fleet_sizes(text: str) -> range:
    """Parse ``8`` (one to eight) or ``4..12``.

    Raises:
        UsageError: it is neither.
    """
    found = re.fullmatch(r"(?:([0-9]{1,4})\.\.)?([0-9]{1,4})", text.strip())
    first, last = (int(found[1] or 1), int(found[2])) if found else (0, 0)
    if not 1 <= first <= last <= MAX_SHIPS:
        raise UsageError(f"-n {text}: give a number of ships or a range, from 1 to {MAX_SHIPS}: 8, or 4..12")
    return range(first, last + 1)


def show_simulation(directory: Path, sizes: str, overhead: float, seconds: float | None, *, as_json: bool) -> int:
    """Show what fleets of several sizes would make of a plan; return the exit code.

    Raises:
        UsageError: the plan cannot be read, or the sizes are none.
    """
    fleets = fleet_sizes(sizes)
    report = load_plan(directory.expanduser())
    if report.plan is None:
        raise UsageError(f"{directory} cannot be sailed:", [str(fault) for fault in report.faults])
    jobs = jobs_of(report.plan.tasks, seconds)
    runs = [simulate(jobs, ships, overhead=overhead) for ships in fleets]
    shown = _as_data(report.plan, runs, sum(job.seconds + overhead for job in jobs), overhead)
    if as_json:
        render.print_json("plan_simulate", shown)
    else:
        _print_simulation(report.plan, shown)
    return 0


def _as_data(plan: Plan, runs: list[Run], work: float, overhead: float) -> dict[str, Any]:
    known = [task.metadata.estimate for task in plan.tasks.values() if task.metadata.estimate]
    tokens = [one.tokens for one in known if one.tokens is not None]
    return {
        "name": plan.name,
        "tasks": len(runs[0].turns) + len(runs[0].stuck),
        "estimated_tasks": sum(1 for one in known if one.seconds is not None),
        "estimated_tokens": sum(tokens) if tokens else None,
        "overhead_seconds": overhead,
        "work_seconds": round(work, 3),
        "enough_ships": enough_ships(runs),
        "fleets": [
            {
                "ships": run.ships,
                "makespan_seconds": round(run.makespan, 3),
                "speed_up": round(work / run.makespan, 2) if run.makespan and not run.stuck else None,
                "idle": round(run.idle, 3),
                "stuck": list(run.stuck),
            }
            for run in runs
        ],
    }


def _print_simulation(plan: Plan, shown: Mapping[str, Any]) -> None:
    out = render.out()
    told = f"{shown['estimated_tasks']} with an estimate" if shown["estimated_tasks"] else "none with an estimate"
    out.print(
        f"{clean_line(plan.name)}: {shown['tasks']} tasks, {told}; {_format_duration(shown['work_seconds'])} of work"
    )
    if not shown["estimated_tasks"]:
        out.print("each counts as 1 s: the proportions are what this shows (--seconds says what a task takes)")
    out.print(f"{'ships':>5}  {'makespan':>9}  {'speed-up':>8}  {'idle':>5}")
    for run in shown["fleets"]:
        gain = f"{run['speed_up']:.2f}" if run["speed_up"] is not None else "-"
        line = f"{run['ships']:>5}  {_format_duration(run['makespan_seconds']):>9}  {gain:>8}  {run['idle']:>5.0%}"
        stuck = f"  {len(run['stuck'])} tasks are pinned to ships that are not there" if run["stuck"] else ""
        out.print(line + stuck)
    out.print(f"more than {shown['enough_ships']} ships do not pay")


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02} m"
    return f"{minutes} m {rest:02.0f} s" if minutes else f"{rest:.1f} s"
