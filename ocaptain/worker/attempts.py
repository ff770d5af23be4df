"""The attempt that runs on this ship: start its supervisor, journal its output, wait for its end.

The attempt survives the worker: its job file is on disk and its supervisor runs in tmux; a
restarted worker continues to wait for them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from ocaptain.protocol.codec import from_dict, to_dict
from ocaptain.protocol.envelope import AgentBody, Body, LogBody
from ocaptain.protocol.files import read_json, start_time, write_atomic, write_json
from ocaptain.protocol.messages import Outcome, Start
from ocaptain.worker.artifacts import empty_artifacts
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.job import Job, JobFile, shell_argv
from ocaptain.worker.launcher import launch_supervisor
from ocaptain.worker.places import open_regular_file, remove_path
from ocaptain.worker.procs import kill_attempt_processes
from ocaptain.worker.state import State
from ocaptain.worker.streams import own_variable_prefixes, replay_stream, stream_module
from ocaptain.worker.task_list import TaskListKeeper
from ocaptain.worker.workspace import Workspace

POLL_SECONDS = 0.05
#: Between two checks of an attempt whose supervisor wakes the worker.
RECHECK_SECONDS = 5.0
LOG_SECONDS = 0.25  # shortest time between two journal records of the log
SUPERVISOR_SECONDS = 30.0
CANCEL_SECONDS = 15.0
LOG_CHUNK = 48 * 1024
MAX_LOG = 64 * 1024 * 1024
MAX_LOGS = 20
FACTS_INTERVAL_NANOSECONDS = 5 * 10**9


class AttemptEvents:
    """Waits for events of an attempt: its log grew, or its supervisor ended.

    Both are noticed at once (the end needs Linux 5.3); otherwise the wait ends after a short time.

    Args:
        path: path of the datagram socket that the supervisor writes to.
    """

    def __init__(self, path: Path) -> None:
        self._event = asyncio.Event()
        self._pid: int | None = None  # a descriptor of the process
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            self._loop.add_reader(self._socket, self._on_message)

    def watch_process(self, pid: int) -> None:
        """Watch a process for its end, unless one is watched already."""
        if self._pid is None:
            with contextlib.suppress(OSError, AttributeError):  # it has ended, or kernel or Python do not know this
                self._pid = os.pidfd_open(pid)
                self._loop.add_reader(self._pid, self._on_exit)

    def _on_message(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._socket.recv(64)
        self._loop.remove_reader(self._socket)
        self._loop.call_later(LOG_SECONDS, self._listen)  # messages until then are one event
        self._event.set()

    def _listen(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._on_message)

    def _on_exit(self) -> None:
        self._stop_watching()
        self._event.set()

    async def wait_for_event(self) -> None:
        """Wait for an event, or until it is time to look again."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._event.wait(), POLL_SECONDS if self._pid is None else RECHECK_SECONDS)
        self._event.clear()

    def close(self) -> None:
        """Stop watching and close the socket."""
        self._stop_watching()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _stop_watching(self) -> None:
        if self._pid is not None:
            self._loop.remove_reader(self._pid)
            os.close(self._pid)
            self._pid = None


class Attempts:
    """Runs one attempt at a time.

    Args:
        state: the worker's state.
        program: the worker's zipapp.
        journal: appends a log or facts record; raises OSError if the disk is full.
        reporting: returns the environment with which an agent reports to this worker, by what the agent needs for it.

    Attributes:
        task_list: keeps the agent's task list.
    """

    def __init__(
        self,
        state: State,
        program: Path,
        journal: Callable[[Body], None],
        reporting: Callable[[Mapping[str, str]], Mapping[str, str]],
    ) -> None:
        self._state = state
        self._program = program
        self._journal = journal
        self.task_list = TaskListKeeper(state.places)
        self._reporting = reporting
        self._facts_at = 0  # modification time of the last journalled facts, in nanoseconds

    def launch(self, command_id: str, args: Start) -> None:
        """Set the workspace to the attempt's base and start its supervisor (blocking)."""
        places = self._state.places
        places.make()
        self._remove_leftovers(args)
        workspace = Workspace(places, self._state.ship)
        workspace.import_commit(args.bundle, args.base)
        workspace.import_saved(args.saved)
        workspace.repack()
        workspace.reset(args.base, args.branch)
        workspace.add_saved_ref()
        self._state.workspace_commit = args.base
        directory = places.attempts / str(args.token)
        remove_path(directory)
        directory.mkdir(parents=True)
        write_json(directory / "task.json", args.task)
        write_json(directory / "limits.json", args.limits)
        write_atomic(directory / "prompt.md", args.prompt.encode())
        write_atomic(directory / "resume.md", args.resume_prompt.encode())
        log = places.logs / f"{args.label}.log"
        log.unlink(missing_ok=True)
        marker = f"{self._state.fence.voyage}:{args.token}"
        stream = stream_module(args.stream, args.view)
        job_file = JobFile(
            argv=tuple(shell_argv(args.argv, directory / "run.sh")),
            env={
                "OCAPTAIN_TASK_FILE": str(directory / "task.json"),
                "OCAPTAIN_WORKSPACE": str(places.workspace),
                "OCAPTAIN_ARTIFACTS": str(places.artifacts),
                **args.env,
            },
            cwd=str(places.workspace),
            log=str(log),
            timeout=args.timeout,
            stall=args.stall,
            marker=marker,
            env_files=args.env_files,
            secret_files=args.secret_files,
            own_env=own_variable_prefixes(stream) if stream else (),
            path_file=args.path_file,
            stream=stream,
            project=args.project,
            screen=args.screen,
            repo_settings=args.repo_settings,
            task_list=args.task_list,
            resume=args.resume,
            prices=args.prices,
            telemetry=self._reporting(args.telemetry),
            news=str(places.news),
        )
        write_json(directory / "job.json", to_dict(job_file))
        self._state.job = Job(args.token, args.base, args.branch, str(directory), str(log), marker, command_id)
        self._facts_at = 0
        self._state.save()
        self.task_list.begin(args.task_list, self._state.fence.voyage)
        try:
            launch_supervisor(places, self._program, args.label, directory)
        except WorkspaceError:
            self._kill(self._state.job)  # it may have started nevertheless
            raise

    def _remove_leftovers(self, args: Start) -> None:
        """Remove the files of earlier attempts: the captain has received all of them.

        Agents' sessions are stored elsewhere; the newest logs stay, for people.
        """
        empty_artifacts(self._state.places)
        for old in self._state.places.outbox.iterdir():
            remove_path(old)
        for old in self._state.places.attempts.iterdir():
            if old.name != str(args.token):
                remove_path(old)
        bundles = [args.bundle, args.saved.bundle if args.saved else None]
        needed = {part.path.rpartition("/")[2] for one in bundles if one for part in one.parts}
        for old in self._state.places.inbox.iterdir():  # of checks that were cancelled before they began
            if old.name not in needed:
                remove_path(old)
        logs = sorted(self._state.places.logs.glob("*.log"), key=lambda one: one.lstat().st_mtime)
        for old in logs[:-MAX_LOGS]:
            remove_path(old)

    async def wait(self, job: Job) -> Outcome:
        """Wait for the supervisor's exit file; journal log and facts, and keep the agent's task list, meanwhile.

        If the supervisor died, kill the rest of the attempt.
        """
        async with self.task_list.kept(Path(job.directory), self._state.fence.voyage):
            return await self._wait_for_end(job)

    async def _wait_for_end(self, job: Job) -> Outcome:
        directory, began = Path(job.directory), time.monotonic()
        with contextlib.closing(AttemptEvents(self._state.places.news)) as events:
            while True:
                exit_record = read_json(directory / "exit.json")
                self._journal_new_log(job, final=exit_record is not None)
                self._journal_new_facts(job, final=exit_record is not None)
                if exit_record is not None:
                    return Outcome(int(exit_record["code"]), str(exit_record["reason"]), float(exit_record["seconds"]))
                supervisor = read_json(directory / "supervisor.json")
                gone = supervisor is not None and not (
                    supervisor["start"] and start_time(int(supervisor["pid"])) == supervisor["start"]
                )
                late = supervisor is None and time.monotonic() - began > SUPERVISOR_SECONDS
                if late:
                    raise WorkspaceError(
                        "tmux", f"the agent's supervisor did not start within {SUPERVISOR_SECONDS:g} s"
                    )
                if gone and not (directory / "exit.json").exists():
                    await asyncio.to_thread(kill_attempt_processes, job.marker)
                    self._journal_new_log(job, final=True)
                    self._journal_facts(job, await asyncio.to_thread(self.read_facts, job))
                    return Outcome(137, "died", round(time.monotonic() - began, 3))
                if supervisor is not None and not gone:
                    events.watch_process(int(supervisor["pid"]))
                await events.wait_for_event()

    def _journal_new_log(self, job: Job, *, final: bool) -> None:
        """Journal the new part of the log; of a very long log only the beginning is sent."""
        with contextlib.suppress(OSError), open_regular_file(Path(job.log)) as log:
            log.seek(job.sent)
            while job.sent < MAX_LOG and (data := log.read(LOG_CHUNK)):
                self._journal_log_chunk(job, data, os.fstat(log.fileno()).st_mtime)
            if final and job.sent >= MAX_LOG and log.read(1):
                note = f"\n[ocaptain: the rest of this log is on the ship: {job.log}]\n"
                self._journal_log_chunk(job, note.encode(), time.time())

    def _journal_log_chunk(self, job: Job, data: bytes, at: float) -> None:
        # A log that cannot be journalled now is read again later: `sent` has not moved.
        self._journal(LogBody(job.token, job.sent, base64.b64encode(data).decode(), at=at))
        job.sent += len(data)

    def _journal_new_facts(self, job: Job, *, final: bool) -> None:
        """Journal the facts from the agent's stream so far, so that the captain has them if the ship is lost.

        The final facts, too: there may be no result that carries them (a snapshot fails, the fleet is sunk).
        """
        path = Path(job.directory) / "facts.json"
        with contextlib.suppress(OSError):
            saved = path.stat().st_mtime_ns
            if saved - self._facts_at >= (1 if final else FACTS_INTERVAL_NANOSECONDS):
                self._journal_facts(job, read_json(path))
                self._facts_at = saved

    def _journal_facts(self, job: Job, facts: Mapping[str, Any] | None) -> None:
        if facts is not None:
            with contextlib.suppress(OSError):
                self._journal(AgentBody(job.token, facts))

    def read_facts(self, job: Job) -> Mapping[str, Any] | None:
        """Return the facts from the agent's stream; replay the saved stream if the supervisor did not end normally."""
        directory = Path(job.directory)
        facts: Mapping[str, Any] | None = read_json(directory / "facts.json")
        saved_stream = directory / "stream.jsonl"
        if not (directory / "exit.json").exists() and saved_stream.exists():
            job_file = from_dict(JobFile, read_json(directory / "job.json"))
            if stream := stream_module(job_file.stream, job_file.view):
                replayed = replay_stream(stream, saved_stream, job_file.prices)
                facts = {"resumed": (facts or {}).get("resumed"), **replayed}
        return facts

    async def wait_until_launched(self, starts: Sequence["asyncio.Task[None]"]) -> None:
        """Wait until one of these ``start`` commands has launched its attempt, or all have ended."""
        for _ in range(int(CANCEL_SECONDS / POLL_SECONDS)):
            if self._state.job or all(one.done() for one in starts):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        """End the running attempt, if there is one; its ``start`` command then ends by itself."""
        job = self._state.job
        if job is None:
            return
        until = time.monotonic() + CANCEL_SECONDS
        is_told = False
        while self._state.job is job and time.monotonic() < until:
            if not is_told:  # a supervisor that is just being started is told as soon as it is there
                is_told = self._signal(job, signal.SIGTERM)
                self._signal(job, signal.SIGCONT)  # in case the agent stopped it
            if (Path(job.directory) / "exit.json").exists():
                return
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.to_thread(self._kill, job)

    def _signal(self, job: Job, number: int) -> bool:
        """Send a signal to the supervisor of an attempt; return whether it ever ran."""
        supervisor = read_json(Path(job.directory) / "supervisor.json")
        if supervisor and supervisor["start"] and start_time(int(supervisor["pid"])) == supervisor["start"]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(supervisor["pid"]), number)
        return supervisor is not None

    def _kill(self, job: Job) -> None:
        """Kill everything of an attempt, and remove its job file so that nothing starts it."""
        with contextlib.suppress(OSError):
            (Path(job.directory) / "job.json").unlink(missing_ok=True)
        self._signal(job, signal.SIGKILL)
        kill_attempt_processes(job.marker)
