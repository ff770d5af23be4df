"""Exec sessions: a command in a sandbox, its output stored for replay, any number of watchers.

Protocol facts: shared frame rules of the Sprites exec socket. Non-TTY messages are one
stream byte plus payload (0 stdin, 1 stdout, 2 stderr, 3 exit, 4 stdin EOF); TTY messages
are raw terminal bytes. Both ends carry a text ``{"type":"exit"}`` before the binary exit
frame, and output always goes out before either.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import struct
import termios
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ocaptain.drydock.enter import RunningProcess, SandboxCommand
from ocaptain.drydock.tasks import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ocaptain.drydock.sandbox import Sandbox

STDIN, STDOUT, STDERR, EXIT, STDIN_EOF = range(5)
CHUNK = 32 * 1024
REPLAY_BYTES = 1024 * 1024
DRAIN_SECONDS = 0.8  # for children that hold the pipe open after the command ended
TTY_RUN_AFTER_DISCONNECT = 0.0  # without limit
PIPE_RUN_AFTER_DISCONNECT = 10.0
# Not in the termios module of Python 3.11; the same on x86-64 and arm64 (asm-generic/ioctls.h).
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
SIGNALS = {name: getattr(signal, f"SIG{name}") for name in ("INT", "TERM", "HUP", "KILL", "QUIT", "USR1", "USR2")}


@dataclass(frozen=True)
class ExecRequest:
    """A command that a client wants to run.

    Attributes:
        argv: passed unchanged; no shell.
        environment: merged over the ship's base environment.
        cwd: a missing directory is ignored, as on the live service.
        tty: run on a pseudo terminal of ``rows`` by ``cols``.
        stdin: whether the client sends input; otherwise stdin is empty.
        run_after_disconnect: seconds that the command may run after the last client left; 0 = no limit.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/home/sprite"
    tty: bool = False
    rows: int = 24
    cols: int = 80
    stdin: bool = False
    run_after_disconnect: float = PIPE_RUN_AFTER_DISCONNECT


class AttachedClient(Protocol):
    """The receiving side of a session: a WebSocket, a chunked reply."""

    async def output(self, stream: int, data: bytes) -> None:
        """Receive a piece of output; may wait (back-pressure)."""

    async def exited(self, code: int) -> None:
        """Receive the exit code; nothing follows."""


class Session:
    """A running or ended command. Made by :meth:`start`."""

    def __init__(self, request: ExecRequest, process: RunningProcess, streams: Streams) -> None:
        self.request = request
        self.id = str(process.pid)
        self.leader = process.pid
        self.created = time.time()
        self.last_activity = self.created
        self.last_active_monotonic = time.monotonic()
        self.exit_code: int | None = None
        self.ended = asyncio.Event()
        self._process = process
        self._streams = streams
        self._replay: deque[tuple[int, bytes]] = deque()
        self._replay_bytes = 0
        self._output_bytes = 0
        self._watchers: list[AttachedClient] = []
        self._kill_timer: asyncio.TimerHandle | None = None
        self._runner: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    @classmethod
    async def start(cls, box: Sandbox, request: ExecRequest) -> Session:
        """Start the command; its output is stored from the first byte.

        Raises:
            ApiError: the command is invalid, or the sandbox does not exist any more.
        """
        environment = {
            **box.environment,
            **({"TERM": "xterm-256color"} if request.tty else {}),
            **request.environment,
        }
        command = SandboxCommand(
            box.init_pid,
            request.argv,
            environment,
            cwd=request.cwd,
            terminal=request.tty,
            group_files=box.group_files,
        )
        streams, child_ends = await asyncio.to_thread(_open_streams, box, request)
        try:
            process = await box.spawn(command, stdin=child_ends[0], stdout=child_ends[1], stderr=child_ends[2])
        except BaseException:
            streams.close()
            raise
        finally:
            for fd in set(child_ends):
                os.close(fd)
        session = cls(request, process, streams)
        session._runner = asyncio.create_task(session._run(), name=f"exec-{session.id}")
        session.detach(None)  # starts the time limit for a command without watchers
        return session

    @property
    def is_watched(self) -> bool:
        """Whether it runs and has an attached client."""
        return self.exit_code is None and bool(self._watchers)

    # -- watchers ---------------------------------------------------------------------

    async def attach(self, watcher: AttachedClient) -> None:
        """Send the stored output to ``watcher``, then all new output."""
        if self._kill_timer:
            self._kill_timer.cancel()
            self._kill_timer = None
        async with self._sending:
            for stream, data in self._replay:
                await watcher.output(stream, data)
            if self.exit_code is None:
                self._watchers.append(watcher)
                return
        await watcher.exited(self.exit_code)

    def detach(self, watcher: AttachedClient | None) -> None:
        """Forget ``watcher``; with nobody watching the command has ``run_on`` seconds left."""
        if watcher and watcher in self._watchers:
            self._watchers.remove(watcher)
        if (
            not self._watchers
            and self.exit_code is None
            and self.request.run_after_disconnect > 0
            and not self._kill_timer
        ):
            self._kill_timer = asyncio.get_running_loop().call_later(
                self.request.run_after_disconnect, self.signal, signal.SIGKILL
            )

    async def _publish_output(self, stream: int, data: bytes) -> None:
        self.last_activity, self.last_active_monotonic = time.time(), time.monotonic()
        async with self._sending:
            self._replay.append((stream, data))
            self._output_bytes += len(data)
            self._replay_bytes += len(data)
            while self._replay_bytes > REPLAY_BYTES:
                self._replay_bytes -= len(self._replay.popleft()[1])
            await self._notify(lambda watcher: watcher.output(stream, data))

    async def _notify(self, message: Callable[[AttachedClient], Awaitable[None]]) -> None:
        for watcher in list(self._watchers):
            try:
                await message(watcher)
            except Exception:  # noqa: BLE001 - whatever a client's connection does, the command goes on
                self.detach(watcher)

    # -- input ------------------------------------------------------------------------

    async def feed(self, data: bytes) -> None:
        """Write bytes to stdin or the terminal; wait while the command does not read."""
        self.last_activity = time.time()
        if self._streams.input is not None:
            await _write_all(self._streams.input, data)

    def end_input(self) -> None:
        """Close stdin (non-TTY only)."""
        if not self.request.tty:
            self._streams.close_input()

    def resize(self, rows: int, cols: int) -> None:
        """Set the terminal's size."""
        if self.request.tty and self._streams.input is not None:
            _set_size(self._streams.input, rows, cols)

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        self._process.signal(number)

    # -- the command's life -------------------------------------------------------------

    async def _run(self) -> None:
        pumps = [asyncio.create_task(self._publish_from(fd, stream)) for fd, stream in self._streams.outputs]
        code = await self._process.wait()
        # What the command itself wrote is in the pipes by now; somebody else may hold them open.
        open_pumps = set(pumps)
        while open_pumps:
            before = self.last_activity
            _, open_pumps = await asyncio.wait(open_pumps, timeout=DRAIN_SECONDS)
            # A watcher that is slow to take output is waited for, a silent pipe is not.
            if self.last_activity == before and not self._sending.locked():
                break
        for pump in open_pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._streams.close()
        if self._kill_timer:
            self._kill_timer.cancel()
        async with self._sending:
            self.exit_code = code
            await self._notify(lambda watcher: watcher.exited(code))
            self._watchers.clear()
        self.ended.set()

    async def _publish_from(self, fd: int, stream: int) -> None:
        while True:
            await _wait_until_ready(fd, writing=False)
            try:
                data = os.read(fd, CHUNK)
            except BlockingIOError:
                continue
            except OSError:  # EIO: the last process closed the terminal
                return
            if not data:
                return
            await self._publish_output(stream, data)

    async def kill(self) -> None:
        """Kill the command and wait for its end."""
        self.signal(signal.SIGKILL)
        if self._runner:
            await self._runner

    def describe(self) -> dict[str, object]:
        """Return the session as the list call shows it."""
        return {
            "id": self.id,
            "command": " ".join(self.request.argv),
            "workdir": self.request.cwd,
            "created": format_timestamp(self.created),
            "bytes_per_second": round(self._output_bytes / max(0.001, time.time() - self.created), 1),
            "is_active": self.exit_code is None,
            "last_activity": format_timestamp(self.last_activity),
            "tty": self.request.tty,
        }


def parse_signal(text: str) -> int | None:
    """Return the signal number of ``TERM``, ``SIGTERM`` or ``15``; None for an unknown signal."""
    name = text.upper().removeprefix("SIG")
    if re.fullmatch(r"[0-9]{1,2}", name):
        return int(name) if 0 < int(name) < signal.NSIG else None
    return SIGNALS.get(name)


@dataclass
class Streams:
    """Drydock's ends of a command's pipes or terminal.

    Attributes:
        input: descriptor to write the command's input to; None if there is none.
        outputs: descriptors to read output from, each with its stream number.
    """

    input: int | None
    outputs: tuple[tuple[int, int], ...]

    def close_input(self) -> None:
        """Close the writing end."""
        if self.input is not None and not any(fd == self.input for fd, _ in self.outputs):
            os.close(self.input)
            self.input = None

    def close(self) -> None:
        """Close everything."""
        self.close_input()
        for fd, _ in self.outputs:
            os.close(fd)
        self.input, self.outputs = None, ()


def _open_streams(box: Sandbox, request: ExecRequest) -> tuple[Streams, tuple[int, int, int]]:
    """Open a terminal or pipes; return drydock's ends and the command's stdin, stdout and stderr."""
    if request.tty:
        leader, follower = _open_terminal(box, request.rows, request.cols)
        return Streams(leader, ((leader, STDOUT),)), (follower, follower, follower)
    out, child_stdout = os.pipe2(os.O_CLOEXEC)
    err, child_stderr = os.pipe2(os.O_CLOEXEC)
    if request.stdin:
        child_stdin, input_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(input_end, False)
    else:
        child_stdin, input_end = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), None
    for fd in (out, err):
        os.set_blocking(fd, False)
    return Streams(input_end, ((out, STDOUT), (err, STDERR))), (child_stdin, child_stdout, child_stderr)


def _open_terminal(box: Sandbox, rows: int, cols: int) -> tuple[int, int]:
    """Open a pty of the sandbox's own devpts, so that its name is valid inside; return leader and follower."""
    leader = os.open(box.root / "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(leader, _TIOCSPTLCK, struct.pack("i", 0))
        follower = fcntl.ioctl(leader, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        os.fchown(follower, box.ids.sprite, -1)  # the group is devpts' own
        _set_size(leader, rows, cols)
    except BaseException:
        os.close(leader)
        raise
    return leader, follower


def _set_size(terminal: int, rows: int, cols: int) -> None:
    clamp = [max(1, min(value, 0xFFFF)) for value in (rows, cols)]
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *clamp, 0, 0))


async def _wait_until_ready(fd: int, *, writing: bool) -> None:
    """Wait until ``fd`` can be read or written."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    add(fd, _wake, ready)
    try:
        await ready
    finally:
        remove(fd)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``; wait while nobody reads. A closed reader is no error."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await _wait_until_ready(fd, writing=True)
        except OSError:
            return
