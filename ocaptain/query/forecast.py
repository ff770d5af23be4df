"""How long a voyage has still to go: pure functions over its open tasks.

attempts that landed, estimates ──> expected seconds of a task ──> longest chain, work over ships ──> time left
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.plan import critical_paths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

#: Of its expected time, what a task that has taken longer than that still needs.
OVERTIME = 0.1


@dataclass(frozen=True)
class OpenTask:
    """A task that is not over, and no failed task holds.

    Attributes:
        waits: open tasks that it waits for.
        estimate: seconds that the plan expects, None if it does not say.
        since: when its attempt began, in seconds since 1970; None if nobody works on it.
    """

    id: str
    waits: frozenset[str] = frozenset()
    estimate: float | None = None
    since: float | None = None


@dataclass(frozen=True)
class Forecast:
    """What is expected of the rest of a voyage.

    Attributes:
        at: when it was made, in seconds since 1970.
        left: seconds until the last task is over, None while nothing is known of how long tasks take.
        chain: the tasks, first to last, that decide it: the heaviest chain.
        least: seconds that are left for as long as none of the tasks at work is over.
    """

    at: float
    left: float | None = None
    chain: tuple[str, ...] = ()
    least: float = 0.0

    def left_at(self, now: float) -> float | None:
        """Return the seconds left at a later time, if nothing has happened since: never less than ``least``."""
        return None if self.left is None else max(self.least, self.left - max(0.0, now - self.at))


def expected_seconds(tasks: Sequence[OpenTask], done: Sequence[tuple[float | None, float]]) -> dict[str, float] | None:
    """Return how many seconds each task is expected to take, None if nothing is known.

    Args:
        tasks: the open ones.
        done: of each task that is over, the estimate and the seconds that it took.
    """
    both = [(estimate, took) for estimate, took in done if estimate]
    known = [task.estimate for task in tasks if task.estimate is not None]
    if not done and not known:
        return None
    factor = sum(took for _, took in both) / sum(estimate for estimate, _ in both) if both else 1.0
    usual = _mean([took for _, took in done]) if done else _mean(known)
    return {task.id: task.estimate * factor if task.estimate is not None else usual for task in tasks}


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def forecast(tasks: Sequence[OpenTask], done: Sequence[tuple[float | None, float]], ships: int, now: float) -> Forecast:
    """Return what is expected of the rest of a voyage.

    No fleet is faster than its longest chain of tasks, or than its work shared by all its ships.

    Args:
        tasks: the open ones.
        done: of each task that is over, the estimate and the seconds that it took.
        ships: how many can work; with none nothing is expected.
        now: in seconds since 1970.
    """
    if not tasks:
        return Forecast(now, 0.0)
    expected = expected_seconds(tasks, done)
    graph = {task.id: task.waits for task in tasks}
    elapsed = {task.id: None if task.since is None else now - task.since for task in tasks}
    rest = {task: _rest(expected[task] if expected else 1.0, since) for task, since in elapsed.items()}
    paths = critical_paths(graph, rest)
    chain = heaviest_chain(graph, paths)
    if expected is None or ships < 1 or len(paths) < len(graph):  # the last: they wait in a circle
        return Forecast(now, None, chain)
    overtime = {task: _rest(expected[task], None if since is None else math.inf) for task, since in elapsed.items()}
    least = max(*critical_paths(graph, overtime).values(), sum(overtime.values()) / ships)
    return Forecast(now, max(paths[chain[0]], sum(rest.values()) / ships), chain, least)


def _rest(expected: float, elapsed: float | None) -> float:
    """Return the seconds that a task still needs: all, if nobody works on it."""
    return expected if elapsed is None else max(expected * OVERTIME, expected - max(0.0, elapsed))


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
