"""When a sprite pauses: running → warm (frozen) → cold (processes gone) → running at the next request.

As on the live service, these keep a sprite awake: a request in progress, an attached command, an open
``/proxy`` connection, a Task that has not expired, and output on a terminal without a client. Services
and commands whose client has disconnected do not.
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
    """How long a sprite may be idle.

    Attributes:
        idle: seconds until it is frozen; 0 = never.
        cold: further seconds until its processes are ended; 0 = never.
    """

    idle: float = IDLE_SECONDS
    cold: float = COLD_SECONDS


@dataclass(frozen=True)
class Activity:
    """The facts that decide whether a sprite pauses.

    Attributes:
        state: current state.
        is_held: whether anything keeps it awake now.
        quiet_seconds: seconds since anything last kept it awake.
    """

    state: State
    is_held: bool
    quiet_seconds: float


def next_state(activity: Activity, idle_policy: IdlePolicy) -> State:
    """Return the state that a sprite should have now; a paused one is only woken by a request."""
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
    """The clock for pauses, Tasks, awake time and timestamps; tests can advance it instead of waiting."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._ahead += seconds

    def monotonic(self) -> float:
        """Return seconds of a monotonic clock."""
        return time.monotonic() + self._ahead

    def wall(self) -> float:
        """Return the time in Unix seconds."""
        return time.time() + self._ahead
