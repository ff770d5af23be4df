"""One attempt at a task on one ship: start it (or find it started), fetch its result, judge and land it.

::

    claim ──brief of its agent──> command `start` ──> outcome ──fetch──> refs/ocaptain/…/work
          ──judge──> offered ──check on the ship──> landed      (or a Decision, which the captain applies)
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ocaptain.agents import ADAPTERS, Briefing
from ocaptain.agents.base import attempt_limits, quote_output
from ocaptain.agents.facts import AttemptEnd, parse_facts
from ocaptain.captain import landing
from ocaptain.captain.decide.give_back import GIVEN_BACK, decide_given_back
from ocaptain.captain.decide.judge import RunningAttempt
from ocaptain.captain.decide.outcome import (
    ELSEWHERE,
    Decision,
    decide_after_command,
    decide_after_ending,
    decide_work_elsewhere,
    failure_reason,
)
from ocaptain.captain.decide.task_list import is_list_kept
from ocaptain.captain.person import end_wait
from ocaptain.captain.refs import other_ref, stale_other_ref, stale_ref, work_ref
from ocaptain.captain.ship.artifacts import ArtifactCollector
from ocaptain.captain.ship.context import ShipFault
from ocaptain.captain.ship.link import REFUSES_SAVED, command_id
from ocaptain.captain.ship.live import LiveFollower, send_lost_work, settle_live
from ocaptain.captain.ship.task_list import TaskListSender
from ocaptain.captain.ship.verify import run_check
from ocaptain.captain.transport.base import CutShort
from ocaptain.errors import UsageError
from ocaptain.git import BadBundle, BundleRefused, GitError
from ocaptain.protocol.messages import Start
from ocaptain.text import clean_line, escape_control

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ocaptain.agents.facts import AttemptVerdict, Facts
    from ocaptain.captain.ship.context import Context, Dispatcher
    from ocaptain.captain.ship.link import Answer, Link
    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Claim
    from ocaptain.protocol.messages import CheckResult, OtherWork, Outcome, SavedWork, Snapshot

MAX_LANDED_SHOWN = 100  # number of the last landings that a prompt names
MAX_PATHS_SHOWN, MAX_PATH_SHOWN = 50, 300  # files of a conflict, and characters of each
log = logging.getLogger("ocaptain.captain")


class Attempts:
    """Runs the attempts of one ship, one at a time."""

    def __init__(self, ship: str, context: Context, dispatcher: Dispatcher, transport: Transport) -> None:
        self._ship = ship
        self._context = context
        self._ledger = context.ledger
        self._dispatcher = dispatcher
        self._transport = transport
        self._task_list = TaskListSender(context.task_board)
        self._live = LiveFollower(ship, context, transport, dispatcher.pack_repository)
        #: The attempt whose agent runs now, for the captain's own time limits.
        self.working: RunningAttempt | None = None
        self.artifacts = ArtifactCollector(context, transport)

    async def run(self, link: Link, claim: Claim) -> bool:
        """Run an attempt to its end; return whether the ship showed that it can work.

        Raises:
            ShipFault: the ship cannot do what every ship can, or offers what its worker should have refused.
            TransportError: the channel broke; the attempt goes on.
            GitError: our own repository failed.
        """
        base = claim.base or await self._context.lander.head()
        self._ledger.record_start(claim.token, base)
        timeout, stall = attempt_limits(claim.raw)
        self.working = RunningAttempt(claim.token, self._ship, 0, timeout, stall)
        if self._keeps_task_list(claim):
            self._task_list.begin(link.channel)
        try:
            answer = await self._live.follow_during(link, claim, base, self._outcome(link, claim, base))
        except UsageError as error:  # the plan's prompt template
            self._dispatcher.apply_decision(claim, Decision("fail", error.message))
            return False
        finally:
            self._task_list.end()
        self.working = None
        outcome = _outcome_or_fault(answer)
        if isinstance(outcome, ShipFault):
            await link.settle(answer.number)
            raise outcome
        self.artifacts.expect(outcome.artifacts)
        refused: BadBundle | None = None
        try:
            await self._judge(link, claim, base, outcome)
        except BadBundle as error:  # an honest worker would have refused it itself
            refused = error
        await self.artifacts.collect(outcome.artifacts, landing.Left(self._ship, claim.task, claim.number))
        await link.settle(answer.number)
        await settle_live(self._context)
        if refused:
            raise ShipFault(f"what it offered is refused: {escape_control(refused.message)[:2000]}") from refused
        return True

    async def _outcome(self, link: Link, claim: Claim, base: str) -> Answer:
        name = command_id("start", claim)
        if parked := link.take_parked(name):
            return parked
        channel = link.channel
        if channel.busy == claim.token:
            channel.busy = None
            return await link.call(name, Start(claim.token))
        lost = await send_lost_work(self._context, link, claim, base)
        answer = await link.call_with_commit(base, name, self._start(claim, base, lost))
        if lost and not answer.ok and answer.failure().code in REFUSES_SAVED:  # it is only a reference
            log.warning("%s: it does not take %s: %s", self._ship, lost.ref, answer.failure().reason)
            await link.settle(answer.number)
            answer = await link.call_with_commit(base, name, self._start(claim, base, None))
        return answer

    def _keeps_task_list(self, claim: Claim) -> bool:
        """Whether the agent of an attempt gets the plan as its own task list."""
        has_list = ADAPTERS[claim.agent].task_list is not None
        voyage = self._ledger.voyage()
        return is_list_kept(voyage.task_list, has_list=has_list, is_watched=voyage.is_interactive)

    def _start(self, claim: Claim, base: str, lost: SavedWork | None) -> Start:
        voyage = self._ledger.voyage()  # a retry may have changed its line or model
        model = ADAPTERS[claim.agent].is_model
        run = ADAPTERS[claim.agent].build_run(
            Briefing(
                voyage=voyage.id,
                ship=self._ship,
                attempt=claim.number,
                task=claim.raw,
                spec=voyage.spec,
                agent_cmd=voyage.agent_cmd,
                landed=tuple(
                    (task, clean_line(subject, 120)) for task, subject in self._ledger.recent_landings(MAX_LANDED_SHOWN)
                ),
                reason=quote_output(claim.reason) if claim.reason else None,
                template=voyage.prompt,
                session=claim.session,
                sessions=claim.sessions if model else (),
                work=claim.work if model else None,
                model=voyage.model,
                max_turns=voyage.max_turns,
                repo_settings=voyage.repo_settings,
                task_list=self._keeps_task_list(claim),
                telemetry=voyage.telemetry,
                lost=lost.ref if lost else None,
                interactive=voyage.is_interactive,
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
            saved=lost,
            **run.as_args(),
        )

    # -- judging ----------------------------------------------------------------------------

    async def _judge(self, link: Link, claim: Claim, base: str, outcome: Outcome) -> None:
        evidence: dict[str, Any] = {
            "agent": {
                "exit_code": outcome.code,
                "seconds": outcome.seconds,
                "reason": outcome.reason,
                "at": time.time(),  # it had ended
            }
        }
        command = (claim.raw.get("metadata") or {}).get("verify")
        facts = parse_facts(outcome.agent)
        self._dispatcher.save_usage(self._ship, claim.token, facts)
        end_wait(self._ledger, self._ship)
        await self._save_snapshot(claim, base, outcome)
        if outcome.other:
            await self._save_other_work(claim, outcome.other)
        await self._require_base(claim, base, outcome.snapshot)
        if ADAPTERS[claim.agent].is_model:
            ending = self._judge_model_run(claim, outcome, facts, checked=bool(command))
            if isinstance(ending, Decision):
                self._dispatcher.apply_decision(claim, ending, evidence)
                return
            evidence["agent"] |= {"model": facts.model if facts else None, "said": ending.summary}
        if refusal := self._refusal(claim, outcome):
            self._dispatcher.apply_decision(claim, refusal, evidence)
            return
        offer = outcome.snapshot
        assert offer
        offer = replace(offer, message=offer.message or evidence["agent"].get("said", ""))
        if not self._ledger.record_offer(claim.token, work=offer.commit, code=outcome.code, seconds=outcome.seconds):
            return

        async def check(candidate: str) -> CheckResult:
            return await run_check(link, self._context, claim, candidate, str(command))

        match await self._context.lander.land(claim, base, offer, check if command else None, evidence):
            case landing.Landed(commit=commit):
                self._dispatcher.on_landed(claim, commit)
            case landing.Conflicted(reason=reason, paths=paths):
                named = [escape_control(path)[:MAX_PATH_SHOWN] for path in paths[:MAX_PATHS_SHOWN]]
                shown = {**evidence, "conflict": {"paths": named}}
                self._dispatcher.apply_decision(claim, Decision("return", reason, "conflict", same_ship=True), shown)
            case landing.CheckFailed(reason=reason, evidence=shown):
                self._dispatcher.apply_decision(claim, Decision("fail", reason, same_ship=True), shown)

    def _refusal(self, claim: Claim, outcome: Outcome) -> Decision | None:
        """Return why an attempt's work is not offered, None if it is."""
        if ADAPTERS[claim.agent].is_model:
            failure = failure_reason(outcome)
            failed = Decision("fail", failure, same_ship=True) if failure else None
        else:
            failed = decide_after_command(outcome)
        return failed or decide_work_elsewhere(outcome, again=self._ledger.count_returns_for(claim.task, ELSEWHERE) > 0)

    def _judge_model_run(
        self, claim: Claim, outcome: Outcome, facts: Facts | None, *, checked: bool
    ) -> AttemptVerdict | Decision:
        """Judge how a model's run ended: ``done``, or what follows; note what the next attempt needs to know of it."""
        is_watched = self._ledger.voyage().is_interactive
        given_back = decide_given_back(outcome, facts, self._ledger.count_returns_for(claim.task, GIVEN_BACK))
        if is_watched and given_back:
            self._ledger.note_work(claim.token, _work_of(outcome), fresh=False)
            return given_back
        snapshot = outcome.snapshot
        empty = snapshot is not None and snapshot.empty
        checked = checked or decide_work_elsewhere(outcome, again=False) is not None  # decided after this
        ended = AttemptEnd(outcome.code, outcome.reason, facts, empty=empty, checked=checked, tail=outcome.tail)
        ending = ADAPTERS[claim.agent].judge(ended)
        self._ledger.note_work(claim.token, _work_of(outcome), fresh=ending.fresh)
        return ending if ending.kind == "done" else decide_after_ending(ending, self._ledger.count_waits(claim.task))

    async def _require_base(self, claim: Claim, base: str, offer: Snapshot | None) -> None:
        """Refuse, and save, work that started from another commit than the ledger says: it would undo landings.

        Raises:
            ShipFault: it started from another commit.
        """
        if offer is None or offer.base == base:
            return
        ref = f"{stale_ref(claim.token)}-{claim.opening}"
        await self._save_ref(ref, claim.token, offer.commit)
        raise ShipFault(f"the work started from {offer.base}, but the ledger says {base}; it is saved as {ref}")

    async def _save_snapshot(self, claim: Claim, base: str, outcome: Outcome) -> None:
        """Fetch the attempt's snapshot and save it under a ref.

        Raises:
            BadBundle: it is not valid, or beyond the limits.
            GitError: our own repository failed.
        """
        if outcome.snapshot is None:
            return
        try:
            await landing.fetch_snapshot(
                self._context.git, self._transport, outcome.snapshot, base, self._context.limits
            )
        except BundleRefused:
            raise
        except BadBundle as error:
            if problem := await self._context.soundness.check():  # a damaged repository refuses everybody's work
                raise GitError(problem) from error
            raise
        held = self._ledger.held_claim(self._ship)
        ref = work_ref(claim.task, claim.number) if held and held.token == claim.token else stale_ref(claim.token)
        await self._save_ref(ref, claim.token, outcome.snapshot.commit)

    async def _save_other_work(self, claim: Claim, work: OtherWork) -> None:
        """Save what the agent committed elsewhere than in its files.

        Raises:
            TransportError: the ship cannot be reached.
            GitError: our own repository failed.
        """
        held = self._ledger.held_claim(self._ship)
        holds = held is not None and held.token == claim.token
        ref = partial(other_ref, claim.task, claim.number) if holds else partial(stale_other_ref, str(claim.token))
        await self._save_other_refs(work, ref, claim.token, claim.task)

    async def _save_other_refs(
        self, work: OtherWork, ref: Callable[[int], str], token: int | None, task: str | None
    ) -> None:
        context, owner = self._context, landing.Owner(self._ship, token, task)
        await landing.save_other_work(context.git, context.lander, self._ledger, self._transport, work, owner, ref)

    async def save_late_result(self, token: int, opening: str, data: Mapping[str, Any], *, last_try: bool) -> None:
        """Save the work of an attempt whose task has gone to another ship meanwhile.

        Args:
            token: of the attempt.
            opening: of the ledger that handed it out, as the result says.
            data: the result.
            last_try: whether to give it up if it arrives incomplete.

        Raises:
            CutShort: it arrives incomplete.
            TransportError: the ship cannot be reached.
        """
        attempt = self._ledger.attempt_row(token)
        outcome = landing.parse_outcome(data)
        if isinstance(outcome, str):
            return
        if not attempt or (attempt["ship"], attempt["opening"]) != (self._ship, opening):
            await self._save_unknown_result(token, opening, outcome)
            return
        self._dispatcher.save_usage(self._ship, token, parse_facts(outcome.agent))
        left = landing.Left(self._ship, attempt["task"], attempt["number"])
        await self.artifacts.collect(outcome.artifacts, left)
        if attempt["state"] != "lost":
            return
        git, limits = self._context.git, self._context.limits
        try:
            if outcome.other:
                others = partial(stale_other_ref, str(token))
                await self._save_other_refs(outcome.other, others, token, attempt["task"])
            if outcome.snapshot is None or outcome.snapshot.empty:
                return
            await landing.fetch_snapshot(git, self._transport, outcome.snapshot, attempt["base"], limits)
        except (GitError, CutShort) as error:
            if isinstance(error, CutShort) and not last_try:
                raise
            log.warning("%s: late result of task %s: %s", self._ship, attempt["task"], error)
            return
        ref = stale_ref(token)
        await self._save_ref(ref, token, outcome.snapshot.commit)
        self._ledger.note_late_result(token, f"saved as {ref}")

    async def _save_unknown_result(self, token: int, opening: str, outcome: Outcome) -> None:
        """Save the work of an attempt that this ledger does not know: the ledger may have gone back in time."""
        snapshot = outcome.snapshot
        if not re.fullmatch(r"[0-9a-f]{1,40}", opening):
            return
        try:
            if outcome.other:
                others = partial(stale_other_ref, f"{token}-{opening}")
                await self._save_other_refs(outcome.other, others, None, None)
            if snapshot is None or snapshot.empty:
                return
            await landing.fetch_snapshot(self._context.git, self._transport, snapshot, snapshot.base)
        except GitError as error:
            log.warning("%s: cannot fetch the work of an attempt that is not in the ledger: %s", self._ship, error)
            return
        ref = f"{stale_ref(token)}-{opening}"
        await self._save_ref(ref, None, snapshot.commit)
        text = f"work of an attempt that is not in this ledger is saved as {ref}"
        self._ledger.add_event("late", text, ship=self._ship)

    async def _save_ref(self, ref: str, token: int | None, commit: str) -> None:
        await self._context.lander.save_ref(ref, commit)
        self._ledger.add_saved_ref(ref, self._ship, token, commit)


def _work_of(outcome: Outcome) -> str | None:
    """Return the commit of the files that an attempt left, None if it changed nothing."""
    snapshot = outcome.snapshot
    return snapshot.commit if snapshot and not snapshot.empty else None


def _outcome_or_fault(answer: Answer) -> Outcome | ShipFault:
    """Return the outcome of an attempt, or the ship's fault if there is none."""
    if not answer.ok:
        return ShipFault(f"the agent could not be started: {escape_control(answer.failure().reason)[:2000]}")
    outcome = landing.parse_outcome(answer.data)
    if isinstance(outcome, str):
        return ShipFault(outcome)
    if outcome.reason == "error":  # no attempt was made: the ship's supervisor could not begin one
        return ShipFault(f"the agent could not be started: {escape_control(outcome.tail).strip()[-2000:]}")
    return outcome
