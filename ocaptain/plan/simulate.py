"""Simulate a fleet that works on a plan, with the captain's own scheduling policy.

::

    tasks, their seconds, their edges ──> each free ship takes the best ready task ──> who works on what, when

The policy is that of the ledger's claims: longest remaining chain first, then the plan's order; a
task is left to its preferred ship while that one is free; a task that overlaps with running ones is
deferred. Nothing fails here, and landing takes no time but the ``overhead`` that is added to each attempt.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain.plan.graph import critical_paths, dependency_graph
from ocaptain.plan.overlap import Globs, count_deferrals, deferred_tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from ocaptain.plan.models import Task

MIN_GAIN = 0.02  # a larger fleet must shorten the voyage by more than this part of it


@dataclass(frozen=True)
class Job:
    """A task, as the simulation sees it.

    Attributes:
        task: its id.
        seconds: that an attempt takes.
        waits: tasks that must land first.
        pin: the only ship that may take it.
        wish: the preferred ship.
        paths: globs of the files that it writes.
    """

    task: str
    seconds: float
    waits: frozenset[str] = frozenset()
    pin: str | None = None
    wish: str | None = None
    paths: Globs = ()


@dataclass(frozen=True)
class SimulatedAttempt:
    """One simulated attempt: its ship, begin and end, in seconds."""

    task: str
    ship: str
    begin: float
    end: float


@dataclass(frozen=True)
class SimulationResult:
    """The result for a fleet of one size.

    Attributes:
        ships: number of ships.
        makespan: seconds until the last task has landed.
        turns: the attempts, in the order of their begin.
        stuck: tasks that no ship of this fleet may take, or that wait for such a task.
    """

    ships: int
    makespan: float
    turns: tuple[SimulatedAttempt, ...]
    stuck: tuple[str, ...] = ()

    @property
    def work(self) -> float:
        """Seconds of all attempts together."""
        return sum(turn.end - turn.begin for turn in self.turns)

    @property
    def idle(self) -> float:
        """The part of the ships' time in which they have nothing to do."""
        whole = self.ships * self.makespan
        return 1 - self.work / whole if whole else 0.0


def build_jobs(tasks: Mapping[str, Task], seconds: float | None = None) -> list[Job]:
    """Return the jobs of a plan, in its order; completed tasks are left out, and no job waits for them.

    Args:
        tasks: by id.
        seconds: of a task without an estimate; by default the mean of those that have one, or 1.
    """
    open_tasks = {name: task for name, task in tasks.items() if task.status != "completed"}
    graph = dependency_graph(tasks)
    durations = estimate_seconds(open_tasks, seconds)
    return [
        Job(
            task=name,
            seconds=durations[name],
            waits=graph[name] & frozenset(open_tasks),
            pin=task.metadata.pin,
            wish=task.metadata.ship if isinstance(task.metadata.ship, str) else None,
            paths=task.metadata.paths,
        )
        for name, task in open_tasks.items()
    ]


def known_estimates(tasks: Mapping[str, Task]) -> dict[str, float]:
    """Return the estimated seconds of the tasks that have an estimate."""
    return {
        name: task.metadata.estimate.seconds
        for name, task in tasks.items()
        if task.metadata.estimate and task.metadata.estimate.seconds is not None
    }


def estimate_seconds(tasks: Mapping[str, Task], seconds: float | None = None) -> dict[str, float]:
    """Return the estimated seconds of each task."""
    return _fill_estimates(tasks, known_estimates(tasks), seconds)


def _fill_estimates(tasks: Iterable[str], known: Mapping[str, float], seconds: float | None = None) -> dict[str, float]:
    """Return seconds for each task; one without an estimate gets ``seconds``, by default the mean of the others."""
    other = seconds or (sum(known.values()) / len(known) if known else 1.0)
    return {name: known.get(name, other) for name in tasks}


def claim_priorities(graph: Mapping[str, AbstractSet[str]], estimates: Mapping[str, float]) -> dict[str, int]:
    """Return the priority of each task: the milliseconds of the heaviest chain of tasks that begins with it.

    Args:
        graph: what each task waits for, of the tasks that have not landed; without a cycle.
        estimates: seconds of the tasks that have an estimate.
    """
    known = {task: estimates[task] for task in graph if task in estimates}
    chains = critical_paths(graph, _fill_estimates(graph, known))
    return {task: round(weight * 1000) for task, weight in chains.items()}


@dataclass
class _SimulationRun:
    """One run under way."""

    jobs: dict[str, Job]
    order: list[str]  # the best first
    waits: dict[str, set[str]]
    paths: dict[str, Globs]
    passed_over: dict[str, int] = field(default_factory=dict)

    def next_turn(self, free: Sequence[str], at_work: list[str]) -> tuple[str, str] | None:
        """Return a task and the free ship that claims it, None if no free ship can take a task."""
        ready = [task for task in self.order if not self.waits[task]]
        if not ready or not free:
            return None
        last = deferred_tasks(ready, at_work, self.paths, self.passed_over) if self.paths else frozenset()
        for ship in free:
            task = self._choose(ship, frozenset(free) - {ship}, ready, last)
            if task is not None:
                self.passed_over = count_deferrals(self.passed_over, ready, last, task) if last else self.passed_over
                self.order.remove(task)
                return task, ship
        return None

    def _choose(self, ship: str, free: frozenset[str], ready: list[str], last: frozenset[str]) -> str | None:
        """Return the task that a free ship claims; ``free`` are the other free ships."""
        for left in (last, frozenset[str]()):
            open_to = [task for task in ready if task not in left and self.jobs[task].pin in {None, ship}]
            wished = (task for task in open_to if self.jobs[task].wish == ship)
            other = (task for task in open_to if self.jobs[task].wish not in free)
            for task in (*wished, *other):
                return task
        return None


def simulate(jobs: Sequence[Job], ships: int, *, overhead: float = 0.0) -> SimulationResult:
    """Simulate a plan on a fleet.

    Args:
        jobs: in the plan's order, without a cycle.
        ships: how many.
        overhead: seconds that are added to each attempt.
    """
    named = {job.task: job for job in jobs}
    chains = critical_paths({job.task: job.waits for job in jobs}, {job.task: job.seconds for job in jobs})
    position = {job.task: number for number, job in enumerate(jobs)}
    order = sorted(named, key=lambda task: (-chains[task], position[task]))
    paths = {job.task: job.paths for job in jobs if job.paths}
    play = _SimulationRun(named, order, {job.task: set(job.waits) for job in jobs}, paths)
    free = [f"ship-{number}" for number in range(ships)]
    running: list[tuple[float, int, SimulatedAttempt]] = []
    turns: list[SimulatedAttempt] = []
    now = 0.0
    while True:
        while taken := play.next_turn(free, [turn.task for _, _, turn in running]):
            task, ship = taken
            turn = SimulatedAttempt(task, ship, now, now + named[task].seconds + overhead)
            heapq.heappush(running, (turn.end, len(turns), turn))
            turns.append(turn)
            free.remove(ship)
        if not running:
            return SimulationResult(
                ships, now, tuple(turns), tuple(sorted(play.order, key=lambda task: position[task]))
            )
        now, _, ended = heapq.heappop(running)
        free.append(ended.ship)
        for waiting in play.waits.values():
            waiting.discard(ended.task)


def sufficient_ships(runs: Sequence[SimulationResult]) -> int:
    """Return the size of the smallest fleet that no larger one of ``runs`` beats by more than :data:`MIN_GAIN`."""
    whole = [run for run in runs if not run.stuck] or list(runs)
    best = min(run.makespan for run in whole)
    return next(run.ships for run in whole if run.makespan <= best * (1 + MIN_GAIN))
