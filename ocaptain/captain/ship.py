"""A ship's actor: keeps its channel, hands it one task at a time, brings the outcome home.

Nothing here decides what a task's fate is: that is the ledger (who holds it), the landing (what
merges) and :func:`ocaptain.captain.landing.failure_of` (what an outcome means).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.agents import ADAPTERS, Briefing
from ocaptain.agents.verdict import judge, parse_facts
from ocaptain.captain import landing
from ocaptain.captain.channel import Channel, Cursors, OtherProtocol, speak
from ocaptain.captain.refs import stale_ref, work_ref
from ocaptain.captain.transport import WORKER, CutShort, ShipGone, Transport, TransportError
from ocaptain.errors import UsageError
from ocaptain.git import BadBundle, GitError
from ocaptain.ledger import LedgerError
from ocaptain.protocol import PROTOCOL
from ocaptain.text import clean, clean_bytes
from ocaptain.worker.build import worker_bytes

if TYPE_CHECKING:
    from ocaptain.agents.verdict import Ending, Facts
    from ocaptain.captain.captain import Captain
    from ocaptain.ledger import Claim
    from ocaptain.protocol import Message

CHECK_SECONDS = 900.0
CANCEL_SECONDS = 120.0
MOST_FAULTS = 2
MOST_TROUBLES = 20
RECONNECT_FIRST = 0.2
RECONNECT_MOST = 10.0
SLEEP_AFTER = 5.0  # with nothing to claim the channel is closed, so that the VM may sleep
CALL_SECONDS = 20.0  # so long a ship that was called is counted on
INSTALL_SECONDS = 60.0
MAX_LOG = 65 * 1024 * 1024
MAX_LOG_OFFSET = 2**40
log = logging.getLogger("ocaptain.captain")


class ShipFault(Exception):
    """A ship that answers, but cannot do what every ship can."""


class ShipActor:
    """One ship. :meth:`run` ends when the voyage is over or the ship is gone."""

    def __init__(self, captain: Captain, ship: str, sprite: str, transport: Transport) -> None:
        self.ship = ship
        self.sprite = sprite
        self.transport = transport
        self.channel: Channel | None = None
        self.gone = False
        self._captain = captain
        self._ledger = captain.ledger
        row = self._ledger.ship(ship)
        self._cursors = Cursors(row.journal, row.cursors)
        self._protocol = PROTOCOL
        self._parked: list[tuple[int, str, bool, dict[str, Any]]] = []
        self._faults = 0
        self._troubles = 0
        self._wait = RECONNECT_FIRST
        self.rests_until = 0.0  # on the loop's clock: before that it claims nothing
        self.idle = False  # it has nothing to do, connected or asleep
        self.connected_once = False
        self._call = asyncio.Event()
        self._called_at = 0.0

    @property
    def rests(self) -> bool:
        """Whether the service that its agents need was busy, and is given time."""
        return asyncio.get_running_loop().time() < self.rests_until

    @property
    def called(self) -> bool:
        """Whether it was called, and may still come."""
        return self._call.is_set() and asyncio.get_running_loop().time() - self._called_at < CALL_SECONDS

    def call(self) -> None:
        """Have it look what there is to do, waking it if it sleeps."""
        self._called_at = asyncio.get_running_loop().time()
        self._call.set()

    # -- channel ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the ship at work.

        A stream that breaks is opened again. A ship that answers but cannot do its work (or says
        what cannot be understood) gives its task back; when that happens again it is benched, so
        that one broken ship does not fail everybody's tasks.
        """
        while not self._captain.over:
            try:
                await self.connect()
                await self._sail()
            except ShipGone as error:
                self.gone = True
                self._captain.ship_lost(self, str(error))
                return
            except LedgerError:
                raise
            except (GitError, CutShort) as error:
                self._trouble(error)
            except TransportError as error:
                self._silent(error)
            except Exception as error:
                log.warning("%s: %s", self.ship, error, exc_info=not isinstance(error, ShipFault))
                self._faults += 1
                self.gone = self._faults >= MOST_FAULTS
                self._captain.ship_faulty(self, str(error) or type(error).__name__, benched=self.gone)
                if self.gone:
                    return
            else:
                self._wait = RECONNECT_FIRST
                continue  # it slept, and was called
            finally:
                self.idle = False
                await self.disconnect()
            if self._captain.over:
                return
            self._call.clear()
            self._captain.dispatch()
            await asyncio.sleep(self._wait)
            self._wait = min(RECONNECT_MOST, self._wait * 2)

    def _silent(self, error: TransportError) -> None:
        """The way broke; at the voyage's end we let go of it ourselves."""
        if not self._captain.over:
            log.warning("%s: %s", self.ship, error)
            self._captain.note_silence(self, str(error))

    def _trouble(self, error: GitError | CutShort) -> None:
        """Our own repository fails (a full disk, say), or the way: no task is to blame, and it may pass."""
        log.warning("%s: %s", self.ship, error)
        self._captain.note_silence(self, str(error))
        self._troubles += 1
        claim = self._ledger.held(self.ship)
        if claim and self._troubles >= MOST_TROUBLES:
            self._troubles = 0
            self._captain.failed(claim, f"it could not be landed: {error}")

    def _progress(self) -> None:
        """Something was brought to its end: the ship is sound."""
        self._faults, self._troubles, self._wait = 0, 0, RECONNECT_FIRST

    async def connect(self) -> Channel:
        """Open the channel and have the results that the journal has; an older worker in its own protocol."""
        try:
            return await self._connect()
        except OtherProtocol as refused:
            self._protocol = speak(refused)
            return await self._connect()

    async def _connect(self) -> Channel:
        stream = await self.transport.open()
        channel = Channel(stream, self._cursors, self._take, self._park, self._trouble_there, self._protocol)
        self._parked.clear()
        try:
            voyage = self._captain.voyage
            await channel.open(
                {
                    "voyage": voyage.id,
                    "ship": self.ship,
                    "epoch": self._ledger.epoch,
                    "generation": self._ledger.next_generation(),
                }
            )
        except BaseException:
            await channel.close()
            raise
        self.channel = channel
        self.connected_once = True
        return channel

    async def let_go(self) -> None:
        """The voyage has ended: have all that the ship wrote, then let it sleep."""
        channel, self.channel = self.channel, None
        if channel:
            with contextlib.suppress(TransportError):
                await channel.rest()
            await channel.close()

    async def disconnect(self) -> None:
        """Close the channel; the ship goes on by itself."""
        channel, self.channel = self.channel, None
        if channel:
            await channel.close()

    def _park(self, number: int, name: str, ok: bool, data: dict[str, Any]) -> None:  # noqa: FBT001
        self._parked.append((number, name, ok, data))

    def _take(self, body: Message) -> None:
        """Take a record that is no result: a piece of log, or what an agent used so far."""
        if body.get("kind") == "log":
            self._captain.write_log(self.ship, body)
        elif body.get("kind") == "agent":
            self._captain.note_spent(self.ship, body.get("token"), parse_facts(body.get("facts")))

    def _trouble_there(self, reason: str) -> None:
        """Show why the worker waits."""
        row = self._ledger.ship(self.ship)
        self._ledger.set_ship(self.ship, row.state, clean(reason)[:300] or None)

    async def _settle(self, channel: Channel, number: int) -> None:
        await channel.settle(number)
        self._ledger.ship_cursors(self.ship, str(channel.cursors.journal), channel.cursors.settled())

    # -- work -------------------------------------------------------------------------------

    async def _sail(self) -> None:
        """Take up what the ship holds, then claim until there is nothing left to do."""
        channel = self.channel
        assert channel
        held = self._ledger.held(self.ship)
        if channel.busy is not None and (held is None or held.token != channel.busy):
            name = f"cancel:{channel.busy}:{os.urandom(4).hex()}"
            number, _, _ = await channel.call(name, "cancel", {"token": channel.busy}, seconds=CANCEL_SECONDS)
            await self._settle(channel, number)
        self._ledger.set_ship(self.ship, "working" if held else "idle")
        if held:
            await self._attempt(channel, held)
        if channel.protocol != PROTOCOL:
            await self._clear_parked(channel)
            await self._bring_worker()
            return
        while not self._captain.over:
            await self._clear_parked(channel)
            self._call.clear()
            if job := self._captain.take_verify():
                await self._verify(channel, job)
                continue
            claim = self._captain.claim_for(self)
            self.idle = claim is None
            self._captain.changed()
            self._captain.dispatch()  # what is left after this ship took its share
            if claim:
                await self._attempt(channel, claim)
            elif not await self._idle(channel):
                return
            self.idle = False

    async def _idle(self, channel: Channel) -> bool:
        """Wait until it is called; False if the channel was let go of meanwhile."""
        call = asyncio.ensure_future(self._call.wait())
        try:
            futures: list[asyncio.Future[Any]] = [call, channel.broken]
            await asyncio.wait(futures, timeout=SLEEP_AFTER, return_when=asyncio.FIRST_COMPLETED)
            if channel.broken.done():
                raise channel.broken.result()
            if call.done():
                return not self._captain.over
            await channel.rest()
            if not self._call.is_set():
                await self.disconnect()
                self._ledger.set_ship(self.ship, "asleep")
                await call
                return False
        finally:
            call.cancel()
        return not self._captain.over

    async def _bring_worker(self) -> None:
        """Put this version's worker in the place of an older one, whose last attempt's result is here.

        Raises:
            ShipFault: it could not be put there.
        """
        log.info("%s: its worker is of an earlier version and is replaced", self.ship)
        fresh = f"{WORKER}.new"
        await self.transport.put(fresh, await asyncio.to_thread(worker_bytes))
        code, said = await self.transport.execute(["python3", fresh, "install"], INSTALL_SECONDS)
        if code:
            raise ShipFault(f"the worker could not be replaced (exit {code}): {clean(said)[-500:]}")
        self._protocol = PROTOCOL

    async def _clear_parked(self, channel: Channel) -> None:
        """Deal with results that nobody waits for: late ones are kept, the others forgotten."""
        while self._parked:
            number, name, ok, data = self._parked.pop(0)
            kind, _, token = name.partition(":")
            token, _, opening = token.partition(":")
            if kind == "start" and ok and re.fullmatch(r"[0-9]{1,15}", token):
                await self._keep_late(int(token), opening, data)
            await self._settle(channel, number)

    async def _keep_late(self, token: int, opening: str, data: dict[str, Any]) -> None:
        attempt = self._ledger.attempt(token)
        outcome = landing.parse_outcome(data)
        if not attempt or (attempt["ship"], attempt["opening"]) != (self.ship, opening) or isinstance(outcome, str):
            return
        self._captain.note_spent(self.ship, token, parse_facts(outcome.agent))
        if attempt["state"] != "lost":
            return
        if outcome.snapshot is None or outcome.snapshot.empty:
            return
        try:
            await landing.fetch(self._captain.git, self.transport, outcome.snapshot)
        except (GitError, CutShort) as error:
            if isinstance(error, CutShort) and self._troubles < MOST_TROUBLES:
                raise
            log.warning("%s: late result of task %s: %s", self.ship, attempt["task"], error)
            return
        ref = stale_ref(token)
        await self._captain.lander.keep(ref, outcome.snapshot.commit)
        self._ledger.saved(ref, self.ship, token, outcome.snapshot.commit)
        self._ledger.mark_late(token, f"kept as {ref}")

    async def _attempt(self, channel: Channel, claim: Claim) -> None:
        """See an attempt through: start it (or find it started), then judge what it brought."""
        base = claim.base or await self._captain.lander.head()
        self._ledger.started(claim.token, base)
        try:
            number, ok, data = await self._outcome(channel, claim, base)
        except UsageError as error:  # the plan's prompt template
            self._captain.failed(claim, error.message)
            return
        if not ok:
            await self._settle(channel, number)
            raise ShipFault(f"the agent could not be started: {clean(str(data.get('reason', '')))[:2000]}")
        outcome = landing.parse_outcome(data)
        if isinstance(outcome, str):
            await self._settle(channel, number)
            raise ShipFault(outcome)
        if outcome.reason == "error":  # no attempt was made: the ship's supervisor could not begin one
            await self._settle(channel, number)
            raise ShipFault(f"the agent could not be started: {clean(outcome.tail).strip()[-2000:]}")
        await self._judge(channel, claim, base, outcome)
        await self._settle(channel, number)
        self._progress()

    async def _outcome(self, channel: Channel, claim: Claim, base: str) -> tuple[int, bool, dict[str, Any]]:
        name = command_id("start", claim)
        parked = next((one for one in self._parked if one[1] == name), None)
        if parked:
            self._parked.remove(parked)
            return parked[0], parked[2], parked[3]
        if channel.busy == claim.token:
            channel.busy = None
            return await channel.call(name, "start", {"token": claim.token})
        return await self._with_commit(channel, base, name, "start", self._start_args(claim, base))

    def _start_args(self, claim: Claim, base: str) -> dict[str, Any]:
        voyage = self._captain.voyage
        model = ADAPTERS[claim.agent].is_model
        run = ADAPTERS[claim.agent].brief(
            Briefing(
                voyage=voyage.id,
                ship=self.ship,
                attempt=claim.number,
                task=claim.raw,
                spec=voyage.spec,
                agent_cmd=voyage.agent_cmd,
                landed=self._captain.landed(),
                reason=claim.reason,
                template=voyage.prompt,
                session=claim.session,
                sessions=claim.sessions if model else (),
                work=claim.work if model else None,
                model=voyage.model,
                max_turns=voyage.max_turns,
            )
        )
        return {
            "token": claim.token,
            "base": base,
            "branch": voyage.id,
            "label": f"task-{claim.task}.{claim.number}",
            "task": dict(claim.raw),
            **run.as_args(),
            **({"prices": dict(self._captain.prices.models)} if model else {}),
        }

    async def _with_commit(
        self, channel: Channel, commit: str, name_id: str, name: str, args: dict[str, Any], seconds: float | None = None
    ) -> tuple[int, bool, dict[str, Any]]:
        """Call a command that needs ``commit`` on the ship: send what is missing, all of it if it must be."""
        have = self._ledger.ship(self.ship).head
        there = have is not None and await asyncio.to_thread(self._captain.git.is_ancestor, commit, have)
        for attempt in range(2):
            bundle = None if there and not attempt else await self._send_bundle(commit, None if attempt else have)
            number, ok, data = await channel.call(name_id, name, {**args, "bundle": bundle}, seconds=seconds)
            if ok or data.get("code") not in {"need_full", "damaged"} or attempt:
                break
            await self._settle(channel, number)
        if ok:
            self._ledger.ship_has(self.ship, commit)
        return number, ok, data

    async def _send_bundle(self, commit: str, have: str | None) -> dict[str, Any]:
        """Put a bundle of ``commit`` into the ship's inbox; return what the worker needs to know."""
        async with self._captain.cargo.lend(commit, have) as cargo:
            parts = []
            for index, part in enumerate(cargo.parts):
                path = f".ocaptain/in/{cargo.name}.{index}"
                await self.transport.put(path, await cargo.read(part))
                parts.append({"path": path, "size": part.size, "sha256": part.sha256})
            return {"ref": cargo.ref, "parts": parts}

    # -- judging ----------------------------------------------------------------------------

    async def _judge(self, channel: Channel, claim: Claim, base: str, outcome: landing.Outcome) -> None:
        facts: dict[str, Any] = {
            "agent": {"exit_code": outcome.code, "seconds": outcome.seconds, "reason": outcome.reason}
        }
        command = (claim.raw.get("metadata") or {}).get("verify")
        told = parse_facts(outcome.agent)
        self._captain.note_spent(self.ship, claim.token, told)
        kept = await self._keep_work(claim, outcome)
        if isinstance(kept, str):
            self._captain.failed(claim, kept)
            return
        if ADAPTERS[claim.agent].is_model:
            ending = self._ending(claim, outcome, told, checked=bool(command))
            if ending.kind != "done":
                self._captain.ended(self, claim, ending, facts)
                return
            facts["agent"] |= {"model": told.model if told else None, "said": ending.said}
        if failure := landing.failure_of(outcome):
            self._captain.failed(claim, failure, facts, again=self)
            return
        offer = outcome.snapshot
        assert offer
        offer = offer.model_copy(update={"message": offer.message or facts["agent"].get("said", "")})
        if not self._ledger.offered(claim.token, work=offer.commit, code=outcome.code, seconds=outcome.seconds):
            return

        async def check(candidate: str) -> landing.CheckResult:
            return await self._run_check(channel, claim, candidate, str(command))

        verdict = await self._captain.lander.land(claim, base, offer, check if command else None, facts)
        match verdict:
            case landing.Landed():
                await self._captain.has_landed(claim, verdict.commit)
            case landing.Conflicted(reason=reason):
                self._captain.given_back(claim, "conflict", reason, again=self)
            case landing.CheckFailed(reason=reason, evidence=evidence):
                self._captain.failed(claim, reason, evidence, again=self)

    def _ending(self, claim: Claim, outcome: landing.Outcome, told: Facts | None, *, checked: bool) -> Ending:
        """Return what a model's run was worth, and note what the next one is to know of it."""
        snapshot = outcome.snapshot
        empty = snapshot is not None and snapshot.empty
        ending = judge(
            code=outcome.code, reason=outcome.reason, facts=told, empty=empty, checked=checked, said=outcome.tail
        )
        self._ledger.left(claim.token, snapshot.commit if snapshot and not empty else None, fresh=ending.fresh)
        return ending

    async def _keep_work(self, claim: Claim, outcome: landing.Outcome) -> str | None:
        """Fetch the attempt's snapshot and name it; return what is wrong with it, if anything."""
        if outcome.snapshot is None:
            return None
        try:
            await landing.fetch(self._captain.git, self.transport, outcome.snapshot)
        except BadBundle as error:
            return error.message
        held = self._ledger.held(self.ship)
        ref = work_ref(claim.task, claim.number) if held and held.token == claim.token else stale_ref(claim.token)
        await self._captain.lander.keep(ref, outcome.snapshot.commit)
        self._ledger.saved(ref, self.ship, claim.token, outcome.snapshot.commit)
        return None

    async def _run_check(self, channel: Channel, claim: Claim, candidate: str, command: str) -> landing.CheckResult:
        # The same candidate is the same check: one that ended while the channel was down is told again.
        name = f"{command_id('check', claim)}:{candidate}"
        timeout = float((claim.raw.get("metadata") or {}).get("verify_timeout") or CHECK_SECONDS)
        args = {
            "commit": candidate,
            "branch": self._captain.voyage.id,
            "command": command,
            "timeout": timeout,
            "label": f"check-{claim.task}.{claim.number}",
        }
        number, ok, data = await self._with_commit(channel, candidate, name, "check", args, timeout + 120)
        await self._settle(channel, number)
        if not ok:
            raise ShipFault(f"the check could not be run: {clean(str(data.get('reason')))[:2000]}")
        return landing.CheckResult.model_validate(data)

    # -- the final verify -------------------------------------------------------------------

    async def _verify(self, channel: Channel, job: VerifyJob) -> None:
        """Run the final verify and report it; whatever goes wrong gives the job back to another ship."""
        voyage = self._captain.voyage
        args = {
            "commit": job.commit,
            "branch": voyage.id,
            "script": base64.b64encode(voyage.verify_script).decode(),
            "setup": voyage.setup,
            "timeout": voyage.verify_timeout,
            "label": "verify",
        }
        name = f"verify:{self._ledger.epoch}:{os.urandom(4).hex()}"
        try:
            number, ok, data = await self._with_commit(
                channel, job.commit, name, "verify", args, voyage.verify_timeout * 2 + 120
            )
            await self._settle(channel, number)
            if not ok:
                raise ShipFault(f"the final verify could not be run: {clean(str(data.get('reason')))[:2000]}")
            job.answer(landing.VerifyResult.model_validate(data))
        except Exception as error:
            job.give_back(str(error))
            raise
        self._progress()


def command_id(name: str, claim: Claim) -> str:
    """Return the id of a command of an attempt: of this opening of the ledger, in which tokens are unique.

    Attempts that an earlier version handed out have no opening, and their commands none in the id.
    """
    return f"{name}:{claim.token}:{claim.opening}" if claim.opening else f"{name}:{claim.token}"


@dataclass
class VerifyJob:
    """The final verify of a commit, to be taken by one ship at a time."""

    commit: str
    result: asyncio.Future[landing.VerifyResult]
    taken: bool = False
    tries: int = 0
    problem: str = ""

    def answer(self, result: landing.VerifyResult) -> None:
        """Report how it ended."""
        if not self.result.done():
            self.result.set_result(result)

    def give_back(self, problem: str) -> None:
        """Let another ship (or the same one) try."""
        self.taken, self.tries, self.problem = False, self.tries + 1, problem


@dataclass(frozen=True)
class LogPiece:
    """What to add to a log's file.

    Attributes:
        data: bytes.
        skips: how many more bytes of the log are missing in the file, less the note in ``data``.
    """

    data: bytes = b""
    skips: int = 0


def log_piece(body: Message, size: int, skipped: int = 0) -> LogPiece:
    """Return what to add of a log record: nothing if it is not new or not sound.

    Args:
        body: the record.
        size: bytes of the file.
        skipped: bytes of the log that are missing in it, less the notes that say so.
    """
    offset, encoded = body.get("offset"), body.get("data")
    if type(offset) is not int or not isinstance(encoded, str) or not 0 <= offset <= MAX_LOG_OFFSET:
        return LogPiece()
    try:
        data = clean_bytes(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        return LogPiece()
    there = size + skipped  # up to where the log is in the file
    note = b""
    if offset > there:
        note = f"\n[ocaptain: {offset - there} bytes of this log are missing: the ship had no room for them]\n".encode()
    fresh = note + data[max(0, there - offset) :]
    if not fresh or size + len(fresh) > MAX_LOG:
        return LogPiece()
    return LogPiece(fresh, max(0, offset - there) - len(note))
