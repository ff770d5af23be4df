"""The merge queue: which offer lands, is refused, or is checked next, and on top of what.

::

    offers, in order of arrival ──> each is stacked on those before it that may still land
        ──its candidate is merged and checked, side by side with the others'──> passed | failed | conflict
        ──nothing unsettled is below it any more──> it lands, or goes back

A verdict counts only when everything below it has landed, since only then its candidate is the head
plus that one offer. Until then a failed offer is left out of the stacks of those behind it; if
something below it goes, it is stacked and checked anew. What lands is exactly the tree that was
checked: the candidates below it have become the head, tree for tree.

No offer starves: one that was restacked :data:`MAX_RESTACKS` times by others' failures is moved to the
front, where it is checked on the bare head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

MAX_RESTACKS = 3
State = Literal["waiting", "checking", "passed", "failed", "conflict"]


@dataclass(frozen=True)
class QueuedOffer:
    """An offer in the queue.

    Attributes:
        token: of its attempt.
        state: of its candidate; ``waiting``: it has none yet.
        stack: tokens of the offers below its candidate that have not landed yet, the lowest first.
        restacks: how often it lost its candidate by others' failures.
    """

    token: int
    state: State = "waiting"
    stack: tuple[int, ...] = ()
    restacks: int = 0


@dataclass(frozen=True)
class Land:
    """Land the offer: its candidate passed and is on the head."""

    token: int


@dataclass(frozen=True)
class Refuse:
    """Refuse the offer: it failed its check, or conflicted, on the head itself."""

    token: int


@dataclass(frozen=True)
class Stack:
    """Merge the offer onto ``stack`` (the lowest first) and check the result; a check that runs is stopped."""

    token: int
    stack: tuple[int, ...]


Action = Land | Refuse | Stack


def next_action(offers: tuple[QueuedOffer, ...]) -> Action | None:
    """Return the next action, None if there is none now: settle the first offer, else bring one stack up to date.

    One at a time, the lowest first: an offer that turns out to conflict is in no other offer's stack.

    Args:
        offers: in order of arrival.
    """
    below: list[int] = []
    for offer in _in_turn(offers):
        wanted = tuple(below)
        if offer.state == "waiting" or offer.stack != wanted:
            return Stack(offer.token, wanted)
        if offer.state in {"failed", "conflict"}:
            if not wanted:
                return Refuse(offer.token)
            continue  # those behind it are stacked without it; it is settled when all below it are
        if offer.state == "passed" and not wanted:
            return Land(offer.token)
        below.append(offer.token)
    return None


def with_candidate(offers: tuple[QueuedOffer, ...], action: Stack, state: State) -> tuple[QueuedOffer, ...]:
    """Return the queue with an offer's new candidate, which is now ``checking``, ``passed`` or ``conflict``."""
    return tuple(_restacked(offer, action, state) if offer.token == action.token else offer for offer in offers)


def _restacked(offer: QueuedOffer, action: Stack, state: State) -> QueuedOffer:
    lost = offer.state != "waiting" and not set(offer.stack) <= set(action.stack)
    return replace(offer, state=state, stack=action.stack, restacks=offer.restacks + lost)


def with_state(offers: tuple[QueuedOffer, ...], token: int, state: State) -> tuple[QueuedOffer, ...]:
    """Return the queue with an offer's new state, after its check ended."""
    return tuple(replace(offer, state=state) if offer.token == token else offer for offer in offers)


def without_offer(offers: tuple[QueuedOffer, ...], token: int, *, landed: bool) -> tuple[QueuedOffer, ...]:
    """Return the queue without an offer; candidates that were stacked on one that ``landed`` are on the head now."""
    left = tuple(offer for offer in offers if offer.token != token)
    return tuple(_on_new_head(offer, token) for offer in left) if landed else left


def _on_new_head(offer: QueuedOffer, token: int) -> QueuedOffer:
    if offer.stack[:1] == (token,):
        return replace(offer, stack=offer.stack[1:])
    return replace(offer, state="waiting", stack=())


def with_all_waiting(offers: tuple[QueuedOffer, ...]) -> tuple[QueuedOffer, ...]:
    """Return the queue with all offers waiting: somebody else moved the head, so every candidate is made again."""
    return tuple(replace(offer, state="waiting", stack=()) for offer in offers)


def _in_turn(offers: tuple[QueuedOffer, ...]) -> list[QueuedOffer]:
    return sorted(offers, key=lambda offer: offer.restacks < MAX_RESTACKS)
