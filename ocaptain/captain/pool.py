"""The pool of tasks: hands each to exactly one ship, and takes back what did not land.

Who holds a task is in the ledger; what is here (reservations, who was called) can be lost at any moment.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from ocaptain.agents import ADAPTERS
from ocaptain.captain.decide.dispatch import (
    START_SECONDS,
    Reservation,
    Work,
    free_ships,
    open_work,
    reserve,
    ships_to_call,
    still_reserved,
)
from ocaptain.captain.decide.outcome import Decision, after_loss
from ocaptain.captain.decide.refusals import is_confirmed
from ocaptain.captain.ship.actor import SLEEP_AFTER, ShipActor
from ocaptain.captain.ship.context import MAX_NOTE
from ocaptain.text import clean

if TYPE_CHECKING:
    from ocaptain.agents.facts import Facts
    from ocaptain.captain.line_up import LineUp
    from ocaptain.captain.records import Records
    from ocaptain.captain.ship.hooks import Hooks
    from ocaptain.captain.ship.job import VerifyJob
    from ocaptain.captain.views import Views
    from ocaptain.ledger import Claim, Ledger
    from ocaptain.protocol.envelope import AgentBody, LogBody

UNTIL_TOLD = 24 * 3600.0
log = logging.getLogger("ocaptain.captain")


class Pool:
    """Gives the ships of a voyage their work; the captain as its actors see it (``ship.context.Orders``).

    Attributes:
        actors: by ship.
        over: whether the voyage has ended.
        claiming: whether tasks are handed out.
        refused: why no ship can work, None if they can.
        suspended: why nothing is handed out for now, None if it is.
        verify_job: the final verify, while there is one to run.
        news: set whenever something changed that may end the voyage.
    """

    def __init__(
        self, voyage: str, ledger: Ledger, views: Views, records: Records, hooks: Hooks, line_up: LineUp
    ) -> None:
        self.actors: dict[str, ShipActor] = {}
        self.over = False
        self.claiming = True
        self.refused: str | None = None
        self.suspended: str | None = None
        self.verify_job: VerifyJob | None = None
        self.news = asyncio.Event()
        self._voyage = voyage
        self._ledger = ledger
        self._views = views
        self._records = records
        self._hooks = hooks
        self._line_up = line_up
        self._reservations: dict[str, Reservation] = {}
        self._refusals: dict[str, set[str]] = {}  # by agent: the ships that said so
        self._began = 0.0

    def begin(self) -> None:
        """Begin to hand out; ships that are not reached yet are waited for a moment."""
        self._began = asyncio.get_running_loop().time()
        self._look_again_in(START_SECONDS)

    # -- handing out --------------------------------------------------------------------------

    def look_for_work(self) -> None:
        """Show what changed, have it looked whether that was all, and call as many idle ships as there is work for."""
        self.changed()
        self.dispatch()

    def changed(self) -> None:
        """Bring the views up to date, and have it looked whether that was all.

        Nobody is called: the ship that brought the change may take what it made ready.
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
            [one.ship for one in idle if not one.resting and self.actors[one.ship].takes_tasks] if self.claiming else []
        )
        if willing:
            reserved = {task: one.ship for task, one in self._reserved().items()}
            ready = self._ledger.ready(willing, list(reserved))
            preferred = self._ledger.preferred_ships([task for task, _ in ready])
            again = {
                task: ship for task, ship in reserved.items() if ship in willing and self._ledger.is_ready(task, ship)
            }
            work += open_work(ready, preferred, again, self._free())
        for ship in ships_to_call(work, idle):
            self.actors[ship].call()

    def next_job(self, ship: str) -> Claim | VerifyJob | None:
        """Return what the ship is to do now: the final verify, or a task that it holds from now on."""
        if self.suspended:
            return None
        takes_tasks = self.actors[ship].takes_tasks
        if (verify := self._open_verify()) and (ship == verify.ship or (verify.ship is None and takes_tasks)):
            verify.taken, verify.taken_by = True, ship
            return verify
        if not self.claiming or not takes_tasks or self.actors[ship].status().resting:
            return None
        reserved = self._reserved()
        own = [task for task, one in reserved.items() if one.ship == ship]
        others = [task for task, one in reserved.items() if one.ship != ship]
        last = self._line_up.last()
        claim = self._ledger.claim(ship, preferred=own, excluded=others, free=self._free() - {ship}, last=last)
        if claim:
            self._reservations.pop(claim.task, None)
            self._line_up.claimed(claim.task, last)
        return claim

    def _open_verify(self) -> VerifyJob | None:
        """Return the final verify if there is one that no ship is at."""
        job = self.verify_job
        return job if job and not job.taken and not job.result.done() else None

    def _free(self) -> frozenset[str]:
        """Return the ships that can take what prefers them; most of a large fleet is at work, and not asked."""
        is_start = asyncio.get_running_loop().time() - self._began < START_SECONDS
        ships = [actor.status() for actor in self.actors.values() if actor.takes_tasks and (is_start or actor.idle)]
        unreached = [one.ship for one in ships if is_start and not one.reached]
        holding = {ship for ship in unreached if self._ledger.held(ship) is not None}
        return free_ships(ships, holding, is_start=is_start)

    def _reserved(self) -> dict[str, Reservation]:
        if self._reservations:
            named = {one.ship for one in self._reservations.values()} & self.actors.keys()
            ships = {ship: self.actors[ship].status() for ship in named}
            self._reservations = still_reserved(self._reservations, ships, asyncio.get_running_loop().time())
        return self._reservations

    def _reserve_for(self, claim: Claim, pause: float = 0.0) -> None:
        """Reserve a task that comes back for the ship that has its agent's session, for a moment."""
        if claim.ship not in self.actors or not ADAPTERS[claim.agent].is_model:
            return
        now = asyncio.get_running_loop().time()
        found = self._reservations[claim.task] = reserve(claim.ship, now, pause, SLEEP_AFTER)
        self._look_again_in(found.until - now)

    def _look_again_in(self, seconds: float) -> None:
        """Look again for work when a time has passed."""
        asyncio.get_running_loop().call_later(seconds + 0.05, self._on_timer)

    def _on_timer(self) -> None:
        self.news.set()
        self.dispatch()

    # -- what actors tell -----------------------------------------------------------------------

    def has_landed(self, claim: Claim, commit: str) -> None:
        """Take note of a landing."""
        log.info("task %s landed as %s (%s, attempt %d)", claim.task, commit, claim.ship, claim.number)
        self._contradict_refusals(claim)
        self.changed()
        self._views.has_landed()

    def take_record(self, ship: str, body: LogBody | AgentBody) -> None:
        """Take what a ship tells that is no result."""
        self._records.take(ship, body)

    def take_usage(self, ship: str, token: int, facts: Facts | None) -> None:
        """Take what an attempt's agent used."""
        self._records.take_usage(ship, token, facts)

    def apply(self, claim: Claim, decision: Decision, evidence: dict[str, Any] | None = None) -> None:
        """Carry out what was decided of an attempt that brought nothing to land."""
        if decision.refused:
            self._hear_refusal(claim, decision.reason)
        if decision.pause and (actor := self.actors.get(claim.ship)):
            actor.rest(decision.pause)
            self._look_again_in(decision.pause)
        if decision.same_ship:
            self._reserve_for(claim, decision.pause)
        if decision.kind == "fail":
            self._fail(claim, decision, evidence)
        else:
            self._return_to_pool(claim, decision)
        if decision.pause:
            self._ledger.set_ship(claim.ship, "idle", clean(decision.reason)[:MAX_NOTE])

    def _fail(self, claim: Claim, decision: Decision, evidence: dict[str, Any] | None) -> None:
        status = self._ledger.fail(claim.token, decision.reason, evidence, final=decision.final)
        log.warning("task %s attempt %d failed (%s): %s", claim.task, claim.number, status, decision.reason)
        self.changed()

    def _return_to_pool(self, claim: Claim, decision: Decision, ship_state: str = "idle") -> None:
        self._ledger.give_back(claim.token, decision.state, decision.reason, ship_state=ship_state)
        log.warning("task %s attempt %d: %s: %s", claim.task, claim.number, decision.state, decision.reason)
        self.changed()

    def _hear_refusal(self, claim: Claim, reason: str) -> None:
        """A ship says that the credential was refused: it rests until another one has confirmed or contradicted it."""
        said = self._refusals.setdefault(claim.agent, set())
        sailing = {name for name, actor in self.actors.items() if not actor.gone}
        if is_confirmed(claim.ship, said, sailing, (claim.raw.get("metadata") or {}).get("pin")):
            self._refuse(claim.agent, reason)
        elif actor := self.actors.get(claim.ship):
            actor.rest(UNTIL_TOLD)
            self._ledger.event("refused", "the credential, it says; another ship is to confirm it", ship=claim.ship)
        said.add(claim.ship)

    def _hear_again(self) -> None:
        """Let ships that said that the credential was refused say it again, once there is nobody else to tell."""
        sailing = {name for name, actor in self.actors.items() if not actor.gone}
        for said in self._refusals.values():
            if not sailing - said:
                for ship in said & sailing:
                    self.actors[ship].rest(0.0)

    def _contradict_refusals(self, claim: Claim) -> None:
        """Another ship could work with the credential: whoever said that it was refused may try again."""
        for ship in self._refusals.pop(claim.agent, set()) - {claim.ship}:
            if actor := self.actors.get(ship):
                actor.rest(0.0)
                self._ledger.event("refused", "but not to others: it may try again", ship=ship)

    def _refuse(self, agent: str, reason: str) -> None:
        """No ship can work with this credential: hand out nothing more, and say so once."""
        if self.refused is None:
            self.claiming = False
            what = clean(reason).split("\n", 1)[0][:MAX_NOTE]
            remedy = f"{ADAPTERS[agent].remedy}, then go on with: ocaptain sail --resume {self._voyage}"
            kept = "work that landed or was offered is kept"
            self.refused = f"the agents' credential was refused: {what}; {kept}; {remedy}"
            self._ledger.event("denied", self.refused)
            log.error("%s", self.refused)

    def take_from(self, ship: str, reason: str, *, ship_state: str) -> None:
        """Take the task of a ship that lost it, if it has one; the ship's state changes in the same transaction."""
        if (claim := self._ledger.held(ship)) is None:
            return
        decision = after_loss(reason, self._ledger.losses(claim.task))
        if decision.kind == "fail":
            self._fail(claim, decision, None)
        else:
            self._return_to_pool(claim, decision, ship_state)

    def others_sail(self, ship: str) -> bool:
        """Whether the channel of another ship is open."""
        return any(actor.is_connected for name, actor in self.actors.items() if name != ship)

    def ship_lost(self, ship: str, reason: str) -> None:
        """A ship is gone for good: its task goes to another at once."""
        self._take_out_of_service(ship, "lost", clean(reason)[:MAX_NOTE])
        self._hooks.lost(ship, reason)

    def ship_faulty(self, ship: str, reason: str, *, final: bool) -> None:
        """A ship cannot do its work: its task goes back, without blame for the task."""
        self._take_out_of_service(ship, "failed" if final else "idle", clean(reason)[:MAX_NOTE])
        if final:
            self._hooks.lost(ship, reason)

    def _take_out_of_service(self, ship: str, state: str, reason: str) -> None:
        # One transaction: a captain that dies here leaves no task with a ship that does not sail.
        self.take_from(ship, f"{ship}: {reason}", ship_state=state)
        self._ledger.set_ship(ship, state, reason)
        self._hear_again()
        self.look_for_work()
