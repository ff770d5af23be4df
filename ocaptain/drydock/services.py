"""Services of a sprite: supervised commands with a log, restarted when they crash."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from ocaptain.drydock.enter import RunningProcess, SandboxCommand
from ocaptain.drydock.errors import ApiError, FsError
from ocaptain.drydock.files import Files
from ocaptain.drydock.tasks import format_timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from ocaptain.drydock.record import ServiceDefinition
    from ocaptain.drydock.sandbox import Sandbox

STABLE_AFTER_SECONDS = 10.0  # one that ran this long starts again at once
MAX_BACKOFF_SECONDS = 30.0
DRAIN_SECONDS = 0.8
STOP_SECONDS = 10.0
STREAMS = ("stdout", "stderr")
MAX_LINE = 64 * 1024


class Service:
    """One service; :meth:`start` and :meth:`stop` may be called any number of times."""

    def __init__(self, box: Sandbox, name: str, definition: ServiceDefinition) -> None:
        self.name = name
        self.definition = definition
        self.status = "stopped"
        self.error: str | None = None
        self.restart_count = 0
        #: A requested stop, which continues if the client disconnects.
        self.stopping: asyncio.Task[None] | None = None
        self.started_at: str | None = None
        self._next_restart: str | None = None
        self._box = box
        self._process: RunningProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._listeners: list[asyncio.Queue[dict[str, object]]] = []

    def describe(self) -> dict[str, object]:
        """Return definition and state as the API shows them."""
        state = {
            "name": self.name,
            "status": self.status,
            "pid": self._process.pid if self._process and self.status == "running" else None,
            "started_at": self.started_at,
            "error": self.error,
            "restart_count": self.restart_count,
            "next_restart_at": self._next_restart,
        }
        shown = {key: value for key, value in state.items() if value is not None}
        return {"name": self.name, **self.definition.model_dump(exclude_none=True), "state": shown}

    async def start(self) -> None:
        """Start the supervised command; do nothing if it runs."""
        if self._supervisor is None or self._supervisor.done():
            self.status = "starting"
            self._supervisor = asyncio.create_task(self._supervise(), name=f"service-{self.name}")

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop permanently: send TERM, and KILL after ``seconds``."""
        if self._supervisor is None or self._supervisor.done():
            self.status = "stopped"
            return
        self.status = "stopping"
        self._emit("stopping")
        process = self._process
        if process:
            process.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), seconds)
            # Also what outlived the leader of its group.
            process.signal(signal.SIGKILL)
        self._supervisor.cancel()
        await asyncio.gather(self._supervisor, return_exceptions=True)
        self.status = "stopped"
        self._emit("stopped")

    async def suspend(self) -> None:
        """End the command because its sprite ends; it starts again with the next boot."""
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        self.status = "stopped"

    def signal(self, number: int) -> bool:
        """Send a signal to the service's process group; return False if it does not run."""
        if self._process is None or self._process.has_ended:
            return False
        self._process.signal(number)
        return True

    def follow_events(self, seconds: float, last_kind: str = "exit") -> AsyncIterator[dict[str, object]]:
        """Return the events from now until one of type ``last_kind``, or for ``seconds``; then ``complete``."""
        queue: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self._listeners.append(queue)
        return self._events(queue, seconds, last_kind)

    async def _events(
        self, queue: asyncio.Queue[dict[str, object]], seconds: float, last_kind: str
    ) -> AsyncIterator[dict[str, object]]:
        until = time.monotonic() + seconds
        try:
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), max(0.05, until - time.monotonic()))
                except TimeoutError:
                    break
                yield event
                if event["type"] in {last_kind, "stopped", "error"} or time.monotonic() > until:
                    break
        finally:
            self._listeners.remove(queue)
        yield {**_event("complete"), "log_files": dict.fromkeys(("combined", *STREAMS), self.log_path)}

    @property
    def log_path(self) -> str:
        """Path of the log file inside the sprite."""
        return f"/.sprite/logs/services/{self.name}.log"

    def _emit(self, kind: str, **extra: object) -> None:
        for queue in self._listeners:
            queue.put_nowait({**_event(kind), **extra})

    async def _supervise(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            self._next_restart = None
            try:
                code = await self._run_once()
            except (ApiError, OSError) as error:
                code = 126
                self._emit("error", data=str(error))
            if self.status == "stopping":
                return
            failures = 0 if time.monotonic() - began > STABLE_AFTER_SECONDS else failures + 1
            wait = min(MAX_BACKOFF_SECONDS, 2.0 ** (failures - 1)) if failures else 0.0
            self.status = "failed"
            self.error = f"exited with {code}"
            self._next_restart = format_timestamp(time.time() + wait)
            await asyncio.sleep(wait)
            self.restart_count += 1

    async def _run_once(self) -> int:
        definition = self.definition
        command = SandboxCommand(
            self._box.init_pid,
            [definition.cmd, *definition.args],
            {**self._box.environment, **definition.env},
            cwd=definition.dir,
            group_files=self._box.group_files,
        )
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in STREAMS]
        (out, err), (child_stdout, child_stderr) = zip(*pipes, strict=True)
        try:
            with open(os.devnull, "rb") as nothing:  # noqa: ASYNC230, PTH123
                process = await self._box.spawn(
                    command, stdin=nothing.fileno(), stdout=child_stdout, stderr=child_stderr
                )
        except BaseException:
            os.close(out)
            os.close(err)
            raise
        finally:
            os.close(child_stdout)
            os.close(child_stderr)
        self._process = process
        self.status = "running"
        self.started_at = format_timestamp(time.time())
        self._emit("started")
        logging = [
            asyncio.create_task(self._write_log(fd, stream)) for fd, stream in zip((out, err), STREAMS, strict=True)
        ]
        try:
            code = await process.wait()
            await asyncio.wait(logging, timeout=DRAIN_SECONDS)
        finally:
            process.signal(signal.SIGKILL)
            for task in logging:
                task.cancel()
            await asyncio.gather(*logging, return_exceptions=True)
        self._emit("exit", exit_code=code)
        return code

    async def _write_log(self, out: int, stream: str) -> None:
        """Write the service's output to its log; a log that cannot be written does not end the service."""
        transport: asyncio.ReadTransport | None = None
        log: int | None = None
        try:
            reader = asyncio.StreamReader()
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(out, "rb", buffering=0)
            )
            # Through the sandbox's root: the ship's user may have planted a link there.
            with contextlib.suppress(FsError):
                log = await Files(self._box.root, self._box.ids).open_append(self.log_path)
            rest = b""
            while data := await reader.read(16 * 1024):
                rest = _write_log_lines(log, stream, rest + data)
                self._emit(stream, data=data.decode(errors="replace"))
            if rest:
                _write_log_lines(log, stream, rest + b"\n")
        finally:
            if transport is not None:
                transport.close()
            if log is not None:
                os.close(log)


def _write_log_lines(log: int | None, stream: str, data: bytes) -> bytes:
    """Write complete lines with time and stream, as on the live service; return the incomplete rest."""
    *lines, rest = data.split(b"\n")
    if len(rest) > MAX_LINE:
        lines, rest = [*lines, rest], b""
    head = f"{format_timestamp(time.time())} [{stream}] ".encode()
    if log is not None and lines:
        with contextlib.suppress(OSError):
            os.write(log, b"".join(head + line + b"\n" for line in lines))
    return rest


def sort_by_needs(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the services with each one after those that it needs; a cycle is cut anywhere."""
    done: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen or name not in needs:
            return
        seen.add(name)
        for other in needs[name]:
            visit(other)
        done.append(name)

    for name in sorted(needs):
        visit(name)
    return done


def _event(kind: str) -> dict[str, object]:
    return {"type": kind, "timestamp": int(time.time() * 1000)}
