"""Answers queries from a voyage's directory on this machine."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.ledger import Ledger, landings, overview, task_views
from ocaptain.ledger.store import unread
from ocaptain.query.mirrors import with_mirrors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ocaptain.ledger import Landing, Overview, ShipRow, TaskView
    from ocaptain.ledger.costs import By, Costs
    from ocaptain.ledger.summary import Summary
    from ocaptain.query.live import Change
    from ocaptain.query.logs import Log
    from ocaptain.query.snapshot import Snapshot
    from ocaptain.query.why import TaskStory
    from ocaptain.telemetry.spans import Course
    from ocaptain.telemetry.store import Reported


@dataclass(frozen=True)
class Event:
    """An event of a voyage.

    Attributes:
        n: its number; later events have higher numbers.
        at: time, in seconds since 1970.
        kind: ``claim``, ``landed``, ``ship``, …
        ship, task: ids of the ship and task it is about, None if none.
        text: details for people.
    """

    n: int
    at: float
    kind: str
    ship: str | None
    task: str | None
    text: str


def _attempt_log(path: Path, row: Mapping[str, Any]) -> Log:
    from ocaptain.query.logs import Log  # noqa: PLC0415 - see the package

    return Log(path, row["ship"], row["task"], row["number"], row["started"], row["ended"])


@dataclass(frozen=True)
class Query:
    """Queries about one voyage.

    Every method raises :class:`~ocaptain.ledger.LedgerError` if the ledger cannot be read.

    Attributes:
        directory: the voyage's directory.
        patience: seconds that it waits for others who have locked the ledger.
    """

    directory: Path
    patience: float = 30.0

    @contextlib.contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        """Open the ledger; all that is read of it is of one moment."""
        path = self.directory / "ledger.db"
        try:
            with Ledger(path, patience=self.patience) as ledger, ledger.reading():
                yield ledger
        except sqlite3.Error as error:  # it could be opened, but a page of it is damaged
            raise unread(path, error) from error

    def state(self) -> str:
        """Return the voyage's state."""
        with self._ledger() as ledger:
            return ledger.voyage().state

    def overview(self) -> Overview:
        """Return the voyage's status with its ships, counts and costs."""
        with self._ledger() as ledger:
            return with_mirrors(overview(ledger), self.directory, time.time())

    def snapshot(self, now: float) -> Snapshot:
        """Return the voyage as the live screens show it.

        Args:
            now: in seconds since 1970.
        """
        from ocaptain.query.snapshot import read_snapshot  # noqa: PLC0415 - see the package

        with self._ledger() as ledger:
            return read_snapshot(ledger, with_mirrors(overview(ledger), self.directory, now), now)

    def summary(self) -> Summary:
        """Return the voyage in one line."""
        from ocaptain.ledger.summary import summarize  # noqa: PLC0415 - see the package

        with self._ledger() as ledger:
            return summarize(ledger)

    def tasks(self, status: str | None = None) -> list[TaskView]:
        """Return the tasks, all or those in one state, in the plan's order."""
        with self._ledger() as ledger:
            return [view for view in task_views(ledger) if status in {None, view.status}]

    def failed_tasks(self) -> list[str]:
        """Return the tasks that failed for good, in the plan's order."""
        with self._ledger() as ledger:
            return ledger.failed_tasks()

    def why(self, task: str, *, has_captain: bool) -> TaskStory | None:
        """Return why a task is where it is, None if the voyage has no such task.

        Args:
            task: its id.
            has_captain: whether a captain is in command.
        """
        from ocaptain.query.why import tell_task  # noqa: PLC0415 - see the package

        with self._ledger() as ledger:
            return tell_task(ledger, self.directory, task, has_captain=has_captain)

    def landings(self) -> list[Landing]:
        """Return what landed, a line a task, in the plan's order."""
        with self._ledger() as ledger:
            return landings(ledger)

    def ships(self) -> list[ShipRow]:
        """Return the ships, gone ones too."""
        with self._ledger() as ledger:
            return ledger.ships()

    def changes(self, ship: str | None = None) -> list[Change]:
        """Return what running attempts have changed; see :func:`ocaptain.query.live.read_changes`."""
        from ocaptain.query.live import read_changes  # noqa: PLC0415 - see the package

        with self._ledger() as ledger:
            return read_changes(ledger, ship)

    def last_event(self) -> int:
        """Return the number of the last event, 0 if there was none."""
        with self._ledger() as ledger:
            return ledger.last_event_number()

    def events(self, after: int = 0) -> list[Event]:
        """Return the events after a number, oldest first."""
        with self._ledger() as ledger:
            return [Event(**row) for row in ledger.events_after(after)]

    def subjects(self) -> dict[str, str]:
        """Return the subject of each task, in the plan's order."""
        with self._ledger() as ledger:
            return {row["id"]: row["subject"] or "" for row in ledger.brief_tasks()}

    def logs(self) -> list[Log]:
        """Return the logs in the order in which their attempts began, the final verify last."""
        from ocaptain.query.logs import SAME_MOMENT, Log  # noqa: PLC0415 - see the package
        from ocaptain.query.why import attempt_log  # noqa: PLC0415 - likewise

        with self._ledger() as ledger:
            found = [_attempt_log(attempt_log(self.directory, one), one) for one in ledger.brief_attempts()]
            verified = ledger.last_verify()
            if verified is not None:
                ship, at = verified[0], verified[1] - SAME_MOMENT  # its log is written as it ends
                found.append(Log(self.directory / "logs/verify.log", ship, began=at, ended=at))
        return found

    def course(self) -> Course:
        """Return what the ledger says of the voyage's course, for its trace."""
        from ocaptain.query.telemetry import read_course  # noqa: PLC0415 - see the package

        with self._ledger() as ledger:
            return read_course(ledger)

    def reported(self) -> Reported | None:
        """Return what agents reported by OTLP, None if nothing, or if it cannot be read now."""
        from ocaptain.query.telemetry import voyage_reported  # noqa: PLC0415 - see the package

        return voyage_reported(self.directory)

    def costs(self, by: By, machine_cost: Callable[[float], int]) -> Costs:
        """Return what the voyage cost so far.

        Args:
            by: one line for each ``ship``, ``task`` or ``model``.
            machine_cost: cost of a number of seconds awake, in nano-dollars.
        """
        from ocaptain.ledger.costs import compute_costs  # noqa: PLC0415 - see the package

        with self._ledger() as ledger:
            return compute_costs(ledger, by, machine_cost)
