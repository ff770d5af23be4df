"""How long a voyage has still to go: pure functions over its open tasks.

attempts that landed, estimates ──> expected seconds of a task ──> longest chain, work over ships ──> time left
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.durations import MAX_SECONDS
from ocaptain.plan import critical_paths
from ocaptain.plan.graph import heaviest_chain

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Return how many seconds each task is expected to take, at most a year; None if nothing is known.

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
    times = {task.id: usual if task.estimate is None else task.estimate * factor for task in tasks}
    return {task: min(MAX_SECONDS, seconds) for task, seconds in times.items()}  # a wild estimate has a wild factor


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
