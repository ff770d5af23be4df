"""What of the ready tasks comes last, since it may write the files of work at hand (``metadata.paths``).

How often a task was passed over is not stored: a new captain counts anew. A plan without ``paths`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.plan import comes_last, count_passed_over

if TYPE_CHECKING:
    from ocaptain.ledger import Ledger


class LineUp:
    """The ready tasks of a voyage, in line."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._paths = ledger.paths()
        self._passed_over: dict[str, int] = {}
        self._order: list[str] = []

    def last(self) -> frozenset[str]:
        """Return the tasks that are left until nothing else is ready."""
        if not self._paths:
            return frozenset()
        self._order = self._ledger.ready_order()
        return comes_last(self._order, self._ledger.at_work(), self._paths, self._passed_over)

    def claimed(self, task: str, last: frozenset[str]) -> None:
        """Count those that stood before a task that was claimed, after :meth:`last` was asked."""
        if last:
            self._passed_over = count_passed_over(self._passed_over, self._order, last, task)
