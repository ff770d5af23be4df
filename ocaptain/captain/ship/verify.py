"""Checks that a ship runs: that of a task on the merged candidate, and the final verify of the voyage."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import TYPE_CHECKING, Any

from ocaptain.captain.ship.context import ShipFault
from ocaptain.captain.ship.link import command_id
from ocaptain.protocol.codec import from_dict
from ocaptain.protocol.messages import Check, CheckResult, Verify, VerifyResult
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from ocaptain.captain.ship.context import Context
    from ocaptain.captain.ship.job import VerifyJob
    from ocaptain.captain.ship.link import Link
    from ocaptain.ledger import Claim

CHECK_SECONDS = 900.0
STOPPED = "stopped"  # a ship's failure code for a check that was stopped, since another candidate came
ANSWER_SECONDS = 120.0  # how long after its own time limit a check may take to report its result


async def run_check(link: Link, context: Context, claim: Claim, candidate: str, command: str) -> CheckResult:
    """Run a task's check on a candidate.

    Raises:
        ShipFault: the ship could not run it.
        TransportError: the channel broke.
    """
    # The same candidate has the same command id: the ship repeats the result of a check that ended meanwhile.
    name = f"{command_id('check', claim)}:{candidate}"
    timeout = float((claim.raw.get("metadata") or {}).get("verify_timeout") or CHECK_SECONDS)
    check = Check(candidate, context.voyage.id, command, timeout, f"check-{claim.task}.{claim.number}")
    try:
        # Limited as a whole: other offers wait for this one.
        async with asyncio.timeout(timeout + ANSWER_SECONDS):
            answer = await link.call_with_commit(candidate, name, check)
            await link.settle(answer.number)
            while not answer.ok and answer.failure().code == STOPPED:  # it was asked for again while it was being ended
                answer = await link.call_with_commit(candidate, name, check)
                await link.settle(answer.number)
    except TimeoutError as error:
        raise ShipFault(f"the ship did not report the check's result in {timeout + ANSWER_SECONDS:g} s") from error
    if not answer.ok:
        raise ShipFault(f"the ship could not run the check: {escape_control(answer.failure().reason)[:2000]}")
    return from_dict(CheckResult, answer.data)


async def run_verify(link: Link, context: Context, job: VerifyJob) -> None:
    """Run the final verify and report its result; after any error the job is released for another ship."""
    voyage = context.voyage
    script = base64.b64encode(voyage.verify_script).decode()
    verify = Verify(job.commit, voyage.id, script, voyage.verify_timeout, "verify", voyage.setup, fresh=job.fresh)
    name = f"verify:{context.ledger.epoch}:{os.urandom(4).hex()}"
    seconds = voyage.verify_timeout * 2 + ANSWER_SECONDS
    call = asyncio.ensure_future(link.call_with_commit(job.commit, name, verify, seconds))
    try:
        both: set[asyncio.Future[Any]] = {call, job.result}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if job.result.cancelled():  # another commit is verified instead; its command ends this one on the ship
            return
        answer = await call
        await link.settle(answer.number)
        if not answer.ok:
            raise ShipFault(
                f"the ship could not run the final verify: {escape_control(answer.failure().reason)[:2000]}"
            )
        job.set_result(from_dict(VerifyResult, answer.data))
    except Exception as error:
        job.release(str(error))
        raise
    finally:
        call.cancel()
