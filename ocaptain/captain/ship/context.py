"""What a ship's actor is given, and what it asks of and tells its captain."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ocaptain.captain.landing.lander import Lander
from ocaptain.captain.ship.cargo import CargoStore
from ocaptain.captain.ship.hooks import Hooks
from ocaptain.captain.soundness import Soundness
from ocaptain.captain.transport.base import ShipFault
from ocaptain.git import Store
from ocaptain.prices import our_prices
from ocaptain.protocol.limits import Limits
from ocaptain.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ocaptain.agents.facts import Facts
    from ocaptain.captain.decide.outcome import Decision
    from ocaptain.captain.ship.hooks import ShipHook
    from ocaptain.captain.ship.job import VerifyJob
    from ocaptain.ledger import Claim, Ledger, Voyage
    from ocaptain.prices import Prices
    from ocaptain.protocol.envelope import AgentBody, LogBody


__all__ = ["MAX_NOTE", "Context", "Orders", "ShipFault"]
MAX_NOTE = 300  # characters


class Orders(Protocol):
    """The captain, as an actor sees it."""

    over: bool  #: whether the voyage has ended

    def next_job(self, ship: str) -> Claim | VerifyJob | None:
        """Return what the ship is to do now: the final verify, or a task that it holds from now on."""

    def look_for_work(self) -> None:
        """Look what has changed and which ships can be called."""

    def has_landed(self, claim: Claim, commit: str) -> None:
        """Take note of a landing."""

    def apply(self, claim: Claim, decision: Decision, evidence: dict[str, Any] | None = None) -> None:
        """Carry out what was decided of an attempt that brought nothing to land."""

    def take_record(self, ship: str, body: LogBody | AgentBody) -> None:
        """Take what the ship tells that is no result: a piece of log, or what an agent used so far."""

    def take_usage(self, ship: str, token: int, facts: Facts | None) -> None:
        """Take what an attempt's agent used."""

    def others_sail(self, ship: str) -> bool:
        """Whether the channel of another ship is open."""

    def ship_faulty(self, ship: str, reason: str, *, final: bool) -> None:
        """Take the task of a ship that cannot do its work; after a ``final`` fault it gets no other."""

    def ship_lost(self, ship: str, reason: str) -> None:
        """Take the task of a ship that is gone for good."""


@dataclass(frozen=True)
class Context:
    """What all actors of a voyage share."""

    voyage: Voyage
    ledger: Ledger
    git: Store
    lander: Lander
    cargo: CargoStore
    prices: Prices
    hooks: Hooks
    soundness: Soundness
    takes_over: bool = False
    limits: Limits = field(default_factory=Limits)  #: of what an attempt may bring

    def show_reason(self, ship: str, reason: str) -> None:
        """Show why a ship does not answer, or waits; an empty reason: it goes on."""
        self.ledger.set_ship(ship, self.ledger.ship_row(ship).state, clean(reason)[:MAX_NOTE] or None)

    @classmethod
    def of(
        cls,
        directory: Path,
        ledger: Ledger,
        prices: Prices | None = None,
        hooks: Sequence[ShipHook] = (),
        *,
        takes_over: bool = False,
    ) -> Context:
        """Return the context of a voyage.

        Args:
            directory: the voyage's.
            ledger: opened for writing, with an epoch taken.
            prices: of tokens; by default ours.
            hooks: of the parts that follow ships.
            takes_over: whether ships that know a newer captain than the ledger are commanded all the same.
        """
        voyage = ledger.voyage()
        git = Store(directory / "repo.git")
        limits = _limits(ledger)
        return cls(
            voyage=voyage,
            ledger=ledger,
            git=git,
            lander=Lander(git, ledger, voyage.id, limits),
            cargo=CargoStore(git, directory / "sending"),
            prices=prices or our_prices(),
            hooks=Hooks(hooks),
            soundness=Soundness(git),
            takes_over=takes_over,
            limits=limits,
        )


def _limits(ledger: Ledger) -> Limits:
    """Return the plan's limits; the plan was checked when the voyage was made."""
    files = {row["path"]: row["data"] for row in ledger.rows("plan_files", "path")}
    given = json.loads(files.get("voyage.json") or b"{}").get("limits")
    return Limits.from_mapping(given if isinstance(given, dict) else {})
