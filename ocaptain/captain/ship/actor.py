"""A ship's actor: keeps its channel open and hands it one job at a time.

It does not decide about tasks: the ledger (who holds it), the landing (what merges) and
:mod:`ocaptain.captain.decide.outcome` (what an ending means) do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ocaptain.captain.cursors import Cursors
from ocaptain.captain.decide.dispatch import ShipStatus
from ocaptain.captain.decide.judge import ChannelBreaks, RunningAttempt, count_break, is_ship_to_blame
from ocaptain.captain.decide.outcome import Decision
from ocaptain.captain.ship.attempt import Attempts
from ocaptain.captain.ship.context import ShipFault
from ocaptain.captain.ship.faults import classify_fault
from ocaptain.captain.ship.job import VerifyJob
from ocaptain.captain.ship.link import Link, command_id
from ocaptain.captain.ship.trial import TrialRun
from ocaptain.captain.ship.verify import run_verify
from ocaptain.captain.transport.base import WORKER, CutShort, TransportError, run
from ocaptain.git import GitError
from ocaptain.ledger import LedgerError
from ocaptain.protocol import PROTOCOL
from ocaptain.text import escape_control
from ocaptain.worker.build import worker_bytes

if TYPE_CHECKING:
    from ocaptain.captain.ship.context import Context, Dispatcher
    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Claim

MAX_SHIP_FAULTS = 2
MAX_REPO_ERRORS = 20
FIRST_RECONNECT = 0.2
MAX_RECONNECT = 10.0
SLEEP_AFTER = 5.0  # seconds with nothing to claim, after which the channel is closed so that the VM may sleep
CALL_SECONDS = 20.0  # how long a ship that was called is expected to come
INSTALL_SECONDS = 60.0
END_SECONDS = 20.0  # how long a ship that is given up may take to end its agent
log = logging.getLogger("ocaptain.captain")


class ShipActor:
    """One ship. :meth:`run` ends when the voyage is over or the ship is gone.

    Attributes:
        takes_tasks: whether it takes tasks; False = it is for the final verify only.
        gone: whether it is out of service for good.
        idle: whether it has nothing to do, connected or asleep.
        attempts: runs its attempts.
    """

    def __init__(self, ship: str, transport: Transport, context: Context, dispatcher: Dispatcher) -> None:
        self.ship = ship
        self.gone = False
        self.idle = False
        self._transport = transport
        self._context = context
        self._dispatcher = dispatcher
        self._ledger = context.ledger
        self.attempts = Attempts(ship, context, dispatcher, transport)
        self._trial = TrialRun(ship, context, dispatcher)
        self._link: Link | None = None
        self._was_reached = False
        self._sleeps = False
        self._rests_until = 0.0  # on the loop's clock: before that it claims nothing
        row = self._ledger.ship_row(ship)
        self.takes_tasks = row.role == "work"
        self._cursors = Cursors(row.journal, row.cursors)
        self._protocol = PROTOCOL
        self._faults = 0
        self._repo_errors = 0
        self._breaks: ChannelBreaks | None = None
        self._given_up: str | None = None
        self._attempt_task: asyncio.Future[bool] | None = None
        self._wait = FIRST_RECONNECT
        self._call = asyncio.Event()
        self._called_at = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether its channel is open."""
        return self._link is not None

    def status(self) -> ShipStatus:
        """Return its state, as dispatching needs it."""
        now = asyncio.get_running_loop().time()
        return ShipStatus(
            ship=self.ship,
            idle=self.idle,
            connected=self.is_connected,
            called=self._call.is_set() and now - self._called_at < CALL_SECONDS,
            gone=self.gone,
            is_claiming_paused=now < self._rests_until,
            reached=self._was_reached,
        )

    @property
    def is_silent(self) -> bool:
        """Whether its channel is not open though it does not sleep."""
        return not self.gone and self._link is None and not self._sleeps

    def running_attempt(self) -> RunningAttempt | None:
        """Return the attempt whose agent runs now, None if none does."""
        found = self.attempts.working
        held = self._ledger.held_claim(self.ship) if found and not self.gone else None
        return (
            replace(found, records=self._cursors.records_used) if found and held and held.token == found.token else None
        )

    def give_up(self, reason: str) -> None:
        """Take the ship out of service for good, since it does not end what it was given to do."""
        self.gone, self._given_up = True, reason
        if self._attempt_task:
            self._attempt_task.cancel()
        self._dispatcher.on_ship_faulty(self.ship, reason, final=True)

    def end_agent(self) -> None:
        """End the agent that runs, if one does, since the voyage stops; what has ended already is still judged."""
        if self._attempt_task and self.attempts.working:
            self._attempt_task.cancel()

    def call(self) -> None:
        """Have it ask for work, waking it if it sleeps."""
        self._called_at = asyncio.get_running_loop().time()
        self._call.set()

    async def retire(self) -> None:
        """End the actor: from now on another part of the captain talks to the ship."""
        self.gone = True
        self.call()
        await self.disconnect()

    def pause_claiming(self, seconds: float) -> None:
        """Claim no tasks for some seconds, since the service that the agents need is busy; 0 ends the pause."""
        self._rests_until = asyncio.get_running_loop().time() + seconds

    # -- channel ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Give the ship work until the voyage is over or the ship is gone.

        A stream that breaks is opened again. The task of a ship that answers but cannot do its work (or
        sends invalid data) is returned; if that happens again, the ship is taken out of service, so that
        one broken ship does not fail all tasks.
        """
        await self._sleep_at_first()
        while not self._is_over():
            try:
                await self.connect()
                await self._work()
            except LedgerError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a ship does must not end the captain
                await self._on_error(error)
            else:
                self._wait = FIRST_RECONNECT
                continue  # it slept, and was called
            finally:
                self.idle = self._sleeps = False
                await self.disconnect()
            if self._is_over():
                return
            self._call.clear()
            self._dispatcher.update_and_dispatch()
            await asyncio.sleep(self._wait)
            await self._context.soundness.wait()
            self._wait = min(MAX_RECONNECT, self._wait * 2)

    def _is_over(self) -> bool:
        return self.gone or self._dispatcher.over

    async def _sleep_at_first(self) -> None:
        """Let a ship for the final verify sleep until it is called."""
        if not self.takes_tasks:
            self.idle = self._sleeps = True
            await self._call.wait()
            self._sleeps = False

    async def _on_error(self, error: Exception) -> None:
        """Handle an error that ended the work on the ship, by what failed."""
        if self._is_over():  # it was given up, or we closed the channel at the voyage's end
            return
        match classify_fault(error):
            case "gone":
                self.gone = True
                self._dispatcher.on_ship_lost(self.ship, str(error))
            case "way":
                self._on_broken_channel(error)
            case "ours":
                await self._on_our_fault(error)
            case "ship":
                if problem := await self._context.soundness.check():
                    self._show(f"{problem} (met as: {error})")
                else:
                    self._blame(error)

    def _show(self, reason: str) -> None:
        log.warning("%s: %s", self.ship, reason)
        self._context.show_reason(self.ship, reason)

    def _blame(self, error: Exception) -> None:
        """Count a fault of the ship: its task is returned; after a second fault it gets no other."""
        log.warning("%s: %s", self.ship, error, exc_info=not isinstance(error, ShipFault | GitError))
        self._faults += 1
        self.gone = self._faults >= MAX_SHIP_FAULTS
        self._dispatcher.on_ship_faulty(self.ship, str(error) or type(error).__name__, final=self.gone)

    def _on_broken_channel(self, error: Exception) -> None:
        """Handle a channel that broke, or a ship that cannot be reached."""
        self._show(str(error))
        if isinstance(error, CutShort):
            self._count_error(error)
        if self._link is None or self._ledger.held_claim(self.ship) is None:
            return
        now = asyncio.get_running_loop().time()
        self._breaks = count_break(self._breaks, self._cursors.records_used, now)
        if is_ship_to_blame(self._breaks, now, another_is_connected=self._dispatcher.is_another_connected(self.ship)):
            count = self._breaks.count
            self.give_up(
                f"its channel broke {count} times without a record between ({escape_control(str(error))[:200]})"
            )

    async def _on_our_fault(self, error: Exception) -> None:
        """Handle a failure of this machine or the repository: no task and no ship is to blame, and it may pass."""
        self._show(str(error) or type(error).__name__)
        if await self._context.soundness.check() is None:
            self._count_error(error)
        else:
            self._repo_errors = 0

    def _count_error(self, error: Exception) -> None:
        """Count an error without a known cause; a task that meets :data:`MAX_REPO_ERRORS` of them fails."""
        self._repo_errors += 1
        claim = self._ledger.held_claim(self.ship)
        if claim and self._repo_errors >= MAX_REPO_ERRORS:
            self._repo_errors = 0
            self._dispatcher.apply_decision(claim, Decision("fail", f"it could not be landed: {error}"))

    def _progress(self) -> None:
        """Reset the counts of faults: the ship has finished something, so it works."""
        self._faults, self._repo_errors, self._wait, self._breaks = 0, 0, FIRST_RECONNECT, None

    async def connect(self) -> Link:
        """Open the channel and receive the results in the journal.

        Raises:
            TransportError: the ship cannot be reached.
        """
        link = self._link = await Link.open(
            self.ship, self._context, self._transport, self._cursors, self._dispatcher.save_record, self._protocol
        )
        self._protocol = link.channel.protocol
        self._was_reached = True
        self._context.hooks.channel_opened(self.ship, self._transport)
        return link

    async def detach(self) -> None:
        """Receive all that the ship wrote, then close the channel, since the voyage has ended."""
        link, self._link = self._link, None  # so that nothing else closes it before all has arrived
        self._trial.cancel()
        if link:
            self._context.hooks.voyage_ended(self.ship)
            with contextlib.suppress(TransportError):
                await link.channel.rest()
            await self._context.hooks.lets_go(self.ship)
            await link.channel.close()
            self._context.hooks.channel_closed(self.ship)

    async def disconnect(self) -> None:
        """Close the channel; the ship's worker goes on by itself."""
        link, self._link = self._link, None
        self._trial.cancel()
        if link:
            await link.channel.close()
            self._context.hooks.channel_closed(self.ship)

    # -- work -------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Continue the attempt that the ship holds, then claim until there is no work left."""
        link = self._link
        assert link
        channel = link.channel
        held = self._ledger.held_claim(self.ship)
        if channel.busy is not None and not _is_at(held, channel.busy, channel.busy_with):
            await link.cancel(channel.busy)
        self._ledger.set_ship(self.ship, "working" if held else "idle")
        if held:
            await self._attempt(link, held)
        if channel.protocol != PROTOCOL:
            await self._clear_parked(link)
            await self._replace_worker()
            return
        while not self._is_over():
            await self._clear_parked(link)
            self._call.clear()
            job = self._dispatcher.next_job(self.ship)
            if isinstance(job, VerifyJob):
                await run_verify(link, self._context, job)
                self._progress()
                continue
            self.idle = job is None
            self._dispatcher.update_and_dispatch()  # what is left after this ship took its share
            if job:
                await self._attempt(link, job)
            elif not await self._wait_for_call(link):
                return
            self.idle = False

    async def _attempt(self, link: Link, claim: Claim) -> None:
        self._context.hooks.attempt_begins(self.ship, claim)
        self._attempt_task = asyncio.ensure_future(self.attempts.run(link, claim))
        self._trial.begin(link)
        if self._dispatcher.stopped:  # it was handed out before, and this ship is reached only now
            self._attempt_task.cancel()
        try:
            if await self._attempt_task:
                self._progress()
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if (self._given_up or self._dispatcher.stopped) is None or (me and me.cancelling()):
                raise
            await self._end_on_ship(link, claim)
            if self._dispatcher.stopped:
                self._dispatcher.take_back(claim, self._dispatcher.stopped)
        finally:
            self._attempt_task.cancel()
            self._attempt_task = None
            self._context.hooks.attempt_ended(self.ship, claim)
        if self._given_up is not None:
            raise ShipFault(self._given_up)

    async def _end_on_ship(self, link: Link, claim: Claim) -> None:
        """Have a ship that is given up end its agent, if it still can."""
        with contextlib.suppress(TransportError, TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await link.cancel(claim.token)

    async def _wait_for_call(self, link: Link) -> bool:
        """Wait until it is called; return False if the voyage is over or the channel was closed meanwhile."""
        channel = link.channel
        call = asyncio.ensure_future(self._call.wait())
        try:
            futures: list[asyncio.Future[Any]] = [call, channel.broken]
            await asyncio.wait(futures, timeout=SLEEP_AFTER, return_when=asyncio.FIRST_COMPLETED)
            while self._trial.is_running and not any(one.done() for one in futures):
                await asyncio.wait(futures, timeout=SLEEP_AFTER, return_when=asyncio.FIRST_COMPLETED)
            if channel.broken.done():
                raise channel.broken.result()
            if call.done():
                return not self._dispatcher.over
            await channel.rest()
            if not self._call.is_set():
                await self._context.hooks.lets_go(self.ship)
                await self.disconnect()
                self._sleeps = True
                self._ledger.set_ship(self.ship, "asleep")
                await call
                return False
        finally:
            call.cancel()
        return not self._dispatcher.over

    async def _replace_worker(self) -> None:
        """Install this version's worker in the place of an older one, whose last result has arrived.

        Raises:
            ShipFault: it could not be installed.
        """
        log.info("%s: replacing its worker, which is of an earlier version", self.ship)
        fresh = f"{WORKER}.new"
        await self._transport.put(fresh, await asyncio.to_thread(worker_bytes))
        done = await run(self._transport, ["python3", fresh, "install"], INSTALL_SECONDS)
        if done.code:
            reason = escape_control((done.stdout + done.stderr).decode(errors="replace"))[-500:]
            raise ShipFault(f"{self.ship}: the new worker could not be installed (exit {done.code}): {reason}")
        self._protocol = PROTOCOL

    async def _clear_parked(self, link: Link) -> None:
        """Handle results that no command waits for: save the work of late ones, drop the others."""
        while parked := link.take_parked():
            kind, _, token = parked.name.partition(":")
            token, _, opening = token.partition(":")
            if kind == "start" and parked.ok and re.fullmatch(r"[0-9]{1,15}", token):
                last_try = self._repo_errors >= MAX_REPO_ERRORS
                await self.attempts.save_late_result(int(token), opening, parked.data, last_try=last_try)
            await link.settle(parked.number)


def _is_at(held: Claim | None, token: int, command: str | None) -> bool:
    """Whether a ship works on the attempt that it holds; tokens are unique only in one opening of the ledger."""
    return held is not None and held.token == token and command in {None, command_id("start", held)}
