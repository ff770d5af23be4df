"""Where the final verify runs, and what its end means: decisions, and nothing else.

::

    an unused ship ──else──> ship-verify ──else──> ship-verify made again ──else──> a ship that agents used
         │ fails, and the plan has no `setup`
         └──> once more on the ship that landed last, as it is: its builds and installs are there

A place is clean if no agent was ever there. That a ship does not answer or breaks is never the
voyage's failure while there is another place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ocaptain.names import VERIFY_SHIP

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_MADE = 2  # times that ship-verify is made again


@dataclass(frozen=True)
class VerifyShip:
    """A ship as the final verify sees it.

    Attributes:
        ship: its id.
        used: whether an agent may have been there.
        usable: whether it sails, and did not fail at this verify already.
        connected: whether it need not be woken.
        silent: whether it is being called and does not answer.
        landed: its place among the ships that landed, 1 = landed last; 0 = it landed nothing.
    """

    ship: str
    used: bool
    usable: bool = True
    connected: bool = False
    silent: bool = False
    landed: int = 0


@dataclass(frozen=True)
class Making:
    """Whether ship-verify can be made.

    Attributes:
        possible: whether the fleet may have one, and its provider answers.
        begun: how often it was made again.
        full: whether the account has no room for one more ship.
    """

    possible: bool = False
    begun: int = 0
    full: bool = False


@dataclass(frozen=True)
class Run:
    """Run it on a ship.

    Attributes:
        ship: its id; None = on any that takes tasks.
        fresh: in a workspace that is made anew.
        clean: whether no agent was there.
    """

    ship: str | None
    fresh: bool = False
    clean: bool = False


@dataclass(frozen=True)
class Make:
    """Make ship-verify.

    Attributes:
        instead_of: a ship to rescue and destroy first, since there is no room for both.
    """

    instead_of: str | None = None


def next_place(verify_on: str, ships: Sequence[VerifyShip], making: Making) -> Run | Make:
    """Decide where the final verify runs now.

    Args:
        verify_on: the voyage's ``verify_on``.
        ships: of the voyage, in order.
        making: whether ship-verify can be made.
    """
    if verify_on == "any":
        return Run(None)
    clean = [one for one in ships if one.usable and not one.used]
    if clean:
        best = min(clean, key=lambda one: (one.silent, one.ship == VERIFY_SHIP, not one.connected))
        return Run(best.ship, fresh=True, clean=True)
    if making.possible and making.begun < MAX_MADE:
        # The one that landed last is wanted if the verify fails where no agent was.
        spare = max((one for one in ships if one.usable), key=_landed_long_ago, default=None) if making.full else None
        return Make(spare.ship if spare else None)
    last = last_lander(ships)
    return Run(last.ship if last else None)


def _landed_long_ago(one: VerifyShip) -> float:
    return one.landed or float("inf")


def last_lander(ships: Sequence[VerifyShip]) -> VerifyShip | None:
    """Return the usable ship that landed last, None if none landed anything."""
    landers = [one for one in ships if one.usable and one.landed]
    return min(landers, key=lambda one: one.landed, default=None)


@dataclass(frozen=True)
class Verified:
    """How a run of the final verify ended.

    Attributes:
        ship: that ran it.
        place: where it was to run.
        code: exit code.
        timed_out: whether it took too long.
        stage: ``setup`` or ``verify``.
        fresh: whether it ran in a workspace that was made anew.
    """

    ship: str
    place: Run
    code: int
    timed_out: bool = False
    stage: str = "verify"
    fresh: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the final verify means for the voyage.

    Attributes:
        state: of the voyage.
        clean: whether it ran in a fresh clone where no agent was; None: it was not to.
        note: for people.
    """

    state: Literal["complete", "failed"]
    clean: bool | None
    note: str | None = None


def try_again(done: Verified, ships: Sequence[VerifyShip], *, has_setup: bool) -> Run | None:
    """Return where a verify that failed in a clean place is run once more, None if nowhere.

    With a ``setup`` the plan says itself what a clean clone needs, so that the failure counts.
    """
    if done.code == 0 or not done.place.clean or has_setup:
        return None
    last = last_lander([one for one in ships if one.ship != done.ship])
    return Run(last.ship) if last else None


def judge(runs: Sequence[Verified], verify_on: str, *, is_promised: bool) -> Verdict:
    """Decide what becomes of the voyage.

    Args:
        runs: of the final verify; the last one counts.
        verify_on: the voyage's ``verify_on``.
        is_promised: whether the voyage was to have a ship-verify.
    """
    last = runs[-1]
    clean: bool | None = last.place.clean and last.fresh
    if not clean and (verify_on == "any" or not (is_promised or len(runs) > 1)):
        clean = None
    if last.code != 0:
        why = "took too long" if last.timed_out else f"ended with exit code {last.code}"
        script = "setup" if last.stage == "setup" else "verify.sh"
        return Verdict("failed", clean, f"{script} {why} on the merged head (logs/verify.log)")
    if clean is not False:
        return Verdict("complete", clean)
    if len(runs) > 1:
        why = f"verify.sh fails in a clean clone (logs/verify.log) and passed on {last.ship}, where agents had worked"
        remedy = (
            "what it needs there is not in the repository: have voyage.json's `setup` make it, or say --verify-on any"
        )
        return Verdict("complete", clean, f"{why}; {remedy}")
    why = f"no ship without agents could be had for the final verify, which passed on {last.ship}"
    return Verdict("complete", clean, f"{why}; what agents left there may have helped it")
