"""The final verify: find a place for it, run it there, and interpret the result.

The decisions are in ``decide/verify.py``; this module carries them out, one place after the other. A voyage ends
only when what attempts left for people has come as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ocaptain.captain.decide.leases import TICK
from ocaptain.captain.decide.verify import (
    CandidateShip,
    CreateShip,
    CreationStatus,
    Place,
    Verdict,
    VerifyRun,
    is_clean_place_coming,
    judge_runs,
    next_place,
    place_to_retry,
)
from ocaptain.captain.landing.artifacts import COLLECT_SECONDS
from ocaptain.captain.rescue import rescue_ship
from ocaptain.captain.ship.job import VerifyJob
from ocaptain.git import GitError, fsck
from ocaptain.names import VERIFY_SHIP
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ocaptain.captain.pool import Pool
    from ocaptain.captain.records import Records
    from ocaptain.captain.ship.actor import ShipActor
    from ocaptain.captain.ship.context import Context
    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import ShipRow
    from ocaptain.protocol.messages import VerifyResult

MAX_TRIES = 5
MAX_TRIES_PER_SHIP = 3  # then another place is chosen
SILENT_SECONDS = 90.0  # how long a ship may take to answer; a cold one takes seconds
ASSUMED_SILENT_SECONDS = 75.0  # how much of that has passed for a ship that was silent when it was chosen
MAX_TAIL = 8000  # characters of each run that are shown
log = logging.getLogger("ocaptain.captain")


class Maker(Protocol):
    """Makes ship-verify again."""

    async def check_status(self) -> CreationStatus:
        """Return whether it can be made; waits for a provider that does not answer."""

    async def make(self, instead_of: str | None) -> None:
        """Make it; if another captain must take over for that, it does not return."""


@dataclass(frozen=True)
class FinalVerifyResult:
    """How the final verify ended.

    Attributes:
        verdict: what it means for the voyage.
        commit: that was verified.
        code: of the run that counts; None if it could not be run.
        ship: that ran it.
        log: what the runs printed.
        stage: what the code is of: ``setup`` or ``verify``.
    """

    verdict: Verdict
    commit: str
    code: int | None = None
    ship: str = ""
    log: str = ""
    stage: str = "verify"


class FinalVerify:
    """Runs the final verify, once all tasks have landed.

    Args:
        context: of the voyage.
        pool: that hands the job to a ship.
        records: saves the records of a ship that is rescued.
        transports: makes the transport to a ship that is rescued.
        maker: makes ship-verify again; None = it is not made again.
    """

    def __init__(
        self,
        context: Context,
        pool: Pool,
        records: Records,
        transports: Callable[[ShipRow], Transport],
        maker: Maker | None = None,
    ) -> None:
        self._context = context
        self._ledger = context.ledger
        self._pool = pool
        self._records = records
        self._transports = transports
        self._maker = maker
        self._is_making = False
        self._unusable: set[str] = set()
        self._problem = ""

    async def run(self) -> FinalVerifyResult:
        """Run it in a clean place if there is one, and if it fails there, once more where agents worked."""
        voyage = self._context.voyage
        commit = await self._context.lander.head()
        runs: list[VerifyRun] = []
        logs: list[str] = []
        place: Place | CreateShip | None = await self._next_place()
        while place is not None:
            if isinstance(place, CreateShip):
                await self._make(place.instead_of)
                place = await self._next_place()
                continue
            done = await self._run_at(place, commit)
            if done is not None:
                ship, answer = done
                runs.append(VerifyRun(ship, place, answer.code, answer.timed_out, answer.stage, answer.clean))
                logs.append(escape_control(answer.tail)[-MAX_TAIL:])
                place = place_to_retry(runs[-1], self._ships(), has_setup=bool(voyage.setup))
            elif runs:  # only where it was to be tried once more
                place = place_to_retry(runs[-1], self._ships(), has_setup=bool(voyage.setup))
            elif place.ship is None:
                break
            else:
                place = await self._next_place()
        if not runs:
            why = escape_control(self._problem or "no ship is left")[:300]
            remedy = f"try again with `ocaptain sail --resume {voyage.id}`"
            return FinalVerifyResult(
                Verdict("failed", None, f"the final verify could not be run ({why}); {remedy}"), commit
            )
        promised = any(ship.role == "verify" for ship in self._ledger.ships())
        verdict = judge_runs(runs, voyage.verify_on, is_promised=promised)
        return FinalVerifyResult(verdict, commit, runs[-1].code, runs[-1].ship, _log(runs, logs), runs[-1].stage)

    def is_bound(self) -> bool:
        """Whether it must not be cancelled: ship-verify is being made, by a process that would go on without it."""
        return self._is_making

    async def _next_place(self) -> Place | CreateShip:
        verify_on, creation = self._context.voyage.verify_on, CreationStatus()
        # Built by another process, whose end tells nobody.
        while is_clean_place_coming(verify_on, self._ships(), self._pool.ships_to_come()):  # noqa: ASYNC110
            await asyncio.sleep(TICK)
        if self._maker and isinstance(next_place(verify_on, self._ships(), CreationStatus(possible=True)), CreateShip):
            creation = await self._maker.check_status()
        return next_place(verify_on, self._ships(), creation)

    def _ships(self) -> list[CandidateShip]:
        landers = self._ledger.landed_ships()
        actors = self._pool.actors
        return [
            CandidateShip(
                ship=row.id,
                used=row.role != "verify" and self._ledger.has_worked(row.id),
                usable=row.id in actors and not actors[row.id].gone and row.id not in self._unusable,
                connected=row.id in actors and actors[row.id].is_connected,
                silent=row.id in actors and actors[row.id].is_silent,
                landed=landers.index(row.id) + 1 if row.id in landers else 0,
            )
            for row in self._ledger.ships()
        ]

    async def _run_at(self, place: Place, commit: str) -> tuple[str, VerifyResult] | None:
        """Run it at a place; return the ship that ran it and the result, None if it could not be run."""
        loop = asyncio.get_running_loop()
        job = self._pool.verify_job = VerifyJob(commit, loop.create_future(), place.ship, place.fresh)
        silent = ASSUMED_SILENT_SECONDS if any(one.silent and one.ship == place.ship for one in self._ships()) else 0.0
        try:
            while not job.result.done():
                self._pool.dispatch()
                await asyncio.wait([job.result], timeout=TICK)
                if self._pool.suspended:  # by a fault of ours: no ship is to blame
                    continue
                silent = 0.0 if job.taken or self._is_connected(place.ship) else silent + TICK
                if silent > SILENT_SECONDS:
                    job.problem = job.problem or f"{place.ship} does not answer"
                    if self._maker:
                        await self._maker.check_status()  # waits while the provider does not answer
                    break
                if job.tries >= (MAX_TRIES_PER_SHIP if place.ship else MAX_TRIES) or self._is_gone(place.ship):
                    break
        except asyncio.CancelledError:  # another commit is verified instead
            job.result.cancel()
            raise
        finally:
            self._pool.verify_job = None
        if job.result.done():
            return job.taken_by, job.result.result()
        self._problem = job.problem
        if place.ship:
            self._unusable.add(place.ship)
            log.warning("the final verify could not be run on %s: %s", place.ship, job.problem or "it is gone")
        return None

    def _is_connected(self, ship: str | None) -> bool:
        return ship is None or self._pool.actors[ship].is_connected

    def _is_gone(self, ship: str | None) -> bool:
        if ship is not None:
            return self._pool.actors[ship].gone
        return not self._pool.work_ships()

    async def _make(self, instead_of: str | None) -> None:
        """Make ship-verify again; another captain may take over for that, and this one is stopped."""
        assert self._maker
        self._is_making = True
        try:
            if instead_of and not await self._rescue(instead_of):
                self._unusable.add(instead_of)
                return
            await self._maker.make(instead_of)
            self._unusable.discard(VERIFY_SHIP)  # what was tried in vain was a former one
        finally:
            self._is_making = False

    async def _rescue(self, ship: str) -> bool:
        """Fetch a ship's work so that it can be destroyed; return whether that succeeded."""
        await self._pool.actors[ship].retire()
        row = self._ledger.ship_row(ship)
        found = await rescue_ship(self._context, self._records, self._transports(row), row)
        if not found.ok:
            log.warning("%s cannot make room for the final verify: %s", ship, found.reason)
            return False
        try:
            await asyncio.to_thread(fsck, self._context.git)
        except GitError as error:
            log.warning("%s cannot make room for the final verify: %s", ship, error.message)
            return False
        return True


def _log(runs: Sequence[VerifyRun], logs: Sequence[str]) -> str:
    """Return what the runs printed, each under a heading if there were several."""
    if len(runs) == 1:
        return logs[0]
    places = [f"{'in a clean clone' if run.place.clean else 'as agents left it'} on {run.ship}" for run in runs]
    return "\n".join(
        f"=== {place}: exit code {run.code} ===\n{text}" for run, place, text in zip(runs, places, logs, strict=True)
    )


async def wait_for_artifacts(actors: Iterable[ShipActor]) -> None:
    """Wait for artifacts that are still on their way; what comes too late is fetched by the sink."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(COLLECT_SECONDS):
            for actor in list(actors):
                collected = actor.attempts.artifacts.collected
                while not actor.gone and not collected.is_set():
                    with contextlib.suppress(TimeoutError):  # it may be given up meanwhile
                        await asyncio.wait_for(collected.wait(), TICK)
