"""One attempt at a task on one ship: start it (or find it started), fetch what it brought, judge and land that.

::

    claim ──brief of its agent──> command `start` ──> outcome ──fetch──> refs/ocaptain/…/work
          ──judge──> offered ──check on the ship──> landed      (or a Decision, which the captain applies)
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ocaptain.agents import ADAPTERS, Briefing
from ocaptain.agents.base import limits, quote
from ocaptain.agents.facts import Ended, parse_facts
from ocaptain.captain import landing
from ocaptain.captain.decide.judge import Working
from ocaptain.captain.decide.outcome import Decision, after_ending, failure_of
from ocaptain.captain.refs import stale_ref, work_ref
from ocaptain.captain.ship.context import ShipFault
from ocaptain.captain.ship.link import command_id
from ocaptain.captain.ship.verify import run_check
from ocaptain.captain.transport.base import CutShort
from ocaptain.errors import UsageError
from ocaptain.git import BadBundle, GitError, Quarantined
from ocaptain.protocol.messages import Start
from ocaptain.text import clean, clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocaptain.agents.facts import Ending, Facts
    from ocaptain.captain.ship.context import Context, Orders
    from ocaptain.captain.ship.link import Answer, Link
    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Claim
    from ocaptain.protocol.messages import CheckResult, Outcome, Snapshot

MAX_LANDED_SHOWN = 100  # landings that a prompt names, the last ones
log = logging.getLogger("ocaptain.captain")


class Attempts:
    """Sees the attempts of one ship through, one at a time."""

    def __init__(self, ship: str, context: Context, orders: Orders, transport: Transport) -> None:
        self._ship = ship
        self._context = context
        self._ledger = context.ledger
        self._orders = orders
        self._transport = transport
        #: What the captain's own bounds hold for, while an agent is at work; they need not be asked of a channel.
        self.working: Working | None = None

    async def run(self, link: Link, claim: Claim) -> bool:
        """See an attempt through; return whether the ship showed that it can work.

        Raises:
            ShipFault: the ship cannot do what every ship can, or offers what its worker must not let pass.
            TransportError: the channel broke; the attempt goes on.
            GitError: our own repository failed.
        """
        base = claim.base or await self._context.lander.head()
        self._ledger.started(claim.token, base)
        timeout, stall = limits(claim.raw)
        self.working = Working(claim.token, self._ship, 0, timeout, stall)
        try:
            answer = await self._outcome(link, claim, base)
        except UsageError as error:  # the plan's prompt template
            self._orders.apply(claim, Decision("fail", error.message))
            return False
        self.working = None
        outcome = _checked(answer)
        if isinstance(outcome, ShipFault):
            await link.settle(answer.number)
            raise outcome
        try:
            await self._judge(link, claim, base, outcome)
        except BadBundle as error:  # its worker looks first, and hands back what an honest agent cannot know
            await link.settle(answer.number)
            raise ShipFault(f"what it offered is refused: {clean(error.message)[:2000]}") from error
        await link.settle(answer.number)
        return True

    async def _outcome(self, link: Link, claim: Claim, base: str) -> Answer:
        name = command_id("start", claim)
        if parked := link.take_parked(name):
            return parked
        channel = link.channel
        if channel.busy == claim.token:
            channel.busy = None
            return await link.call(name, Start(claim.token))
        return await link.call_with_commit(base, name, self._start(claim, base))

    def _start(self, claim: Claim, base: str) -> Start:
        voyage = self._context.voyage
        model = ADAPTERS[claim.agent].is_model
        run = ADAPTERS[claim.agent].brief(
            Briefing(
                voyage=voyage.id,
                ship=self._ship,
                attempt=claim.number,
                task=claim.raw,
                spec=voyage.spec,
                agent_cmd=voyage.agent_cmd,
                landed=tuple(
                    (task, clean_line(subject, 120)) for task, subject in self._ledger.landed(MAX_LANDED_SHOWN)
                ),
                reason=quote(claim.reason) if claim.reason else None,
                template=voyage.prompt,
                session=claim.session,
                sessions=claim.sessions if model else (),
                work=claim.work if model else None,
                model=voyage.model,
                max_turns=voyage.max_turns,
                repo_settings=voyage.repo_settings,
            )
        )
        return Start(
            token=claim.token,
            base=base,
            branch=voyage.id,
            label=f"task-{claim.task}.{claim.number}",
            task=dict(claim.raw),
            prices=dict(self._context.prices.models) if model else {},
            limits=vars(self._context.limits),
            **run.as_args(),
        )

    # -- judging ----------------------------------------------------------------------------

    async def _judge(self, link: Link, claim: Claim, base: str, outcome: Outcome) -> None:
        evidence: dict[str, Any] = {
            "agent": {"exit_code": outcome.code, "seconds": outcome.seconds, "reason": outcome.reason}
        }
        command = (claim.raw.get("metadata") or {}).get("verify")
        facts = parse_facts(outcome.agent)
        self._orders.take_usage(self._ship, claim.token, facts)
        await self._save_snapshot(claim, base, outcome)
        await self._require_base(claim, base, outcome.snapshot)
        if ADAPTERS[claim.agent].is_model:
            ending = self._ending(claim, outcome, facts, checked=bool(command))
            if ending.kind != "done":
                self._orders.apply(claim, after_ending(ending, self._ledger.waits(claim.task)), evidence)
                return
            evidence["agent"] |= {"model": facts.model if facts else None, "said": ending.summary}
        if failure := failure_of(outcome):
            self._orders.apply(claim, Decision("fail", failure, same_ship=True), evidence)
            return
        offer = outcome.snapshot
        assert offer
        offer = replace(offer, message=offer.message or evidence["agent"].get("said", ""))
        if not self._ledger.offered(claim.token, work=offer.commit, code=outcome.code, seconds=outcome.seconds):
            return

        async def check(candidate: str) -> CheckResult:
            return await run_check(link, self._context, claim, candidate, str(command))

        match await self._context.lander.land(claim, base, offer, check if command else None, evidence):
            case landing.Landed(commit=commit):
                self._orders.has_landed(claim, commit)
            case landing.Conflicted(reason=reason):
                self._orders.apply(claim, Decision("return", reason, "conflict", same_ship=True))
            case landing.CheckFailed(reason=reason, evidence=shown):
                self._orders.apply(claim, Decision("fail", reason, same_ship=True), shown)

    def _ending(self, claim: Claim, outcome: Outcome, facts: Facts | None, *, checked: bool) -> Ending:
        """Return what a model's run was worth, and note what the next one is to know of it."""
        snapshot = outcome.snapshot
        empty = snapshot is not None and snapshot.empty
        ended = Ended(outcome.code, outcome.reason, facts, empty=empty, checked=checked, tail=outcome.tail)
        ending = ADAPTERS[claim.agent].judge(ended)
        self._ledger.note_work(claim.token, snapshot.commit if snapshot and not empty else None, fresh=ending.fresh)
        return ending

    async def _require_base(self, claim: Claim, base: str, offer: Snapshot | None) -> None:
        """Refuse, and keep, what started from another commit than the ledger says: it would undo what lies between.

        Raises:
            ShipFault: it did.
        """
        if offer is None or offer.base == base:
            return
        ref = f"{stale_ref(claim.token)}-{claim.opening}"
        await self._save_ref(ref, claim.token, offer.commit)
        raise ShipFault(f"the work started from {offer.base}, and the ledger says {base}; it is kept as {ref}")

    async def _save_snapshot(self, claim: Claim, base: str, outcome: Outcome) -> None:
        """Fetch the attempt's snapshot and name it.

        Raises:
            BadBundle: it is not fit to be here.
            GitError: our own repository failed.
        """
        if outcome.snapshot is None:
            return
        try:
            await landing.fetch(self._context.git, self._transport, outcome.snapshot, base, self._context.limits)
        except Quarantined:
            raise
        except BadBundle as error:
            if problem := await self._context.soundness.check():  # a damaged repository refuses everybody's work
                raise GitError(problem) from error
            raise
        held = self._ledger.held(self._ship)
        ref = work_ref(claim.task, claim.number) if held and held.token == claim.token else stale_ref(claim.token)
        await self._save_ref(ref, claim.token, outcome.snapshot.commit)

    async def save_late_result(self, token: int, opening: str, data: Mapping[str, Any], *, last_try: bool) -> None:
        """Save the work of an attempt whose task went to another ship meanwhile.

        Args:
            token: of the attempt.
            opening: of the ledger that handed it out, as the result says.
            data: the result.
            last_try: whether it is given up if less arrives than there is.

        Raises:
            CutShort: less arrives than there is.
            TransportError: the ship cannot be reached.
        """
        attempt = self._ledger.attempt_row(token)
        outcome = landing.parse_outcome(data)
        if isinstance(outcome, str):
            return
        if not attempt or (attempt["ship"], attempt["opening"]) != (self._ship, opening):
            await self._save_unknown_result(token, opening, outcome)
            return
        self._orders.take_usage(self._ship, token, parse_facts(outcome.agent))
        if attempt["state"] != "lost" or outcome.snapshot is None or outcome.snapshot.empty:
            return
        try:
            git, limits = self._context.git, self._context.limits
            await landing.fetch(git, self._transport, outcome.snapshot, attempt["base"], limits)
        except (GitError, CutShort) as error:
            if isinstance(error, CutShort) and not last_try:
                raise
            log.warning("%s: late result of task %s: %s", self._ship, attempt["task"], error)
            return
        ref = stale_ref(token)
        await self._save_ref(ref, token, outcome.snapshot.commit)
        self._ledger.note_late_result(token, f"kept as {ref}")

    async def _save_unknown_result(self, token: int, opening: str, outcome: Outcome) -> None:
        """Save the work of an attempt that this ledger never handed out: it may have gone back in time."""
        snapshot = outcome.snapshot
        if snapshot is None or snapshot.empty or not re.fullmatch(r"[0-9a-f]{1,40}", opening):
            return
        try:
            await landing.fetch(self._context.git, self._transport, snapshot, snapshot.base)
        except GitError as error:
            log.warning("%s: the result of an attempt that is not known: %s", self._ship, error)
            return
        ref = f"{stale_ref(token)}-{opening}"
        await self._save_ref(ref, None, snapshot.commit)
        self._ledger.event("late", f"work of an attempt that this ledger does not know is {ref}", ship=self._ship)

    async def _save_ref(self, ref: str, token: int | None, commit: str) -> None:
        await self._context.lander.save_ref(ref, commit)
        self._ledger.add_saved_ref(ref, self._ship, token, commit)


def _checked(answer: Answer) -> Outcome | ShipFault:
    """Return the outcome of an attempt, or why the ship made none."""
    if not answer.ok:
        return ShipFault(f"the agent could not be started: {clean(answer.failure().reason)[:2000]}")
    outcome = landing.parse_outcome(answer.data)
    if isinstance(outcome, str):
        return ShipFault(outcome)
    if outcome.reason == "error":  # no attempt was made: the ship's supervisor could not begin one
        return ShipFault(f"the agent could not be started: {clean(outcome.tail).strip()[-2000:]}")
    return outcome
