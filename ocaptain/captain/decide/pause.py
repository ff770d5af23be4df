"""Pauses that end by themselves: no ship can work for now, and no ship or task is to blame.

``paused: ours`` while this machine or the repository fails, ``paused: provider`` while the provider does
not answer and no ship can be reached. A pause that the user asked for lasts until the user ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ocaptain.text import escape_control

MAX_PROBLEM = 300  # characters
TEMPORARY_REASONS = frozenset({"ours", "provider"})


@dataclass(frozen=True)
class Pause:
    """A pause that ends by itself.

    Attributes:
        reason: ``ours`` or ``provider``, as the ledger stores it.
        note: what is wrong, for people.
    """

    reason: str
    note: str


def temporary_pause(
    local_problem: str | None, provider_problem: str | None, *, is_any_ship_connected: bool
) -> Pause | None:
    """Return the pause that the voyage is in now, None if it is in none.

    Args:
        local_problem: what is wrong with this machine or the repository.
        provider_problem: why the provider does not answer.
        is_any_ship_connected: whether the channel of any ship is open: it can work without the provider's answers.
    """
    if local_problem:
        return Pause(
            "ours", f"{_cut(local_problem)}; no tasks are handed out until this is repaired, then it goes on by itself"
        )
    if provider_problem and not is_any_ship_connected:
        return Pause("provider", f"{_cut(provider_problem)}; the voyage goes on by itself when it answers")
    return None


def _cut(text: str) -> str:
    """Make what a provider or a tool printed safe to show; cut before what is added, which says what to do."""
    return escape_control(text)[:MAX_PROBLEM]
