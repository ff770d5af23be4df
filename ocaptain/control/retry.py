"""How tasks are changed when they are tried again: another line, another model, or a corrected file.

What a ship works on, and what has landed, is not changed; the order of tasks may change where that does not
contradict what has landed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ocaptain.agents import ADAPTERS, Briefing, choose_agent
from ocaptain.errors import UsageError
from ocaptain.ledger import TaskChange
from ocaptain.plan import Task, claim_priorities, find_cycle
from ocaptain.text import plain_reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.ledger import Ledger

Edge = tuple[str, str]  # a task, and one that it waits for


class ChangeRefused(Exception):
    """A task cannot be changed like this; the message says why, in one line."""


@dataclass(frozen=True)
class NewRun:
    """How tasks are run from now on; None leaves it as it is.

    Attributes:
        agent_cmd: a shell line, by the agent for shell lines.
        model: of the agent.
        task_file: the corrected task.
    """

    agent_cmd: str | None = None
    model: str | None = None
    task_file: Mapping[str, Any] | None = None


def is_on_hold(row: Mapping[str, Any]) -> bool:
    """Whether the plan has a task wait for the user's approval."""
    return bool((json.loads(row["raw"]).get("metadata") or {}).get("hold"))


def plan_changes(ledger: Ledger, tasks: Sequence[str], run: NewRun) -> list[TaskChange]:
    """Return what changes of some tasks.

    Args:
        ledger: the voyage's.
        tasks: ids; each is in the ledger.
        run: how they are run from now on.

    Raises:
        ChangeRefused: a task is being worked on or has landed, or the change is not valid.
    """
    if run == NewRun():
        return []
    if run.agent_cmd and run.model:
        raise ChangeRefused("a shell line has no model: give --agent-cmd or --model")
    rows = ledger.task_rows(tasks)
    for row in rows:
        if row["status"] == "completed":
            raise ChangeRefused(f"task {row['id']} has landed: it is not done again")
        if row["status"] == "in_progress":
            ship = row["ship"]
            raise ChangeRefused(f"task {row['id']} is being worked on by {ship}: change it when that attempt has ended")
    return [_change(ledger, row, run) for row in rows]


def _change(ledger: Ledger, row: Mapping[str, Any], run: NewRun) -> TaskChange:
    former = json.loads(row["raw"])
    given = dict(run.task_file or former)
    metadata = dict(given.get("metadata") or {})
    if run.agent_cmd:
        metadata = {**{key: value for key, value in metadata.items() if key != "agent"}, "run": run.agent_cmd}
    if run.model:
        metadata["model"] = run.model
    try:
        task = Task.model_validate({**given, "status": "pending", "metadata": metadata})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ChangeRefused(f"task {row['id']}: {field}: {plain_reason(first['msg'])}") from error
    if task.id != row["id"]:
        raise ChangeRefused(f'the file is of task "{task.id}", not of task {row["id"]}')
    agent = row["agent"] if run == NewRun(model=run.model) else _choose_agent(ledger, task, run)
    _check_run(ledger, task, agent, run)
    order = _find_new_order(ledger, former, task) if run.task_file else _Order()
    was_approved = bool(row["approved"]) and is_on_hold(row)
    return TaskChange(
        task=task.id,
        raw=task.model_copy(update={"owner": None}).as_dict(),
        agent=agent,
        wish=task.metadata.ship if isinstance(task.metadata.ship, str) else None,
        pin=task.metadata.pin if run.task_file else row["pin"],
        approved=not task.metadata.hold or was_approved,
        added=order.added,
        removed=order.removed,
        priorities=order.priorities,
    )


def _choose_agent(ledger: Ledger, task: Task, run: NewRun) -> str:
    voyage = ledger.voyage()
    asked = None if run.agent_cmd else json.loads(voyage.options).get("agent")
    return choose_agent(task, asked, voyage.agent_cmd)


def _check_run(ledger: Ledger, task: Task, agent: str, run: NewRun) -> None:
    """Check that an agent can run a task.

    Raises:
        ChangeRefused: it cannot.
    """
    adapter, voyage = ADAPTERS.get(agent), ledger.voyage()
    if adapter is None:
        raise ChangeRefused(f'task {task.id}: agent "{agent}" does not exist in this version')
    if run.model and not adapter.is_model:
        raise ChangeRefused(f"task {task.id} is run by a shell line, which has no model: leave --model out")
    if problem := adapter.find_missing_requirement() or adapter.find_task_problem(task, voyage.agent_cmd):
        raise ChangeRefused(f"task {task.id}: {problem}")
    ships = [ship.id for ship in ledger.ships() if ship.role == "work"]
    if run.task_file and task.metadata.pin and task.metadata.pin not in ships:
        raise ChangeRefused(f"task {task.id}: metadata.pin: {task.metadata.pin} does not sail; use {', '.join(ships)}")
    try:
        adapter.build_run(
            Briefing(voyage.id, "ship-0", 1, task.as_dict(), voyage.spec, voyage.agent_cmd, template=voyage.prompt)
        )
    except UsageError as error:
        raise ChangeRefused(f"task {task.id}: {error.message}") from error


@dataclass(frozen=True)
class _Order:
    """How a corrected task changes the order of tasks.

    Attributes:
        added, removed: edges.
        priorities: of all tasks that have not landed, as they are now.
    """

    added: frozenset[Edge] = frozenset()
    removed: frozenset[Edge] = frozenset()
    priorities: Mapping[str, int] = field(default_factory=dict)


def _find_new_order(ledger: Ledger, former: Mapping[str, Any], task: Task) -> _Order:
    """Return how a corrected task changes the order. An edge that another task's file names stays.

    Raises:
        ChangeRefused: it refers to no task, makes a circle, or has work wait that was begun.
    """
    rows = {row["id"]: row for row in ledger.rows("tasks", "position")}
    edges = {(row["task"], row["waits"]) for row in ledger.rows("edges", "task, waits")}
    others = {edge for row in rows.values() if row["id"] != task.id for edge in _edges_of(json.loads(row["raw"]))}
    wanted = _edges_of(task.as_dict())
    if unknown := sorted({one for edge in wanted for one in edge} - rows.keys()):
        raise ChangeRefused(f"task {task.id}: it names task {', '.join(unknown)}, which does not exist")
    added, removed = frozenset(wanted - edges), frozenset(_edges_of({**former, "id": task.id}) - wanted - others)
    for later, _ in sorted(added):
        if rows[later]["status"] in {"completed", "in_progress"}:
            state = "has landed" if rows[later]["status"] == "completed" else "is being worked on"
            raise ChangeRefused(f"task {task.id}: blocks: task {later} {state}: it cannot wait for task {task.id}")
    graph: dict[str, set[str]] = {name: set() for name in rows}
    for later, waits in (edges | added) - removed:
        graph[later].add(waits)
    if cycle := find_cycle(graph):
        chain = " waits for ".join([*cycle, cycle[0]])
        raise ChangeRefused(f"task {task.id}: the tasks would wait for each other: {chain}")
    raws = {name: json.loads(row["raw"]) for name, row in rows.items()} | {task.id: task.as_dict()}
    left = {name for name, row in rows.items() if row["status"] != "completed"}
    estimates = {name: seconds for name in left if (seconds := _estimate_of(raws[name])) is not None}
    return _Order(added, removed, claim_priorities({name: graph[name] & left for name in left}, estimates))


def _estimate_of(raw: Mapping[str, Any]) -> float | None:
    """Return the seconds of a task's estimate, None if it has none; an earlier version may have let anything in."""
    estimate = (raw.get("metadata") or {}).get("estimate")
    seconds = estimate.get("seconds") if isinstance(estimate, dict) else None
    return seconds if isinstance(seconds, int | float) else None


def _edges_of(raw: Mapping[str, Any]) -> set[Edge]:
    """Return the edges that a task's file names."""
    own = str(raw.get("id", ""))
    return {(own, waits) for waits in raw.get("blockedBy") or ()} | {(later, own) for later in raw.get("blocks") or ()}
