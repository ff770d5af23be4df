"""The worker's service: one captain at a time, one attempt at a time, everything journalled.

How a command is handled: the channel's line → :meth:`Worker.run_command` → a job (a thread, since git
and waiting block) → a ``result`` record in the journal → the captain. A command whose
id is known is not run again, so the captain may repeat a command if in doubt.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from ocaptain.protocol import CLASSES, PROTOCOL, HelloRefused, Message
from ocaptain.protocol.codec import Malformed, from_dict, to_dict
from ocaptain.protocol.envelope import (
    LOOK,
    Ack,
    Call,
    Look,
    Ping,
    Pong,
    Pull,
    Refusal,
    Rest,
    Resting,
    ResultBody,
    TaskList,
    Trouble,
    Welcome,
    unpack,
)
from ocaptain.protocol.files import read_json
from ocaptain.protocol.limits import Limits
from ocaptain.protocol.messages import (
    COMMANDS,
    Cancel,
    Check,
    Command,
    Failure,
    OtherWork,
    Outcome,
    Part,
    Rescue,
    RescueResult,
    Result,
    Start,
    Trial,
    UnfitTree,
    Verify,
)
from ocaptain.worker.artifacts import last_token, pack_artifacts
from ocaptain.worker.attempts import CANCEL_SECONDS, Attempts
from ocaptain.worker.bundling import inline_small_bundle
from ocaptain.worker.channels import Channel, classes_of, parse_numbers
from ocaptain.worker.errors import UnfitWorkspace, WorkspaceError
from ocaptain.worker.hold import Hold
from ocaptain.worker.job import Job
from ocaptain.worker.journal import Journal
from ocaptain.worker.live import LiveFiles
from ocaptain.worker.places import Places, read_tail
from ocaptain.worker.repository import read_arguments
from ocaptain.worker.scripts import Scripts
from ocaptain.worker.state import State
from ocaptain.worker.telemetry import Telemetry
from ocaptain.worker.trial import GateTrial
from ocaptain.worker.workspace import Workspace

RETRY_SECONDS = 1.0


class Worker:
    """The service: its channels and commands.

    Attributes:
        trial: runs verify.sh before there is any work, beside the attempts.
        telemetry: receives what the agent reports.
        live: shows the captain the files of the running attempt.
    """

    def __init__(self, places: Places, program: Path) -> None:
        self._state = State(places)
        self._journal = Journal(places.journal, places.old_journal)
        append = partial(self._append_to_journal, durable=False)
        self.telemetry = Telemetry(
            places, self._journal, append, lambda: job.token if (job := self._state.job) else None
        )
        self._attempts = Attempts(self._state, program, lambda body: append(to_dict(body)), self.telemetry.environment)
        self._scripts = Scripts(self._state)
        self.live = LiveFiles(self._state)
        self.trial = GateTrial(self._state)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._work_lock = asyncio.Lock()
        self._wake_pusher = asyncio.Event()
        self._channel: Channel | None = None
        self._hold = Hold()
        self._newest_command = ""  # the id of its command
        self._trouble = ""  # why a result waits

    def _append_to_journal(self, body: Message, *, durable: bool) -> None:
        """Write a record to the journal, and wake the pusher, which sends it to the captain.

        Args:
            body: the record.
            durable: whether it must be on the disk when this returns.
        """
        self._journal.append(body, durable=durable)
        self._wake_pusher.set()

    # -- channels ---------------------------------------------------------------------------

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the unix socket."""
        channel = Channel(reader, writer)
        pusher: asyncio.Task[None] | None = None
        try:
            async for message in channel:
                if message["type"] == "hello":
                    if not await self._handle_hello(channel, message):
                        return
                    if pusher is None:
                        pusher = asyncio.create_task(self._push_records(channel))
                elif self._channel is not channel:
                    return
                else:
                    await self._handle_message(channel, message)
        except (ConnectionError, OSError):
            pass
        finally:
            if pusher:
                pusher.cancel()
            if self._channel is channel:
                self._channel = None
            channel.close()

    async def _handle_hello(self, channel: Channel, hello: Message) -> bool:
        try:
            self._state.fence.admit(hello)
        except HelloRefused as reason:
            fence = self._state.fence
            await channel.send(Refusal(str(reason), PROTOCOL, fence.epoch, fence.generation))
            return False
        self._state.ship = str(hello.get("ship", self._state.ship))
        with contextlib.suppress(OSError):  # a full disk: the fence is kept in memory, and saved with the next change
            self._state.save()
        older, self._channel = self._channel, channel
        if older and older is not channel:
            older.close()
        after = parse_numbers(hello.get("after"))
        is_same_journal = hello.get("journal") == self._journal.name
        if is_same_journal and any(after.get(name, 0) > self._journal.last(name) for name in CLASSES):
            self._journal.start_new_numbering()  # the disk was restored: these numbers now mean other records
            is_same_journal = False
        channel.reader, channel.classes = self._journal.reader(), classes_of(hello)
        for name in channel.classes:
            channel.seek(name, after.get(name, 0) if is_same_journal else self._journal.first(name) - 1)
        first = {name: self._journal.first(name) for name in channel.classes}
        last = {name: self._journal.last(name) for name in channel.classes}
        job = self._state.job
        busy, command = (job.token, job.id or None) if job else (None, None)
        welcome = Welcome(
            first, last, self._journal.name, PROTOCOL, busy, command, parts=True, commands=(*COMMANDS, LOOK)
        )
        await channel.send(welcome)
        return True

    async def _handle_message(self, channel: Channel, line: Message) -> None:
        try:
            message = unpack(line)
        except Malformed:
            return  # noise
        if isinstance(message, Ping):
            await channel.send(Pong())
        elif isinstance(message, Call):
            self.run_command(message.id, message.name, message.args, message.parts or ())
        elif isinstance(message, TaskList):
            self._attempts.task_list.take(message)
        elif isinstance(message, Ack):
            self._journal.acknowledge(parse_numbers(message.upto))
        elif isinstance(message, Pull) and message.class_ in channel.classes:
            channel.seek(message.class_, message.after)
            self._wake_pusher.set()
        elif isinstance(message, Look):
            self.live.answer(message.token, message.number, message.have, channel.send)
        elif isinstance(message, Rest):
            self.trial.stop()  # it keeps nothing awake, and telemetry does not either
            self.telemetry.is_taking = False
            channel.asked_to_rest = True
            self._wake_pusher.set()

    async def _push_records(self, channel: Channel) -> None:
        """Send the journal's records: a few of the first class that has any, then check again."""
        while True:
            self._wake_pusher.clear()
            while await channel.send_next_records(self._journal):
                pass
            if channel.last_sent_trouble != self._trouble:
                channel.last_sent_trouble = self._trouble
                await channel.send(Trouble(channel.last_sent_trouble))
            if channel.asked_to_rest and not self._running:
                channel.asked_to_rest = False
                self._hold.release()
                await channel.send(Resting({name: self._journal.last(name) for name in channel.classes}))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake_pusher.wait(), 5)

    # -- commands ---------------------------------------------------------------------------

    def run_command(self, command_id: str, name: str, args: Mapping[str, Any], parts: Sequence[Part] = ()) -> None:
        """Run a command; ignore one that runs already, repeat the result of one that ended.

        Args:
            command_id: its id.
            name: its name on the wire.
            args: its arguments.
            parts: files with the JSON of its arguments, if they are too long for a line.
        """
        if command_id in self._running:
            return
        self.telemetry.is_taking = True
        if name == "trial":
            self.trial.expect()
        if command_id in self._state.results:
            work = self._report(command_id, self._state.results[command_id])
        else:
            work = self._run(command_id, name, args, parts)
        self._running[command_id] = asyncio.create_task(work)

    async def _run(self, command_id: str, name: str, args: Mapping[str, Any], parts: Sequence[Part]) -> None:
        token = None  # of the attempt that it ends
        try:
            if name not in COMMANDS:
                raise WorkspaceError("unknown", f"this worker has no command {name}")
            if parts:
                args = await asyncio.to_thread(read_arguments, self._state.places.home, parts)
            command = from_dict(COMMANDS[name], args)
            token = command.token if isinstance(command, Start) else None
            with self._hold.keep_awake(linger=not isinstance(command, Trial)):
                result = Result(ok=True, data=to_dict(await self._carry_out(command_id, command)))
        except UnfitWorkspace as error:
            result = _failure_result("unfit", error.reason, error.paths)
        except WorkspaceError as error:
            result = _failure_result(error.code, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it was, the captain must hear of it
            traceback.print_exc()
            result = _failure_result("internal", f"{type(error).__name__}: {error}")
        # An id that failed may be asked again: the captain repeats it with what was missing.
        if result.ok:
            self._state.results[command_id] = result
        await self._report(command_id, result, token)

    async def _carry_out(self, command_id: str, command: Command) -> object:
        if isinstance(command, (Start, Check, Verify)):
            self._newest_command = command_id
            self.stop_script()  # of another candidate, whose result is not needed any more
        if isinstance(command, Start):
            return await self._start(command_id, command)
        if isinstance(command, Cancel):
            return await self._cancel(command)
        if isinstance(command, Trial):
            return await asyncio.to_thread(self.trial.run, command)
        if isinstance(command, (Verify, Rescue)):
            self.trial.stop()
        if isinstance(command, Rescue):
            return await self._rescue(command)
        if isinstance(command, Verify):
            await asyncio.to_thread(self.trial.clear)  # the verify is to find nothing of it
        async with self._work_lock:
            if isinstance(command, Check) and self._newest_command != command_id:
                raise WorkspaceError("stopped", "a newer command replaced this check")
            self._scripts.reset_stop()
            if isinstance(command, Check):
                return await asyncio.to_thread(self._scripts.check, command)
            return await asyncio.to_thread(self._scripts.verify, command)

    async def _report(self, command_id: str, result: Result, token: int | None = None) -> None:
        """Journal a result, waiting while the disk is full; then clear the job."""
        body = to_dict(ResultBody(command_id, result.ok, inline_small_bundle(self._state.places.home, result.data)))
        await self._retry_until_written(lambda: self._append_to_journal(body, durable=True))
        # Only now: a worker that dies before this goes on with the job and reports again.
        if self._state.job and self._state.job.token == token:
            self._state.job = None
        self._running.pop(command_id, None)
        await self._retry_until_written(self._state.save)
        self._wake_pusher.set()

    async def _retry_until_written(self, write: Callable[[], None]) -> None:
        """Call ``write`` until it succeeds; report the trouble to the captain meanwhile."""
        while True:
            try:
                write()
            except OSError as error:
                if not self._trouble:
                    traceback.print_exc()
                self._set_trouble(f"a result cannot be written to the ship's disk, retrying: {error.strerror or error}")
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._set_trouble("")
                return

    def _set_trouble(self, reason: str) -> None:
        if reason != self._trouble:
            self._trouble = reason
            self._wake_pusher.set()

    async def _start(self, command_id: str, args: Start) -> Outcome:
        """Run an attempt to its end and bundle the work that it left."""
        async with self._work_lock:
            if args.telemetry:
                await self.telemetry.open()
            if not (self._state.job and self._state.job.token == args.token):
                await asyncio.to_thread(self._attempts.launch, command_id, args)
            job = self._state.job
            assert job
            outcome = await self._attempts.wait(job)
            self.live.end(job)
            workspace = Workspace(self._state.places, self._state.ship)
            try:
                limits = Limits.from_mapping(read_json(Path(job.directory) / "limits.json") or {})
                take = partial(workspace.snapshot, job.base, f"attempt-{args.token}", limits=limits)
                snapshot = await asyncio.to_thread(take)
                outcome = replace(outcome, snapshot=snapshot)
            except UnfitWorkspace as error:
                outcome = replace(outcome, unfit=UnfitTree(error.reason, tuple(error.paths)))
            outcome = replace(outcome, other=await asyncio.to_thread(self._find_other_work, workspace, job, outcome))
            pack = partial(pack_artifacts, self._state.places, f"attempt-{args.token}-artifacts", args.token)
            outcome = replace(outcome, artifacts=await asyncio.to_thread(pack))
        facts = await asyncio.to_thread(self._attempts.read_facts, job)
        return replace(outcome, tail=read_tail(Path(job.log)), agent=facts)

    def _find_other_work(self, workspace: Workspace, job: Job, outcome: Outcome) -> OtherWork | None:
        """Bundle what an attempt left elsewhere than in the files of its snapshot."""
        known = outcome.snapshot.commit if outcome.snapshot else None
        name = f"attempt-{job.token}-other"
        return workspace.find_other_work(job.base, name, known, with_files=outcome.unfit is not None)

    async def _stop(self) -> None:
        """End the running attempt or check, if there is one; its command then ends by itself."""
        self.stop_script()
        await self._attempts.stop()

    def stop_script(self) -> None:
        """Kill the running check, if there is one."""
        self._scripts.stop()

    async def _cancel(self, args: Cancel) -> Mapping[str, Any]:
        """End the attempt ``token`` if it runs; reply when its own result is journalled."""
        start_id = f"start:{args.token}"
        starts = [task for name, task in self._running.items() if f"{name}:".startswith(f"{start_id}:")]
        await self._attempts.wait_until_launched(starts)
        if self._state.job and self._state.job.token == args.token:
            await self._stop()
        if starts:
            await asyncio.wait(starts, timeout=CANCEL_SECONDS * 4)
        return {}

    async def _rescue(self, args: Rescue) -> RescueResult:
        """Stop the agent and bundle everything that differs from the workspace's base."""
        job = self._state.job
        await self._stop()
        async with self._work_lock:
            base = job.base if job else self._state.workspace_commit
            workspace = Workspace(self._state.places, self._state.ship)
            if base is None:  # the workspace was never set to anything
                return RescueResult()
            take = partial(workspace.snapshot, base, f"rescue-{args.name}", lenient=True)
            snapshot = await asyncio.to_thread(take)
            find = partial(workspace.find_other_work, base, f"rescue-{args.name}-other", snapshot.commit)
            other = await asyncio.to_thread(find)
            token = last_token(self._state.places)
            if token is None:
                return RescueResult(snapshot, other)
            pack = partial(pack_artifacts, self._state.places, f"rescue-{args.name}-artifacts", token)
            return RescueResult(snapshot, other, await asyncio.to_thread(pack))

    async def resume_attempt(self) -> None:
        """Continue to wait for an attempt that an earlier worker started, so that its result is journalled."""
        if self._state.job:
            command_id = self._state.job.id or f"start:{self._state.job.token}"
            if command_id in self._state.results:
                self._state.job = None
                self._state.save()
            else:
                self.run_command(command_id, "start", {"token": self._state.job.token})


def _failure_result(code: str, reason: str, paths: Sequence[str] = ()) -> Result:
    return Result(ok=False, data=to_dict(Failure(code, reason, tuple(paths))))
