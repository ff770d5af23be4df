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

from ocaptain.captain.adopt import adopt
from ocaptain.captain.decide.finish import VoyageStatus, next_step
from ocaptain.captain.decide.judge import Judge
from ocaptain.captain.decide.leases import TICK, Leases
from ocaptain.captain.decide.pause import PASSING, Pause, passing_pause
from ocaptain.captain.final import FinalVerify
from ocaptain.captain.line_up import LineUp
from ocaptain.captain.pool import Pool
from ocaptain.captain.records import Records
from ocaptain.captain.ship.actor import ShipActor
from ocaptain.captain.ship.context import MAX_NOTE, Context
from ocaptain.captain.views import Views
from ocaptain.control.commands import carry_out
from ocaptain.control.listen import listening
from ocaptain.git import GitError
from ocaptain.process import take_over_mark
from ocaptain.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ocaptain.captain.awake import Awake
    from ocaptain.captain.final import Maker
    from ocaptain.captain.fleet import Fleet
    from ocaptain.captain.provider_watch import ProviderWatch
    from ocaptain.captain.ship.hooks import ShipHook
    from ocaptain.captain.transport.base import Transport
    from ocaptain.control.commands import Answer, Command
    from ocaptain.ledger import Ledger, ShipRow
    from ocaptain.prices import Prices

STOP_SECONDS = 0.1  # so that the answer to a command that ends this captain goes out first
FALL_ASLEEP_SECONDS = 60.0  # a provider pauses a ship after about 30 s of nothing
log = logging.getLogger("ocaptain.captain")


class Captain:
    """Runs a voyage to its end.

    Args:
        directory: the voyage's.
        ledger: opened for writing, with an epoch taken.
        transports: makes the transport to a ship.
        provider: knows whether the provider answers; None = there is none that could fail to.
        fleet: replaces ships that are lost; None = nobody does.
        prices: of tokens; by default ours.
        awake: counts how long ships are awake; None = the time of open channels counts (hosts bill nobody).
        hooks: of the parts that follow ships.
        maker: of the ship for the final verify; None = nobody makes it again.
    """

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        transports: Callable[[ShipRow], Transport],
        provider: ProviderWatch | None = None,
        fleet: Fleet | None = None,
        prices: Prices | None = None,
        awake: Awake | None = None,
        hooks: Sequence[ShipHook] = (),
        maker: Maker | None = None,
    ) -> None:
        self.directory = directory
        self.ledger = ledger
        self.context = Context.of(directory, ledger, prices, hooks, takes_over=take_over_mark(directory).exists())
        take_over_mark(directory).unlink(missing_ok=True)
        self.voyage = self.context.voyage
        self.views = Views(directory, ledger, self.context.git, self.voyage.id)
        self._records = Records(directory, ledger, self.context.prices)
        self.pool = Pool(self.voyage.id, ledger, self.views, self._records, self.context.hooks, LineUp(ledger))
        self._is_paused = False
        self._running: asyncio.Task[Any] | None = None
        self._transports = transports
        self._provider = provider
        self._fleet = fleet
        self._maker = maker
        self._awake = awake
        self._leases = Leases({})
        self._judge = Judge({})
        self._pause: Pause | None = None
        self._sound_at = time.time()
        self._group: asyncio.TaskGroup | None = None
        self._sailing: list[asyncio.Task[None]] = []

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
        self._take_up_pause()
        await self._reconcile()
        await self._compare()
        if self.voyage.state in {"complete", "paused", "sunk"}:
            return
        self.pool.claiming = not self._is_paused
        await asyncio.to_thread(self.context.cargo.clear)  # of a captain that was killed
        self.ledger.set_state("running")
        self._make_actors()
        self.views.write_tasks(whole=True)
        await self.views.update_checkout()
        self.pool.begin()
        async with listening(self.directory, self._carry_out), asyncio.TaskGroup() as group:
            self._group = group
            for actor in self.actors.values():
                self._begin(actor)
            ticking = group.create_task(self._tick(), name="tick")
            counting = group.create_task(self._awake.follow(), name="awake") if self._awake else None
            await self._finish()
            await asyncio.gather(*(actor.detach() for actor in self.actors.values()))
            for task in self._sailing:
                task.cancel()
            await self._all_sleep()
            ticking.cancel()
            if counting:
                counting.cancel()
        await self.context.soundness.close()
        if self._provider:
            await self._provider.close()
        await self.views.finish()
        for actor in self.actors.values():
            await actor.disconnect()
        await asyncio.to_thread(self.context.cargo.clear)

    async def _reconcile(self) -> None:
        """Settle the landings of an earlier captain; a repository that is damaged is waited for.

        Raises:
            GitError: they cannot be settled, and nothing explains why.
        """
        while True:
            try:
                settled = await asyncio.to_thread(self.context.lander.reconcile)
            except GitError as error:
                log.error("%s", error)  # noqa: TRY400 - a known error needs no traceback
                if await self.context.soundness.check() is None:
                    raise
                await self.context.soundness.wait()
            else:
                for intent in settled:
                    log.info("task %s: the landing of an earlier captain is settled", intent.task)
                return

    async def _compare(self) -> None:
        """Take up what landed and was counted when the ledger was newer.

        Raises:
            Contradiction: branch and ledger contradict each other.
        """
        for one in await asyncio.to_thread(adopt, self.context.git, self.ledger, self.context.lander.ref):
            log.warning("task %s had landed as %s, and this ledger did not know of it", one.task, one.commit)

    def _make_actors(self) -> None:
        """Make the actors. A lost ship may answer again; one that failed or is gone is not asked."""
        for row in self.ledger.ships():
            if row.state == "provisioning":
                continue  # it is being made; another captain will know it
            if row.state not in {"failed", "gone"}:
                self.actors[row.id] = ShipActor(row.id, self._transports(row), self.context, self.pool)
            elif claim := self.ledger.held(row.id):
                reason = f"{row.id} does not sail any more"
                self.ledger.give_back(claim.token, "lost", reason, ship_state=row.state)

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
        sailing = [name for name, actor in self.actors.items() if actor.takes_tasks and not actor.gone]
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
        """Have the final verify run, and set what it says."""
        self.ledger.set_state("verifying")
        ended = await FinalVerify(self.context, self.pool, self._records, self._transports, self._maker).run()
        verdict = ended.verdict
        if ended.code is not None:
            with contextlib.suppress(OSError):
                (self.directory / "logs").mkdir(exist_ok=True)
                (self.directory / "logs" / "verify.log").write_text(ended.log, "utf-8")
            self.ledger.verified(
                ok=ended.code == 0,
                code=ended.code,
                clean=verdict.clean,
                commit=ended.commit,
                tail=ended.log,
                ship=ended.ship,
            )
        self.ledger.set_state(verdict.state, verdict.note)

    async def _all_sleep(self) -> None:
        """See the ships fall asleep, so that all of their time is counted; the voyage has ended already."""
        for actor in self.actors.values():
            await actor.disconnect()
        if self._awake:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._awake.all_paused(), FALL_ASLEEP_SECONDS)

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
        silent = {name for name, actor in self.actors.items() if actor.is_silent}
        absent = self._provider.look(needed=bool(silent)) if self._provider else None
        self._show_pause(absent)
        held_up = bool(absent or self.context.soundness.problem)
        now = time.monotonic()
        holding = {name for name in silent if self.ledger.held(name)}
        self._leases, lapsed = self._leases.tick(now, holding, held_up=held_up)
        for name in lapsed:
            self.pool.take_from(name, f"{name} was silent for too long", ship_state="lost")
        working = [found for actor in self.actors.values() if (found := actor.working())]
        self._judge, over = self._judge.tick(now, working, held_up=held_up)
        for name, reason in over.items():
            self.actors[name].give_up(reason)
        if self._fleet and not held_up:
            await self._fleet.look_after()
        self.pool.news.set()
        self.pool.dispatch()  # one that was called and did not come is not counted on any more

    def _begin(self, actor: ShipActor) -> None:
        if self._group:
            self._sailing.append(self._group.create_task(actor.run(), name=actor.ship))

    def _take_up_pause(self) -> None:
        """Go on with the pause of a captain that was killed, unless it is one that ends by itself."""
        self._is_paused = self.voyage.paused_reason not in {None, *PASSING}
        if self.voyage.paused_reason in PASSING:
            self.ledger.go_on()
        self.context.soundness.changed = self._on_soundness

    # -- what passes ----------------------------------------------------------------------------

    def _show_pause(self, absent: str | None) -> None:
        """Show that nobody can go on for now, and why; it is over by itself."""
        ours = self.context.soundness.problem
        reached = any(actor.is_connected for actor in self.actors.values())
        found = passing_pause(ours, absent, is_anyone_reached=reached)
        if found == self._pause:
            return
        self._pause = found
        if self.ledger.voyage().paused_reason in PASSING:
            self.ledger.go_on()
        if found and self.ledger.voyage().paused_reason is None:
            self.ledger.pause(found.reason)
            self.ledger.set_note(clean(found.note)[:MAX_NOTE])

    def _on_soundness(self) -> None:
        """Something of ours was found to fail, or is found sound again."""
        problem = self.context.soundness.problem
        if problem is None:
            self._sound_at = time.time()
        elif self.pool.suspended is None:
            self._forgive()
        self.pool.suspended = problem
        self._show_pause(self._provider.problem if self._provider else None)
        self.pool.news.set()
        self.pool.dispatch()

    def _forgive(self) -> None:
        """Take back the blame of what failed since all was known to be sound: it may have been our own fault."""
        since = max(self._sound_at, self.ledger.last_landed_at())
        tasks, ships = self.ledger.forgive(since)
        if tasks or ships:
            log.info("not to blame after all: %s", ", ".join([*(f"task {one}" for one in tasks), *ships]))
        for ship in ships:
            if (old := self.actors.get(ship)) and old.gone:
                transport = self._transports(self.ledger.ship_row(ship))
                actor = self.actors[ship] = ShipActor(ship, transport, self.context, self.pool)
                self._begin(actor)
