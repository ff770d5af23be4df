"""Check what a plan alone says: its agents, template and repository; for ``plan check``, the play, and a voyage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ocaptain.agents import ADAPTERS, Briefing, choose_agent
from ocaptain.config import load_settings
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.git import GitError
from ocaptain.plan import Finding
from ocaptain.scratch import scratch_directory
from ocaptain.text import clean_line
from ocaptain.voyage import source as sources
from ocaptain.voyage.proof import prove_source
from ocaptain.voyage.start import SourceRefused, SourceUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocaptain.plan import Plan, Report, Task

TRIED_CHARACTERS = 10_000  # of spec.md, with which a prompt template is tried


@dataclass(frozen=True)
class Findings:
    """What is wrong with a plan, and what the user should know about it."""

    faults: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()


def check_whole_plan(report: Report, directory: Path) -> Findings:
    """Return all that is to be said of a plan as it sails without options: by its files, its agents, its repository.

    Args:
        report: of its files.
        directory: where it is.
    """
    agents = _find_agent_problems(report) if report.tasks else Findings()
    source = _check_source(report.plan, directory) if report.plan else Findings()
    return Findings(
        (*report.faults, *agents.faults, *source.faults), (*report.warnings, *agents.warnings, *source.warnings)
    )


def _check_source(plan: Plan, directory: Path) -> Findings:
    """Check whether a voyage can start from the repository that a plan names, and which agent settings it has.

    A repository that cannot be read from here is only a warning: the plan may be meant for another machine.
    """
    if not plan.manifest.repo:
        if plan.manifest.branch is None:
            return Findings()
        problem = "is the branch of a repository, and the plan names none"
        return Findings(warnings=(Finding("voyage.json", "branch", problem, "add `repo`, or sail with --repo"),))
    settings = load_settings()
    notes: tuple[str, ...] = ()
    try:
        source = replace(sources.parse_source(plan.manifest.repo, directory), branch=plan.manifest.branch)
        with scratch_directory("check") as scratch:
            proof = prove_source(source, settings, scratch, allow_partial=False)
            notes = proof.notes
            files = sources.find_settings(source, proof.start, settings, scratch)
    except SourceRefused as error:
        found = Finding("voyage.json", error.field, clean_line(error.problem, 1000), clean_line(error.action, 1000))
        return Findings(warnings=(found,)) if isinstance(error, SourceUnreadable) else Findings((found,))
    except OcaptainError as error:
        said = error.told if isinstance(error, GitError) else error.message
        what = clean_line(f"could not be searched for agent settings: {said}", 500)
        return Findings(warnings=(Finding("voyage.json", "repo", what, "try again"),))
    told = [Finding("voyage.json", "repo", note, "nothing to do if that is meant") for note in notes]
    told += [Finding(one.path, "", f"(in {plan.manifest.repo}) {one.sets}", one.note) for one in files]
    return Findings(warnings=tuple(told))


def _find_agent_problems(report: Report) -> Findings:
    """Return what the agents of a plan know to be wrong with it."""
    tasks = {task.id: task for task in report.tasks if task.status not in {"completed", "deleted"}}
    chosen = {name: choose_agent(task, None, None) for name, task in tasks.items()}
    known = {task: name for task, name in chosen.items() if name in ADAPTERS}
    faults = [
        Finding(
            f"tasks/{task}.json",
            "metadata.agent",
            f'agent "{chosen[task]}" does not exist in this version',
            f"use one of {', '.join(sorted(ADAPTERS))}, or leave it out",
        )
        for task in chosen
        if task not in known
    ]
    try:
        if report.plan:
            check_template(report.plan, None, known)
    except UsageError as error:
        what, _, remedy = error.message.removeprefix("prompt.md.j2: ").rpartition("; ")
        faults.append(Finding("prompt.md.j2", "", what, remedy))
    return Findings(tuple(faults), tuple(find_undescribed_tasks(tasks, known)))


def find_undescribed_tasks(tasks: Mapping[str, Task], agents: Mapping[str, str]) -> list[Finding]:
    """Return a warning for each task of a model without a description.

    Args:
        tasks: the plan's, by id.
        agents: name of the agent of each open task; each exists.
    """
    return [
        Finding(
            f"tasks/{task}.json",
            "description",
            f"is empty, so that {agent} knows the subject of its task and no more",
            "describe what is to be done",
        )
        for task, agent in agents.items()
        if ADAPTERS[agent].is_model and not tasks[task].description.strip()
    ]


def check_template(plan: Plan, agent_cmd: str | None, agents: Mapping[str, str]) -> None:
    """Check that the plan's own prompt template renders for every task, before anything is created."""
    if plan.prompt is not None:
        spec = plan.spec[:TRIED_CHARACTERS]
        for task, agent in agents.items():
            raw = plan.tasks[task].as_dict()
            ADAPTERS[agent].build_run(Briefing("voyage-0", "ship-0", 1, raw, spec, agent_cmd, (), None, plan.prompt))
