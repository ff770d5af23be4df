"""The captain's life: reconcile, run one actor a ship, tick, verify, and end.

All state that matters is in the ledger; what is here can be lost at any moment. At start:
take the lock (process.py), a new epoch, finish or void the landings under way, then reach every
ship and go on from what ledger and ships say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from ocaptain.captain.decide.finish import VoyageStatus, next_step
from ocaptain.captain.decide.leases import TICK, Leases
from ocaptain.captain.line_up import LineUp
from ocaptain.captain.pool import Pool
from ocaptain.captain.records import Records
from ocaptain.captain.ship.actor import ShipActor
from ocaptain.captain.ship.context import Context
from ocaptain.captain.ship.job import VerifyJob
from ocaptain.captain.views import Views
from ocaptain.control.commands import carry_out
from ocaptain.control.listen import listening
from ocaptain.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ocaptain.captain.awake import Awake
    from ocaptain.captain.fleet import Fleet
    from ocaptain.captain.ship.hooks import ShipHook
    from ocaptain.captain.transport.base import Transport
    from ocaptain.control.commands import Answer, Command
    from ocaptain.ledger import Ledger, ShipRow
    from ocaptain.prices import Prices
    from ocaptain.protocol.messages import VerifyResult

MAX_VERIFY_TRIES = 5
STOP_SECONDS = 0.1  # so that the answer to a command that ends this captain goes out first
FALL_ASLEEP_SECONDS = 60.0  # a provider pauses a ship after about 30 s of nothing
log = logging.getLogger("ocaptain.captain")


class Captain:
    """Runs a voyage to its end.

    Args:
        directory: the voyage's.
        ledger: opened for writing, with an epoch taken.
        transports: makes the transport to a ship.
        provider_there: whether the provider that the ships are on is still the same one; a
            drydock that ended took its sprites with it.
        fleet: replaces ships that are lost; None = nobody does.
        prices: of tokens; by default ours.
        awake: counts how long ships are awake; None = the time of open channels counts (hosts bill nobody).
        hooks: of the parts that follow ships.
    """

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        transports: Callable[[ShipRow], Transport],
        provider_there: Callable[[], bool] = lambda: True,
        fleet: Fleet | None = None,
        prices: Prices | None = None,
        awake: Awake | None = None,
        hooks: Sequence[ShipHook] = (),
    ) -> None:
        self.directory = directory
        self.ledger = ledger
        self.context = Context.of(directory, ledger, prices, hooks)
        self.voyage = self.context.voyage
        self.views = Views(directory, ledger, self.context.git, self.voyage.id)
        records = Records(directory, ledger, self.context.prices)
        self.pool = Pool(self.voyage.id, ledger, self.views, records, self.context.hooks, LineUp(ledger))
        self._is_paused = False
        self._running: asyncio.Task[Any] | None = None
        self._transports = transports
        self._provider_there = provider_there
        self._fleet = fleet
        self._awake = awake
        self._leases = Leases({})

    @property
    def actors(self) -> dict[str, ShipActor]:
        """The actors, by ship."""
        return self.pool.actors

    # -- the voyage's life --------------------------------------------------------------------

    async def run(self) -> None:
        """Run until the voyage is complete or failed, or this captain is fenced or stopped.

        Raises:
            Fenced: another captain commands.
        """
        self._running = asyncio.current_task()
        for intent in await asyncio.to_thread(self.context.lander.reconcile):
            log.info("task %s: the landing of an earlier captain is settled", intent.task)
        if self.voyage.state in {"complete", "paused", "sunk"}:
            return
        self._is_paused = self.voyage.paused_reason is not None  # and the captain before was killed on the way
        self.pool.claiming = not self._is_paused
        await asyncio.to_thread(self.context.cargo.clear)  # of a captain that was killed
        self.ledger.set_state("running")
        # A lost ship may answer again; one that failed or is gone is not asked.
        for row in self.ledger.ships():
            if row.state == "provisioning":
                continue  # it is being made; another captain will know it
            if row.state not in {"failed", "gone"}:
                self.actors[row.id] = ShipActor(row.id, self._transports(row), self.context, self.pool)
            elif claim := self.ledger.held(row.id):
                reason = f"{row.id} does not sail any more"
                self.ledger.give_back(claim.token, "lost", reason, ship_state=row.state)
        self.views.write_tasks(whole=True)
        await self.views.update_checkout()
        self.pool.begin()
        async with listening(self.directory, self._carry_out), asyncio.TaskGroup() as group:
            sailing = [group.create_task(actor.run(), name=actor.ship) for actor in self.actors.values()]
            ticking = group.create_task(self._tick(), name="tick")
            counting = group.create_task(self._awake.follow(), name="awake") if self._awake else None
            await self._finish()
            await asyncio.gather(*(actor.detach() for actor in self.actors.values()))
            for task in sailing:
                task.cancel()
            await self._all_sleep()
            ticking.cancel()
            if counting:
                counting.cancel()
        await self.views.finish()
        for actor in self.actors.values():
            await actor.disconnect()
        await asyncio.to_thread(self.context.cargo.clear)

    async def _finish(self) -> None:
        """Wait until nothing more can be done, then verify; sets the voyage's last state."""
        while (found := next_step(self._status())).next == "wait":
            self.pool.news.clear()
            await self.pool.news.wait()
        await self.views.catch_up()
        if found.next == "verify":
            await self._verify()
        self.pool.over = self.views.is_final = True
        if found.next != "verify":
            self.ledger.set_state(found.next, found.why)

    def _status(self) -> VoyageStatus:
        counts = self.ledger.counts()
        if counts["in_progress"]:  # nothing else counts then, and this is asked with each piece of news
            return VoyageStatus(self.voyage.id, working=counts["in_progress"])
        sailing = [name for name, actor in self.actors.items() if not actor.gone]
        return VoyageStatus(
            voyage=self.voyage.id,
            pending=counts["pending"],
            failed=tuple(self.ledger.failed()) if counts["failed"] else (),
            claimable=self.ledger.claimable(sailing),
            has_ships=bool(sailing),
            may_replace=self._fleet is not None and self._fleet.may_replace(),
            paused=self._is_paused,
            denied=self.pool.refused,
        )

    def _carry_out(self, command: Command) -> Answer:
        """Do what a user asks of this voyage."""
        answer = carry_out(command, self.ledger)
        if command.name == "stop" and self._running:
            asyncio.get_running_loop().call_later(STOP_SECONDS, self._running.cancel)
        if not answer.done or self.pool.over:
            return answer
        match command.name:
            case "pause":
                self._is_paused, self.pool.claiming = True, False
            case "retry":
                self.pool.look_for_work()
        self.pool.news.set()
        return answer

    async def _verify(self) -> None:
        """Have some ship run the final verify, and set what it says."""
        self.ledger.set_state("verifying")
        loop = asyncio.get_running_loop()
        job = self.pool.verify_job = VerifyJob(await self.context.lander.head(), loop.create_future())
        try:
            while not job.result.done():
                self.pool.dispatch()
                await asyncio.wait([job.result], timeout=TICK)
                if job.tries >= MAX_VERIFY_TRIES or all(actor.gone for actor in self.actors.values()):
                    why = job.problem or "no ship is left"
                    remedy = f"try again with `ocaptain sail --resume {self.voyage.id}`"
                    self.ledger.set_state("failed", f"the final verify could not be run ({clean(why)[:300]}); {remedy}")
                    return
        finally:
            self.pool.verify_job = None
        self._verified(job.commit, job.result.result())

    async def _all_sleep(self) -> None:
        """See the ships fall asleep, so that all of their time is counted; the voyage has ended already."""
        for actor in self.actors.values():
            await actor.disconnect()
        if self._awake:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._awake.all_paused(), FALL_ASLEEP_SECONDS)

    def _verified(self, commit: str, answer: VerifyResult) -> None:
        tail = clean(answer.tail)[-8000:]
        with contextlib.suppress(OSError):
            (self.directory / "logs").mkdir(exist_ok=True)
            (self.directory / "logs" / "verify.log").write_text(tail, "utf-8")
        ok = answer.code == 0
        self.ledger.verified(ok=ok, code=answer.code, clean=answer.clean, commit=commit, tail=tail)
        if ok:
            self.ledger.set_state("complete")
        else:
            stage = "setup" if answer.stage == "setup" else "verify.sh"
            why = "took too long" if answer.timed_out else f"ended with exit code {answer.code}"
            self.ledger.set_state("failed", f"{stage} {why} on the merged head (logs/verify.log)")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._add_awake_time()
            if not self.pool.over:
                await self._look_after_ships()

    def _add_awake_time(self) -> None:
        if self._awake:
            self._awake.count()
        elif connected := [name for name, actor in self.actors.items() if actor.is_connected]:
            self.ledger.add_awake(dict.fromkeys(connected, (None, TICK)))

    async def _look_after_ships(self) -> None:
        if not self._provider_there():
            self._fleet = None
            for actor in self.actors.values():
                if not actor.gone:
                    actor.gone = True
                    self.pool.ship_lost(actor.ship, "the drydock that it was on has ended")
        silent = {name for name, actor in self.actors.items() if not actor.is_connected and self.ledger.held(name)}
        self._leases, lapsed = self._leases.tick(time.monotonic(), silent)
        for name in lapsed:
            self.pool.take_from(name, f"{name} was silent for too long", ship_state="lost")
        if self._fleet:
            await self._fleet.look_after()
        self.pool.news.set()
        self.pool.dispatch()  # one that was called and did not come is not counted on any more
