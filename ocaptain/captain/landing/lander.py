"""Landing: from what a ship offers to one commit on the voyage branch.

::

    offer ──fetch, check sums──> objects in repo.git, refs/ocaptain/tasks/<task>/<n>/work
          ──its place in the queue──> candidate: the head, what is before it, and the offer
          ──the task's check, on the ship, beside others'──> passed ──what was before it landed──>
          ──intent in the ledger──> git update-ref REF new old ──> task marked

What lands is one commit, made here: parent = the head, the tree that was checked, our trailers. Who is
next, and on top of what, is decided by :mod:`ocaptain.captain.decide.queue`; one driver carries it out,
while there are offers, and nothing else moves the branch. Chains of the user's own commits
(:mod:`.local`) go to the front: every candidate is made again on what they land.
"""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from ocaptain.captain.decide import queue
from ocaptain.captain.decide.queue import Land, QueuedOffer, Refuse, Stack, State, next_action
from ocaptain.captain.landing.candidates import Tip, describe_conflict, read_offer, stack_on
from ocaptain.captain.landing.entry import Check, CheckFailed, Conflicted, Entry, Landed, TokenLost, Verdict
from ocaptain.captain.landing.local import LocalConflict, LocalEntry, LocalLanded, LocalVerdict, stack_chain
from ocaptain.captain.landing.notices import list_changed_settings
from ocaptain.captain.refs import ROOT, local_ref
from ocaptain.git import BareRepository, Conflict, Git, GitError, clear_quarantine, commit_message
from ocaptain.ledger import Contradiction, LedgerError, LocalIntent
from ocaptain.protocol.limits import Limits
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from ocaptain.ledger import Claim, Intent, Ledger
    from ocaptain.protocol.messages import CheckResult, Snapshot

MAX_TAIL = 4000
log = logging.getLogger("ocaptain.captain")


def _remove_stale_lock(git: Git, ref: str) -> None:
    """Remove the lock that a killed git left on our own branch; the caller is in command of the voyage."""
    (git.directory / f"{ref}.lock").unlink(missing_ok=True)


class Lander:
    """Lands work on ``branch`` of a bare repository."""

    def __init__(self, git: BareRepository, ledger: Ledger, branch: str, limits: Limits | None = None) -> None:
        self._git = git
        self._ledger = ledger
        self._limits = limits or Limits()
        self.ref = f"refs/heads/{branch}"
        self._queue: tuple[QueuedOffer, ...] = ()
        self._entries: dict[int, Entry] = {}
        self._locals: list[LocalEntry] = []  # chains of the user's commits, which land before all offers
        self._head: Tip | None = None  # as the driver knows it, while it drives
        self._news = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None

    async def head(self) -> str:
        """Return the branch's commit. A branch that is lost, or names nothing, is restored from the last landing.

        Raises:
            GitError: that is not in the repository.
        """
        if (found := await asyncio.to_thread(self._git.resolve, self.ref)) is not None:
            return found
        last = self._last_landing()
        await asyncio.to_thread(self._restore, last)
        self._note_restored(last)
        return last

    def _last_landing(self) -> str:
        return self._ledger.last_landing() or self._ledger.voyage().root

    def _restore(self, last: str) -> None:
        if self._git.resolve(last) != last:
            raise GitError(f"{self._git.directory}: {self.ref} and {last}, the commit that landed last, are lost")
        _remove_stale_lock(self._git, self.ref)
        (self._git.directory / self.ref).unlink(missing_ok=True)  # one that is damaged cannot be written over
        self._git.update_ref(self.ref, last)

    def _note_restored(self, last: str) -> None:
        self._ledger.add_event("restored", f"the branch was lost; it was restored to {last}, which landed last")

    async def save_ref(self, ref: str, commit: str) -> None:
        """Save a ship's commit under a ref whose name we chose."""
        if not re.fullmatch(r"refs/ocaptain/[A-Za-z0-9/_-]+", ref):
            raise GitError(f"not one of our refs: {ref}")
        await asyncio.to_thread(self._git.update_ref, ref, commit)

    # -- after a crash ------------------------------------------------------------------------

    def reconcile(self) -> list[Intent]:
        """Finish or void the landings that an earlier captain had begun; return them.

        If the ref moved, it is a landing; if it can still move, it is moved, since the check had passed.
        """
        _remove_stale_lock(self._git, self.ref)
        clear_quarantine(self._git)
        if self._git.resolve(self.ref) is None:
            self._restore(last := self._last_landing())
            self._note_restored(last)
        for intent in (begun := self._ledger.open_intents()):
            if self._complete_move(intent):
                self._ledger.finish_landing(intent.token)
            else:
                self._ledger.void_landing(intent.token)
        for local in self._ledger.open_local():
            self._settle_local(local, has_moved=self._complete_move(local))
        return begun

    def _settle_local(self, intent: LocalIntent, *, has_moved: bool) -> None:
        if has_moved:
            self._ledger.finish_local(intent.n)
        else:
            self._ledger.void_local(intent.n)

    def _complete_move(self, intent: Intent | LocalIntent) -> bool:
        """Move the ref of an intent if it has not moved yet; return whether it contains the landing now."""
        head = self._git.resolve(intent.ref)
        has_moved = head is not None and self._git.is_ancestor(intent.new, head)
        return has_moved or self._git.update_ref(intent.ref, intent.new, intent.old)

    async def _finish_earlier_try(self, token: int) -> str | None:
        """Settle an earlier try at this landing whose git was killed, say; return the commit if it landed."""
        intent = next((one for one in self._ledger.open_intents() if one.token == token), None)
        if intent is None:
            return None
        if await asyncio.to_thread(self._complete_move, intent):
            self._ledger.finish_landing(token)
            return intent.new
        self._ledger.void_landing(token)
        return None

    # -- the queue ----------------------------------------------------------------------------

    async def land(
        self, claim: Claim, base: str, offer: Snapshot, check: Check | None, facts: dict[str, Any]
    ) -> Verdict:
        """Land an offer whose objects are in the repository; returns when it has landed or is refused.

        Args:
            claim: the attempt.
            base: the commit that the ledger says it started from (not what the ship says).
            offer: what the ship offered.
            check: runs the task's check on a candidate, None if the task has none. It is cancelled when the
                candidate is not needed any more, and called again with another one.
            facts: to be stored as evidence, with the check's result.

        Raises:
            TransportError: the ship was lost during its check.
            GitError: our own repository failed; the next try settles what was begun.
        """
        if commit := await self._finish_earlier_try(claim.token):
            return Landed(commit)
        entry = Entry(claim, base, offer, check, asyncio.get_running_loop().create_future(), facts)
        self._entries[claim.token] = entry
        self._queue = (*self._queue, QueuedOffer(claim.token))
        self._wake_driver()
        try:
            return await entry.settled
        finally:
            self._remove(entry)  # if the caller was cancelled; otherwise it is removed already

    async def land_local(self, commits: tuple[str, ...]) -> LocalVerdict:
        """Land commits of the user's, all or none, before all offers.

        Args:
            commits: oldest first, each with one parent; their objects are in the repository.

        Raises:
            GitError: our own repository failed; the next try settles what was begun.
        """
        entry = LocalEntry(commits, asyncio.get_running_loop().create_future())
        self._locals.append(entry)
        self._wake_driver()
        return await entry.settled

    def _wake_driver(self) -> None:
        if self._driver is None:
            self._news = asyncio.Event()  # of the loop that runs now
            self._driver = asyncio.create_task(self._drive(), name="landing")
        self._news.set()

    def _remove(self, entry: Entry, *, landed: bool = False) -> None:
        """Remove an offer from the queue; unless it ``landed``, offers that were stacked on it are stacked again."""
        token = entry.claim.token
        if self._entries.get(token) is entry:
            del self._entries[token]
            self._queue = queue.without_offer(self._queue, token, landed=landed)
            entry.stop_check()
            self._news.set()

    async def _drive(self) -> None:
        """Carry out the queue's actions until it is empty."""
        try:
            while self._queue or self._locals:
                self._news.clear()
                if self._locals:
                    await self._land_chain(self._locals.pop(0))
                elif action := next_action(self._queue):
                    await self._carry_out(action)
                else:
                    await self._news.wait()
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                log.exception("landing stopped")
            for entry in list(self._entries.values()):
                entry.set_verdict(error)
                self._remove(entry)
            while self._locals:
                self._locals.pop().set_verdict(error)
        finally:
            self._driver = self._head = None

    async def _carry_out(self, action: Land | Refuse | Stack) -> None:
        entry = self._entries[action.token]
        try:
            if isinstance(action, Stack):
                await self._stack(entry, action)
            elif isinstance(action, Refuse):
                await self._refuse(entry)
            else:
                await self._land(entry)
        except LedgerError:
            raise
        except Exception as error:  # noqa: BLE001 - for example our repository fails: the offer's actor tries again
            self._remove(entry)
            entry.set_verdict(error)

    async def _stack(self, entry: Entry, action: Stack) -> None:
        """Make an offer's candidate and start its check."""
        entry.stop_check()
        tip = await self._tip(action.stack)
        made = await asyncio.to_thread(self._make_candidate, entry, tip)
        if isinstance(made, Conflict):
            entry.refusal = made
            self._queue = queue.with_candidate(self._queue, action, "conflict")
            return
        entry.candidate = made
        self._queue = queue.with_candidate(self._queue, action, "checking" if entry.check else "passed")
        if entry.check and not entry.settled.done():
            entry.checks += 1
            entry.checking = asyncio.create_task(self._check_and_record(entry, made.commit, entry.check))

    def _make_candidate(self, entry: Entry, tip: Tip) -> Tip | Conflict:
        if entry.offered is None:
            entry.offered = read_offer(self._git, entry.base, entry.offer.commit, entry.claim.task, entry.claim.ship)
        return stack_on(self._git, tip, entry.offered, self._limits)

    async def _refuse(self, entry: Entry) -> None:
        """Remove an offer that cannot land on the head, and give the reason as its verdict."""
        why = entry.refusal
        assert why
        if isinstance(why, Conflict):
            head = await self._known_head()
            reason = await asyncio.to_thread(describe_conflict, self._git, why, entry.base, head.commit)
            verdict: Verdict = Conflicted(reason, why.paths)
        else:
            verdict = why
        self._remove(entry)
        entry.set_verdict(verdict)

    async def _tip(self, stack: tuple[int, ...]) -> Tip:
        """Return what a candidate is stacked on."""
        below = self._entries[stack[-1]].candidate if stack else await self._known_head()
        assert below
        return below

    async def _known_head(self) -> Tip:
        if self._head is None:
            commit = await self.head()
            await self._require_all_landings(commit)
            self._head = Tip(commit, await asyncio.to_thread(self._git.tree, commit))
        return self._head

    async def _require_all_landings(self, head: str) -> None:
        """Refuse to land on a branch that was moved back by others: it would undo landings.

        Raises:
            Contradiction: the head does not contain the last landing.
        """
        last = self._ledger.last_landing()
        if last and last != head and not await asyncio.to_thread(self._git.is_ancestor, last, head):
            move = f"git -C {self._git.directory} update-ref {self.ref} {last}"
            raise Contradiction(
                f"{self.ref} is at {head} and does not contain {last}, which landed; restore it with: {move}"
            )

    async def _check_and_record(self, entry: Entry, candidate: str, check: Check) -> None:
        try:
            result = await check(candidate)
        except Exception as error:  # noqa: BLE001 - any error goes to the offer's own actor
            entry.set_verdict(error)
            self._remove(entry)
            return
        entry.checking = None
        self._queue = queue.with_state(self._queue, entry.claim.token, self._record_check(entry, result))
        self._news.set()

    def _record_check(self, entry: Entry, result: CheckResult) -> State:
        """Store a check's result as evidence; return the offer's new state."""
        command = str((entry.claim.raw.get("metadata") or {}).get("verify"))
        tail = escape_control(result.tail[-MAX_TAIL:])
        passed = result.code == 0
        entry.evidence["check"] = {
            "command": command,
            "ok": passed,
            "exit_code": result.code,
            "seconds": result.seconds,
            "tail": tail,
            "runs": entry.checks,
        }
        if passed:
            return "passed"
        why = "took too long" if result.timed_out else f"ended with exit code {result.code}"
        reason = f"the check `{escape_control(command)[:200]}` {why}:\n{tail.strip()}"
        entry.refusal = CheckFailed(reason, dict(entry.evidence))
        return "failed"

    async def _land(self, entry: Entry) -> None:
        """Make the commit and move the branch; if others moved it meanwhile, every candidate is made again."""
        claim, candidate, head = entry.claim, entry.candidate, await self._known_head()
        assert candidate
        subject = str(claim.raw.get("subject") or claim.raw.get("title") or "")
        message = commit_message(subject, entry.offer.message, task=claim.task, ship=claim.ship, attempt=claim.number)
        commit = partial(self._git.commit, candidate.tree, head.commit, message, author=claim.ship)
        new = await asyncio.to_thread(commit)
        settings = await asyncio.to_thread(list_changed_settings, self._git, head.tree, candidate.tree)
        noticed = {"collisions": candidate.collisions, "settings": settings}
        evidence = {**entry.evidence, "commit": new, **{name: found for name, found in noticed.items() if found}}
        if not self._ledger.begin_landing(claim.token, self.ref, head.commit, new, evidence):
            self._remove(entry)
            entry.set_verdict(TokenLost())
        elif await asyncio.to_thread(self._git.update_ref, self.ref, new, head.commit):
            self._ledger.finish_landing(claim.token)
            self._head = Tip(new, candidate.tree)
            self._remove(entry, landed=True)
            self._warn_of_collisions(claim, candidate)
            entry.set_verdict(Landed(new))
        else:
            self._ledger.void_landing(claim.token)
            self._head = None
            self._queue = queue.with_all_waiting(self._queue)

    async def _land_chain(self, entry: LocalEntry) -> None:
        """Land a chain of the user's commits, or say why not; if others move the branch meanwhile, once more."""
        try:
            for begun in self._ledger.open_local():  # an earlier try, whose git was killed
                self._settle_local(begun, has_moved=await asyncio.to_thread(self._complete_move, begun))
            while (verdict := await self._try_chain(entry.commits)) is None:
                self._head = None  # others moved the branch
            if isinstance(verdict, LocalLanded):
                self._queue = queue.with_all_waiting(self._queue)  # their candidates are on the head of before
            entry.set_verdict(verdict)
        except BaseException as error:
            entry.set_verdict(error)
            if isinstance(error, LedgerError) or not isinstance(error, Exception):
                raise

    async def _try_chain(self, commits: tuple[str, ...]) -> LocalVerdict | None:
        landed = self._ledger.landed_of(commits)
        head = await self._known_head()
        made = await asyncio.to_thread(
            stack_chain, self._git, head, [one for one in commits if one not in landed], self._limits
        )
        if isinstance(made, LocalConflict):
            return made
        pairs = (*((one, landed[one]) for one in commits if one in landed), *made.commits)
        if not made.commits:
            return LocalLanded(head.commit, pairs)
        used = [int(ref.rpartition("/")[2]) for ref in await asyncio.to_thread(self._git.refs, f"{ROOT}/local/")]
        number = max([self._ledger.next_local_number(), *(one + 1 for one in used)])
        await self.save_ref(local_ref(number), commits[-1])
        self._ledger.begin_local(LocalIntent(number, self.ref, head.commit, made.tip.commit, made.commits))
        if await asyncio.to_thread(self._git.update_ref, self.ref, made.tip.commit, head.commit):
            self._ledger.finish_local(number)
            self._head = made.tip
            return LocalLanded(made.tip.commit, pairs)
        self._ledger.void_local(number)
        return None

    def _warn_of_collisions(self, claim: Claim, landed: Tip) -> None:
        """Log new names that macOS or Windows take for an existing one: a checkout there has only one of them."""
        if landed.collisions:
            names = "; ".join(f"{escape_control(new)} and {escape_control(old)}" for new, old in landed.collisions)
            text = f"macOS and Windows take these names for one: {names}"
            self._ledger.add_event("names", text, ship=claim.ship, task=claim.task)
