"""The captain's life: reconcile, run one actor for each ship, tick, verify, and end.

All state that matters is in the ledger; the state kept here can be lost at any moment. At start: take
the lock (process.py) and a new epoch, finish or void the landings under way, then reach every ship and
go on from what ledger and ships report.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ocaptain.captain.adopt import adopt_landings
from ocaptain.captain.arrivals import Arrivals
from ocaptain.captain.claim_order import ClaimOrder
from ocaptain.captain.decide.finish import VoyageStatus, next_step
from ocaptain.captain.decide.judge import AttemptWatch
from ocaptain.captain.decide.leases import TICK
from ocaptain.captain.decide.pause import TEMPORARY_REASONS, Pause, temporary_pause
from ocaptain.captain.final import FinalVerify, wait_for_artifacts
from ocaptain.captain.local import LocalWork
from ocaptain.captain.pool import Pool
from ocaptain.captain.records import Records
from ocaptain.captain.ship.context import Context
from ocaptain.captain.ship.telemetry import TelemetryEdge
from ocaptain.captain.silent_ships import SilentShips
from ocaptain.captain.views import Views
from ocaptain.control.commands import Answer, carry_out
from ocaptain.control.listen import listening
from ocaptain.git import GitError
from ocaptain.process import take_over_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from ocaptain.captain.awake import AwakeCounter
    from ocaptain.captain.final import Maker
    from ocaptain.captain.fleet import Fleet
    from ocaptain.captain.provider_watch import ProviderWatch
    from ocaptain.captain.ship.actor import ShipActor
    from ocaptain.captain.ship.hooks import ShipHook
    from ocaptain.captain.transport.base import Transport
    from ocaptain.control.commands import Command
    from ocaptain.ledger import Ledger, ShipRow
    from ocaptain.prices import Prices
    from ocaptain.telemetry.batch import TelemetrySink

STOP_SECONDS = 0.1  # so that the answer to a command that ends this captain goes out first
ANEW = "the final verify starts anew, since commits of yours landed"
FALL_ASLEEP_SECONDS = 60.0  # a provider pauses a ship after about 30 s of nothing
log = logging.getLogger("ocaptain.captain")


class Captain:
    """Runs a voyage to its end.

    Args:
        directory: the voyage's.
        ledger: opened for writing, with an epoch taken.
        transports: makes the transport to a ship.
        provider: checks whether the provider answers; None = there is no provider (hosts).
        fleet: replaces ships that are lost; None = they are not replaced.
        prices: of tokens; by default ours.
        awake: counts how long ships are awake; None = the time of open channels is counted (hosts are not billed).
        hooks: of the parts that follow ships.
        maker: makes the ship for the final verify again; None = it is not made again.
        telemetry: where what agents report by OTLP goes; None = it is not kept.
    """

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        transports: Callable[[ShipRow], Transport],
        provider: ProviderWatch | None = None,
        fleet: Fleet | None = None,
        prices: Prices | None = None,
        awake: AwakeCounter | None = None,
        hooks: Sequence[ShipHook] = (),
        maker: Maker | None = None,
        telemetry: TelemetrySink | None = None,
    ) -> None:
        self.directory = directory
        self.ledger = ledger
        self.context = Context.of(directory, ledger, prices, hooks, takes_over=take_over_path(directory).exists())
        take_over_path(directory).unlink(missing_ok=True)
        self.voyage = self.context.voyage
        self.local = LocalWork(directory, self.context)
        self.views = Views(directory, ledger, self.context.git, self.voyage.id, self.local, self.context.task_board)
        self._telemetry = TelemetryEdge(telemetry, ledger) if telemetry else None
        self._records = Records(directory, ledger, self.context.prices, telemetry=self._telemetry)
        self.pool = Pool(self.voyage.id, ledger, self.views, self._records, self.context.hooks, ClaimOrder(ledger))
        self._arrivals = Arrivals(directory, self.context, self.pool, transports, self._start_actor)
        self._is_paused = False
        self._announced: set[str] = set()  # tasks that wait for approval
        self._main_task: asyncio.Task[Any] | None = None
        self._transports = transports
        self._provider = provider
        self._fleet = fleet
        self._maker = maker
        self._awake = awake
        self._silent_ships = SilentShips(ledger, self.pool)
        self._attempt_watch = AttemptWatch({})
        self._pause: Pause | None = None
        self._sound_at = time.time()
        self._group: asyncio.TaskGroup | None = None
        self._actor_tasks: list[asyncio.Task[None]] = []

    @property
    def actors(self) -> dict[str, ShipActor]:
        """The actors, by ship."""
        return self.pool.actors

    # -- the voyage's life --------------------------------------------------------------------

    async def run(self) -> None:
        """Run until the voyage is complete or failed, or this captain is fenced or stopped.

        Raises:
            TakenOver: another captain has taken over.
        """
        self._main_task = asyncio.current_task()
        try:
            await self._run()
        finally:  # in any case: nothing of this captain may act when another one has begun in this process
            if self._telemetry:
                await self._telemetry.close()
            await self.context.soundness.close()
            if self._provider:
                await self._provider.close()

    async def _run(self) -> None:
        self._resume_pause()
        await self._reconcile()
        await self._adopt_landings()
        if self.voyage.state in {"complete", "paused", "sinking", "sunk"}:
            return
        self.pool.claiming = not self._is_paused
        await asyncio.to_thread(self.context.clear_leftovers)
        self.ledger.set_state("running")
        self._arrivals.make_actors()
        self.views.write_tasks(whole=True)
        await self.views.update_checkout()
        self.pool.begin()
        async with listening(self.directory, self._carry_out), asyncio.TaskGroup() as group:
            self._group = group
            for actor in self.actors.values():
                self._start_actor(actor)
            ticking = group.create_task(self._tick(), name="tick")
            counting = group.create_task(self._awake.follow(), name="awake") if self._awake else None
            await self._finish()
            await asyncio.gather(*(actor.detach() for actor in self.actors.values()))
            for task in self._actor_tasks:
                task.cancel()
            await self._wait_until_asleep()
            ticking.cancel()
            if counting:
                counting.cancel()
        await self.views.finish()
        for actor in self.actors.values():
            await actor.disconnect()
        await asyncio.to_thread(self.context.bundles.clear)

    async def _reconcile(self) -> None:
        """Settle the landings of an earlier captain; waits while the repository is damaged.

        Raises:
            GitError: they cannot be settled, though the repository is sound.
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

    async def _adopt_landings(self) -> None:
        """Adopt landings that are on the branch and that this ledger, an older copy, lacks.

        Raises:
            Contradiction: branch and ledger contradict each other.
        """
        for one in await asyncio.to_thread(adopt_landings, self.context.git, self.ledger, self.context.lander.ref):
            whose = f"task {one.task}" if one.task else "a commit of the user's"
            log.warning("%s: adopted its landing %s from the branch; this ledger lacked it", whose, one.commit)

    async def _finish(self) -> None:
        """Wait until all work is done, then verify, and set the state in which the voyage ends."""
        found = None
        while found is None or found != next_step(self._status()):  # a command may come while the checkout is updated
            while (found := next_step(self._status())).next == "wait":
                self._announce_held_tasks()
                self.pool.news.clear()
                await self.pool.news.wait()
            await self.views.finish_workspace_update()
            if found.next != "verify":
                await wait_for_artifacts(self.actors.values())
        self._arrivals.give_up_unbuilt()
        if found.next == "verify":
            await self._verify()
        self.pool.over = self.views.is_final = True
        if found.next != "verify":
            self.ledger.set_state(found.next, found.reason)

    def _status(self) -> VoyageStatus:
        counts = self.ledger.count_tasks()
        if counts["in_progress"]:  # then nothing else matters, and this runs at each change
            return VoyageStatus(self.voyage.id, working=counts["in_progress"])
        ships = self.pool.work_ships()
        return VoyageStatus(
            voyage=self.voyage.id,
            pending=counts["pending"],
            failed=tuple(self.ledger.failed_tasks()) if counts["failed"] else (),
            claimable=self.ledger.has_claimable_task(list(ships)),
            held=bool(ships and (self.ledger.held_tasks(list(ships)) or self.ledger.given_back_tasks())),
            has_ships=bool(ships),
            may_replace=self._fleet is not None and self._fleet.may_replace(),
            paused=self._is_paused,
            denied=self.pool.stopped or self.pool.refused,
        )

    def _announce_held_tasks(self) -> None:
        """Announce each task, once, that waits for nothing but the user's approval."""
        for task in self.ledger.held_tasks():
            if task not in self._announced:
                self._announced.add(task)
                text = f"waits for approval: ocaptain approve {self.voyage.id} {task}"
                self.ledger.add_event("held", text, task=task)

    def _carry_out(self, command: Command) -> Answer | Awaitable[Answer]:
        """Carry out a user's command for this voyage."""
        if self.pool.over and command.name in {"retry", "change", "approve", "land"}:
            return self._late()
        if command.name == "land":
            return self.local.answer_once(command.id, self._land)
        if command.name == "built":
            answer = self._late() if self.pool.over else self._arrivals.take(command)
        else:
            answer = carry_out(command, self.ledger)
        if command.name == "stop" and self._main_task:
            asyncio.get_running_loop().call_later(STOP_SECONDS, self._main_task.cancel)
        if not answer.done or self.pool.over:
            return answer
        match command.name:
            case "pause":
                self._is_paused, self.pool.claiming = True, False
            case "retry" | "change":
                self.pool.update_claim_order()
                self.pool.update_and_dispatch()
            case "approve" | "built":
                self.pool.update_and_dispatch()
        self.pool.news.set()
        return answer

    async def _land(self) -> Answer:
        synced = await self.views.land()
        if self.local.is_closed and not synced.landed:  # the voyage ended while it waited for its turn
            return self._late()
        return await self.local.answer(synced)

    def _late(self) -> Answer:
        return Answer(done=False, said=f"the captain of {self.voyage.id} is ending; try again", is_late=True)

    async def _verify(self) -> None:
        """Run the final verify, and store its result and the voyage's last state.

        It starts anew when commits of the user's land meanwhile.
        """
        self.ledger.set_state("verifying")
        while True:
            final = FinalVerify(self.context, self.pool, self._records, self._transports, self._maker)
            ended = await self.local.unless_landed(final.run, final.is_bound)
            if ended:
                await wait_for_artifacts(self.actors.values())
                if await self.views.while_settled(partial(self.local.close, ended.commit)):
                    break
            self.ledger.add_event("local", ANEW)
        verdict = ended.verdict
        if ended.code is not None:
            with contextlib.suppress(OSError):
                (self.directory / "logs").mkdir(exist_ok=True)
                (self.directory / "logs" / "verify.log").write_text(ended.log, "utf-8")
            self.ledger.record_verify(
                ok=ended.code == 0,
                code=ended.code,
                clean=verdict.clean,
                commit=ended.commit,
                tail=ended.log,
                ship=ended.ship,
                stage=ended.stage,
            )
        self.ledger.set_state(verdict.state, verdict.note)

    async def _wait_until_asleep(self) -> None:
        """Wait until the ships have fallen asleep, so that all of their awake time is counted."""
        for actor in self.actors.values():
            await actor.disconnect()
        if self._awake:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait_until_paused(), FALL_ASLEEP_SECONDS)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._add_awake_time()
            if not self.pool.over:
                if self.local.has_news():
                    self.views.follow()
                await self._check_ships()

    def _add_awake_time(self) -> None:
        if self._awake:
            self._awake.count_all()
        elif connected := [name for name, actor in self.actors.items() if actor.is_connected]:
            self.ledger.add_awake_seconds(dict.fromkeys(connected, (None, TICK)))

    async def _check_ships(self) -> None:
        silent = {name for name, actor in self.actors.items() if actor.is_silent}
        absent = self._provider.check(needed=bool(silent)) if self._provider else None
        self._update_pause(absent)
        clock_stopped = bool(absent or self.context.soundness.problem)
        now = time.monotonic()
        self._silent_ships.tick(now, silent, clock_stopped=clock_stopped)
        working = [found for actor in self.actors.values() if (found := actor.running_attempt())]
        self._attempt_watch, over = self._attempt_watch.tick(now, working, clock_stopped=clock_stopped)
        for name, reason in over.items():
            self.actors[name].give_up(reason)
        self._arrivals.give_up_unbuilt()
        if self._fleet and not clock_stopped:
            await self._fleet.replace_lost_ships()
        self.pool.news.set()
        self.pool.dispatch()  # a ship that was called and did not come is replaced by another one

    def _start_actor(self, actor: ShipActor) -> None:
        if self._group:
            self._actor_tasks.append(self._group.create_task(actor.run(), name=actor.ship))

    def _resume_pause(self) -> None:
        """Keep the pause of an earlier captain, unless it is one that ends by itself."""
        self._is_paused = self.voyage.paused_reason not in {None, *TEMPORARY_REASONS}
        if self.voyage.paused_reason in TEMPORARY_REASONS:
            self.ledger.clear_pause()
        self.context.soundness.on_checked = self._on_soundness

    # -- pauses that end by themselves ----------------------------------------------------------

    def _update_pause(self, absent: str | None) -> None:
        """Begin, change or end the pause that ends by itself; ``absent`` says why the provider does not answer."""
        ours = self.context.soundness.problem
        reached = any(actor.is_connected for actor in self.actors.values())
        found = temporary_pause(ours, absent, is_any_ship_connected=reached)
        if found == self._pause:
            return
        self._pause = found
        if self.ledger.voyage().paused_reason in TEMPORARY_REASONS:
            self.ledger.clear_pause()
        if found and self.ledger.voyage().paused_reason is None:
            self.ledger.pause(found.reason, found.note)

    def _on_soundness(self) -> None:
        """Handle the result of a check of this machine and the repository."""
        problem = self.context.soundness.problem
        if problem is None:
            self._sound_at = time.time()
        elif self.pool.suspended is None:
            self._undo_failures()
        self.pool.suspended = problem
        self._update_pause(self._provider.problem if self._provider else None)
        self.pool.news.set()
        self.pool.dispatch()

    def _undo_failures(self) -> None:
        """Undo the failures since the last time that all was known to be sound: they may have been our own fault."""
        since = max(self._sound_at, self.ledger.last_landed_at())
        tasks, ships = self.ledger.undo_failures(since)
        if tasks or ships:
            names = ", ".join([*(f"task {one}" for one in tasks), *ships])
            log.info("failures undone, since this machine or the repository caused them: %s", names)
        for ship in ships:
            if (old := self.actors.get(ship)) and old.gone:
                self._arrivals.replace_actor(ship)
