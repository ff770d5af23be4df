"""Who takes what: which tasks are reserved for whom, what is there to do, and whom to call for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

RESERVE_SECONDS = 5.0  # a task that comes back is reserved so long for the ship that has its agent's session
WAKE_SECONDS = 30.0  # what a ship that slept meanwhile may take to be there again
START_SECONDS = 10.0  # so long a ship that was not reached yet is waited for with what prefers it


@dataclass(frozen=True)
class ShipStatus:
    """How a ship stands.

    Attributes:
        ship: its id.
        idle: whether it has nothing to do.
        connected: whether it need not be woken.
        called: whether it has been called and has not looked yet what there is.
        gone: whether it does not sail any more.
        resting: whether it is to claim nothing for a while.
        reached: whether its channel was open once.
    """

    ship: str
    idle: bool = False
    connected: bool = False
    called: bool = False
    gone: bool = False
    resting: bool = False
    reached: bool = True


@dataclass(frozen=True)
class Reservation:
    """A task that came back and is left to one ship for a moment.

    Attributes:
        ship: that has its agent's session.
        until: on the caller's clock, seconds.
        may_sleep: whether the ship may let go of its channel meanwhile, since it is to pause first.
    """

    ship: str
    until: float
    may_sleep: bool = False


def reserve(ship: str, now: float, pause: float, sleep_after: float) -> Reservation:
    """Reserve a task for a ship.

    Args:
        ship: its id.
        now: seconds on any clock.
        pause: seconds for which the ship is to claim nothing first.
        sleep_after: seconds after which a ship without work may fall asleep.
    """
    seconds = pause + RESERVE_SECONDS + (WAKE_SECONDS if pause > sleep_after else 0.0)
    return Reservation(ship, now + seconds, may_sleep=pause > 0)


def still_reserved(
    reservations: Mapping[str, Reservation], ships: Mapping[str, ShipStatus], now: float
) -> dict[str, Reservation]:
    """Return the reservations, by task, whose ship can still come for its task."""

    def holds(one: Reservation) -> bool:
        ship = ships.get(one.ship)
        return now < one.until and ship is not None and not ship.gone and (ship.connected or one.may_sleep)

    return {task: one for task, one in reservations.items() if holds(one)}


def free_ships(ships: Iterable[ShipStatus], holding: Collection[str], *, is_start: bool) -> frozenset[str]:
    """Return the ships that can take what prefers them: idle ones, and at the start those still being reached.

    Args:
        ships: all that there are.
        holding: ships that have a task.
        is_start: whether the captain began only a moment ago.
    """
    return frozenset(
        one.ship
        for one in ships
        if not one.gone and not one.resting and (one.idle or (is_start and not one.reached and one.ship not in holding))
    )


@dataclass(frozen=True)
class Work:
    """Something to do.

    Attributes:
        name: of it; a task's id, or what the final verify is called.
        only: the one ship that may have it, None = any.
    """

    name: str
    only: str | None = None


def open_work(
    ready: Sequence[tuple[str, str | None]],
    preferred: Mapping[str, str],
    reserved: Mapping[str, str],
    free: AbstractSet[str],
) -> list[Work]:
    """Return what there is to do.

    As a claim does: what prefers a ship that is free is left to that one, even if it cannot be called.

    Args:
        ready: tasks that can be claimed, each with the ship that it is pinned to, if any.
        preferred: by task: the ship that it prefers.
        reserved: by task that can be claimed again: the ship for which it is reserved.
        free: ships that can take a task.
    """
    work = []
    for task, pin in ready:
        wish = preferred.get(task)
        work.append(Work(task, pin or (wish if wish in free else None)))
    return [*work, *(Work(task, ship) for task, ship in reserved.items())]


def ships_to_call(work: Sequence[Work], idle: Sequence[ShipStatus]) -> list[str]:
    """Return the ships to call now.

    What only one ship may have goes to that ship. For the rest, ships that were called already count
    first, then connected ones, then those that sleep. No ship is called twice.
    """
    left = {one.ship: one for one in sorted(idle, key=lambda one: (not one.called, not one.connected))}
    chosen: list[ShipStatus] = []
    # Those bound to a ship first: any other ship will do for the rest.
    for one in sorted(work, key=lambda one: one.only is None):
        ship = one.only if one.only is not None else next(iter(left), None)
        found = left.pop(ship, None) if ship is not None else None
        if found is not None:
            chosen.append(found)
    return [one.ship for one in chosen if not one.called]
