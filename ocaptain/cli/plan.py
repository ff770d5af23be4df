"""``plan check`` and ``plan simulate``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ocaptain.cli import render
from ocaptain.cli.next_step import after_command
from ocaptain.errors import UsageError
from ocaptain.paths import expand_home
from ocaptain.plan import SimulationResult, build_jobs, load_plan, sufficient_ships
from ocaptain.plan.models import group_findings
from ocaptain.plan.simulate import simulate
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocaptain.plan import Plan

EXIT_FAULTY = 2
MAX_SHIPS = 500


def check_plan(directory: Path, *, as_json: bool) -> int:
    """Print the errors and warnings of a plan; return the exit code."""
    from ocaptain.voyage.plan_check import check_whole_plan  # noqa: PLC0415 - `plan simulate` needs none of it

    directory = expand_home(directory)
    report = load_plan(directory)
    found = check_whole_plan(report, directory)
    plan, faults, warnings = report.plan, found.faults, found.warnings
    if as_json:
        render.print_json(
            "plan_check",
            {
                "ok": not faults,
                "tasks": len(plan.tasks) if plan else None,
                "faults": [fault.as_dict() for fault in faults],
                "warnings": [warning.as_dict() for warning in warnings],
            },
        )
        return EXIT_FAULTY if faults else 0
    problems = render.err()
    for warning in group_findings(warnings):
        problems.print(f"warning: {clean_line(warning)}")
    for fault in faults:
        problems.print(clean_line(str(fault)))
    if plan is None or faults:
        render.print_next(after_command("plan check", ok=False, place=directory))
        return EXIT_FAULTY
    checks = sum(1 for task in plan.tasks.values() if task.metadata.verify)
    render.out().print(f"{clean_line(plan.name)}: {len(plan.tasks)} tasks, {checks} with a check of their own: ok")
    render.print_next(after_command("plan check", place=directory))
    return 0


def parse_fleet_sizes(text: str) -> range:
    """Parse ``8`` (one to eight) or ``4..12``.

    Raises:
        UsageError: ``text`` has another form.
    """
    found = re.fullmatch(r"(?:([0-9]{1,4})\.\.)?([0-9]{1,4})", text.strip())
    first, last = (int(found[1] or 1), int(found[2])) if found else (0, 0)
    if not 1 <= first <= last <= MAX_SHIPS:
        raise UsageError(f"-n {text}: give a number of ships or a range, from 1 to {MAX_SHIPS}: 8, or 4..12")
    return range(first, last + 1)


def show_simulation(directory: Path, sizes: str, overhead: float, seconds: float | None, *, as_json: bool) -> int:
    """Print how long fleets of several sizes need for a plan; return the exit code.

    Raises:
        UsageError: the plan has errors, or ``sizes`` is not a range.
    """
    fleets = parse_fleet_sizes(sizes)
    report = load_plan(expand_home(directory))
    plan = report.require_plan(directory)
    jobs = build_jobs(plan.tasks, seconds)
    runs = [simulate(jobs, ships, overhead=overhead) for ships in fleets]
    shown = _simulation_as_dict(plan, runs, sum(job.seconds + overhead for job in jobs), overhead)
    if as_json:
        render.print_json("plan_simulate", shown)
    else:
        _print_simulation(plan, shown)
        render.print_next(after_command("plan simulate", place=directory, ships=shown["enough_ships"]))
    return 0


def _simulation_as_dict(plan: Plan, runs: list[SimulationResult], work: float, overhead: float) -> dict[str, Any]:
    known = [task.metadata.estimate for task in plan.tasks.values() if task.metadata.estimate]
    tokens = [one.tokens for one in known if one.tokens is not None]
    return {
        "name": plan.name,
        "tasks": len(runs[0].turns) + len(runs[0].stuck),
        "estimated_tasks": sum(1 for one in known if one.seconds is not None),
        "estimated_tokens": sum(tokens) if tokens else None,
        "overhead_seconds": overhead,
        "work_seconds": round(work, 3),
        "enough_ships": sufficient_ships(runs),
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
    known = f"{shown['estimated_tasks']} with an estimate" if shown["estimated_tasks"] else "none with an estimate"
    out.print(
        f"{clean_line(plan.name)}: {shown['tasks']} tasks, {known}; {_format_duration(shown['work_seconds'])} of work"
    )
    if not shown["estimated_tasks"]:
        out.print("each counts as 1 s, so only the proportions have a meaning (set the seconds of a task by --seconds)")
    out.print(f"{'ships':>5}  {'makespan':>9}  {'speed-up':>8}  {'idle':>5}")
    for run in shown["fleets"]:
        gain = f"{run['speed_up']:.2f}" if run["speed_up"] is not None else "-"
        line = f"{run['ships']:>5}  {_format_duration(run['makespan_seconds']):>9}  {gain:>8}  {run['idle']:>5.0%}"
        stuck = f"  {len(run['stuck'])} tasks are pinned to ships that this fleet lacks" if run["stuck"] else ""
        out.print(line + stuck)
    out.print(f"more than {shown['enough_ships']} ships bring no further gain")


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02} m"
    return f"{minutes} m {rest:02.0f} s" if minutes else f"{rest:.1f} s"
