"""A voyage at one moment, as the live screens need it: facts from the ledger, without a clock.

    ledger ──rows──> build_snapshot ──Snapshot──> screen(snapshot, now) ──> terminal

What changes with the clock alone (how long a task has been at work, the time left) is computed from a snapshot and
the time, so that a screen that shows it reads nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ocaptain.ledger import MAX_FAILURES
from ocaptain.ledger.records import NOT_SAILING
from ocaptain.names import BY_PERSON
from ocaptain.plan.graph import waves
from ocaptain.query.forecast import Forecast, OpenTask, forecast
from ocaptain.query.mirrors import live_problem
from ocaptain.query.phases import Course, Phase, last_sign, phases

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ocaptain.ledger import Ledger, Overview

__all__ = ["LandedLine", "Phase", "ShipLine", "Snapshot", "TaskLine", "build_snapshot", "read_snapshot"]

#: States of a ship that gets tasks.
_WORKING = frozenset({"idle", "working", "asleep"})


@dataclass(frozen=True)
class TaskLine:
    """A task.

    Attributes:
        status: ``pending``, ``in_progress``, ``completed`` or ``failed``.
        ship: that works on it, or that landed it.
        attempt: number of its last attempt, 0 if there was none.
        tries: how many of them failed and count; ``max_tries`` of them fail it for good.
        began, ended: of its last attempt, in seconds since 1970; None if there was none or it is not over.
        reason: of its last failure, and what it waits for if nothing but that.
        held_by: the failed task that holds it; ``person`` if people gave it back too often.
        hold: whether it waits for the user's approval.
        waits: the tasks it waits for that have not landed.
        wave: 1 for a task that waited for nothing, else one more than what it waits for.
        estimate: seconds that the plan expects.
    """

    id: str
    subject: str
    status: str
    ship: str | None = None
    attempt: int = 0
    tries: int = 0
    began: float | None = None
    ended: float | None = None
    commit: str | None = None
    reason: str | None = None
    held_by: str | None = None
    hold: bool = False
    waits: tuple[str, ...] = ()
    wave: int = 1
    estimate: float | None = None

    max_tries = MAX_FAILURES

    @property
    def is_retrying(self) -> bool:
        """Whether it failed before, and is worked on or waits to be."""
        return self.tries > 0 and self.status in {"pending", "in_progress"}

    def elapsed(self, now: float) -> float | None:
        """Return the seconds of its last attempt so far, None if there was none."""
        return None if self.began is None else max(0.0, (now if self.ended is None else self.ended) - self.began)


@dataclass(frozen=True)
class ShipLine:
    """A ship.

    Attributes:
        role: ``work`` or ``verify``.
        task: that it works on, None if none.
        began: when that attempt began, in seconds since 1970.
        log: path of that attempt's log below the voyage's directory.
        replaced_by: the ship that sails in its place.
        lost_task: that it worked on when it was lost, None if none.
        lost_at: when that attempt was given up, in seconds since 1970.
        live_problem: why not all files of its attempt are followed, "" if they are.
        live_at: when they were seen last by git, in seconds since 1970; None if they never were, or nothing runs.
        is_mirrored: whether its files are in a folder of this machine.
    """

    id: str
    role: str
    state: str
    reason: str | None = None
    task: str | None = None
    began: float | None = None
    log: PurePath | None = None
    replaced_by: str | None = None
    lost_task: str | None = None
    lost_at: float | None = None
    live_problem: str = ""
    live_at: float | None = None
    is_mirrored: bool = False

    @property
    def is_up(self) -> bool:
        """Whether it exists."""
        return self.state not in NOT_SAILING

    @property
    def is_crew(self) -> bool:
        """Whether it is one of those that get tasks, and no other one sails in its place."""
        return self.role == "work" and not self.replaced_by


@dataclass(frozen=True)
class LandedLine:
    """A task that landed.

    Attributes:
        at: when, in seconds since 1970.
        seconds: that its attempt took.
    """

    at: float
    task: str
    subject: str
    ship: str | None
    commit: str
    seconds: float


@dataclass(frozen=True)
class Snapshot:
    """A voyage at one moment.

    Attributes:
        about: what ``status`` shows.
        created, started, ended: when it was made, came to work first, and was over, in seconds since 1970; None if it
            has not come to that.
        phases: of the voyage, in order.
        ships: all of them, gone ones too.
        tasks: all of them, in the plan's order.
        landed: oldest first.
        work_seconds: of all attempts that are over: what one ship would have worked at least.
        forecast: of the rest.
        still: seconds for which nothing was done until somebody had it go on: it was paused, or had ended.
        paused: since when it has been paused, None if it is not.
        still_at_work: those of them that were in its phase ``work``.
    """

    about: Overview
    created: float
    started: float | None
    ended: float | None
    phases: tuple[Phase, ...]
    ships: tuple[ShipLine, ...]
    tasks: tuple[TaskLine, ...]
    landed: tuple[LandedLine, ...]
    work_seconds: float
    forecast: Forecast
    still: float = 0.0
    paused: float | None = None
    still_at_work: float = 0.0

    @cached_property
    def task(self) -> Mapping[str, TaskLine]:
        """The tasks by id."""
        return {one.id: one for one in self.tasks}

    @cached_property
    def failed(self) -> tuple[TaskLine, ...]:
        """The tasks that failed for good, in the plan's order."""
        return tuple(one for one in self.tasks if one.status == "failed")

    @cached_property
    def retrying(self) -> tuple[TaskLine, ...]:
        """The tasks that failed before and are not over, in the plan's order."""
        return tuple(one for one in self.tasks if one.is_retrying)

    def elapsed(self, now: float) -> float:
        """Return the seconds that the voyage has taken so far, without those for which it stood still."""
        until = next((at for at in (self.ended, self.paused) if at is not None), now)
        return max(0.0, until - self.created - self.still)

    @property
    def speed_up(self) -> float | None:
        """How many times faster than one ship it was while it worked, None if that is not known."""
        work = next((phase for phase in self.phases if phase.name == "work"), None)
        if work is None or work.began is None or work.ended is None:
            return None
        seconds = work.ended - work.began - self.still_at_work
        return self.work_seconds / seconds if seconds > 0 and self.work_seconds else None


def read_snapshot(ledger: Ledger, about: Overview, now: float) -> Snapshot:
    """Read a snapshot.

    Args:
        ledger: the voyage's.
        about: what ``status`` shows of it.
        now: in seconds since 1970.

    Raises:
        sqlite3.Error: the ledger cannot be read.
    """
    voyage = ledger.voyage()
    return build_snapshot(
        about,
        created=voyage.created,
        repo=voyage.repo,
        root=voyage.root,
        tasks=ledger.brief_tasks(),
        edges=ledger.rows("edges", "task, waits"),
        attempts=ledger.brief_attempts(),
        landings=ledger.task_landings(),
        changes=ledger.state_changes(),
        built=ledger.built_times(),
        now=now,
    )


def build_snapshot(
    about: Overview,
    *,
    created: float,
    repo: str,
    root: str,
    tasks: Sequence[Mapping[str, Any]],
    edges: Sequence[Mapping[str, str]],
    attempts: Sequence[Mapping[str, Any]],
    landings: Sequence[Mapping[str, Any]],
    changes: Sequence[tuple[float, str]],
    built: Mapping[str, float],
    now: float,
) -> Snapshot:
    """Return a snapshot from the ledger's rows.

    Args:
        about: what ``status`` shows.
        created: when the voyage was made, in seconds since 1970.
        repo: its source, as the user named it; "" = a new one.
        root: the commit it started from.
        tasks: rows of :meth:`~ocaptain.ledger.queries.Queries.brief_tasks`.
        edges: rows ``task``, ``waits``.
        attempts: rows of :meth:`~ocaptain.ledger.queries.Queries.brief_attempts`.
        landings: rows of :meth:`~ocaptain.ledger.queries.Queries.task_landings`.
        changes: when the voyage came into its states, oldest first.
        built: when each ship was built.
        now: in seconds since 1970.
    """
    by_token = {row["token"]: row for row in attempts}
    last = _last_attempts(tasks, attempts, by_token)
    lines = _task_lines(tasks, edges, last)
    subjects = {one.id: one.subject for one in lines}
    course = Course(created, about.state, tuple(changes))
    ended = last_sign(attempts, created) if course.is_over and course.ended is None else course.ended
    last_of_ship = {row["ship"]: row for row in attempts}
    ships = tuple(_ship_line(ship, last, last_of_ship.get(ship["id"])) for ship in about.ships)
    parts = phases(about, course, repo, root, built, attempts, ended)
    return Snapshot(
        about=about,
        created=created,
        started=course.started,
        ended=ended,
        phases=parts,
        ships=ships,
        tasks=lines,
        landed=tuple(_landed_line(row, by_token.get(row["token"]), subjects) for row in landings),
        work_seconds=sum(max(0.0, row["ended"] - row["started"]) for row in attempts if row["ended"] is not None),
        forecast=_forecast(about, lines, ships, now),
        still=course.still(created, ended),
        paused=course.paused,
        still_at_work=next(part for part in parts if part.name == "work").still,
    )


def _last_attempts(
    tasks: Sequence[Mapping[str, Any]], attempts: Sequence[Mapping[str, Any]], by_token: Mapping[int, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return the attempt that counts by task: the one that holds it or landed it, else the last one."""
    last = {row["task"]: row for row in attempts}
    return last | {row["id"]: by_token[row["token"]] for row in tasks if row["token"] in by_token}


def _task_lines(
    tasks: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, str]], last: Mapping[str, Mapping[str, Any]]
) -> tuple[TaskLine, ...]:
    graph: dict[str, set[str]] = {row["id"]: set() for row in tasks}
    for edge in edges:
        if edge["task"] in graph and edge["waits"] in graph:
            graph[edge["task"]].add(edge["waits"])
    wave = waves(graph)
    landed = {row["id"] for row in tasks if row["status"] == "completed"}
    return tuple(_task_line(row, graph[row["id"]] - landed, wave[row["id"]], last.get(row["id"])) for row in tasks)


def _task_line(
    row: Mapping[str, Any], waits: Collection[str], wave: int, attempt: Mapping[str, Any] | None
) -> TaskLine:
    began, ended = (attempt["started"], attempt["ended"]) if attempt else (None, None)
    if row["status"] != "in_progress" and ended is None:
        began = None  # nobody works on it, and it is not known how long somebody did
    return _same_line(
        row["id"],
        row["subject"],
        row["status"],
        row["ship"],
        row["attempts"],
        row["tries"],
        began,
        ended,
        row["commit_id"],
        row["reason"],
        BY_PERSON if row["held_by"] == row["id"] else row["held_by"],
        not row["approved"] and row["status"] == "pending",
        tuple(sorted(waits)),
        wave,
        _known_seconds(row["estimate"]),
    )


#: Of a thousand tasks few change between two looks, and to make a line takes longer than to find it.
_same_line = lru_cache(maxsize=8192)(TaskLine)


def _known_seconds(value: object) -> float | None:
    """Return an estimate if it is one: a plan's is checked, what is in a file that was changed by hand is not."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < math.inf else None  # type: ignore[operator, arg-type]


def _ship_line(
    ship: Mapping[str, Any], last: Mapping[str, Mapping[str, Any]], final: Mapping[str, Any] | None
) -> ShipLine:
    attempt = last.get(ship["task"] or "")
    lost = final if final and ship["state"] in NOT_SAILING and final["state"] in {"lost", "late"} else None
    return ShipLine(
        id=ship["id"],
        role=ship["role"],
        state=ship["state"],
        reason=ship["reason"],
        task=ship["task"],
        began=attempt["started"] if attempt else None,
        log=PurePath("logs", ship["id"], f"{attempt['task']}.{attempt['number']}.log") if attempt else None,
        replaced_by=ship["replaced_by"],
        lost_task=lost["task"] if lost else None,
        lost_at=lost["ended"] if lost else None,
        live_problem=live_problem(ship),
        live_at=(ship.get("live") or {}).get("at") or None,
        is_mirrored=bool(ship.get("mirror")),
    )


def _landed_line(row: Mapping[str, Any], attempt: Mapping[str, Any] | None, subjects: Mapping[str, str]) -> LandedLine:
    return LandedLine(
        at=row["at"],
        task=row["task"],
        subject=subjects.get(row["task"], ""),
        ship=attempt["ship"] if attempt else None,
        commit=row["commit_id"],
        seconds=max(0.0, row["at"] - attempt["started"]) if attempt else 0.0,
    )


def _forecast(about: Overview, lines: Sequence[TaskLine], ships: Sequence[ShipLine], now: float) -> Forecast:
    open_tasks = [
        OpenTask(
            id=one.id,
            waits=frozenset(one.waits),
            estimate=one.estimate,
            since=one.began if one.status == "in_progress" else None,
        )
        for one in lines
        if one.status in {"pending", "in_progress"} and one.held_by is None
    ]
    known = {one.id for one in open_tasks}
    open_tasks = [one if one.waits <= known else replace(one, waits=one.waits & known) for one in open_tasks]
    done = [
        (one.estimate, max(0.0, one.ended - one.began))
        for one in lines
        if one.status == "completed" and one.began is not None and one.ended is not None
    ]
    able = sum(ship.is_crew and ship.state in _WORKING for ship in ships)
    return forecast(open_tasks, done, able if about.state == "running" else 0, now)
