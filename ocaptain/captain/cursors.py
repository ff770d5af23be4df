"""Track which records of a ship's journal were received, and up to which all are processed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Cursor:
    """The position in the records of one class.

    Attributes:
        seen: number of the last record received.
        settled_upto: number up to which all records are processed, so that the ship may forget them.
        records_used: how many records were used.
    """

    def __init__(self, settled: int = 0) -> None:
        self.settled_upto = settled
        self.seen = settled
        self.records_used = 0
        self._unsettled: set[int] = set()

    def start_channel(self, first: int, *, is_new_journal: bool) -> None:
        """Start with a new channel whose oldest record is ``first``; a new journal starts a new count."""
        self.settled_upto = first - 1 if is_new_journal else max(self.settled_upto, first - 1)
        self.seen = self.settled_upto
        self._unsettled.clear()

    def accept(self, number: int, *, hold: bool) -> str:
        """Return what to do with record ``number``: ``use``, ``drop`` (a duplicate) or ``pull`` (a gap before it).

        Args:
            number: of the record that came.
            hold: whether it stays unsettled until :meth:`settle` is called.
        """
        if number <= self.seen:
            return "drop"
        if number != self.seen + 1:
            return "pull"
        self.seen = number
        self.records_used += 1
        if hold:
            self._unsettled.add(number)
        else:
            self._advance()
        return "use"

    def skip_dropped(self, upto: int) -> int:
        """Skip the records up to ``upto``, which the ship has dropped; return how many were missed."""
        missed = max(0, upto - self.seen)
        self.seen = max(self.seen, upto)
        self._advance()
        return missed

    def settle(self, number: int) -> None:
        """Note that a held record is processed."""
        self._unsettled.discard(number)
        self._advance()

    def _advance(self) -> None:
        self.settled_upto = min(self._unsettled) - 1 if self._unsettled else self.seen


class Cursors:
    """The cursors of a ship's journal, by class of records."""

    def __init__(self, journal: str | None, settled: Mapping[str, int]) -> None:
        self.journal = journal
        self._by_class = {name: Cursor(number) for name, number in settled.items()}
        self._used_before = 0

    @property
    def records_used(self) -> int:
        """How many records were used, of this journal and of those before; it only grows."""
        return self._used_before + sum(cursor.records_used for cursor in self._by_class.values())

    def of(self, name: str) -> Cursor:
        """Return the cursor of a class."""
        return self._by_class.setdefault(name, Cursor())

    def start_channel(self, journal: str, first: Mapping[str, int]) -> None:
        """Start with a new channel, by the worker's welcome.

        Args:
            journal: id of the worker's journal; another one than before starts a new count.
            first: number of the oldest record that the journal still has, by class.
        """
        is_new = journal != self.journal
        self.journal = journal
        if is_new:
            self._used_before = self.records_used
            self._by_class.clear()
        for name, number in first.items():
            self.of(name).start_channel(max(number, 1), is_new_journal=is_new)

    def settled_numbers(self) -> dict[str, int]:
        """Return the number up to which all records are processed, by class."""
        return {name: cursor.settled_upto for name, cursor in self._by_class.items()}
