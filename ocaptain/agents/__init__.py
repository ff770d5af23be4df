"""Agents: a folder each, found by its name.

::

    adapter.py   ADAPTER: what to run, the verdict on an attempt, credentials and roles, as data
    stream.py    for the worker, standard library only: Stream (formats the output, collects facts) and
                 transcripts (files of the agent on a host); optional
    ship/        more modules for the worker, standard library only; task_list.py: the files of the agent's own task
                 list, which then shows the voyage's tasks; optional
    role/        an Ansible role that puts program and credential on a ship; optional

An adapter decides; the worker's supervisor executes. To add an agent is to add its folder.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.agents.base import Adapter, Briefing, RunSpec
from ocaptain.errors import UsageError
from ocaptain.text import group_by_reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocaptain.plan import Plan, Task

DEFAULT_AGENT = "claude"
FOLDER = Path(__file__).parent

__all__ = ["ADAPTERS", "Adapter", "Briefing", "RunSpec", "agent_roles", "check_agents", "choose_agent"]


class _Adapters(Mapping[str, Adapter]):
    """The adapters, by the names of their folders; each is loaded when it is first used."""

    def __getitem__(self, name: str) -> Adapter:
        if name not in self._names:
            raise KeyError(name)
        adapter: Adapter = import_module(f"ocaptain.agents.{name}.adapter").ADAPTER
        return adapter

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(path.parent.name for path in FOLDER.glob("*/adapter.py")))


ADAPTERS: Mapping[str, Adapter] = _Adapters()


def agent_roles(name: str) -> tuple[str, ...]:
    """Return the roles that an agent needs on its ships: names, then the path of the role in its folder."""
    own = FOLDER / name / "role"
    return (*ADAPTERS[name].roles, *([str(own)] if own.is_dir() else []))


def choose_agent(task: Task, agent: str | None, agent_cmd: str | None) -> str:
    """Return the name of the agent for a task.

    That is ``metadata.agent``, else ``--agent``, else ``command`` if there is a line to run, else the default.
    """
    if task.metadata.agent:
        return task.metadata.agent
    if agent:
        return agent
    return "command" if task.metadata.run or agent_cmd else DEFAULT_AGENT


def check_agents(plan: Plan, agent: str | None, agent_cmd: str | None, *, may_lack: bool = False) -> dict[str, str]:
    """Return the agent of each open task.

    Args:
        plan: the plan.
        agent: the agent of tasks that name none.
        agent_cmd: the command of agent ``command``.
        may_lack: whether an agent may lack what it needs on this machine, such as a credential.

    Raises:
        UsageError: an agent does not exist or lacks something; names every such task.
    """
    chosen = {
        task.id: choose_agent(task, agent, agent_cmd) for task in plan.tasks.values() if task.status != "completed"
    }
    lacks = {} if may_lack else find_missing_requirements(chosen.values())
    faults = {}
    for task_id, name in chosen.items():
        adapter = ADAPTERS.get(name)
        if adapter is None:
            known = ", ".join(sorted(ADAPTERS))
            faults[f"tasks/{task_id}.json"] = (
                f'agent "{name}" does not exist in this version (available: {known}); '
                "give the task metadata.run, or sail with --agent command --agent-cmd CMD"
            )
        elif problem := lacks.get(name) or adapter.find_task_problem(plan.tasks[task_id], agent_cmd):
            faults[f"tasks/{task_id}.json"] = problem
    if faults:
        raise UsageError("no configured agent can work on these tasks:", group_by_reason(faults))
    return chosen


def find_missing_requirements(agents: Iterable[str]) -> dict[str, str]:
    """Return what each of these agents lacks on this machine and what to do; one that lacks nothing is left out."""
    found = {
        name: adapter.find_missing_requirement() for name in sorted(set(agents)) if (adapter := ADAPTERS.get(name))
    }
    return {name: problem for name, problem in found.items() if problem}
