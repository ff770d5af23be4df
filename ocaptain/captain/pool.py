"""The pool of tasks: hands each task to exactly one ship, and takes back tasks that did not land.

Who holds a task is in the ledger; the state kept here (reservations, who was called) can be lost at any moment.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from ocaptain.agents import ADAPTERS
from ocaptain.captain.claim_order import ClaimOrder
from ocaptain.captain.decide.dispatch import (
    START_SECONDS,
    Reservation,
    Work,
    free_ships,
    open_work,
    reserve,
    ships_to_call,
    valid_reservations,
)
from ocaptain.captain.decide.outcome import Decision, decide_after_loss
from ocaptain.captain.decide.refusals import is_refusal_confirmed
from ocaptain.captain.gate import Gate
from ocaptain.captain.ship.actor import SLEEP_AFTER, ShipActor
from ocaptain.captain.ship.context import MAX_NOTE
from ocaptain.names import VERIFY_SHIP
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocaptain.agents.facts import Facts
    from ocaptain.captain.records import Records
    from ocaptain.captain.ship.hooks import Hooks
    from ocaptain.captain.ship.job import VerifyJob
    from ocaptain.captain.views import Views
    from ocaptain.ledger import Claim, Ledger
    from ocaptain.protocol.envelope import Notice
    from ocaptain.protocol.messages import TrialResult

UNCONFIRMED_PAUSE = 24 * 3600.0
log = logging.getLogger("ocaptain.captain")


class Pool:
    """Gives the ships of a voyage their work; implements ``ship.context.Dispatcher`` for the actors.

    Attributes:
        actors: by ship.
        over: whether the voyage has ended.
        claiming: whether tasks are handed out.
        refused: why no ship can work (the agents' credential was refused), None if they can.
        suspended: why no work is handed out for now, None if it is.
        verify_job: the final verify, while there is one to run.
        ships_to_come: returns the ships that are being built now; they join when they are.
        news: set whenever a change may end the voyage.
    """

    def __init__(
        self, voyage: str, ledger: Ledger, views: Views, records: Records, hooks: Hooks, claim_order: ClaimOrder
    ) -> None:
        self.actors: dict[str, ShipActor] = {}
        self.over = False
        self.claiming = True
        self.refused: str | None = None
        self.suspended: str | None = None
        self.verify_job: VerifyJob | None = None
        self.ships_to_come: Callable[[], frozenset[str]] = frozenset
        self.news = asyncio.Event()
        self._voyage = voyage
        self._ledger = ledger
        self._views = views
        self._records = records
        self._hooks = hooks
        self._claim_order = claim_order
        self._reservations: dict[str, Reservation] = {}
        self._refusals: dict[str, set[str]] = {}  # by agent: the ships that reported it
        self._began = 0.0
        self._gate = Gate(ledger)

    def begin(self) -> None:
        """Start to hand out work; tasks wait for a moment for preferred ships that are not reached yet."""
        self._began = asyncio.get_running_loop().time()
        self._dispatch_in(START_SECONDS)

    def update_claim_order(self) -> None:
        """Read again which tasks write the same files, after tasks were changed."""
        self._claim_order = ClaimOrder(self._ledger)

    # -- handing out --------------------------------------------------------------------------

    def update_and_dispatch(self) -> None:
        """Publish what changed, and call as many idle ships as there is work for."""
        self.publish_changes()
        self.dispatch()

    def publish_changes(self) -> None:
        """Update the views, and have the captain check whether the voyage has ended.

        No ship is called: the one that brought the change may claim the tasks that it made ready.
        """
        self._views.write_tasks()
        self.news.set()

    def dispatch(self) -> None:
        """Call as many idle ships as there is work for."""
        verify = self._open_verify()
        idle = [
            actor.status()
            for actor in self.actors.values()
            if actor.idle and not actor.gone and (actor.takes_tasks or (verify and verify.ship == actor.ship))
        ]
        if not idle or self.over or self.suspended:
            return
        work = [Work("verify", verify.ship)] if verify else []
        willing = (
            [one.ship for one in idle if not one.is_claiming_paused and self.actors[one.ship].takes_tasks]
            if self.claiming
            else []
        )
        if willing:
            reserved = {task: one.ship for task, one in self._reserved().items()}
            ready = self._ledger.ready_tasks(willing, list(reserved))
            preferred = self._ledger.preferred_ships([task for task, _ in ready])
            again = {
                task: ship for task, ship in reserved.items() if ship in willing and self._ledger.is_ready(task, ship)
            }
            work += open_work(ready, preferred, again, self._free())
        for ship in ships_to_call(work, idle):
            self.actors[ship].call()

    def next_job(self, ship: str) -> Claim | VerifyJob | None:
        """Return the ship's next job: the final verify, or a task that it holds from now on; None if there is none."""
        if self.suspended:
            return None
        takes_tasks = self.actors[ship].takes_tasks
        if (verify := self._open_verify()) and (ship == verify.ship or (verify.ship is None and takes_tasks)):
            verify.taken, verify.taken_by = True, ship
            return verify
        if not self.claiming or not takes_tasks or self.actors[ship].status().is_claiming_paused:
            return None
        reserved = self._reserved()
        own = [task for task, one in reserved.items() if one.ship == ship]
        others = [task for task, one in reserved.items() if one.ship != ship]
        last = self._claim_order.tasks_to_defer()
        claim = self._ledger.claim(ship, preferred=own, excluded=others, free=self._free() - {ship}, last=last)
        if claim:
            self._reservations.pop(claim.task, None)
            self._claim_order.note_claim(claim.task, last)
        return claim

    def _open_verify(self) -> VerifyJob | None:
        """Return the final verify if it waits for a ship, else None."""
        job = self.verify_job
        return job if job and not job.taken and not job.result.done() else None

    def _free(self) -> frozenset[str]:
        """Return the ships that can take a task that prefers them; busy ships are skipped without asking them."""
        is_start = asyncio.get_running_loop().time() - self._began < START_SECONDS
        ships = [actor.status() for actor in self.actors.values() if actor.takes_tasks and (is_start or actor.idle)]
        unreached = [one.ship for one in ships if is_start and not one.reached]
        holding = {ship for ship in unreached if self._ledger.held_claim(ship) is not None}
        return free_ships(ships, holding, is_start=is_start)

    def _reserved(self) -> dict[str, Reservation]:
        if self._reservations:
            named = {one.ship for one in self._reservations.values()} & self.actors.keys()
            ships = {ship: self.actors[ship].status() for ship in named}
            self._reservations = valid_reservations(self._reservations, ships, asyncio.get_running_loop().time())
        return self._reservations

    def _reserve_for(self, claim: Claim, pause: float = 0.0) -> None:
        """Reserve a returned task for a moment for the ship that has its agent's session."""
        if claim.ship not in self.actors or not ADAPTERS[claim.agent].is_model:
            return
        now = asyncio.get_running_loop().time()
        found = self._reservations[claim.task] = reserve(claim.ship, now, pause, SLEEP_AFTER)
        self._dispatch_in(found.until - now)

    def _dispatch_in(self, seconds: float) -> None:
        """Dispatch again after some seconds."""
        asyncio.get_running_loop().call_later(seconds + 0.05, self._on_timer)

    def _on_timer(self) -> None:
        self.news.set()
        self.dispatch()

    # -- what actors report ---------------------------------------------------------------------

    def on_landed(self, claim: Claim, commit: str) -> None:
        """Handle a landing: log it and publish it."""
        log.info("task %s landed as %s (%s, attempt %d)", claim.task, commit, claim.ship, claim.number)
        self._withdraw_refusals(claim)
        self.publish_changes()
        self._views.on_landed()

    def pack_repository(self) -> None:
        """Pack the repository in the background if it has many small packs."""
        self._views.pack_repository()

    def save_record(self, ship: str, body: Notice) -> None:
        """Save a record of a ship that is no result: a piece of log, what an agent used so far, or of its telemetry."""
        self._records.save(ship, body)

    def save_usage(self, ship: str, token: int, facts: Facts | None) -> None:
        """Save what an attempt's agent used so far."""
        self._records.save_usage(ship, token, facts)

    def apply_decision(self, claim: Claim, decision: Decision, evidence: dict[str, Any] | None = None) -> None:
        """Carry out the decision about an attempt that did not land."""
        if decision.credential_refused:
            self._handle_refusal(claim, decision.reason)
        if decision.pause and (actor := self.actors.get(claim.ship)):
            actor.pause_claiming(decision.pause)
            self._dispatch_in(decision.pause)
        if decision.same_ship:
            self._reserve_for(claim, decision.pause)
        if decision.kind == "fail":
            self._fail(claim, decision, evidence)
        else:
            self._return_to_pool(claim, decision, evidence=evidence)
        if decision.pause:
            self._ledger.set_ship(claim.ship, "idle", escape_control(decision.reason)[:MAX_NOTE])

    def _fail(self, claim: Claim, decision: Decision, evidence: dict[str, Any] | None) -> None:
        status = self._ledger.fail(claim.token, decision.reason, evidence, final=decision.final)
        log.warning("task %s attempt %d failed (%s): %s", claim.task, claim.number, status, decision.reason)
        self.publish_changes()

    def _return_to_pool(
        self, claim: Claim, decision: Decision, ship_state: str = "idle", evidence: dict[str, Any] | None = None
    ) -> None:
        self._ledger.return_task(
            *(claim.token, decision.state, decision.reason),
            ship_state=ship_state,
            evidence=evidence,
            hold=decision.hold,
        )
        log.warning("task %s attempt %d: %s: %s", claim.task, claim.number, decision.state, decision.reason)
        self.publish_changes()

    def _handle_refusal(self, claim: Claim, reason: str) -> None:
        """Handle a ship's report of a refused credential: it pauses until another ship confirms or contradicts it."""
        reported = self._refusals.setdefault(claim.agent, set())
        if is_refusal_confirmed(claim.ship, reported, self.work_ships(), (claim.raw.get("metadata") or {}).get("pin")):
            self._stop_fleet(claim.agent, reason)
        elif actor := self.actors.get(claim.ship):
            actor.pause_claiming(UNCONFIRMED_PAUSE)
            text = "the ship reports that the agents' credential was refused; waiting for another ship to confirm it"
            self._ledger.add_event("refused", text, ship=claim.ship)
        reported.add(claim.ship)

    def retry_unconfirmed_refusals(self) -> None:
        """Let ships that reported a refused credential try again, once no other ship is left to confirm it."""
        ships = self.work_ships()
        for reported in self._refusals.values():
            if not ships - reported:
                for ship in reported & ships:
                    self.actors[ship].pause_claiming(0.0)

    def _withdraw_refusals(self, claim: Claim) -> None:
        """Let ships that reported a refused credential try again, since another ship could work with it."""
        for ship in self._refusals.pop(claim.agent, set()) - {claim.ship}:
            if actor := self.actors.get(ship):
                actor.pause_claiming(0.0)
                text = "the agents' credential works on another ship: this ship may try again"
                self._ledger.add_event("refused", text, ship=ship)

    def _stop_fleet(self, agent: str, reason: str) -> None:
        """Hand out no more tasks, since no ship can work with this credential; log it once."""
        if self.refused is None:
            self.claiming = False
            detail = escape_control(reason).split("\n", 1)[0][:MAX_NOTE]
            remedy = f"{ADAPTERS[agent].remedy}, then go on with: ocaptain sail --resume {self._voyage}"
            kept = "work that landed or was offered is kept"
            self.refused = f"the agents' credential was refused: {detail}; {kept}; {remedy}"
            self._ledger.add_event("denied", self.refused)
            log.error("%s", self.refused)

    @property
    def stopped(self) -> str | None:
        """Why the voyage stops now, though ships work; None if it does not."""
        return self._gate.stopped

    def take_gate_trial(self) -> bool:
        """Return whether a ship is to try the gate now; no other ship is asked then."""
        return not self.over and self._gate.take()

    def release_gate_trial(self, reason: str) -> None:
        """Let another ship try the gate."""
        self._gate.release(reason)

    def on_gate_trial(self, ship: str, result: TrialResult, seconds: float) -> None:
        """Handle the result of the trial of the gate; where it stops the voyage, all agents are ended."""
        if self._gate.record(ship, result, seconds).stops:
            self.claiming = False
            for actor in self.actors.values():
                actor.end_agent()
            self.news.set()

    def take_back(self, claim: Claim, reason: str) -> None:
        """Take back a task whose agent was ended because the voyage stops; it counts as no try."""
        self._ledger.return_task(claim.token, "sunk", escape_control(reason)[:MAX_NOTE])
        self.publish_changes()

    def take_task_from(self, ship: str, reason: str, *, ship_state: str) -> None:
        """Take away the task that a ship holds, if any, and set the ship's state in the same transaction."""
        if (claim := self._ledger.held_claim(ship)) is None:
            return
        decision = decide_after_loss(reason, self._ledger.count_losses(claim.task))
        if decision.kind == "fail":
            self._fail(claim, decision, None)
        else:
            self._return_to_pool(claim, decision, ship_state)

    def work_ships(self) -> frozenset[str]:
        """Return the ships that take tasks, also those that are still being built; one for the verify takes none."""
        there = {name for name, actor in self.actors.items() if actor.takes_tasks and not actor.gone}
        return frozenset(there | (self.ships_to_come() - {VERIFY_SHIP}))

    def is_another_connected(self, ship: str) -> bool:
        """Whether the channel of another ship is open."""
        return any(actor.is_connected for name, actor in self.actors.items() if name != ship)

    def on_ship_lost(self, ship: str, reason: str) -> None:
        """Handle the loss of a ship that is gone for good: its task goes to another ship at once."""
        self._take_out_of_service(ship, "lost", escape_control(reason)[:MAX_NOTE])
        self._hooks.ship_lost(ship, reason)

    def on_ship_faulty(self, ship: str, reason: str, *, final: bool) -> None:
        """Handle a fault of a ship that cannot do its work: its task is returned, and no failure is counted."""
        self._take_out_of_service(ship, "failed" if final else "idle", escape_control(reason)[:MAX_NOTE])
        if final:
            self._hooks.ship_lost(ship, reason)

    def _take_out_of_service(self, ship: str, state: str, reason: str) -> None:
        # One transaction: a captain that dies here leaves no task with a ship that is out of service.
        self.take_task_from(ship, f"{ship}: {reason}", ship_state=state)
        self._ledger.set_ship(ship, state, reason)
        self.retry_unconfirmed_refusals()
        self.update_and_dispatch()
