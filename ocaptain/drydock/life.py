"""When a sprite pauses: running → warm (frozen) → cold (processes gone) → running at the next request.

What keeps one awake, as on the live service: a request under way, an attached command, an open
``/proxy`` connection, a live Task, output on a terminal that nobody watches. Services do not, nor
does a command whose client has left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

IDLE_SECONDS = 30.0
COLD_SECONDS = 600.0


class State(StrEnum):
    """A sprite's status, in the API's words."""

    RUNNING = "running"
    WARM = "warm"
    COLD = "cold"


@dataclass(frozen=True)
class IdlePolicy:
    """How long a sprite may do nothing.

    Attributes:
        idle: seconds until it is frozen; 0 = never.
        cold: further seconds until its processes are ended; 0 = never.
    """

    idle: float = IDLE_SECONDS
    cold: float = COLD_SECONDS


@dataclass(frozen=True)
class Activity:
    """What is known about a sprite when its pause is decided.

    Attributes:
        state: now.
        held: whether anything keeps it awake.
        quiet: seconds since anything last did.
    """

    state: State
    is_held: bool
    quiet_seconds: float


def next_state(activity: Activity, idle_policy: IdlePolicy) -> State:
    """Return the state that a sprite is to be in; one that sleeps is only woken by a request."""
    if activity.state is State.RUNNING:
        ready = idle_policy.idle > 0 and not activity.is_held and activity.quiet_seconds >= idle_policy.idle
        return State.WARM if ready else State.RUNNING
    if (
        activity.state is State.WARM
        and idle_policy.cold > 0
        and activity.quiet_seconds >= idle_policy.idle + idle_policy.cold
    ):
        return State.COLD
    return activity.state


class Clock:
    """The clock of pauses, holds, bills and stamps; it can be put forward, so that tests need not wait."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def advance(self, seconds: float) -> None:
        """Put it forward."""
        self._ahead += seconds

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic() + self._ahead

    def wall(self) -> float:
        """Return Unix seconds."""
        return time.time() + self._ahead
