"""The parts of a voyage, and when it was in each: pure functions over the states that it went through.

changes of its state, oldest first ──> when it ended, how long it stood still ──> plan, repo, ships, work, verify

Times are for people, and clocks go backwards: what came first is told by the order of the changes alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ocaptain.ledger.records import ENDED, NOT_SAILING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ocaptain.ledger import Overview

PhaseState = Literal["done", "now", "next", "failed"]
#: In one of these nothing is done, until somebody has it go on.
_STILL = frozenset({"paused", "sinking", *ENDED})


@dataclass(frozen=True)
class Phase:
    """A part of a voyage.

    Attributes:
        name: ``plan``, ``repo``, ``ships``, ``work`` or ``verify``.
        state: where it is; ``next`` also if it was broken off, by a sink for example.
        text: what is known of it, a few words.
        began, ended: in seconds since 1970; None if not known or not yet.
        still: seconds of it in which nothing was done until somebody had it go on.
    """

    name: str
    state: PhaseState
    text: str = ""
    began: float | None = None
    ended: float | None = None
    still: float = 0.0

    def seconds(self, now: float) -> float | None:
        """Return the seconds that it has taken so far, None if it has not begun."""
        if self.began is None:
            return None
        return max(0.0, (now if self.ended is None else self.ended) - self.began - self.still)


@dataclass(frozen=True)
class Course:
    """The states that a voyage went through.

    Attributes:
        created: when it was made, in seconds since 1970.
        state: it is in.
        changes: when it came into each state, oldest first; one that is not changed may be named again.
    """

    created: float
    state: str
    changes: tuple[tuple[float, str], ...] = ()

    @property
    def _since_it_runs(self) -> dict[str, float]:
        """When it came first into each state since it was last had go on."""
        found: dict[str, float] = {}
        for at, state in self.changes:
            if state == "running":
                found = {}
            found.setdefault(state, at)
        return found

    @property
    def started(self) -> float | None:
        """When it came to work first, None if it has not."""
        return next((at for at, state in self.changes if state == "running"), None)

    @property
    def verifying(self) -> float | None:
        """When it began to verify what it is judged by, None if it has not."""
        return self._since_it_runs.get("verifying")

    @property
    def verdict(self) -> str | None:
        """What it ended as, ``complete`` or ``failed``, None if it has not; to sink it changes nothing in that."""
        known = self._since_it_runs
        return next((name for name in ("complete", "failed") if name in known), None) if self.is_over else None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in {*ENDED, "sinking"}

    @property
    def _stopped(self) -> float | None:
        """Since when nothing has been done, None if something is, or it is not known."""
        stopped = None
        for at, state in self.changes:
            stopped = (at if stopped is None else stopped) if state in _STILL else None
        return stopped

    @property
    def ended(self) -> float | None:
        """Since when nothing has been done, of a voyage that is over; None if it is not, or that is not known."""
        return self._stopped if self.is_over else None

    @property
    def paused(self) -> float | None:
        """Since when it has been paused, None if it is not."""
        return self._stopped if self.state == "paused" else None

    def still(self, began: float, ended: float | None) -> float:
        """Return for how many seconds in between nothing was done until somebody had it go on."""
        total, stopped = 0.0, None
        for at, state in self.changes:
            if state in _STILL:
                stopped = at if stopped is None else stopped
            elif stopped is not None:
                until = at if ended is None else min(at, ended)
                total += max(0.0, until - max(stopped, began))
                stopped = None
        return total


def phases(
    about: Overview,
    course: Course,
    repo: str,
    root: str,
    built: Mapping[str, float],
    attempts: Sequence[Mapping[str, Any]],
    ended: float | None,
) -> tuple[Phase, ...]:
    """Return the parts of a voyage, in order.

    Args:
        about: what ``status`` shows.
        course: the states that it went through.
        repo: its source, as the user named it; "" = a new one.
        root: the commit it started from.
        built: when each ship was built first, as far as that is known.
        attempts: ``ship``, ``started`` of all of them.
        ended: when nothing was left to do.
    """
    total = about.tasks["total"]
    first = min((row["started"] for row in attempts), default=None)
    work_ended = course.verifying if course.verifying is not None else ended
    return (
        Phase("plan", "done", f"{total} task{'' if total == 1 else 's'}"),
        Phase("repo", "done", f"{repo_name(repo)}@{root[:6]}"),
        _ships(about, course, built, {row["ship"] for row in attempts}),
        _spanning(Phase("work", _work(about, course, is_begun=first is not None), "", first, work_ended), course),
        _spanning(Phase("verify", _verify(about, course), "", course.verifying, ended), course),
    )


def repo_name(repo: str) -> str:
    """Return the last part of a source's name: ``todo`` of ``git@host:me/todo.git``; never a user or a password."""
    last = re.split(r"[/:]", repo.rstrip("/"))[-1].rpartition("@")[2].removesuffix(".git")
    return last or ("new" if not repo else "repo")


def _spanning(phase: Phase, course: Course) -> Phase:
    """Return a phase that does not end before it began, nor without having begun, and how long it stood still."""
    if phase.began is None:
        return replace(phase, ended=None)
    ended = phase.ended if phase.ended is None else max(phase.began, phase.ended)
    return replace(phase, ended=ended, still=course.still(phase.began, ended))


def _ships(about: Overview, course: Course, built: Mapping[str, float], worked: Collection[str]) -> Phase:
    """Return how far the ships are built. That one is lost later undoes nothing."""
    crew = [ship for ship in about.ships if ship["role"] == "work" and not ship["replaced_by"]]
    ready = [ship for ship in crew if ship["id"] in built or ship["id"] in worked or _is_reached(ship["state"])]
    is_building = course.state == "preparing" or (
        not course.is_over and any(ship["state"] == "provisioning" for ship in crew)
    )
    state: PhaseState = "now" if is_building else "done" if len(ready) == len(crew) else "failed"
    later = {ship["replaced_by"] for ship in about.ships}
    first = [built[ship["id"]] for ship in about.ships if ship["id"] in built and _is_original(ship, later)]
    ended = None if is_building else max(first, default=None)
    return _spanning(Phase("ships", state, f"{len(ready)}/{len(crew)}", course.created, ended), course)


def _is_reached(state: str) -> bool:
    """Whether a ship must have been built, since it is in this state."""
    return state not in {"provisioning", *NOT_SAILING}


def _is_original(ship: Mapping[str, Any], later: Collection[str | None]) -> bool:
    return ship["role"] == "work" and ship["id"] not in later


def _work(about: Overview, course: Course, *, is_begun: bool) -> PhaseState:
    if about.tasks["total"] == about.tasks["completed"]:
        return "done"
    if about.tasks["failed"] and (course.is_over or course.verifying is not None):
        return "failed"
    return "now" if is_begun and not course.is_over else "next"


def _verify(about: Overview, course: Course) -> PhaseState:
    if course.state == "verifying":
        return "now"
    if not course.is_over:  # what an earlier end showed does not count any more
        return "next"
    if about.verify and (course.verifying is not None or not course.changes):
        return "done" if about.verify["ok"] else "failed"
    is_unusable = about.gate is not None and about.gate["outcome"] == "interpreter"
    has_failed = course.verdict == "failed" and (course.verifying is not None or is_unusable)
    return "failed" if has_failed else "next"


def last_sign(attempts: Sequence[Mapping[str, Any]], created: float) -> float:
    """Return when something was done last, of a voyage that ended and whose end is not known."""
    times: list[float] = [time for row in attempts for time in (row["started"], row["ended"]) if time is not None]
    return max([created, *times])
