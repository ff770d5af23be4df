"""The worker's service: one captain at a time, one attempt at a time, everything journalled.

The way of a command: the channel's line → :meth:`Worker.command` → a job (a thread, since git
and waiting block) → a ``result`` record in the journal → the captain. A command id that is
known is not run again, so the captain may repeat what it is not sure of.

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
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Awaitable, Callable

from ocaptain.protocol import CLASSES, PROTOCOL, Fence, Lines, Message, Refused, decode, encode, record
from ocaptain.worker.hold import Hold
from ocaptain.worker.journal import Journal, Reader
from ocaptain.worker.places import Places, read_json, remove, write_atomic, write_json
from ocaptain.worker.procs import MARKER, start_time, sweep
from ocaptain.worker.stream import replay
from ocaptain.worker.workspace import Unfit, Workspace, WorkspaceError

POLL_SECONDS = 0.05
#: Between two looks at an attempt whose supervisor will wake who waits by its end.
LOOK_SECONDS = 0.25
SUPERVISOR_SECONDS = 30.0
CANCEL_SECONDS = 15.0
LOG_CHUNK = 48 * 1024
MAX_LOG = 64 * 1024 * 1024
TAIL_BYTES = 8 * 1024
#: Records that are sent before it is looked again for some of a class that goes before theirs.
BATCH = 16
KEPT_RESULTS = 40
KEPT_LOGS = 20
RETRY_SECONDS = 1.0
FACTS_NANOSECONDS = 5 * 10**9
#: What the supervisor is told of an agent beside argv, environment and limits.
LAUNCH = ("view", "env_files", "secret_files", "path_file", "resume", "prices")
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


class Worker:
    """The state of the service."""

    def __init__(self, places: Places, program: Path) -> None:
        self._places = places
        self._program = program
        self._journal = Journal(places.journal, places.former_journal)
        state = read_json(places.state) or {}
        self._fence = Fence(state.get("voyage", ""), state.get("epoch", 0), state.get("generation", 0))
        self._ship: str = state.get("ship", "ship")
        self._done: dict[str, dict[str, Any]] = state.get("done", {})  # the last results, by id
        self._job: dict[str, Any] | None = state.get("job")
        self._at: str | None = state.get("at")  # the commit that the workspace was last set to
        self._running: dict[str, asyncio.Task[None]] = {}
        self._saving = threading.Lock()
        self._work = asyncio.Lock()
        self._news = asyncio.Event()
        self._channel: Channel | None = None
        self._hold = Hold()
        self._script_pid: int | None = None
        self._trouble = ""  # why a result waits
        self._told_at = 0  # when the facts that were journalled last were saved, in nanoseconds

    # -- state on disk ----------------------------------------------------------------------

    def _save(self) -> None:
        with self._saving:  # the last one to come writes the last state
            for old in list(self._done)[:-KEPT_RESULTS]:
                self._done.pop(old, None)
            write_json(
                self._places.state,
                {
                    "voyage": self._fence.voyage,
                    "epoch": self._fence.epoch,
                    "generation": self._fence.generation,
                    "ship": self._ship,
                    "done": dict(self._done),
                    "job": self._job,
                    "at": self._at,
                },
            )

    def _record(self, body: Message, *, durable: bool) -> None:
        self._journal.append(body, durable=durable)
        self._news.set()

    # -- channels ---------------------------------------------------------------------------

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the unix socket."""
        channel = Channel(reader, writer)
        pusher: asyncio.Task[None] | None = None
        try:
            async for message in channel:
                if message["type"] == "hello":
                    if not await self._hello(channel, message):
                        return
                    if pusher is None:
                        pusher = asyncio.create_task(self._push(channel))
                elif self._channel is not channel:
                    return
                elif message["type"] == "ping":
                    await channel.send({"type": "pong"})
                else:
                    self._obey(channel, message)
        except (ConnectionError, OSError):
            pass
        finally:
            if pusher:
                pusher.cancel()
            if self._channel is channel:
                self._channel = None
            channel.close()

    async def _hello(self, channel: Channel, hello: Message) -> bool:
        try:
            self._fence.admit(hello)
        except Refused as reason:
            newer = {"epoch": self._fence.epoch, "generation": self._fence.generation}
            await channel.send({"type": "refused", "protocol": PROTOCOL, "reason": str(reason), **newer})
            return False
        self._ship = str(hello.get("ship", self._ship))
        with contextlib.suppress(OSError):  # a full disk: the fence is kept in memory, and saved with the next change
            self._save()
        older, self._channel = self._channel, channel
        if older and older is not channel:
            older.close()
        after = _numbers(hello.get("after"))
        known = hello.get("journal") == self._journal.name
        if known and any(after.get(name, 0) > self._journal.last(name) for name in CLASSES):
            self._journal.rename()  # the disk went back in time: those numbers mean something else now
            known = False
        channel.reader = self._journal.reader()
        for name in CLASSES:
            channel.go(name, after.get(name, 0) if known else self._journal.first(name) - 1)
        await channel.send(
            {
                "type": "welcome",
                "protocol": PROTOCOL,
                "journal": self._journal.name,
                "first": {name: self._journal.first(name) for name in CLASSES},
                "last": {name: self._journal.last(name) for name in CLASSES},
                "busy": self._job["token"] if self._job else None,
            }
        )
        return True

    def _obey(self, channel: Channel, message: Message) -> None:
        if message["type"] == "command":
            self.command(str(message.get("id")), str(message.get("name")), message.get("args") or {})
        elif message["type"] == "ack":
            self._journal.acknowledge(_numbers(message.get("upto")))
        elif message["type"] == "pull":
            after = message.get("after")
            if message.get("class") in CLASSES and isinstance(after, int):
                channel.go(str(message["class"]), after)
                self._news.set()
        elif message["type"] == "rest":
            channel.asked_to_rest = True
            self._news.set()

    async def _push(self, channel: Channel) -> None:
        """Send what the journal has: a few records of the first class that has any, then look again."""
        while True:
            self._news.clear()
            while await self._push_some(channel):
                pass
            if channel.told_trouble != self._trouble:
                channel.told_trouble = self._trouble
                await channel.send({"type": "trouble", "reason": channel.told_trouble})
            if channel.asked_to_rest and not self._running:
                channel.asked_to_rest = False
                self._hold.rest()
                await channel.send({"type": "resting", "last": {name: self._journal.last(name) for name in CLASSES}})
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), 5)

    async def _push_some(self, channel: Channel) -> bool:
        for name in CLASSES:
            batch = channel.reader.read(name, BATCH)
            for number, body in batch:
                if number != channel.sent[name] + 1:
                    await channel.send({"type": "dropped", "class": name, "upto": number - 1})
                await channel.send(record(number, body))
                channel.sent[name] = number
            if batch:
                return True
            if channel.sent[name] < self._journal.last(name):  # all of the rest has been dropped, or is not sound
                channel.sent[name] = self._journal.last(name)
                channel.reader.go(name, channel.sent[name])
                await channel.send({"type": "dropped", "class": name, "upto": channel.sent[name]})
        return False

    # -- commands ---------------------------------------------------------------------------

    def command(self, name_id: str, name: str, args: dict[str, Any]) -> None:
        """Run a command; one that runs goes on, the result of one that ended is told again."""
        if name_id in self._running:
            return
        if name_id in self._done:
            self._running[name_id] = asyncio.create_task(self._report(name_id, self._done[name_id]))
            return
        handlers: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "start": self._start,
            "cancel": self._cancel,
            "check": self._check,
            "verify": self._verify,
            "rescue": self._rescue,
        }
        self._running[name_id] = asyncio.create_task(self._run(name_id, handlers.get(name), name, args))

    async def _run(
        self,
        name_id: str,
        handler: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]] | None,
        name: str,
        args: dict[str, Any],
    ) -> None:
        ok, data = False, {}
        args = {**args, "id": name_id}
        try:
            if handler is None:
                raise WorkspaceError("unknown", f"this worker has no command {name}")
            with self._hold.while_working():
                data = await handler(args)
            ok = True
        except Unfit as error:
            data = {"code": "unfit", "reason": error.reason, "paths": error.paths}
        except WorkspaceError as error:
            data = {"code": error.code, "reason": str(error)}
        except Exception as error:  # noqa: BLE001 - whatever it was, the captain must hear of it
            traceback.print_exc()
            data = {"code": "internal", "reason": f"{type(error).__name__}: {error}"}
        result = {"ok": ok, "data": data}
        # An id that failed may be asked again: the captain repeats it with what was missing.
        if ok:
            self._done[name_id] = result
        await self._report(name_id, result, ends_job=name == "start")

    async def _report(self, name_id: str, result: dict[str, Any], *, ends_job: bool = False) -> None:
        """Journal a result, however long a full disk takes to have room for it; then forget the job."""
        body = {"kind": "result", "id": name_id, **result}
        await self._until_room(lambda: self._record(body, durable=True))
        # Only now: a worker that dies before this goes on with the job and reports again.
        if ends_job:
            self._job = None
        self._running.pop(name_id, None)
        await self._until_room(self._save)
        self._news.set()

    async def _until_room(self, write: Callable[[], None]) -> None:
        """Write, again and again while the disk refuses, and say so meanwhile."""
        while True:
            try:
                write()
            except OSError as error:
                if not self._trouble:
                    traceback.print_exc()
                self._say_trouble(f"a result waits to be written on the ship: {error.strerror or error}")
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._say_trouble("")
                return

    def _say_trouble(self, reason: str) -> None:
        if reason != self._trouble:
            self._trouble = reason
            self._news.set()

    async def _start(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run an attempt to its end and offer what it left."""
        token = int(args["token"])
        async with self._work:
            if not (self._job and self._job["token"] == token):
                await asyncio.to_thread(self._launch, args)
            job = self._job
            assert job
            ended = await self._wait(job)
            try:
                workspace = Workspace(self._places, self._ship)
                snapshot = await asyncio.to_thread(workspace.snapshot, job["base"], f"attempt-{token}")
            except Unfit as error:
                ended = {**ended, "unfit": {"reason": error.reason, "paths": error.paths}}
                snapshot = None
        told = await asyncio.to_thread(self._told, job)
        return {**ended, "token": token, "tail": _tail(Path(job["log"])), "snapshot": snapshot, "agent": told}

    def _launch(self, args: dict[str, Any]) -> None:
        self._places.make()
        self._tidy(int(args["token"]))
        workspace = Workspace(self._places, self._ship)
        workspace.take(args.get("bundle"), args["base"])
        workspace.pack()
        workspace.reset(args["base"], args["branch"])
        self._at = args["base"]
        directory = self._places.attempts / str(int(args["token"]))
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        write_json(directory / "task.json", args["task"])
        write_atomic(directory / "prompt.md", args["prompt"].encode())
        write_atomic(directory / "resume.md", args.get("resume_prompt", "").encode())
        log = self._places.logs / f"{args['label']}.log"
        log.unlink(missing_ok=True)
        marker = f"{self._fence.voyage}:{args['token']}"
        environment = {
            "OCAPTAIN_TASK_FILE": str(directory / "task.json"),
            "OCAPTAIN_WORKSPACE": str(self._places.workspace),
            "OCAPTAIN_ARTIFACTS": str(self._places.artifacts),
            **args["env"],
        }
        write_json(
            directory / "job.json",
            {
                "argv": args["argv"],
                "env": environment,
                "cwd": str(self._places.workspace),
                "log": str(log),
                "timeout": args["timeout"],
                "stall": args["stall"],
                "marker": marker,
                **{name: args[name] for name in LAUNCH if name in args},
            },
        )
        self._job = {
            "id": args["id"],
            "token": args["token"],
            "base": args["base"],
            "branch": args["branch"],
            "directory": str(directory),
            "log": str(log),
            "marker": marker,
            "sent": 0,
        }
        self._told_at = 0
        self._save()
        self._tmux(str(args["label"]), directory)

    def _tidy(self, token: int) -> None:
        """Remove what is of no use to a new attempt: the captain has everything of the ones before it.

        Agents' sessions are elsewhere; the newest logs stay, for people.
        """
        for old in self._places.outbox.iterdir():
            remove(old)
        for old in self._places.attempts.iterdir():
            if old.name != str(token):
                remove(old)
        logs = sorted(self._places.logs.glob("*.log"), key=lambda one: one.lstat().st_mtime)
        for old in logs[:-KEPT_LOGS]:
            remove(old)

    def _tmux(self, label: str, directory: Path) -> None:
        """Start the supervisor in a window of session ``agent``."""
        tmux = ["tmux", "-L", TMUX, "-f", str(self._places.tmux_conf)]
        inside = ["python3", str(self._program), "supervise", str(directory)]
        window = ["-n", label[:40], "-c", str(self._places.voyage), *inside]
        for argv in (
            ["new-window", "-d", "-t", f"={SESSION}:", *window],
            ["new-session", "-d", "-s", SESSION, *window],
        ):
            done = subprocess.run([*tmux, *argv], capture_output=True, timeout=30, check=False)
            if done.returncode == 0:
                return
        raise WorkspaceError("tmux", f"tmux: {done.stderr.decode(errors='replace').strip()}")

    async def _wait(self, job: dict[str, Any]) -> dict[str, Any]:
        """Wait for the supervisor's exit file, passing the log on; an orphan is swept up."""
        directory, began = Path(job["directory"]), time.monotonic()
        with contextlib.closing(End()) as end:
            while True:
                ended = read_json(directory / "exit.json")
                self._pass_log(job, final=ended is not None)
                self._pass_facts(job, final=ended is not None)
                if ended is not None:
                    return {"code": int(ended["code"]), "reason": str(ended["reason"]), "seconds": ended["seconds"]}
                keeper = read_json(directory / "supervisor.json")
                gone = keeper is not None and start_time(int(keeper["pid"])) != keeper["start"]
                late = keeper is None and time.monotonic() - began > SUPERVISOR_SECONDS
                if late:
                    raise WorkspaceError("tmux", "the agent's supervisor did not start")
                if gone and not (directory / "exit.json").exists():
                    await asyncio.to_thread(sweep, job["marker"])
                    self._pass_log(job, final=True)
                    self._tell(job, await asyncio.to_thread(self._told, job))
                    return {"code": 137, "reason": "died", "seconds": round(time.monotonic() - began, 3)}
                if keeper is not None and not gone:
                    end.of(int(keeper["pid"]))
                await end.rest()

    def _pass_log(self, job: dict[str, Any], *, final: bool) -> None:
        """Journal what the log grew by; the beginning of a very long one is all that travels."""
        with contextlib.suppress(OSError), open(job["log"], "rb") as log:
            log.seek(job["sent"])
            while job["sent"] < MAX_LOG and (data := log.read(LOG_CHUNK)):
                self._log(job, data)
            if final and job["sent"] >= MAX_LOG and log.read(1):
                note = f"\n[ocaptain: the rest of this log is on the ship: {job['log']}]\n"
                self._log(job, note.encode())

    def _log(self, job: dict[str, Any], data: bytes) -> None:
        # A log that cannot be journalled now is read again later: `sent` has not moved.
        body = {"kind": "log", "token": job["token"], "offset": job["sent"], "data": base64.b64encode(data).decode()}
        self._record(body, durable=False)
        job["sent"] += len(data)

    def _pass_facts(self, job: dict[str, Any], *, final: bool) -> None:
        """Journal what the agent's stream told so far, so that even a ship that is lost has told it.

        The last of it, too: there may be no result that brings it (a snapshot fails, the fleet is sunk).
        """
        path = Path(job["directory"]) / "facts.json"
        with contextlib.suppress(OSError):
            saved = path.stat().st_mtime_ns
            if saved - self._told_at >= (1 if final else FACTS_NANOSECONDS):
                self._tell(job, read_json(path))
                self._told_at = saved

    def _tell(self, job: dict[str, Any], facts: dict[str, Any] | None) -> None:
        if facts is not None:
            with contextlib.suppress(OSError):
                self._record({"kind": "agent", "token": job["token"], "facts": facts}, durable=False)

    def _told(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the agent's stream told; read once more if its supervisor could not save it."""
        directory = Path(job["directory"])
        facts: dict[str, Any] | None = read_json(directory / "facts.json")
        kept = directory / "stream.jsonl"
        if not (directory / "exit.json").exists() and kept.exists():
            prices = (read_json(directory / "job.json") or {}).get("prices") or {}
            facts = {"resumed": (facts or {}).get("resumed"), **replay(kept, prices)}
        return facts

    def stop_script(self) -> None:
        """End the check that runs, if there is one."""
        if self._script_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._script_pid, signal.SIGKILL)

    async def _stop_agent(self) -> None:
        """End the running attempt or check, if there is one; its command then ends by itself."""
        self.stop_script()
        job = self._job
        if job is None:
            return
        keeper = read_json(Path(job["directory"]) / "supervisor.json")
        if keeper and start_time(int(keeper["pid"])) == keeper["start"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(keeper["pid"]), signal.SIGTERM)
        until = time.monotonic() + CANCEL_SECONDS
        while self._job is job and time.monotonic() < until:
            if (Path(job["directory"]) / "exit.json").exists():
                return
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.to_thread(sweep, job["marker"])

    async def _cancel(self, args: dict[str, Any]) -> dict[str, Any]:
        """End the attempt ``token`` if it runs; answered when its own result is journalled."""
        if self._job and self._job["token"] == args.get("token"):
            await self._stop_agent()
        own = f"start:{args.get('token')}"
        for name_id, ending in list(self._running.items()):
            if name_id == own or name_id.startswith(f"{own}:"):
                await asyncio.wait([ending], timeout=CANCEL_SECONDS * 4)
        return {}

    async def _check(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run a task's check on a candidate."""
        async with self._work:
            workspace = Workspace(self._places, self._ship)
            await asyncio.to_thread(workspace.take, args.get("bundle"), args["commit"])
            await asyncio.to_thread(workspace.reset, args["commit"], args["branch"])
            self._at = args["commit"]
            return await asyncio.to_thread(self._script, ["bash", "-c", args["command"]], args)

    async def _verify(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the final verify on exactly ``commit``, with the captain's copy of the script."""
        async with self._work:
            return await asyncio.to_thread(self._verify_now, args)

    def _verify_now(self, args: dict[str, Any]) -> dict[str, Any]:
        workspace = Workspace(self._places, self._ship)
        workspace.take(args.get("bundle"), args["commit"])
        self._at = args["commit"]
        script = self._places.artifacts / "verify.sh"
        data = base64.b64decode(args["script"])
        write_atomic(script, data, 0o755)
        setup = args.get("setup")
        if setup:
            workspace.clone(args["commit"], args["branch"])
            done = self._script(["bash", "-c", setup], args)
            if done["code"]:
                return {**done, "clean": True, "stage": "setup"}
        else:
            workspace.reset(args["commit"], args["branch"])
        argv = [str(script)] if data.startswith(b"#!") else ["bash", str(script)]
        return {**self._script(argv, args), "clean": bool(setup), "stage": "verify"}

    def _script(self, argv: list[str], args: dict[str, Any]) -> dict[str, Any]:
        """Run a check in the workspace, bounded in time, its whole process tree with it."""
        marker = f"{self._fence.voyage}:check"
        sweep(marker)  # one that a killed worker left behind must not run beside this one
        log = self._places.logs / f"{args['label']}.log"
        began = time.monotonic()
        environment = {**os.environ, "OCAPTAIN_VOYAGE": self._fence.voyage, "OCAPTAIN_SHIP": self._ship, MARKER: marker}
        timed_out = False
        with open(log, "wb") as output:
            child = subprocess.Popen(
                argv,
                cwd=self._places.workspace,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._script_pid = child.pid
            try:
                code = child.wait(float(args["timeout"]))
            except subprocess.TimeoutExpired:
                timed_out, code = True, 124
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            finally:
                self._script_pid = None
        sweep(marker)
        seconds = round(time.monotonic() - began, 3)
        code = code if code >= 0 else 128 - code
        return {"code": code, "seconds": seconds, "timed_out": timed_out, "tail": _tail(log)}

    async def _rescue(self, args: dict[str, Any]) -> dict[str, Any]:
        """Stop the agent and snapshot whatever the workspace holds against what it was set to."""
        job = self._job
        await self._stop_agent()
        async with self._work:
            base = job["base"] if job else self._at
            workspace = Workspace(self._places, self._ship)
            if base is None:  # the workspace was never set to anything
                return {"snapshot": None}
            name = f"rescue-{args['name']}"
            snapshot = await asyncio.to_thread(lambda: workspace.snapshot(base, name, lenient=True))
        return {"snapshot": snapshot, "token": job["token"] if job else None}

    async def resume(self) -> None:
        """Take up the attempt that an earlier worker left, so that its result is journalled."""
        if self._job:
            name_id = str(self._job.get("id") or f"start:{self._job['token']}")
            if name_id in self._done:
                self._job = None
                self._save()
            else:
                self.command(name_id, "start", {"token": self._job["token"]})


class Channel:
    """One connection of the unix socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.reader: Reader
        self.sent: dict[str, int] = {}
        self.asked_to_rest = False
        self.told_trouble = ""

    def go(self, name: str, after: int) -> None:
        """Send the records of a class from behind ``after`` on."""
        self.sent[name] = after
        self.reader.go(name, after)

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        lines = Lines()
        while data := await self._reader.read(65536):
            for line in lines.feed(data):
                message = decode(line)
                if message is not None:
                    yield message

    async def send(self, message: Message) -> None:
        """Send a message; waits while the other end does not read."""
        self._writer.write(encode(message))
        await self._writer.drain()

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()


def _numbers(told: Any) -> dict[str, int]:
    """Return the numbers by class that a captain told."""
    if not isinstance(told, dict):
        return {}
    return {name: told[name] for name in CLASSES if isinstance(told.get(name), int)}


def _tail(path: Path) -> str:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - TAIL_BYTES))
        return file.read().decode(errors="replace")
    return ""


async def serve(places: Places, program: Path) -> None:
    """Serve on the unix socket until ended by a signal."""
    places.make()
    places.socket.unlink(missing_ok=True)
    worker = Worker(places, program)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    os.umask(0o077)
    server = await asyncio.start_unix_server(worker.connected, str(places.socket))
    os.umask(0o022)
    await worker.resume()
    await stopped.wait()
    worker.stop_script()
    server.close()
