"""The captain's own bounds on attempts: whatever a ship says or does not say, each ends.

A ship ends its attempts by itself (:mod:`ocaptain.worker.supervise`). What is here holds for a ship that
does not: it pings and never ends, its supervisor was stopped, it opens and breaks after each start.
Everything ages by the captain's ticks, as leases do (:mod:`.leases`), and not while nobody can be
reached or nothing can land: then it is no ship's fault.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ocaptain.captain.decide.leases import LEASE_SECONDS, time_passed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GRACE_SECONDS = 60.0
MAX_BREAKS = 3


@dataclass(frozen=True)
class Working:
    """An attempt whose agent is at work.

    Attributes:
        token: of the attempt.
        ship: that has it.
        records: of the ship's journal that were taken so far.
        timeout: seconds that it may take.
        stall: seconds that it may be silent.
    """

    token: int
    ship: str
    records: int
    timeout: float
    stall: float


@dataclass(frozen=True)
class Age:
    """How long an attempt has been at work, and silent, in seconds of ticks; and how many records it had by then."""

    records: int
    worked: float = 0.0
    silent: float = 0.0


@dataclass(frozen=True)
class Judge:
    """What is known of the attempts that are at work, by token."""

    ages: Mapping[int, Age]
    last: float | None = None

    def tick(self, now: float, working: Sequence[Working], *, held_up: bool = False) -> tuple[Judge, dict[str, str]]:
        """Age what is at work.

        Args:
            now: a monotonic time, seconds.
            working: every attempt whose agent is at work.
            held_up: whether nobody could be heard now, whatever a ship does: then no time passes.

        Returns:
            What is known now, and the ships whose attempt is over by our bounds, with the reason.
        """
        passed = time_passed(self.last, now) if not held_up else 0.0
        ages: dict[int, Age] = {}
        over: dict[str, str] = {}
        for one in working:
            age = grow(self.ages.get(one.token, Age(one.records)), one, passed)
            if reason := verdict(age, one):
                over[one.ship] = reason
            else:
                ages[one.token] = age
        return replace(self, ages=ages, last=now), over


def grow(age: Age, attempt: Working, passed: float) -> Age:
    """Return an attempt's age after a tick; a record that came ends its silence."""
    silent = age.silent + passed if attempt.records == age.records else 0.0
    return Age(attempt.records, age.worked + passed, silent)


def verdict(age: Age, attempt: Working) -> str | None:
    """Return why an attempt is over by our bounds, None if it is not."""
    if age.worked >= attempt.timeout + GRACE_SECONDS:
        return f"it did not end the attempt, which may take {attempt.timeout:g} s, in {age.worked:.0f} s"
    if age.silent >= attempt.stall + GRACE_SECONDS:
        return f"it told nothing of the attempt, which may be silent for {attempt.stall:g} s, in {age.silent:.0f} s"
    return None


@dataclass(frozen=True)
class Breaks:
    """Channels of one ship that broke one after the other, without a record that came between them.

    Attributes:
        records: that were taken by then.
        since: when the first of them broke, seconds of a monotonic clock.
        count: how many.
    """

    records: int
    since: float
    count: int = 1


def after_break(before: Breaks | None, records: int, now: float) -> Breaks:
    """Return what is known after a channel broke that had been opened."""
    if before is None or before.records != records:
        return Breaks(records, now)
    return replace(before, count=before.count + 1)


def only_breaks(breaks: Breaks, now: float, *, others_fare_better: bool) -> bool:
    """Whether it is the ship that breaks.

    Args:
        breaks: of its channels.
        now: on the same clock.
        others_fare_better: whether another ship's channel is open. If none is, the way may be broken,
            and it is waited for as long as for a silent ship.
    """
    return breaks.count >= MAX_BREAKS and (others_fare_better or now - breaks.since >= LEASE_SECONDS)
