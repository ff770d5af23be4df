"""What all actors of a voyage share, and the captain's interface for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ocaptain.captain.artifacts import Store
from ocaptain.captain.landing.lander import Lander
from ocaptain.captain.refs import live_ref
from ocaptain.captain.ship.bundle_store import BundleStore
from ocaptain.captain.ship.hooks import Hooks
from ocaptain.captain.ship.task_list import TaskBoard
from ocaptain.captain.soundness import Soundness
from ocaptain.captain.transport.base import ShipFault
from ocaptain.git import BareRepository, GitError
from ocaptain.prices import built_in_prices
from ocaptain.protocol.limits import Limits
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ocaptain.agents.facts import Facts
    from ocaptain.captain.decide.outcome import Decision
    from ocaptain.captain.ship.hooks import ShipHook
    from ocaptain.captain.ship.job import VerifyJob
    from ocaptain.ledger import Claim, Ledger, Voyage
    from ocaptain.prices import Prices
    from ocaptain.protocol.envelope import Notice
    from ocaptain.protocol.messages import TrialResult


__all__ = ["MAX_NOTE", "Context", "Dispatcher", "ShipFault"]
MAX_NOTE = 300  # characters


class Dispatcher(Protocol):
    """The captain's interface for an actor."""

    over: bool  #: whether the voyage has ended

    @property
    def stopped(self) -> str | None:
        """Why the voyage stops now, though ships work; None if it does not."""

    def next_job(self, ship: str) -> Claim | VerifyJob | None:
        """Return the ship's next job: the final verify, or a task that it holds from now on; None if there is none."""

    def update_and_dispatch(self) -> None:
        """Publish what changed, and call idle ships for the work that there is."""

    def on_landed(self, claim: Claim, commit: str) -> None:
        """Handle a landing."""

    def apply_decision(self, claim: Claim, decision: Decision, evidence: dict[str, Any] | None = None) -> None:
        """Carry out the decision about an attempt that did not land."""

    def pack_repository(self) -> None:
        """Pack the repository in the background if it has many small packs."""

    def save_record(self, ship: str, body: Notice) -> None:
        """Save a record that is no result: a piece of log, what an agent used so far, or of its telemetry."""

    def save_usage(self, ship: str, token: int, facts: Facts | None) -> None:
        """Save what an attempt's agent used so far."""

    def take_back(self, claim: Claim, reason: str) -> None:
        """Take back a task whose agent was ended because the voyage stops."""

    def take_gate_trial(self) -> bool:
        """Return whether a ship is to try the gate now; no other ship is asked then."""

    def release_gate_trial(self, reason: str) -> None:
        """Let another ship try the gate."""

    def on_gate_trial(self, ship: str, result: TrialResult, seconds: float) -> None:
        """Handle the result of the trial of the gate, which had so many seconds."""

    def is_another_connected(self, ship: str) -> bool:
        """Whether the channel of another ship is open."""

    def on_ship_faulty(self, ship: str, reason: str, *, final: bool) -> None:
        """Return the task of a ship that cannot do its work; after a ``final`` fault it gets no other task."""

    def on_ship_lost(self, ship: str, reason: str) -> None:
        """Return the task of a ship that is gone for good."""


@dataclass(frozen=True)
class Context:
    """What all actors of a voyage share."""

    voyage: Voyage
    ledger: Ledger
    git: BareRepository
    lander: Lander
    bundles: BundleStore
    prices: Prices
    hooks: Hooks
    soundness: Soundness
    artifacts: Store
    takes_over: bool = False
    limits: Limits = field(default_factory=Limits)  #: of what an attempt may bring
    task_board: TaskBoard = field(default_factory=TaskBoard)  #: what agents see of the plan
    settling: asyncio.Lock = field(default_factory=asyncio.Lock)  #: held while files of attempts that are over are kept

    def show_reason(self, ship: str, reason: str) -> None:
        """Show in ``status`` why a ship does not answer, or waits; "" = it works again."""
        self.ledger.set_ship(ship, self.ledger.ship_row(ship).state, escape_control(reason)[:MAX_NOTE] or None)

    def clear_leftovers(self) -> None:
        """Settle what a captain that was killed had begun and nobody needs any more; it blocks."""
        self.bundles.clear()
        self.artifacts.settle()
        attempts = [one for over in (False, True) for one in self.ledger.live_attempts(over=over)]
        with contextlib.suppress(GitError):
            for ref in self.git.refs(live_ref("")).keys() - {live_ref(one.ship) for one in attempts}:
                self.git.run("update-ref", "-d", ref)

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
            takes_over: whether to command ships even if they know a newer captain than the ledger does.
        """
        voyage = ledger.voyage()
        git = BareRepository(directory / "repo.git")
        limits = _limits(ledger)
        return cls(
            voyage=voyage,
            ledger=ledger,
            git=git,
            lander=Lander(git, ledger, voyage.id, limits),
            bundles=BundleStore(git, directory / "sending", (voyage.root, voyage.branch)),
            prices=prices or built_in_prices(),
            hooks=Hooks(hooks),
            soundness=Soundness(git),
            artifacts=Store(directory),
            takes_over=takes_over,
            limits=limits,
        )


def _limits(ledger: Ledger) -> Limits:
    """Return the plan's limits; the plan was checked when the voyage was made."""
    files = {row["path"]: row["data"] for row in ledger.rows("plan_files", "path")}
    given = json.loads(files.get("voyage.json") or b"{}").get("limits")
    return Limits.from_mapping(given if isinstance(given, dict) else {})
