"""The captain's own time limits for attempts: each attempt ends, whatever its ship does.

A ship ends its attempts by itself (:mod:`ocaptain.worker.supervise`). These limits are for a ship that
does not: it answers pings and never ends, its supervisor was stopped, its channel breaks after each start.
Time is counted in the captain's ticks, as for leases (:mod:`.leases`), and stands still while no ship can be
reached or nothing can land: then no ship is to blame.
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
class RunningAttempt:
    """An attempt whose agent is at work.

    Attributes:
        token: of the attempt.
        ship: that has it.
        records: number of records of the ship's journal received so far.
        timeout: seconds that the agent may take.
        stall: seconds that the agent may be silent.
    """

    token: int
    ship: str
    records: int
    timeout: float
    stall: float


@dataclass(frozen=True)
class AttemptAge:
    """How long an attempt has worked and been silent, in seconds of ticks, and its records received by then."""

    records: int
    worked: float = 0.0
    silent: float = 0.0


@dataclass(frozen=True)
class AttemptWatch:
    """The ages of the running attempts, by token."""

    ages: Mapping[int, AttemptAge]
    last: float | None = None

    def tick(
        self, now: float, working: Sequence[RunningAttempt], *, clock_stopped: bool = False
    ) -> tuple[AttemptWatch, dict[str, str]]:
        """Add the time since the last tick to the running attempts.

        Args:
            now: a monotonic time, seconds.
            working: every running attempt.
            clock_stopped: whether no time passes, since no ship could be heard now, whatever it does.

        Returns:
            The new ages, and by ship the reason why its attempt exceeded our limits.
        """
        passed = time_passed(self.last, now) if not clock_stopped else 0.0
        ages: dict[int, AttemptAge] = {}
        over: dict[str, str] = {}
        for one in working:
            age = grow_older(self.ages.get(one.token, AttemptAge(one.records)), one, passed)
            if reason := exceeded_limit(age, one):
                over[one.ship] = reason
            else:
                ages[one.token] = age
        return replace(self, ages=ages, last=now), over


def grow_older(age: AttemptAge, attempt: RunningAttempt, passed: float) -> AttemptAge:
    """Return an attempt's age after a tick of ``passed`` seconds; a new record ends its silence."""
    silent = age.silent + passed if attempt.records == age.records else 0.0
    return AttemptAge(attempt.records, age.worked + passed, silent)


def exceeded_limit(age: AttemptAge, attempt: RunningAttempt) -> str | None:
    """Return which of our limits an attempt exceeded, as a reason for people; None if it did not."""
    if age.worked >= attempt.timeout + GRACE_SECONDS:
        return f"the ship did not end the attempt after {age.worked:.0f} s; the task may take {attempt.timeout:g} s"
    if age.silent >= attempt.stall + GRACE_SECONDS:
        return (
            f"the ship reported nothing of the attempt for {age.silent:.0f} s; the task's stall limit is"
            f" {attempt.stall:g} s"
        )
    return None


@dataclass(frozen=True)
class ChannelBreaks:
    """Consecutive breaks of one ship's channel, with no record received between them.

    Attributes:
        records: number of records received by then.
        since: when the first break was, seconds of a monotonic clock.
        count: number of breaks.
    """

    records: int
    since: float
    count: int = 1


def count_break(before: ChannelBreaks | None, records: int, now: float) -> ChannelBreaks:
    """Count the break of a channel that had been opened; a record received since the last break starts a new count."""
    if before is None or before.records != records:
        return ChannelBreaks(records, now)
    return replace(before, count=before.count + 1)


def is_ship_to_blame(breaks: ChannelBreaks, now: float, *, another_is_connected: bool) -> bool:
    """Whether the ship, and not the network, is the cause of its channel's breaks.

    Args:
        breaks: of its channel.
        now: on the same clock.
        another_is_connected: whether another ship's channel is open. If none is, the network may be down,
            and the ship gets as much time as a silent one.
    """
    return breaks.count >= MAX_BREAKS and (another_is_connected or now - breaks.since >= LEASE_SECONDS)
