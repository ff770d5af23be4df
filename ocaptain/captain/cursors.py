"""Which records of a ship's journal are seen, and up to where they are done with. Pure bookkeeping."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Cursor:
    """Which records of a class are seen, and up to where they are done with. Pure bookkeeping."""

    def __init__(self, settled: int = 0) -> None:
        self.settled = settled
        self.seen = settled
        self.taken = 0
        self._unsettled: set[int] = set()

    def begin(self, first: int, *, anew: bool) -> None:
        """Begin with a channel whose oldest record is ``first``; another journal counts anew."""
        self.settled = first - 1 if anew else max(self.settled, first - 1)
        self.seen = self.settled
        self._unsettled.clear()

    def take(self, number: int, *, hold: bool) -> str:
        """Return what to do with record ``number``: ``use``, ``drop`` (seen) or ``pull`` (a gap)."""
        if number <= self.seen:
            return "drop"
        if number != self.seen + 1:
            return "pull"
        self.seen = number
        self.taken += 1
        if hold:
            self._unsettled.add(number)
        else:
            self._advance()
        return "use"

    def skip(self, upto: int) -> int:
        """Pass over records that are not there any more; return how many."""
        missed = max(0, upto - self.seen)
        self.seen = max(self.seen, upto)
        self._advance()
        return missed

    def settle(self, number: int) -> None:
        """Note that a held record is done with."""
        self._unsettled.discard(number)
        self._advance()

    def _advance(self) -> None:
        self.settled = min(self._unsettled) - 1 if self._unsettled else self.seen


class Cursors:
    """The cursors of a ship's journal, by class of records."""

    def __init__(self, journal: str | None, settled: Mapping[str, int]) -> None:
        self.journal = journal
        self._by_class = {name: Cursor(number) for name, number in settled.items()}
        self._taken_before = 0

    @property
    def taken(self) -> int:
        """How many records were taken, of this journal and of those before; it only grows."""
        return self._taken_before + sum(cursor.taken for cursor in self._by_class.values())

    def of(self, name: str) -> Cursor:
        """Return the cursor of a class."""
        return self._by_class.setdefault(name, Cursor())

    def welcome(self, journal: str, first: Mapping[str, int]) -> None:
        """Take the worker's numbering; another journal, or one that was cut, starts where it starts."""
        anew = journal != self.journal
        self.journal = journal
        if anew:
            self._taken_before = self.taken
            self._by_class.clear()
        for name, number in first.items():
            self.of(name).begin(max(number, 1), anew=anew)

    def settled(self) -> dict[str, int]:
        """Return up to where each class is done with."""
        return {name: cursor.settled for name, cursor in self._by_class.items()}
