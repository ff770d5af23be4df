"""The merge queue: which offer lands, is refused, or is checked next, and on top of what.

::

    offers, in the order they came ──> each is stacked on those before it that may still land
        ──its candidate is merged and checked, side by side with the others'──> passed | failed | conflict
        ──nothing unsettled is below it any more──> it lands, or goes back

A verdict counts only when everything below it has landed, since only then its candidate is the head
plus that one offer. Until then a failed offer is left out of the stacks of those behind it; if
something below it goes, it is stacked and checked anew. What lands is exactly the tree that was
checked: the candidates below it have become the head, tree for tree.

Nothing waits for ever: an offer that others' failures restacked :data:`MAX_RESTACKS` times is moved
to the front, where its check is on the bare head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

MAX_RESTACKS = 3
State = Literal["waiting", "checking", "passed", "failed", "conflict"]


@dataclass(frozen=True)
class Place:
    """An offer's place in the queue.

    Attributes:
        token: of its attempt.
        state: of its candidate; ``waiting``: it has none yet.
        stack: tokens of the offers below its candidate that have not landed yet, the lowest first.
        restacks: how often others' failures took its candidate away.
    """

    token: int
    state: State = "waiting"
    stack: tuple[int, ...] = ()
    restacks: int = 0


@dataclass(frozen=True)
class Land:
    """The offer's candidate is good and stands on the head."""

    token: int


@dataclass(frozen=True)
class Refuse:
    """The offer failed its check, or conflicted, on the head itself."""

    token: int


@dataclass(frozen=True)
class Stack:
    """Merge the offer onto these, the lowest first, and check what comes of it; a check that runs is ended."""

    token: int
    stack: tuple[int, ...]


Action = Land | Refuse | Stack


def next_action(places: tuple[Place, ...]) -> Action | None:
    """Return what is to be done now: settle the first offer if it can be, else bring one stack up to date.

    One at a time, the lowest first: an offer that turns out to conflict is in nobody's stack.

    Args:
        places: in the order the offers came.
    """
    below: list[int] = []
    for place in _in_turn(places):
        wanted = tuple(below)
        if place.state == "waiting" or place.stack != wanted:
            return Stack(place.token, wanted)
        if place.state in {"failed", "conflict"}:
            if not wanted:
                return Refuse(place.token)
            continue  # those behind it do without it; it is settled when what is below it is
        if place.state == "passed" and not wanted:
            return Land(place.token)
        below.append(place.token)
    return None


def stacked(places: tuple[Place, ...], action: Stack, state: State) -> tuple[Place, ...]:
    """Return the queue after an offer got a new candidate, which is now ``checking``, ``passed`` or ``conflict``."""
    return tuple(_restacked(place, action, state) if place.token == action.token else place for place in places)


def _restacked(place: Place, action: Stack, state: State) -> Place:
    lost = place.state != "waiting" and not set(place.stack) <= set(action.stack)
    return replace(place, state=state, stack=action.stack, restacks=place.restacks + lost)


def judged(places: tuple[Place, ...], token: int, state: State) -> tuple[Place, ...]:
    """Return the queue after an offer's check ended."""
    return tuple(replace(place, state=state) if place.token == token else place for place in places)


def without(places: tuple[Place, ...], token: int, *, landed: bool) -> tuple[Place, ...]:
    """Return the queue after an offer left it; what stood on one that ``landed`` stands on the head now."""
    left = tuple(place for place in places if place.token != token)
    return tuple(_on_new_head(place, token) for place in left) if landed else left


def _on_new_head(place: Place, token: int) -> Place:
    if place.stack[:1] == (token,):
        return replace(place, stack=place.stack[1:])
    return replace(place, state="waiting", stack=())


def anew(places: tuple[Place, ...]) -> tuple[Place, ...]:
    """Return the queue after somebody else moved the head: every candidate is made again."""
    return tuple(replace(place, state="waiting", stack=()) for place in places)


def _in_turn(places: tuple[Place, ...]) -> list[Place]:
    return sorted(places, key=lambda place: place.restacks < MAX_RESTACKS)
