"""The attempt that runs on this ship: launch its supervisor, wait for its end, pass on what it writes.

The attempt survives the worker: its job file and its supervisor are on disk and in tmux; a
worker that starts again goes on waiting for them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Mapping

from ocaptain.protocol.codec import from_dict, to_dict
from ocaptain.protocol.envelope import AgentBody, Body, LogBody
from ocaptain.protocol.files import read_json, start_time, write_atomic, write_json
from ocaptain.protocol.messages import Outcome, Start
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.job import Job, JobFile
from ocaptain.worker.places import remove
from ocaptain.worker.procs import sweep
from ocaptain.worker.state import State
from ocaptain.worker.streams import module_of, own_env, replay
from ocaptain.worker.workspace import Workspace

POLL_SECONDS = 0.05
#: Between two looks at an attempt whose supervisor will wake who waits by its end.
LOOK_SECONDS = 0.25
SUPERVISOR_SECONDS = 30.0
CANCEL_SECONDS = 15.0
LOG_CHUNK = 48 * 1024
MAX_LOG = 64 * 1024 * 1024
MAX_LOGS = 20
FACTS_NANOSECONDS = 5 * 10**9
TMUX = "ocaptain"
SESSION = "agent"


class End:
    """Waits until it is time to look at a process again: at once when it ends (Linux 5.3), else now and then."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()
        self._fd: int | None = None

    def of(self, pid: int) -> None:
        """Watch a process from now on, if none is watched."""
        if self._fd is None:
            with contextlib.suppress(OSError, AttributeError):  # it has ended, or kernel or Python do not know this
                self._fd = os.pidfd_open(pid)
                self._ended.clear()
                asyncio.get_running_loop().add_reader(self._fd, self._set)

    def _set(self) -> None:
        self._ended.set()
        self.close()

    async def rest(self) -> None:
        """Wait for the end of the process, or for the next look."""
        if self._fd is None:
            await asyncio.sleep(POLL_SECONDS)
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), LOOK_SECONDS)

    def close(self) -> None:
        """Watch no more."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


class Attempts:
    """Runs one attempt at a time.

    Args:
        state: of the worker.
        program: the worker's zipapp.
        journal: takes a record that is no result; raises OSError where there is no room.
    """

    def __init__(self, state: State, program: Path, journal: Callable[[Body], None]) -> None:
        self._state = state
        self._program = program
        self._journal = journal
        self._facts_at = 0  # when the facts that were journalled last were saved, in nanoseconds

    def launch(self, command_id: str, args: Start) -> None:
        """Set the workspace to the attempt's base and start its supervisor. Blocks."""
        places = self._state.places
        places.make()
        self._tidy(args.token)
        workspace = Workspace(places, self._state.ship)
        workspace.take(args.bundle, args.base)
        workspace.pack()
        workspace.reset(args.base, args.branch)
        self._state.at = args.base
        directory = places.attempts / str(args.token)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        write_json(directory / "task.json", args.task)
        write_atomic(directory / "prompt.md", args.prompt.encode())
        write_atomic(directory / "resume.md", args.resume_prompt.encode())
        log = places.logs / f"{args.label}.log"
        log.unlink(missing_ok=True)
        marker = f"{self._state.fence.voyage}:{args.token}"
        stream = module_of(args.stream, args.view)
        job_file = JobFile(
            argv=args.argv,
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
            own_env=own_env(stream) if stream else (),
            path_file=args.path_file,
            stream=stream,
            resume=args.resume,
            prices=args.prices,
        )
        write_json(directory / "job.json", to_dict(job_file))
        self._state.job = Job(args.token, args.base, args.branch, str(directory), str(log), marker, command_id)
        self._facts_at = 0
        self._state.save()
        self._tmux(args.label, directory)

    def _tidy(self, token: int) -> None:
        """Remove what is of no use to a new attempt: the captain has everything of the ones before it.

        Agents' sessions are elsewhere; the newest logs stay, for people.
        """
        for old in self._state.places.outbox.iterdir():
            remove(old)
        for old in self._state.places.attempts.iterdir():
            if old.name != str(token):
                remove(old)
        logs = sorted(self._state.places.logs.glob("*.log"), key=lambda one: one.lstat().st_mtime)
        for old in logs[:-MAX_LOGS]:
            remove(old)

    def _tmux(self, label: str, directory: Path) -> None:
        """Start the supervisor in a window of session ``agent``."""
        tmux = ["tmux", "-L", TMUX, "-f", str(self._state.places.tmux_conf)]
        inside = ["python3", str(self._program), "supervise", str(directory)]
        window = ["-n", label[:40], "-c", str(self._state.places.voyage), *inside]
        for argv in (
            ["new-window", "-d", "-t", f"={SESSION}:", *window],
            ["new-session", "-d", "-s", SESSION, *window],
        ):
            done = subprocess.run([*tmux, *argv], capture_output=True, timeout=30, check=False)
            if done.returncode == 0:
                return
        raise WorkspaceError("tmux", f"tmux: {done.stderr.decode(errors='replace').strip()}")

    async def wait(self, job: Job) -> Outcome:
        """Wait for the supervisor's exit file, passing the log on; an orphan is swept up."""
        directory, began = Path(job.directory), time.monotonic()
        with contextlib.closing(End()) as end:
            while True:
                ended = read_json(directory / "exit.json")
                self._pass_log(job, final=ended is not None)
                self._pass_facts(job, final=ended is not None)
                if ended is not None:
                    return Outcome(int(ended["code"]), str(ended["reason"]), float(ended["seconds"]))
                keeper = read_json(directory / "supervisor.json")
                gone = keeper is not None and start_time(int(keeper["pid"])) != keeper["start"]
                late = keeper is None and time.monotonic() - began > SUPERVISOR_SECONDS
                if late:
                    raise WorkspaceError("tmux", "the agent's supervisor did not start")
                if gone and not (directory / "exit.json").exists():
                    await asyncio.to_thread(sweep, job.marker)
                    self._pass_log(job, final=True)
                    self._journal_facts(job, await asyncio.to_thread(self.read_facts, job))
                    return Outcome(137, "died", round(time.monotonic() - began, 3))
                if keeper is not None and not gone:
                    end.of(int(keeper["pid"]))
                await end.rest()

    def _pass_log(self, job: Job, *, final: bool) -> None:
        """Journal what the log grew by; the beginning of a very long one is all that travels."""
        with contextlib.suppress(OSError), open(job.log, "rb") as log:
            log.seek(job.sent)
            while job.sent < MAX_LOG and (data := log.read(LOG_CHUNK)):
                self._log(job, data)
            if final and job.sent >= MAX_LOG and log.read(1):
                note = f"\n[ocaptain: the rest of this log is on the ship: {job.log}]\n"
                self._log(job, note.encode())

    def _log(self, job: Job, data: bytes) -> None:
        # A log that cannot be journalled now is read again later: `sent` has not moved.
        self._journal(LogBody(job.token, job.sent, base64.b64encode(data).decode()))
        job.sent += len(data)

    def _pass_facts(self, job: Job, *, final: bool) -> None:
        """Journal what the agent's stream told so far, so that even a ship that is lost has told it.

        The last of it, too: there may be no result that brings it (a snapshot fails, the fleet is sunk).
        """
        path = Path(job.directory) / "facts.json"
        with contextlib.suppress(OSError):
            saved = path.stat().st_mtime_ns
            if saved - self._facts_at >= (1 if final else FACTS_NANOSECONDS):
                self._journal_facts(job, read_json(path))
                self._facts_at = saved

    def _journal_facts(self, job: Job, facts: Mapping[str, Any] | None) -> None:
        if facts is not None:
            with contextlib.suppress(OSError):
                self._journal(AgentBody(job.token, facts))

    def read_facts(self, job: Job) -> Mapping[str, Any] | None:
        """Return what the agent's stream told; read once more if its supervisor could not save it."""
        directory = Path(job.directory)
        facts: Mapping[str, Any] | None = read_json(directory / "facts.json")
        kept = directory / "stream.jsonl"
        if not (directory / "exit.json").exists() and kept.exists():
            job_file = from_dict(JobFile, read_json(directory / "job.json"))
            if stream := module_of(job_file.stream, job_file.view):
                replayed = replay(stream, kept, job_file.prices)
                facts = {"resumed": (facts or {}).get("resumed"), **replayed}
        return facts

    async def stop(self) -> None:
        """End the running attempt, if there is one; its command then ends by itself."""
        job = self._state.job
        if job is None:
            return
        keeper = read_json(Path(job.directory) / "supervisor.json")
        if keeper and start_time(int(keeper["pid"])) == keeper["start"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(keeper["pid"]), signal.SIGTERM)
        until = time.monotonic() + CANCEL_SECONDS
        while self._state.job is job and time.monotonic() < until:
            if (Path(job.directory) / "exit.json").exists():
                return
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.to_thread(sweep, job.marker)
