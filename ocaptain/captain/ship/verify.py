"""Checks that a ship runs: that of a task on the merged candidate, and the final verify of the voyage."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import TYPE_CHECKING

from ocaptain.captain.ship.context import ShipFault
from ocaptain.captain.ship.link import command_id
from ocaptain.protocol.codec import from_dict
from ocaptain.protocol.messages import Check, CheckResult, Verify, VerifyResult
from ocaptain.text import clean

if TYPE_CHECKING:
    from ocaptain.captain.ship.context import Context
    from ocaptain.captain.ship.job import VerifyJob
    from ocaptain.captain.ship.link import Link
    from ocaptain.ledger import Claim

CHECK_SECONDS = 900.0
STOPPED = "stopped"  # what a ship answers a check that was ended, since another candidate came
ANSWER_SECONDS = 120.0  # after its own time limit a check has so long to say how it ended


async def run_check(link: Link, context: Context, claim: Claim, candidate: str, command: str) -> CheckResult:
    """Run a task's check on a candidate.

    Raises:
        ShipFault: the ship could not run it.
        TransportError: the channel broke.
    """
    # The same candidate is the same check: one that ended while the channel was down is told again.
    name = f"{command_id('check', claim)}:{candidate}"
    timeout = float((claim.raw.get("metadata") or {}).get("verify_timeout") or CHECK_SECONDS)
    check = Check(candidate, context.voyage.id, command, timeout, f"check-{claim.task}.{claim.number}")
    try:
        # All of it is bounded: others' offers wait for this one.
        async with asyncio.timeout(timeout + ANSWER_SECONDS):
            answer = await link.call_with_commit(candidate, name, check)
            await link.settle(answer.number)
            while not answer.ok and answer.failure().code == STOPPED:  # it was asked for again while it was being ended
                answer = await link.call_with_commit(candidate, name, check)
                await link.settle(answer.number)
    except TimeoutError as error:
        raise ShipFault(f"the ship did not say in {timeout + ANSWER_SECONDS:g} s how the check ended") from error
    if not answer.ok:
        raise ShipFault(f"the ship could not run the check: {clean(answer.failure().reason)[:2000]}")
    return from_dict(CheckResult, answer.data)


async def run_verify(link: Link, context: Context, job: VerifyJob) -> None:
    """Run the final verify and report it; whatever goes wrong gives the job back to another ship."""
    voyage = context.voyage
    script = base64.b64encode(voyage.verify_script).decode()
    verify = Verify(job.commit, voyage.id, script, voyage.verify_timeout, "verify", voyage.setup, fresh=job.fresh)
    name = f"verify:{context.ledger.epoch}:{os.urandom(4).hex()}"
    seconds = voyage.verify_timeout * 2 + ANSWER_SECONDS
    try:
        answer = await link.call_with_commit(job.commit, name, verify, seconds)
        await link.settle(answer.number)
        if not answer.ok:
            raise ShipFault(f"the ship could not run the final verify: {clean(answer.failure().reason)[:2000]}")
        job.answer(from_dict(VerifyResult, answer.data))
    except Exception as error:
        job.give_back(str(error))
        raise
