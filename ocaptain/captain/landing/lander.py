"""Landing: from what a ship offers to one commit on the voyage branch.

::

    offer ──fetch, check sums──> objects in repo.git, refs/ocaptain/tasks/<task>/<n>/work
          ──merge onto the head──> candidate ──the task's check, on the ship──> passed
          ──intent in the ledger──> git update-ref REF new old ──> task marked

What lands is made here from a tree: one commit, parent = the head, our trailers. A head that
moved during the check means merge again and check once more. Checks of several offers run side by
side; only the move of the branch excludes others, and the check of an offer that was overtaken
again and again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ocaptain.git import Conflict, Git, GitError, commit_message, merge
from ocaptain.text import clean

if TYPE_CHECKING:
    from ocaptain.ledger import Claim, Intent, Ledger
    from ocaptain.protocol.messages import CheckResult, Snapshot

MAX_ROUNDS = 20
MAX_FREE_CHECKS = 5  # after so many checks whose head was overtaken the next one is made with the head held
MAX_TAIL = 4000


@dataclass(frozen=True)
class Landed:
    """It is on the branch."""

    commit: str


@dataclass(frozen=True)
class Conflicted:
    """It does not merge with what landed meanwhile."""

    reason: str


@dataclass(frozen=True)
class CheckFailed:
    """The check did not pass on the merged candidate."""

    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class TokenLost:
    """The attempt does not hold its task any more."""


Verdict = Landed | Conflicted | CheckFailed | TokenLost
Check = Callable[[str], "Awaitable[CheckResult]"]


def _remove_stale_lock(git: Git, ref: str) -> None:
    """Remove the lock that a killed git left on our own branch; the caller commands the voyage."""
    (git.directory / f"{ref}.lock").unlink(missing_ok=True)


class Lander:
    """Lands work on ``branch`` of a bare repository."""

    def __init__(self, git: Git, ledger: Ledger, branch: str) -> None:
        self._git = git
        self._ledger = ledger
        self.ref = f"refs/heads/{branch}"
        self._head_held = asyncio.Lock()

    async def head(self) -> str:
        """Return the branch's commit."""
        found = await asyncio.to_thread(self._git.resolve, self.ref)
        if found is None:
            raise GitError(f"{self._git.directory}: {self.ref} does not exist any more; restore it, then resume")
        return found

    async def save_ref(self, ref: str, commit: str) -> None:
        """Make a ship's commit reachable under a name that we chose."""
        if not re.fullmatch(r"refs/ocaptain/[A-Za-z0-9/_-]+", ref):
            raise GitError(f"not one of our refs: {ref}")
        await asyncio.to_thread(self._git.update_ref, ref, commit)

    def reconcile(self) -> list[Intent]:
        """Finish or take back the landings that an earlier captain had begun.

        A moved ref is a landing; one that can still move, moves, since its check had passed.
        """
        _remove_stale_lock(self._git, self.ref)
        for intent in (begun := self._ledger.open_intents()):
            if self._carried_out(intent):
                self._ledger.finish_landing(intent.token)
            else:
                self._ledger.void_landing(intent.token)
        return begun

    def _carried_out(self, intent: Intent) -> bool:
        """Whether the ref of an intent moved, or could be moved now."""
        head = self._git.resolve(intent.ref)
        there = head is not None and self._git.is_ancestor(intent.new, head)
        return there or self._git.update_ref(intent.ref, intent.new, intent.old)

    async def _settled(self, token: int) -> str | None:
        """Settle what an earlier try at this landing left open; return the commit if it landed.

        Its git was killed, say: this try makes a commit of its own, and the ledger must name the
        one that is on the branch. Needs no hold on the head: it moves by compare and swap.
        """
        intent = next((one for one in self._ledger.open_intents() if one.token == token), None)
        if intent is None:
            return None
        if await asyncio.to_thread(self._carried_out, intent):
            self._ledger.finish_landing(token)
            return intent.new
        self._ledger.void_landing(token)
        return None

    async def land(
        self, claim: Claim, base: str, offer: Snapshot, check: Check | None, facts: dict[str, Any]
    ) -> Verdict:
        """Land an offer whose objects are here.

        Args:
            claim: the attempt.
            base: the commit that the ledger says it started from (not what the ship says).
            offer: what the ship offered.
            check: runs the task's check on a candidate, None if it has none.
            facts: for the evidence.

        Raises:
            TransportError: the ship was lost during its check.
            GitError: our own repository failed; what was begun is settled by the next try.
        """
        if commit := await self._settled(claim.token):
            return Landed(commit)
        work = await asyncio.to_thread(
            partial(self._commit, fixed=True),
            await asyncio.to_thread(self._git.tree, offer.commit),
            base,
            "work",
            claim.ship,
        )
        for number in range(MAX_ROUNDS):
            if check and number < MAX_FREE_CHECKS:
                verdict = await self._try_once(claim, base, work, offer, check, facts, held=False)
            else:
                async with self._head_held:
                    verdict = await self._try_once(claim, base, work, offer, check, facts, held=True)
            if verdict:
                return verdict
        raise GitError(f"{self.ref} moved {MAX_ROUNDS} times while task {claim.task} was landing")

    async def _try_once(
        self,
        claim: Claim,
        base: str,
        work: str,
        offer: Snapshot,
        check: Check | None,
        facts: dict[str, Any],
        *,
        held: bool,
    ) -> Verdict | None:
        """Check and land on the head of now; None if the head moved meanwhile. ``held``: nobody of ours can move it."""
        head = await self.head()
        evidence = facts
        if check:
            tested = await self._tested(claim, head, base, work, check, facts)
            if not isinstance(tested, dict):
                return tested
            evidence = tested
        if held:
            return await self._move(claim, head, base, work, offer, evidence)
        async with self._head_held:
            if await self.head() != head:
                return None
            return await self._move(claim, head, base, work, offer, evidence)

    async def _move(
        self, claim: Claim, head: str, base: str, work: str, offer: Snapshot, evidence: dict[str, Any]
    ) -> Verdict | None:
        """Make the commit and move the branch; None if somebody else moved it first."""
        merged = await asyncio.to_thread(self._merge, head, base, work)
        if isinstance(merged, Conflict):
            return await self._conflict(merged, base, head)
        subject = str(claim.raw.get("subject") or claim.raw.get("title") or "")
        message = commit_message(subject, offer.message, task=claim.task, ship=claim.ship, attempt=claim.number)
        new = await asyncio.to_thread(self._commit, merged, head, message, claim.ship)
        if not self._ledger.begin_landing(claim.token, self.ref, head, new, {**evidence, "commit": new}):
            return TokenLost()
        if not await asyncio.to_thread(self._git.update_ref, self.ref, new, head):
            self._ledger.void_landing(claim.token)
            return None
        self._ledger.finish_landing(claim.token)
        return Landed(new)

    def _merge(self, head: str, base: str, work: str) -> str | Conflict:
        """Return the merged tree."""
        if head == base:
            return self._git.tree(work)
        if self._git.tree(work) == self._git.tree(base):
            return self._git.tree(head)
        merged = merge(self._git, head, work)
        return merged if isinstance(merged, Conflict) else merged.tree

    async def _conflict(self, conflict: Conflict, base: str, head: str) -> Conflicted:
        paths = ", ".join(clean(path) for path in conflict.paths[:10])
        log = await asyncio.to_thread(
            self._git.text,
            "log",
            "--format=%s (%(trailers:key=Task,separator=%x2C))",
            f"{base}..{head}",
            "--",
            *conflict.paths[:10],
        )
        landed = clean(log).replace("\n", "; ") or "work that landed meanwhile"
        return Conflicted(f"it does not merge: {paths} was also changed by: {landed}")

    async def _tested(
        self, claim: Claim, head: str, base: str, work: str, check: Check, facts: dict[str, Any]
    ) -> dict[str, Any] | Conflicted | CheckFailed:
        """Run the check on the work merged with ``head``; return the evidence if it passed."""
        merged = await asyncio.to_thread(self._merge, head, base, work)
        if isinstance(merged, Conflict):
            return await self._conflict(merged, base, head)
        commit = partial(self._commit, fixed=True)
        result = await check(
            await asyncio.to_thread(commit, merged, head, f"candidate of task {claim.task}", claim.ship)
        )
        command = str((claim.raw.get("metadata") or {}).get("verify"))
        tail = clean(result.tail[-MAX_TAIL:])
        ok = result.code == 0
        shown = {
            "command": command,
            "ok": ok,
            "exit_code": result.code,
            "seconds": result.seconds,
            "tail": tail,
        }
        evidence = {**facts, "check": shown}
        if ok:
            return evidence
        why = "took too long" if result.timed_out else f"ended with exit code {result.code}"
        return CheckFailed(f"the check `{clean(command)[:200]}` {why}:\n{tail.strip()}", evidence)

    def _commit(self, tree: str, parent: str, message: str, ship: str, *, fixed: bool = False) -> str:
        """Make a commit; a ``fixed`` one is the same each time, so that its check is known by its id."""
        author = {"GIT_AUTHOR_NAME": ship, "GIT_AUTHOR_EMAIL": f"{ship}@ocaptain.invalid"}
        dates = {"GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": "@0 +0000"} if fixed else {}
        done = self._git.run("commit-tree", tree, "-p", parent, stdin=message.encode(), extra={**author, **dates})
        return done.stdout.decode().strip()
