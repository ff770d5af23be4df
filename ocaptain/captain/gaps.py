"""Decide when records that are missing in what a ship sends are asked for again.

::

    1 2 _ 4 5 6            3 is missing: it is pulled once, not once for each of 4, 5, 6
    1 2 _ 4 5 6  _ 4 5     4 again: the worker has begun anew, and 3 is missing again: it is pulled again
    1 2 _ 4 5 6            nothing more comes: it is pulled with the next heartbeat
    1 2 _                  nobody can see that 3 is missing: after a quiet heartbeat all behind 2 is pulled once

A stream that loses one piece in many is thus as fast as it can be; a ship whose record never comes is asked
:data:`MAX_PULLS` times, then with each heartbeat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_PULLS = 3


@dataclass(frozen=True)
class Gap:
    """Records of one class that are missing.

    Attributes:
        after: number of the last record before them.
        newest: number of the last record that came behind them.
        pulls: how often they were asked for, heartbeats apart.
    """

    after: int
    newest: int
    pulls: int = 1


def meet_gap(known: Gap | None, after: int, number: int | None) -> tuple[Gap, bool]:
    """Return the gap, and whether to pull now, since a record came that does not follow the last one.

    Args:
        known: the gap that was met last in this class, if any.
        after: number of the last record that was received in order.
        number: of the record that came; None = it is damaged, so that its number is not known.
    """
    if known is None or known.after != after:
        return Gap(after, after if number is None else number), True
    if number is None or number > known.newest:
        return replace(known, newest=known.newest if number is None else number), False
    again = replace(known, newest=number, pulls=known.pulls + 1)
    return again, again.pulls <= MAX_PULLS


class Missing:
    """What is missing in a channel, by class of records."""

    def __init__(self) -> None:
        self._gaps: dict[str, Gap] = {}
        self._quiet: dict[str, tuple[int, int]] = {}  # the last record, and heartbeats since it came

    def meet(self, name: str, after: int, number: int | None) -> bool:
        """Note a record that does not follow the last one, as :func:`meet_gap` has it; return whether to pull now."""
        self._gaps[name], is_due = meet_gap(self._gaps.get(name), after, number)
        return is_due

    def beat(self, seen: Mapping[str, int], awaited: Collection[str]) -> list[str]:
        """Return the classes to pull with a heartbeat.

        Args:
            seen: number of the last record of each class that was received in order.
            awaited: classes of which a record is waited for: they are pulled with each heartbeat at which none came.
        """
        due = []
        for name, number in seen.items():
            before, beats = self._quiet.get(name, (-1, 0))
            beats = beats + 1 if before == number else 0
            self._quiet[name] = number, beats
            gap = self._gaps.get(name)
            if (gap and gap.after == number) or beats == 1 or (beats and name in awaited):
                due.append(name)
        return due
