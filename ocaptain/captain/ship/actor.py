"""A ship's actor: keeps its channel and hands it one job at a time.

Nothing here decides what a task's fate is: that is the ledger (who holds it), the landing (what
merges) and :mod:`ocaptain.captain.decide.outcome` (what an ending means).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from typing import TYPE_CHECKING, Any

from ocaptain.captain.cursors import Cursors
from ocaptain.captain.decide.dispatch import ShipStatus
from ocaptain.captain.decide.outcome import Decision
from ocaptain.captain.ship.attempt import Attempts
from ocaptain.captain.ship.context import ShipFault
from ocaptain.captain.ship.job import VerifyJob
from ocaptain.captain.ship.link import Link
from ocaptain.captain.ship.verify import run_verify
from ocaptain.captain.transport.base import WORKER, CutShort, ShipGone, TransportError, run
from ocaptain.git import GitError
from ocaptain.ledger import LedgerError
from ocaptain.protocol import PROTOCOL
from ocaptain.text import clean
from ocaptain.worker.build import worker_bytes

if TYPE_CHECKING:
    from ocaptain.captain.ship.context import Context, Orders
    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Claim

MAX_SHIP_FAULTS = 2
MAX_REPO_ERRORS = 20
FIRST_RECONNECT = 0.2
MAX_RECONNECT = 10.0
SLEEP_AFTER = 5.0  # with nothing to claim the channel is closed, so that the VM may sleep
CALL_SECONDS = 20.0  # so long a ship that was called is counted on
INSTALL_SECONDS = 60.0
log = logging.getLogger("ocaptain.captain")


class ShipActor:
    """One ship. :meth:`run` ends when the voyage is over or the ship is gone.

    Attributes:
        gone: whether it does not sail any more.
        idle: whether it has nothing to do, connected or asleep.
    """

    def __init__(self, ship: str, transport: Transport, context: Context, orders: Orders) -> None:
        self.ship = ship
        self.gone = False
        self.idle = False
        self._transport = transport
        self._context = context
        self._orders = orders
        self._ledger = context.ledger
        self._attempts = Attempts(ship, context, orders, transport)
        self._link: Link | None = None
        self._was_reached = False
        self._rests_until = 0.0  # on the loop's clock: before that it claims nothing
        row = self._ledger.ship_row(ship)
        self._cursors = Cursors(row.journal, row.cursors)
        self._protocol = PROTOCOL
        self._faults = 0
        self._repo_errors = 0
        self._wait = FIRST_RECONNECT
        self._call = asyncio.Event()
        self._called_at = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether its channel is open."""
        return self._link is not None

    def status(self) -> ShipStatus:
        """Return what decisions need to know of it."""
        now = asyncio.get_running_loop().time()
        return ShipStatus(
            ship=self.ship,
            idle=self.idle,
            connected=self.is_connected,
            called=self._call.is_set() and now - self._called_at < CALL_SECONDS,
            gone=self.gone,
            resting=now < self._rests_until,
            reached=self._was_reached,
        )

    def call(self) -> None:
        """Have it look what there is to do, waking it if it sleeps."""
        self._called_at = asyncio.get_running_loop().time()
        self._call.set()

    def rest(self, seconds: float) -> None:
        """Let it claim nothing for a while: the service that its agents need is busy."""
        self._rests_until = asyncio.get_running_loop().time() + seconds

    # -- channel ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the ship at work.

        A stream that breaks is opened again. A ship that answers but cannot do its work (or says
        what cannot be understood) gives its task back; when that happens again it is taken out of
        service, so that one broken ship does not fail everybody's tasks.
        """
        while not self._orders.over:
            try:
                await self.connect()
                await self._work()
            except ShipGone as error:
                self.gone = True
                self._orders.ship_lost(self.ship, str(error))
                return
            except LedgerError:
                raise
            except (GitError, CutShort) as error:
                self._on_repo_error(error)
            except TransportError as error:
                self._silent(error)
            except Exception as error:
                log.warning("%s: %s", self.ship, error, exc_info=not isinstance(error, ShipFault))
                self._faults += 1
                self.gone = self._faults >= MAX_SHIP_FAULTS
                self._orders.ship_faulty(self.ship, str(error) or type(error).__name__, final=self.gone)
                if self.gone:
                    return
            else:
                self._wait = FIRST_RECONNECT
                continue  # it slept, and was called
            finally:
                self.idle = False
                await self.disconnect()
            if self._orders.over:
                return
            self._call.clear()
            self._orders.look_for_work()
            await asyncio.sleep(self._wait)
            self._wait = min(MAX_RECONNECT, self._wait * 2)

    def _silent(self, error: TransportError) -> None:
        """The channel broke; at the voyage's end we let go of it ourselves."""
        if not self._orders.over:
            log.warning("%s: %s", self.ship, error)
            self._context.show_reason(self.ship, str(error))

    def _on_repo_error(self, error: GitError | CutShort) -> None:
        """Our own repository fails (a full disk, say), or the way to it: no task is to blame, and it may pass."""
        log.warning("%s: %s", self.ship, error)
        self._context.show_reason(self.ship, str(error))
        self._repo_errors += 1
        claim = self._ledger.held(self.ship)
        if claim and self._repo_errors >= MAX_REPO_ERRORS:
            self._repo_errors = 0
            self._orders.apply(claim, Decision("fail", f"it could not be landed: {error}"))

    def _progress(self) -> None:
        """Something was brought to its end: the ship is sound."""
        self._faults, self._repo_errors, self._wait = 0, 0, FIRST_RECONNECT

    async def connect(self) -> Link:
        """Open the channel and have the results that the journal has.

        Raises:
            TransportError: the ship cannot be reached.
        """
        link = self._link = await Link.open(
            self.ship, self._context, self._transport, self._cursors, self._orders.take_record, self._protocol
        )
        self._protocol = link.channel.protocol
        self._was_reached = True
        self._context.hooks.joined(self.ship, self._transport)
        return link

    async def detach(self) -> None:
        """The voyage has ended: have all that the ship wrote, then let it sleep."""
        link, self._link = self._link, None  # so that nobody else closes it before all has come
        if link:
            self._context.hooks.leaving(self.ship)
            with contextlib.suppress(TransportError):
                await link.channel.rest()
            await link.channel.close()
            self._context.hooks.channel_closed(self.ship)

    async def disconnect(self) -> None:
        """Close the channel; the ship goes on by itself."""
        link, self._link = self._link, None
        if link:
            await link.channel.close()
            self._context.hooks.channel_closed(self.ship)

    # -- work -------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Take up what the ship holds, then claim until there is nothing left to do."""
        link = self._link
        assert link
        channel = link.channel
        held = self._ledger.held(self.ship)
        if channel.busy is not None and (held is None or held.token != channel.busy):
            await link.cancel(channel.busy)
        self._ledger.set_ship(self.ship, "working" if held else "idle")
        if held:
            await self._attempt(link, held)
        if channel.protocol != PROTOCOL:
            await self._clear_parked(link)
            await self._replace_worker()
            return
        while not self._orders.over:
            await self._clear_parked(link)
            self._call.clear()
            job = self._orders.next_job(self.ship)
            if isinstance(job, VerifyJob):
                await run_verify(link, self._context, job)
                self._progress()
                continue
            self.idle = job is None
            self._orders.look_for_work()  # what is left after this ship took its share
            if job:
                await self._attempt(link, job)
            elif not await self._wait_for_call(link):
                return
            self.idle = False

    async def _attempt(self, link: Link, claim: Claim) -> None:
        self._context.hooks.attempt_begins(self.ship, claim)
        try:
            if await self._attempts.run(link, claim):
                self._progress()
        finally:
            self._context.hooks.attempt_ended(self.ship, claim)

    async def _wait_for_call(self, link: Link) -> bool:
        """Wait until it is called; False if the channel was let go of meanwhile."""
        channel = link.channel
        call = asyncio.ensure_future(self._call.wait())
        try:
            futures: list[asyncio.Future[Any]] = [call, channel.broken]
            await asyncio.wait(futures, timeout=SLEEP_AFTER, return_when=asyncio.FIRST_COMPLETED)
            if channel.broken.done():
                raise channel.broken.result()
            if call.done():
                return not self._orders.over
            await channel.rest()
            if not self._call.is_set():
                await self.disconnect()
                self._ledger.set_ship(self.ship, "asleep")
                await call
                return False
        finally:
            call.cancel()
        return not self._orders.over

    async def _replace_worker(self) -> None:
        """Put this version's worker in the place of an older one, whose last attempt's result is here.

        Raises:
            ShipFault: it could not be put there.
        """
        log.info("%s: its worker is of an earlier version and is replaced", self.ship)
        fresh = f"{WORKER}.new"
        await self._transport.put(fresh, await asyncio.to_thread(worker_bytes))
        done = await run(self._transport, ["python3", fresh, "install"], INSTALL_SECONDS)
        if done.code:
            reason = clean((done.stdout + done.stderr).decode(errors="replace"))[-500:]
            raise ShipFault(f"{self.ship}: the new worker could not be installed (exit {done.code}): {reason}")
        self._protocol = PROTOCOL

    async def _clear_parked(self, link: Link) -> None:
        """Deal with results that nobody waits for: the work of late ones is saved, the others are forgotten."""
        while parked := link.take_parked():
            kind, _, token = parked.name.partition(":")
            token, _, opening = token.partition(":")
            if kind == "start" and parked.ok and re.fullmatch(r"[0-9]{1,15}", token):
                last_try = self._repo_errors >= MAX_REPO_ERRORS
                await self._attempts.save_late_result(int(token), opening, parked.data, last_try=last_try)
            await link.settle(parked.number)
