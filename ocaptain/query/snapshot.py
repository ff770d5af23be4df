"""A voyage at one moment, as the live screens need it: facts from the ledger, without a clock.

    ledger ──rows──> build_snapshot ──Snapshot──> screen(snapshot, now) ──> terminal

What changes with the clock alone (how long a task has been at work, the time left) is computed from a snapshot and
the time, so that a screen that shows it reads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from ocaptain.ledger import MAX_FAILURES
from ocaptain.ledger.records import ENDED, NOT_SAILING
from ocaptain.query.forecast import Forecast, OpenTask, forecast, waves

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.ledger import Ledger, Overview

PhaseState = Literal["done", "now", "next", "failed"]
#: States of a ship that gets tasks.
_WORKING = frozenset({"idle", "working", "asleep"})


@dataclass(frozen=True)
class Phase:
    """A part of a voyage.

    Attributes:
        name: ``plan``, ``repo``, ``ships``, ``work`` or ``verify``.
        state: where it is.
        text: what is known of it, a few words.
        began, ended: in seconds since 1970; None if not known or not yet.
    """

    name: str
    state: PhaseState
    text: str = ""
    began: float | None = None
    ended: float | None = None


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
        held_by: the failed task that holds it.
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
    """

    id: str
    role: str
    state: str
    reason: str | None = None
    task: str | None = None
    began: float | None = None
    log: PurePath | None = None
    replaced_by: str | None = None

    @property
    def is_up(self) -> bool:
        """Whether it exists."""
        return self.state not in NOT_SAILING


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
        created, started, ended: times in seconds since 1970; None if it has not come to that.
        phases: of the voyage, in order.
        ships: all of them, gone ones too.
        tasks: all of them, in the plan's order.
        landed: oldest first.
        work_seconds: of all attempts that are over: what one ship would have worked at least.
        forecast: of the rest.
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
        """Return the seconds that the voyage has taken so far."""
        return max(0.0, (now if self.ended is None else self.ended) - self.created)

    @property
    def speed_up(self) -> float | None:
        """How many times faster than one ship it was while it worked, None if that is not known."""
        work = next(phase for phase in self.phases if phase.name == "work")
        if work.began is None or work.ended is None or not self.work_seconds or work.ended <= work.began:
            return None
        return self.work_seconds / (work.ended - work.began)


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
        states=ledger.state_times(),
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
    states: Mapping[str, float],
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
        states: when the voyage came into each of its states.
        built: when each ship was built.
        now: in seconds since 1970.
    """
    last = {row["task"]: row for row in attempts}
    lines = _task_lines(tasks, edges, last)
    by_token = {row["token"]: row for row in attempts}
    subjects = {one.id: one.subject for one in lines}
    ended = _end_of_work(about.state, states)
    ships = tuple(_ship_line(ship, last) for ship in about.ships)
    return Snapshot(
        about=about,
        created=created,
        started=states.get("running"),
        ended=ended,
        phases=_phases(about, repo, root, created, ended, states, built, attempts),
        ships=ships,
        tasks=lines,
        landed=tuple(_landed_line(row, by_token.get(row["token"]), subjects) for row in landings),
        work_seconds=sum(max(0.0, row["ended"] - row["started"]) for row in attempts if row["ended"] is not None),
        forecast=_forecast(about, lines, ships, now),
    )


def _end_of_work(state: str, states: Mapping[str, float]) -> float | None:
    """Return when the voyage ended, None if it has not; sinking one that has ended does not count."""
    if state not in {*ENDED, "sinking"}:
        return None
    began = states.get("running", 0.0)
    judged = [states[name] for name in ("complete", "failed") if states.get(name, -1.0) >= began]
    return max(judged, default=states.get("sinking", states.get("sunk")))


def _task_lines(
    tasks: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, str]], last: Mapping[str, Mapping[str, Any]]
) -> tuple[TaskLine, ...]:
    graph: dict[str, set[str]] = {row["id"]: set() for row in tasks}
    for edge in edges:
        graph[edge["task"]].add(edge["waits"])
    wave = waves(graph)
    landed = {row["id"] for row in tasks if row["status"] == "completed"}
    return tuple(
        TaskLine(
            id=row["id"],
            subject=row["subject"],
            status=row["status"],
            ship=row["ship"],
            attempt=row["attempts"],
            tries=row["tries"],
            began=last[row["id"]]["started"] if row["id"] in last else None,
            ended=last[row["id"]]["ended"] if row["id"] in last else None,
            commit=row["commit_id"],
            reason=row["reason"],
            held_by=row["held_by"],
            hold=not row["approved"] and row["status"] == "pending",
            waits=tuple(sorted(graph[row["id"]] - landed)),
            wave=wave[row["id"]],
            estimate=row["estimate"],
        )
        for row in tasks
    )


def _ship_line(ship: Mapping[str, Any], last: Mapping[str, Mapping[str, Any]]) -> ShipLine:
    attempt = last.get(ship["task"] or "")
    return ShipLine(
        id=ship["id"],
        role=ship["role"],
        state=ship["state"],
        reason=ship["reason"],
        task=ship["task"],
        began=attempt["started"] if attempt else None,
        log=PurePath("logs", ship["id"], f"{attempt['task']}.{attempt['number']}.log") if attempt else None,
        replaced_by=ship["replaced_by"],
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
    open_tasks = [one if one.waits <= known else OpenTask(one.id, one.waits & known) for one in open_tasks]
    done = [
        (one.estimate, one.ended - one.began)
        for one in lines
        if one.status == "completed" and one.began is not None and one.ended is not None
    ]
    able = sum(ship.role == "work" and ship.state in _WORKING and not ship.replaced_by for ship in ships)
    return forecast(open_tasks, done, able if about.state == "running" else 0, now)


def _phases(
    about: Overview,
    repo: str,
    root: str,
    created: float,
    ended: float | None,
    states: Mapping[str, float],
    built: Mapping[str, float],
    attempts: Sequence[Mapping[str, Any]],
) -> tuple[Phase, ...]:
    name = PurePath(repo.rstrip("/")).name.removesuffix(".git") or "new"
    crew = [ship for ship in about.ships if ship["role"] == "work" and not ship["replaced_by"]]
    up = [ship for ship in crew if ship["id"] in built and ship["state"] not in NOT_SAILING]
    first = min((row["started"] for row in attempts), default=None)
    verifying = states.get("verifying")
    if verifying is not None and verifying < states.get("running", 0.0):
        verifying = None  # of an earlier end: it works again
    is_building = about.state == "preparing" or any(ship["state"] == "provisioning" for ship in crew)
    last_built = max((built[ship["id"]] for ship in up), default=None)
    work_ended = verifying if verifying is not None else ended
    work: PhaseState = "next" if first is None else "now" if work_ended is None else "done"
    if first is not None and about.tasks["failed"] and work_ended is not None:
        work = "failed"
    verify: PhaseState = "next"
    if about.verify:
        verify = "done" if about.verify["ok"] else "failed"
    elif about.state == "verifying":
        verify = "now"
    ships: PhaseState = "now" if is_building else "done" if len(up) == len(crew) else "failed"
    return (
        Phase("plan", "done", f"{about.tasks['total']} tasks"),
        Phase("repo", "done", f"{name}@{root[:6]}"),
        Phase("ships", ships, f"{len(up)}/{len(crew)}", created, None if is_building else last_built),
        Phase("work", work, "", first, work_ended),
        Phase("verify", verify, "", verifying, ended if verifying is not None else None),
    )
