"""The user's commits in ``workspace/``: noticed, landed, and ``workspace/`` moved on.

::

    workspace/'s branch has another commit ──┐
    something landed ──────────────────────────> sync: look ──plan_local──> bring ──> Lander.land_local
    `ocaptain land` ─────────────────────────┘              ──> workspace/ moves on, or a note says why not

While a captain is in command, commits land by themselves: a commit is a deliberate act, and the ships should
build on it. Nothing that is not committed is ever touched or sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ocaptain.captain.checkout import fast_forward
from ocaptain.captain.decide.local import (
    LandChain,
    MoveOn,
    Nothing,
    Refuse,
    describe_conflict,
    describe_uncommitted,
    plan_local,
)
from ocaptain.captain.landing.local import LocalConflict
from ocaptain.captain.workspace import Workspace
from ocaptain.control.commands import Answer
from ocaptain.git import BadBundle, GitError
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from pathlib import Path

    from ocaptain.captain.decide.local import Standing
    from ocaptain.captain.ship.context import Context

_Result = TypeVar("_Result")
MAX_REASON = 1500
BOUND_SECONDS = 0.5  # between two looks whether something may be cancelled
NOTHING = "nothing to land: workspace/ has no commit that is not on the branch"
log = logging.getLogger("ocaptain.captain")


def describe_landed(commits: Sequence[str]) -> str:
    """Return how many commits landed, oldest first, and the last one's id, or that there were none."""
    count = "1 commit" if len(commits) == 1 else f"{len(commits)} commits"
    return f"{count} landed, up to {commits[-1][:10]}" if commits else NOTHING


@dataclass(frozen=True)
class Synced:
    """What became of the user's commits.

    Attributes:
        landed: the commits that landed of them now, oldest first.
        refused: why none landed, and what to do; None if nothing was refused.
        conflicts: whether that is a conflict.
        note: what ``status`` should say of ``workspace/``, None for nothing.
    """

    landed: tuple[str, ...] = ()
    refused: str | None = None
    conflicts: bool = False
    note: str | None = None


class LocalWork:
    """Lands the user's commits; its methods must not run side by side.

    Args:
        directory: the voyage's.
        context: of the voyage.

    Attributes:
        landings: number of chains that landed by it.
        is_closed: whether nothing lands any more, since the voyage has ended.
    """

    def __init__(self, directory: Path, context: Context) -> None:
        self._context = context
        self._branch = context.voyage.id
        self._workspace = Workspace(directory / "workspace", directory / "repo.git", self._branch)
        self._seen: str | None = None
        self._refused: str | None = None
        self._answering: tuple[str, asyncio.Future[Answer]] | None = None  # the last command
        self._changed = asyncio.Event()
        self.landings = 0
        self.is_closed = False

    def has_news(self) -> bool:
        """Whether its branch has another commit than when it was looked at last; reads one file."""
        tip = self._workspace.read_tip()
        return tip is not None and tip != self._seen

    async def sync(self) -> Synced:
        """Land the user's commits, if there are any, and have ``workspace/`` follow the branch.

        Raises:
            LedgerError: the ledger cannot be written.
        """
        self._seen = self._workspace.read_tip()
        if not self._workspace.path.exists() or self.is_closed:
            return Synced(note=await self._follow())
        try:
            head = await self._context.lander.head()
            at = await asyncio.to_thread(self._workspace.look, head)
            plan = plan_local(at, self._context.ledger.landed_of(one.id for one in at.commits))
            synced = await self._carry_out(plan, at, head)
        except (GitError, OSError) as error:
            log.info("workspace/: %s", error)
            told = clean_line(str(error), MAX_REASON)
            return Synced(refused=f"the commits in workspace/ cannot be read: {told}", note=await self._follow())
        with contextlib.suppress(GitError):
            if (tip := self._workspace.read_tip()) == await self._context.lander.head():
                self._seen = tip  # it was moved there by us; else its user went on meanwhile, and that is news
        return synced

    async def _carry_out(self, plan: LandChain | MoveOn | Nothing | Refuse, at: Standing, head: str) -> Synced:
        match plan:
            case Nothing():
                return Synced(note=await self._follow())
            case Refuse(reason):
                return Synced(refused=reason, note=reason)
            case MoveOn(tip):
                return Synced(note=await asyncio.to_thread(self._workspace.move, tip, head))
            case LandChain():
                return await self._land(plan, at)

    async def _land(self, chain: LandChain, at: Standing) -> Synced:
        context = self._context
        try:
            if await asyncio.to_thread(context.git.resolve, chain.tip) is None:  # else a try before has brought it
                await asyncio.to_thread(self._workspace.bring, context.git, chain, context.limits)
        except BadBundle as error:
            why = f"none of your commits landed: {clean_line(error.message, MAX_REASON)}"
            return Synced(refused=why, note=why)
        verdict = await context.lander.land_local(tuple(one.id for one in chain.commits))
        if isinstance(verdict, LocalConflict):
            why = describe_conflict(at, verdict.commit, verdict.subject, verdict.why)
            if chain.tip != self._refused:  # it is tried again with each landing, and told once
                context.ledger.add_event("conflict", why)
            self._refused = chain.tip
            return Synced(refused=why, conflicts=True, note=why)
        log.info("%d commits of the user landed, the last one as %s", len(verdict.commits), verdict.commit)
        self.landings += 1
        self._changed.set()
        note = await asyncio.to_thread(self._workspace.move, chain.tip, verdict.commit)
        return Synced(landed=tuple(new for _, new in verdict.commits), note=note)

    async def _follow(self) -> str | None:
        place = self._workspace
        return await asyncio.to_thread(fast_forward, place.path, place.source, place.branch)

    def answer_once(self, command: str, land: Callable[[], Coroutine[Any, Any, Answer]]) -> Awaitable[Answer]:
        """Return the answer to a command with this id, which is repeated while it takes long, and carried out once."""
        if self._answering is None or self._answering[0] != command:
            self._answering = command, asyncio.ensure_future(land())
        return asyncio.shield(self._answering[1])

    async def answer(self, synced: Synced) -> Answer:
        """Return what ``ocaptain land`` is answered with."""
        uncommitted = await self.uncommitted()
        if synced.refused:
            return Answer(done=False, said=synced.refused, uncommitted=uncommitted, has_failed=synced.conflicts)
        landed = describe_landed(synced.landed)
        said = "; ".join(part for part in (landed, synced.note, describe_uncommitted(uncommitted)) if part)
        return Answer(done=True, said=said, commits=synced.landed, uncommitted=uncommitted)

    async def uncommitted(self) -> tuple[str, ...]:
        """Return the files that are not committed; none if that cannot be read."""
        try:
            return await asyncio.to_thread(self._workspace.uncommitted)
        except (GitError, OSError):
            return ()

    async def close(self, verified: str) -> bool:
        """Let no commit of the user's land any more if ``verified``, the commit of the final verify, is the head still.

        No :meth:`sync` may be under way. Returns whether it is.
        """
        self.is_closed = await self._context.lander.head() == verified
        return self.is_closed

    async def unless_landed(
        self, work: Callable[[], Coroutine[Any, Any, _Result]], is_bound: Callable[[], bool] = lambda: False
    ) -> _Result | None:
        """Return the result of ``work``; None if the user's commits landed meanwhile, and it was cancelled.

        Args:
            work: to be done.
            is_bound: whether it must not be cancelled now.
        """
        self._changed.clear()
        task = asyncio.ensure_future(work())
        landing = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({task, landing}, return_when=asyncio.FIRST_COMPLETED)
            while not task.done() and is_bound():
                await asyncio.wait({task}, timeout=BOUND_SECONDS)
            return task.result() if task.done() else None
        finally:
            landing.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
