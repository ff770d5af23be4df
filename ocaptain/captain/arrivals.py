"""Ships that join a voyage under way: each is handed to the captain as soon as it is built.

::

    command `built` ──decide──> new actor | late (this captain is replaced) | nothing to do
    ledger: provisioning, and its builder lives ──> a ship to come ──builder ended──> failed, with what to do

What a ship to come changes is in ``Pool.work_ships`` and ``FinalVerify``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ocaptain import process
from ocaptain.captain.ship.actor import ShipActor
from ocaptain.control.commands import Answer, Command, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocaptain.captain.pool import Pool
    from ocaptain.captain.ship.context import Context
    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import ShipRow


def decide_arrival(former: Literal["none", "gone", "in service"], *, is_new: bool) -> Literal["add", "late", "keep"]:
    """Decide what a captain does with a ship that was built.

    Args:
        former: what it has of the ship: no actor, one whose ship was given up, or one that follows it.
        is_new: whether the machine was made anew.

    Returns:
        ``add``: an actor follows it from now on. ``late``: the next captain does that, since what the present actor
        knows is of a machine that is no more. ``keep``: the present actor goes on.
    """
    if former != "in service":
        return "add"
    return "late" if is_new else "keep"


class Arrivals:
    """Takes in the ships that are built while the voyage sails.

    Args:
        directory: the voyage's.
        context: of the voyage.
        pool: whose actors follow the ships.
        transports: makes the transport to a ship.
        start: starts an actor.
    """

    def __init__(
        self,
        directory: Path,
        context: Context,
        pool: Pool,
        transports: Callable[[ShipRow], Transport],
        start: Callable[[ShipActor], None],
    ) -> None:
        self._directory = directory
        self._context = context
        self._ledger = context.ledger
        self._pool = pool
        self._transports = transports
        self._start = start
        self._answers: dict[str, Answer] = {}  # by command: one whose answer came too late is repeated
        self._is_replacing = False  # whether the run that was seen last makes ships instead of lost ones
        pool.ships_to_come = self.ships_to_come

    def make_actors(self) -> None:
        """Make the actors of the ships that are there.

        A lost one may answer again, so it has one; one that failed or is gone has none.
        """
        for row in self._ledger.ships():
            if row.state == "provisioning":
                continue  # it joins when it is built
            if row.state not in {"failed", "gone"}:
                self._pool.actors[row.id] = self._make(row)
            elif claim := self._ledger.held_claim(row.id):
                reason = f"{row.id} is out of service ({row.state})"
                self._ledger.return_task(claim.token, "lost", reason, ship_state=row.state)

    def replace_actor(self, ship: str) -> None:
        """Have a new actor follow a ship, in the place of one that had given it up."""
        actor = self._pool.actors[ship] = self._make(self._ledger.ship_row(ship))
        self._start(actor)

    def take(self, command: Command) -> Answer:
        """Carry out the command ``built``; a repeated one has no further effect."""
        if known := self._answers.get(command.id):
            return known
        found = {ship: decide_arrival(self._former(ship), is_new=ship in command.created) for ship in command.ready}
        if "late" in found.values():
            said = "the next captain takes them in"
            return Answer(done=False, said=said, is_late=True)
        added = tuple(ship for ship, what in found.items() if what == "add")
        # One that could not be built anew may answer all the same: its actor knows better.
        failed = {ship: why for ship, why in command.failed.items() if self._former(ship) != "in service"}
        answer = carry_out(command.model_copy(update={"ready": added, "failed": failed}), self._ledger)
        self._answers[command.id] = answer
        for ship in added:
            self.replace_actor(ship)
        if failed:
            self._pool.retry_unconfirmed_refusals()
        return answer

    def ships_to_come(self) -> frozenset[str]:
        """Return the ships, of both roles, that are being built now."""
        found = frozenset(row.id for row in self._unbuilt())
        return found if found and self._is_building() else frozenset()

    def give_up_unbuilt(self) -> None:
        """Record as failed what nobody builds any more; called at each tick."""
        unbuilt = self._unbuilt()
        if not unbuilt or self._is_building():
            return
        voyage = self._ledger.voyage()
        if voyage.state != "running":  # while it is verified, the final verify itself makes its ship
            unbuilt = [row for row in unbuilt if row.role == "work"]
        where = f" (see {self._directory / 'replace.log'})" if self._is_replacing else ""
        for row in unbuilt:
            why = f"it was not built: that run has ended{where}; `ocaptain sail --resume {voyage.id}` builds it"
            self._ledger.set_ship(row.id, "failed", why)
        self._pool.retry_unconfirmed_refusals()

    def _is_building(self) -> bool:
        is_building = process.is_building(self._directory)
        if is_building:
            self._is_replacing = process.is_replacement_running(self._directory)
        return is_building

    def _unbuilt(self) -> list[ShipRow]:
        return [row for row in self._ledger.ships() if row.state == "provisioning"]

    def _former(self, ship: str) -> Literal["none", "gone", "in service"]:
        actor = self._pool.actors.get(ship)
        if actor is None:
            return "none"
        return "gone" if actor.gone else "in service"

    def _make(self, row: ShipRow) -> ShipActor:
        return ShipActor(row.id, self._transports(row), self._context, self._pool)
