"""Decide which tasks are reserved for which ship, what work there is, and which ships to call for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

RESERVE_SECONDS = 5.0  # how long a returned task is reserved for the ship that has its agent's session
WAKE_SECONDS = 30.0  # extra time for a ship that fell asleep meanwhile and has to wake up
START_SECONDS = 10.0  # how long, after the start, tasks wait for a preferred ship that was not reached yet


@dataclass(frozen=True)
class ShipStatus:
    """A ship's state, as dispatching needs it.

    Attributes:
        ship: its id.
        idle: whether it has nothing to do.
        connected: whether its channel is open, so that it need not be woken.
        called: whether it has been called and has not asked for work since.
        gone: whether it is out of service for good.
        is_claiming_paused: whether it must not claim tasks for now.
        reached: whether its channel was ever open.
    """

    ship: str
    idle: bool = False
    connected: bool = False
    called: bool = False
    gone: bool = False
    is_claiming_paused: bool = False
    reached: bool = True


@dataclass(frozen=True)
class Reservation:
    """A returned task that only one ship may claim for a moment.

    Attributes:
        ship: that has its agent's session.
        until: when the reservation ends; seconds on the caller's clock.
        may_sleep: whether the ship may close its channel meanwhile, since it has to pause first.
    """

    ship: str
    until: float
    may_sleep: bool = False


def reserve(ship: str, now: float, pause: float, sleep_after: float) -> Reservation:
    """Reserve a task for a ship.

    Args:
        ship: its id.
        now: seconds on any clock.
        pause: seconds for which the ship claims nothing first.
        sleep_after: seconds after which a ship without work may fall asleep.
    """
    seconds = pause + RESERVE_SECONDS + (WAKE_SECONDS if pause > sleep_after else 0.0)
    return Reservation(ship, now + seconds, may_sleep=pause > 0)


def valid_reservations(
    reservations: Mapping[str, Reservation], ships: Mapping[str, ShipStatus], now: float
) -> dict[str, Reservation]:
    """Return the reservations, by task, that have not expired and whose ship can still claim the task."""

    def holds(one: Reservation) -> bool:
        ship = ships.get(one.ship)
        return now < one.until and ship is not None and not ship.gone and (ship.connected or one.may_sleep)

    return {task: one for task, one in reservations.items() if holds(one)}


def free_ships(ships: Iterable[ShipStatus], holding: Collection[str], *, is_start: bool) -> frozenset[str]:
    """Return the ships that can take a task that prefers them: idle ones, and at the start those still being reached.

    Args:
        ships: all ships.
        holding: ships that have a task.
        is_start: whether the captain began only a moment ago.
    """
    return frozenset(
        one.ship
        for one in ships
        if not one.gone
        and not one.is_claiming_paused
        and (one.idle or (is_start and not one.reached and one.ship not in holding))
    )


@dataclass(frozen=True)
class Work:
    """A piece of work: a task or the final verify.

    Attributes:
        name: a task's id, or ``verify``.
        only: the one ship that may do it, None = any.
    """

    name: str
    only: str | None = None


def open_work(
    ready: Sequence[tuple[str, str | None]],
    preferred: Mapping[str, str],
    reserved: Mapping[str, str],
    free: AbstractSet[str],
) -> list[Work]:
    """Return the work that ships can do now.

    The same rule as for a claim: a task that prefers a free ship is left to it, even if it cannot be called.

    Args:
        ready: tasks that can be claimed, each with the ship that it is pinned to, if any.
        preferred: by task: the ship that it prefers.
        reserved: by task that can be claimed again: the ship for which it is reserved.
        free: ships that can take a task.
    """
    work: list[Work] = []
    for task, pin in ready:
        wish = preferred.get(task)
        work.append(Work(task, pin or (wish if wish in free else None)))
    return [*work, *(Work(task, ship) for task, ship in reserved.items())]


def ships_to_call(work: Sequence[Work], idle: Sequence[ShipStatus]) -> list[str]:
    """Return the ships to call now.

    Work that only one ship may do goes to that ship. For the rest, ships that were called already count
    first, then connected ones, then sleeping ones. No ship is called twice.
    """
    left = {one.ship: one for one in sorted(idle, key=lambda one: (not one.called, not one.connected))}
    chosen: list[ShipStatus] = []
    # Work bound to a ship first: any other ship can do the rest.
    for one in sorted(work, key=lambda one: one.only is None):
        ship = one.only if one.only is not None else next(iter(left), None)
        found = left.pop(ship, None) if ship is not None else None
        if found is not None:
            chosen.append(found)
    return [one.ship for one in chosen if not one.called]
