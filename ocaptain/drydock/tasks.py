"""Tasks: holds by which a sprite keeps itself from being paused (``/.sprite/api.sock``)."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.drydock.errors import ApiError

if TYPE_CHECKING:
    from ocaptain.drydock.life import Clock

MAX_EXPIRE_SECONDS = 3600.0
MAX_TASKS = 100
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Task:
    """A hold.

    Attributes:
        name: unique in its sprite.
        started: Unix seconds.
        expires: Unix seconds, to show; a clock of the machine that is set changes nothing.
        ends: when it expires, in seconds of the monotonic clock.
    """

    name: str
    started: float
    expires: float
    ends: float

    def describe(self) -> dict[str, object]:
        """Return the task as the API shows it."""
        return {
            "name": self.name,
            "started_at": format_timestamp(self.started),
            "expires_at": format_timestamp(self.expires),
        }


class Tasks:
    """The tasks of one sprite."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[str, Task] = {}

    def live_tasks(self) -> list[Task]:
        """Remove expired tasks and return the others."""
        now = self._clock.monotonic()
        self._tasks = {name: task for name, task in self._tasks.items() if task.ends > now}
        return list(self._tasks.values())

    def get_or_404(self, name: str) -> Task:
        """Return a task; raise ApiError (404) if it does not exist or has expired."""
        self.live_tasks()
        if name not in self._tasks:
            raise ApiError(404, "not_found", f"task not found: {name}")
        return self._tasks[name]

    def create_or_refresh(self, name: str, expire_seconds: float, *, must_be_new: bool = False) -> Task:
        """Make a task, or refresh its expiry.

        Args:
            name: of the task.
            expire_seconds: from now.
            must_be_new: refuse a name that is taken.

        Raises:
            ApiError: 400: invalid name or expiry; 409: the name is taken; 429: too many tasks.
        """
        if not TASK_NAME.fullmatch(name):
            raise ApiError(400, "invalid_request", "the name of a task must be 1-128 letters, digits or . _ -")
        if not 0 < expire_seconds <= MAX_EXPIRE_SECONDS:
            raise ApiError(400, "invalid_request", "expire must be more than 0 and at most 1h")
        known = {task.name: task for task in self.live_tasks()}
        if must_be_new and name in known:
            raise ApiError(409, "already_exists", f"task {name} already exists")
        if name not in known and len(known) >= MAX_TASKS:
            raise ApiError(429, "too_many_tasks", f"a sprite has at most {MAX_TASKS} tasks")
        now = self._clock.wall()
        started = known[name].started if name in known else now
        task = Task(name, started, now + expire_seconds, self._clock.monotonic() + expire_seconds)
        self._tasks[name] = task
        return task

    def release(self, name: str) -> None:
        """Remove a task; raise ApiError (404) if it does not exist."""
        task = self.get_or_404(name)
        del self._tasks[task.name]

    def release_all(self) -> None:
        """Remove all tasks, because the sprite's processes ended."""
        self._tasks.clear()


def format_timestamp(seconds: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC (the Go SDK decodes nothing else)."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
