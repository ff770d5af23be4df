"""Pauses that end by themselves: nobody can go on for now, and nobody is to blame.

``paused: ours`` while this machine or the repository fails, ``paused: provider`` while the provider does
not answer and no ship can be reached. What a user paused stays paused until he says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

PASSING = frozenset({"ours", "provider"})


@dataclass(frozen=True)
class Pause:
    """Why nobody can go on.

    Attributes:
        reason: as the ledger keeps it.
        note: for people.
    """

    reason: str
    note: str


def passing_pause(ours: str | None, absent: str | None, *, is_anyone_reached: bool) -> Pause | None:
    """Return the pause that there is now, None if there is none.

    Args:
        ours: what is wrong with this machine or the repository.
        absent: why the provider does not answer.
        is_anyone_reached: whether the channel of any ship is open: it works on without the provider's answers.
    """
    if ours:
        return Pause("ours", f"{ours}; nothing is handed out until that is mended, then it goes on by itself")
    if absent and not is_anyone_reached:
        return Pause("provider", f"{absent}; it goes on by itself when it answers")
    return None
