"""``plan check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.cli import render
from ocaptain.plan import load_plan
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from pathlib import Path

FAULTY = 2


def check(directory: Path, *, as_json: bool) -> int:
    """Show what a look at a plan found; return the exit code."""
    report = load_plan(directory.expanduser())
    if as_json:
        render.print_json(
            "plan_check",
            {
                "ok": report.plan is not None,
                "tasks": len(report.plan.tasks) if report.plan else None,
                "faults": [fault.as_dict() for fault in report.faults],
                "warnings": [warning.as_dict() for warning in report.warnings],
            },
        )
        return 0 if report.plan else FAULTY
    problems = render.err()
    for warning in report.warnings:
        problems.print(f"warning: {clean_line(str(warning))}")
    for fault in report.faults:
        problems.print(clean_line(str(fault)))
    if report.plan is None:
        return FAULTY
    plan = report.plan
    checks = sum(1 for task in plan.tasks.values() if task.metadata.verify)
    render.out().print(f"{clean_line(plan.name)}: {len(plan.tasks)} tasks, {checks} with a check of their own: ok")
    return 0
