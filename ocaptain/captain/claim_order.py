"""Which ready tasks are handed out last, since they may write the same files as running tasks (``metadata.paths``).

How often a task was passed over is not stored: a new captain starts to count again. A plan without ``paths`` costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.plan import count_deferrals, deferred_tasks

if TYPE_CHECKING:
    from ocaptain.ledger import Ledger


class ClaimOrder:
    """The order in which the ready tasks of a voyage are claimed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._paths = ledger.task_paths()
        self._passed_over: dict[str, int] = {}
        self._order: list[str] = []

    def tasks_to_defer(self) -> frozenset[str]:
        """Return the tasks that are handed out only when no other task is ready."""
        if not self._paths:
            return frozenset()
        self._order = self._ledger.ready_order()
        return deferred_tasks(self._order, self._ledger.running_tasks(), self._paths, self._passed_over)

    def note_claim(self, task: str, last: frozenset[str]) -> None:
        """Count the tasks that were passed over by a claim.

        Args:
            task: that was claimed.
            last: what :meth:`tasks_to_defer` returned for that claim.
        """
        if last:
            self._passed_over = count_deferrals(self._passed_over, self._order, last, task)
