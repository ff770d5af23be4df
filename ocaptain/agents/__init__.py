"""Agents: one adapter each, which says as data what is run for a task.

An adapter decides; the worker's supervisor carries out. Adding an agent is a module with an
:class:`Adapter` and a line in :data:`ADAPTERS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.agents.base import Adapter, AgentRun, Briefing
from ocaptain.agents.claude import ClaudeAgent
from ocaptain.agents.command import CommandAgent
from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from ocaptain.config import Settings
    from ocaptain.plan import Plan, Task

DEFAULT_AGENT = "claude"
ADAPTERS: dict[str, Adapter] = {"claude": ClaudeAgent(), "command": CommandAgent()}

__all__ = ["ADAPTERS", "Adapter", "AgentRun", "Briefing", "agent_of", "check_agents"]


def agent_of(task: Task, agent: str | None, agent_cmd: str | None) -> str:
    """Return the name of the agent that works a task.

    ``metadata.agent``, then the user's word, then ``command`` where there is something to run.
    """
    if task.metadata.agent:
        return task.metadata.agent
    if agent:
        return agent
    return "command" if task.metadata.run or agent_cmd else DEFAULT_AGENT


def check_agents(plan: Plan, agent: str | None, agent_cmd: str | None, settings: Settings) -> dict[str, str]:
    """Return the agent of each task that is still to be done.

    Raises:
        UsageError: one is not there or lacks what it needs; names every such task.
    """
    chosen = {task.id: agent_of(task, agent, agent_cmd) for task in plan.tasks.values() if task.status != "completed"}
    faults = []
    for task_id, name in chosen.items():
        adapter = ADAPTERS.get(name)
        if adapter is None:
            known = ", ".join(sorted(ADAPTERS))
            faults.append(
                f'tasks/{task_id}.json: agent "{name}" is not in this version (there is: {known}); '
                "give the task metadata.run, or sail with --agent command --agent-cmd CMD"
            )
        elif problem := adapter.problem(plan.tasks[task_id], agent_cmd, settings):
            faults.append(f"tasks/{task_id}.json: {problem}")
    if faults:
        raise UsageError("these tasks have no agent that can work them:", faults)
    return chosen
