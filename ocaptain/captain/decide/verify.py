"""Decide where the final verify runs, and what its end means.

::

    an unused ship ──else──> ship-verify ──else──> ship-verify made again ──else──> a ship that agents used
         │ fails, and the plan has no `setup`
         └──> once more on the ship that landed last, as it is: its builds and installs are there

A place is clean if no agent ever ran there. A ship that does not answer or breaks never fails the voyage
while there is another place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ocaptain.names import VERIFY_SHIP, stage_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

MAX_CREATIONS = 2  # times that ship-verify is made again


@dataclass(frozen=True)
class CandidateShip:
    """A ship as the final verify sees it.

    Attributes:
        ship: its id.
        used: whether an agent may have run there.
        usable: whether it is in service and could not be tried in vain for this verify before.
        connected: whether its channel is open, so that it need not be woken.
        silent: whether it is being called and does not answer.
        landed: its rank among the ships by their last landing, 1 = landed last; 0 = it landed nothing.
    """

    ship: str
    used: bool
    usable: bool = True
    connected: bool = False
    silent: bool = False
    landed: int = 0


@dataclass(frozen=True)
class CreationStatus:
    """Whether ship-verify can be made again.

    Attributes:
        possible: whether the fleet may have one, and its provider answers.
        times_made: how often it was made again before.
        is_account_full: whether the account allows no further ship.
    """

    possible: bool = False
    times_made: int = 0
    is_account_full: bool = False


@dataclass(frozen=True)
class Place:
    """A ship to run the final verify on.

    Attributes:
        ship: its id; None = any that takes tasks.
        fresh: whether the workspace is made anew for it.
        clean: whether no agent ever ran there.
    """

    ship: str | None
    fresh: bool = False
    clean: bool = False


@dataclass(frozen=True)
class CreateShip:
    """Make ship-verify again before the final verify runs.

    Attributes:
        instead_of: a ship to rescue and destroy first, since the account does not allow both; None = none.
    """

    instead_of: str | None = None


def next_place(verify_on: str, ships: Sequence[CandidateShip], creation: CreationStatus) -> Place | CreateShip:
    """Decide where the final verify runs next, or that ship-verify is made first.

    Args:
        verify_on: the voyage's ``verify_on``.
        ships: of the voyage, in order.
        creation: whether ship-verify can be made again.
    """
    if verify_on == "any":
        return Place(None)
    clean = [one for one in ships if one.usable and not one.used]
    if clean:
        best = min(clean, key=lambda one: (one.silent, one.ship == VERIFY_SHIP, not one.connected))
        return Place(best.ship, fresh=True, clean=True)
    if creation.possible and creation.times_made < MAX_CREATIONS:
        # Not the one that landed last: the verify runs there if it fails in a clean place.
        usable = [one for one in ships if one.usable]
        spare = max(usable, key=_landing_age, default=None) if creation.is_account_full else None
        return CreateShip(spare.ship if spare else None)
    last = last_landed_ship(ships)
    return Place(last.ship if last else None)


def is_clean_place_coming(verify_on: str, ships: Sequence[CandidateShip], to_come: AbstractSet[str]) -> bool:
    """Whether to wait: no place is clean, and a ship that will be is still being built.

    Args:
        verify_on: the voyage's ``verify_on``.
        ships: of the voyage, in order.
        to_come: ids of the ships that are being built.
    """
    if verify_on == "any" or any(one.usable and not one.used for one in ships):
        return False
    return any(one.ship in to_come and not one.used for one in ships)


def _landing_age(one: CandidateShip) -> float:
    return one.landed or float("inf")


def last_landed_ship(ships: Sequence[CandidateShip]) -> CandidateShip | None:
    """Return the usable ship that landed last, None if none landed anything."""
    landers = [one for one in ships if one.usable and one.landed]
    return min(landers, key=lambda one: one.landed, default=None)


@dataclass(frozen=True)
class VerifyRun:
    """One run of the final verify that ended.

    Attributes:
        ship: that ran it.
        place: that was asked for.
        code: exit code.
        timed_out: whether it took too long.
        stage: ``setup`` or ``verify``.
        fresh: whether its workspace was made anew.
    """

    ship: str
    place: Place
    code: int
    timed_out: bool = False
    stage: str = "verify"
    fresh: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the final verify means for the voyage.

    Attributes:
        state: of the voyage.
        clean: whether it ran in a fresh clone where no agent ran; None: that was not asked for.
        note: for people.
    """

    state: Literal["complete", "failed"]
    clean: bool | None
    note: str | None = None


def place_to_retry(done: VerifyRun, ships: Sequence[CandidateShip], *, has_setup: bool) -> Place | None:
    """Return where a verify that failed in a clean place is run once more, None if it is not retried.

    With a ``setup`` the plan itself says what a clean clone needs, so the failure counts.
    """
    if done.code == 0 or not done.place.clean or has_setup:
        return None
    last = last_landed_ship([one for one in ships if one.ship != done.ship])
    return Place(last.ship) if last else None


def judge_runs(runs: Sequence[VerifyRun], verify_on: str, *, is_promised: bool) -> Verdict:
    """Decide in which state the voyage ends.

    Args:
        runs: of the final verify; the last one counts.
        verify_on: the voyage's ``verify_on``.
        is_promised: whether the voyage was planned with a ship-verify.
    """
    last = runs[-1]
    clean: bool | None = last.place.clean and last.fresh
    if not clean and (verify_on == "any" or not (is_promised or len(runs) > 1)):
        clean = None
    if last.code != 0:
        why = "took too long" if last.timed_out else f"ended with exit code {last.code}"
        return Verdict("failed", clean, f"{stage_name(last.stage)} {why} on the merged head (logs/verify.log)")
    if clean is not False:
        return Verdict("complete", clean)
    if len(runs) > 1:
        why = f"verify.sh fails in a clean clone (logs/verify.log) and passed on {last.ship}, where agents had worked"
        remedy = "it needs what only the ship has: make that in voyage.json's `setup`, or use --verify-on any"
        return Verdict("complete", clean, f"{why}; {remedy}")
    why = f"no ship without agents was available for the final verify; it passed on {last.ship}"
    return Verdict("complete", clean, f"{why}, where files that agents left may have helped it")
