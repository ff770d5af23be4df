"""The task graph: pure functions over ``{task: tasks it waits for}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from ocaptain.plan.models import Task

Graph = dict[str, frozenset[str]]


def dependency_graph(tasks: Mapping[str, Task]) -> Graph:
    """Return for each task the tasks it waits for: the union of all ``blocks`` and ``blockedBy``."""
    waits: dict[str, set[str]] = {task_id: set() for task_id in tasks}
    for task in tasks.values():
        waits[task.id].update(task.blockedBy)
        for later in task.blocks:
            waits.setdefault(later, set()).add(task.id)
    return {task_id: frozenset(before) for task_id, before in waits.items()}


def find_cycle(graph: Mapping[str, AbstractSet[str]]) -> list[str] | None:
    """Return a cycle as a path whose last member waits for its first, None if there is none."""
    state: dict[str, int] = {}
    for start in graph:
        if start in state:
            continue
        path: list[str] = []
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            node, left = stack.pop()
            if left:
                state[node] = 2
                path.pop()
            elif state.get(node) == 1:
                return path[path.index(node) :]
            elif node not in state:
                state[node] = 1
                path.append(node)
                stack.append((node, True))
                stack += [(before, False) for before in sorted(graph.get(node, ())) if state.get(before) != 2]
    return None


def critical_paths(
    graph: Mapping[str, AbstractSet[str]], weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return for each task the weight of the heaviest chain of tasks that begins with it.

    The graph must have no cycle.

    Args:
        graph: what each task waits for.
        weights: weight of each task; by default 1, so that the longest chain counts.
    """
    later: dict[str, set[str]] = {task: set() for task in graph}
    for task, before in graph.items():
        for one in before:
            later.setdefault(one, set()).add(task)
    length: dict[str, float] = {}
    waiting = {task: len(after) for task, after in later.items()}
    ready = [task for task, count in waiting.items() if not count]
    while ready:
        task = ready.pop()
        own = weights[task] if weights else 1
        length[task] = own + max((length[after] for after in later[task]), default=0)
        for earlier in graph.get(task, ()):
            waiting[earlier] -= 1
            if not waiting[earlier]:
                ready.append(earlier)
    return length


def heaviest_chain(graph: Mapping[str, AbstractSet[str]], paths: Mapping[str, float]) -> tuple[str, ...]:
    """Return the tasks of the heaviest chain, first to last.

    Args:
        graph: what each task waits for.
        paths: for each task the weight of the heaviest chain that begins with it (``critical_paths``). Those without
            one wait in a circle, and are left out.
    """
    later: dict[str, list[str]] = {task: [] for task in graph}
    for task, before in graph.items():
        for one in before:
            later[one].append(task)
    chain: list[str] = []
    ready = [task for task, before in graph.items() if not before and task in paths]
    while ready:
        chain.append(max(ready, key=paths.__getitem__))
        ready = [task for task in later[chain[-1]] if task in paths]
    return tuple(chain)


def waves(graph: Mapping[str, AbstractSet[str]]) -> dict[str, int]:
    """Return the wave of each task: 1 if it waits for nothing, else one more than the last of what it waits for.

    Args:
        graph: what each task waits for. Tasks that wait in a circle, or for one that does, are in wave 1.
    """
    later: dict[str, list[str]] = {task: [] for task in graph}
    waiting = {task: len(before) for task, before in graph.items()}
    for task, before in graph.items():
        for one in before:
            later[one].append(task)
    found: dict[str, int] = {}
    ready = [task for task, count in waiting.items() if not count]
    for task in ready:  # grows
        found[task] = 1 + max((found[one] for one in graph[task]), default=0)
        for one in later[task]:
            waiting[one] -= 1
            if not waiting[one]:
                ready.append(one)
    return {task: found.get(task, 1) for task in graph}
