"""The files of a running attempt as they are now, in ``refs/ocaptain/live/<ship>``: a lost ship costs seconds of work.

::

    pace ──look──> worker ──seen: thin bundle──> quarantine ──> refs/ocaptain/live/<ship>, attempts.live in the ledger
    the attempt's end ──what is under way is abandoned──> the result is judged as ever
    over, its files saved ──> both are removed     over without them ──> refs/ocaptain/saved/<ship>/lost-<token>
    next attempt at the task ──settle──> gets that ref on its ship, and its prompt names it

Nothing waits for any of it: it has threads of its own, and a failure is shown in ``status`` and changes nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ocaptain.captain.decide.live import LiveWork, Pace, is_lost, next_pace
from ocaptain.captain.landing.fetch import fetch_live
from ocaptain.captain.refs import live_ref, lost_ref
from ocaptain.captain.transport.base import TransportError
from ocaptain.git import GitError
from ocaptain.protocol.envelope import LOOK, Look
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ocaptain.captain.ship.context import Context
    from ocaptain.captain.ship.link import Link
    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Claim
    from ocaptain.ledger.live import LiveAttempt
    from ocaptain.protocol.envelope import Seen
    from ocaptain.protocol.messages import SavedWork

ANSWER_SECONDS = 90.0  # more than a worker takes for a look
MAX_PROBLEM = 300
_Result = TypeVar("_Result")
log = logging.getLogger("ocaptain.captain")


class LiveFollower:
    """Follows the files of one ship's attempts.

    Args:
        ship: its id.
        context: of the voyage.
        transport: to the ship.
        pack: has the repository packed in the background, if it needs that.
    """

    def __init__(self, ship: str, context: Context, transport: Transport, pack: Callable[[], None]) -> None:
        self._ship = ship
        self._context = context
        self._transport = transport
        self._pack = pack
        self._number = 0
        self._room = (0, 0)  # token of the last attempt, and how many bytes it may still bring

    async def follow_during(
        self, link: Link, claim: Claim, base: str, result: Coroutine[None, None, _Result]
    ) -> _Result:
        """Wait for an attempt's result, and follow its files meanwhile.

        Args:
            link: to the ship.
            claim: the attempt.
            base: the commit that it starts from.
            result: of the attempt; whatever it raises is raised.
        """
        if LOOK not in link.channel.commands:  # a worker of before
            return await result
        task = asyncio.create_task(self._follow_safely(link, claim, base))
        try:
            return await result
        finally:
            link.channel.on_seen = None
            task.cancel()
            await asyncio.wait([task])  # at once: only a ref that is being set is waited for

    async def _follow_safely(self, link: Link, claim: Claim, base: str) -> None:
        try:
            await self._follow(link, claim, base)
        except Exception:  # whatever it is, the attempt goes on; the ledger's own faults are met elsewhere, too
            log.exception("%s: its files are not followed any more", self._ship)

    async def _follow(self, link: Link, claim: Claim, base: str) -> None:
        """Ask for the files again and again, until it is cancelled or the channel breaks."""
        pace = Pace()
        if self._room[0] != claim.token:  # else the channel was opened again
            self._room = (claim.token, self._context.limits.pack_bytes)
        known = self._known(claim.token)
        while True:
            await asyncio.sleep(pace.seconds)
            asked = time.monotonic()
            try:
                seen = await self._look(link, claim.token, known.commit)
            except TransportError:
                return  # whoever waits for the result hears of it, too
            if seen is None or not seen.is_running:
                pace = Pace()
                continue
            before = known.commit
            known = await self._take(claim, base, known, seen)
            pace = next_pace(pace, changed=known.commit != before, took=time.monotonic() - asked)

    def _known(self, token: int) -> LiveWork:
        """Return what an earlier channel, or captain, has of this attempt."""
        found = next((one for one in self._context.ledger.live_attempts(over=False) if one.token == token), None)
        work = LiveWork(**found.live) if found else LiveWork()
        is_here = work.commit and self._context.git.resolve(live_ref(self._ship)) == work.commit
        return work if is_here else replace(work, commit="")

    async def _look(self, link: Link, token: int, have: str) -> Seen | None:
        """Ask once; return None if no answer comes, as while the attempt is being started or has just ended.

        Raises:
            TransportError: the channel broke.
        """
        self._number += 1
        number = self._number
        answer: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()

        def on_seen(seen: Seen) -> None:
            if seen.number == number and not answer.done():
                answer.set_result(seen)

        link.channel.on_seen = on_seen
        await link.channel.send(Look(token, number, have))
        waited: list[asyncio.Future[Any]] = [answer, link.channel.broken]
        await asyncio.wait(waited, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if link.channel.broken.done():
            raise TransportError("the channel broke")
        return None

    async def _take(self, claim: Claim, base: str, known: LiveWork, seen: Seen) -> LiveWork:
        """Store what a ship answered; return what is known now."""
        now = replace(known, at=time.time(), problem=clean_line(seen.problem, MAX_PROBLEM))
        offer = seen.snapshot
        if offer is not None:
            size = sum(part.size for part in offer.bundle.parts)
            try:
                if size > self._room[1]:
                    now = replace(
                        now, problem="the ship has sent as much as an attempt may bring; nothing newer is fetched"
                    )
                else:
                    self._room = (claim.token, self._room[1] - size)
                    await fetch_live(
                        self._context.git, self._transport, offer, known.commit or base, self._context.limits
                    )
                    now = replace(now, commit=offer.commit, files=seen.files, size=seen.size)
            except (GitError, TransportError) as error:
                now = replace(now, at=known.at, problem=clean_line(str(error), MAX_PROBLEM))
        await _finish(asyncio.ensure_future(self._store(claim, known, now)))
        return now

    async def _store(self, claim: Claim, known: LiveWork, now: LiveWork) -> None:
        if now.commit != known.commit:
            self._pack()
            await self._context.lander.save_ref(live_ref(self._ship), now.commit)
        self._context.ledger.note_live(claim.token, asdict(now))


async def _finish(task: asyncio.Future[None]) -> None:
    """Wait for a task to its end, even if this one is cancelled meanwhile."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def settle_live(context: Context) -> None:
    """Remove what is known of the files of attempts that are over; where that is all that is left, keep it by a ref.

    Harmless to repeat. A failure is logged: what was not settled is settled the next time.
    """
    async with context.settling:  # many attempts may end at once
        for one in context.ledger.live_attempts(over=True):
            running = {one.ship for one in context.ledger.live_attempts(over=False)}
            try:
                await _settle(context, one, is_ref_free=one.ship not in running)
            except GitError as error:
                log.warning("%s: the files of attempt %d as they were last seen: %s", one.ship, one.token, error)


async def _settle(context: Context, one: LiveAttempt, *, is_ref_free: bool) -> None:
    commit = str(one.live.get("commit") or "")
    if commit and one.base and await asyncio.to_thread(context.git.resolve, commit):
        trees = await asyncio.to_thread(lambda: [context.git.tree(each) for each in (commit, one.base or commit)])
        if is_lost(state=one.state, has_work=one.has_work, has_changes=trees[0] != trees[1]):
            ref = lost_ref(one.ship, one.token)
            await context.lander.save_ref(ref, commit)
            context.ledger.add_saved_ref(ref, one.ship, one.token, commit)
            age = clean_line(str(one.live.get("files")), 20)
            text = f"what its attempt left has not come; its files as last seen ({age} changed) are saved as {ref}"
            context.ledger.add_event("saved", text, ship=one.ship, task=one.task)
    if is_ref_free:
        with contextlib.suppress(GitError):  # it is not there
            await asyncio.to_thread(context.git.run, "update-ref", "-d", live_ref(one.ship))
    context.ledger.note_live(one.token, None)


async def send_lost_work(context: Context, link: Link, claim: Claim, base: str) -> SavedWork | None:
    """Bring what a lost attempt at the task had done to the ship of the next one, as a reference.

    Returns:
        What the ship's worker needs to know; None if there is nothing, or it cannot be sent.

    Raises:
        TransportError: the ship cannot be reached.
    """
    await settle_live(context)
    found = context.ledger.lost_work(claim.task, claim.token) if LOOK in link.channel.commands else None
    if found is None:
        return None
    try:
        return await link.send_saved(*found, base)
    except GitError as error:
        log.warning("%s: %s cannot be sent: %s", link.ship, found[0], error)
        return None
