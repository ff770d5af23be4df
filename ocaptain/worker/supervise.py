"""One agent's keeper: runs in tmux, outlives worker and captain, leaves an exit file.

It bounds the attempt on the ship (time, silence) so that a hung agent ends without anybody
watching, and takes every process of the attempt with it: as a child subreaper it inherits
the orphans, and what escaped even that carries the attempt's marker in its environment.

What the agent says goes to the attempt's log and to the pane, without the secrets that it was
given: as it is, or drawn by the agent's own ``stream`` module; then it is saved beside the job, with
what it said in ``facts.json``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import selectors
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, List, Optional, Tuple

from ocaptain.protocol import LineSplitter
from ocaptain.protocol.codec import from_dict
from ocaptain.protocol.files import read_json, start_time, write_json
from ocaptain.worker.errors import Refused
from ocaptain.worker.job import JobFile
from ocaptain.worker.launch import Start, prepare
from ocaptain.worker.procs import MARKER, sweep
from ocaptain.worker.show import MAX_LINE, LineMask, Masker
from ocaptain.worker.streams import new_stream

_PR_SET_CHILD_SUBREAPER = 36
TERM_SECONDS = 5.0
SAVE_SECONDS = 1.0
LOOK_SECONDS = 3600.0
POLL_SECONDS = 0.05
QUIET_SECONDS = 0.2
DRAW_MILLISECONDS = 200
PAUSE_SECONDS = 0.01
AFTER_SECONDS = 5.0  # what an agent's children may still say after it
MAX_LEFT = 4 * 1024 * 1024
MAX_STREAM = 256 * 1024 * 1024


class Stopped(Exception):
    """Somebody asked the supervisor to end the attempt."""


def _stop(number: int, _: Any) -> None:
    raise Stopped(signal.Signals(number).name)


def supervise(directory: Path, begun: Callable[[], None]) -> int:
    """Run the job described by ``directory/job.json``; return the agent's exit code.

    Args:
        directory: of the job.
        begun: called when ``supervisor.json`` is there; not if another supervisor has the job.

    ``exit.json`` then holds code, reason (``exit``, ``timeout``, ``stall``, ``stopped``; ``error``: this ship
    cannot start it; ``refused``: it is not started with what the repository sets) and seconds.
    """
    job = from_dict(JobFile, read_json(directory / "job.json"))
    if not _hold(directory):
        return 1  # another supervisor has it
    marker = job.marker
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    write_json(directory / "supervisor.json", {"pid": os.getpid(), "start": start_time(os.getpid())})
    begun()
    began = time.monotonic()
    code, reason = 127, "error"
    child: subprocess.Popen[bytes] | None = None
    view: Optional[View] = None
    try:
        start = prepare(job, directory, Path(os.environ.get("OCAPTAIN_SHIP_HOME") or Path.home()))
        with open(start.prompt, "rb") as prompt, open(job.log, "ab", buffering=0) as log:
            log.write("".join(f"ocaptain: {note}\n" for note in start.notes).encode(errors="replace"))
            view = _view(job, directory, start, log)
            child = subprocess.Popen(
                start.argv,
                cwd=job.cwd,
                env={**start.env, MARKER: marker},
                stdin=prompt,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if view.apart else subprocess.STDOUT,
                start_new_session=True,
            )
            reason = _watch(child, view, began, job.timeout, job.stall)
            code = _end(child) if reason != "exit" else child.wait()
            _drain(child, view)
    except Stopped:
        _ignore_signals()
        reason = "stopped"
        code = _end(child) if child else 143
        if child and view:
            _drain(child, view)
    except (OSError, Refused) as error:
        code, reason = _not_started(error, job.log)
    _ignore_signals()
    sweep(marker, root=os.getpid(), spare=frozenset({os.getpid()}))
    seconds = round(time.monotonic() - began, 3)
    if view:
        view.close()
    write_json(
        directory / "exit.json",
        {"code": code if code >= 0 else 128 - code, "reason": reason, "seconds": seconds},
    )
    return code


def _not_started(error: Exception, log: str) -> Tuple[int, str]:
    """Say why an agent was not started; return the exit code and the reason."""
    refused = isinstance(error, Refused)
    with contextlib.suppress(OSError), open(log, "ab") as file:
        told = str(error) if refused else f"ocaptain: the agent could not be started: {error}"
        file.write(f"{told}\n".encode(errors="replace"))
    if refused:
        return 126, "refused"
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        return 126, "exit"  # not the ship's fault: no ship can start it, as a shell says by this code
    return 127, "error"


def _hold(directory: Path) -> bool:
    """Hold a job until this process ends; return whether nobody else does."""
    lock = os.open(directory / "begun", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class View:
    """How output reaches log and pane: as it is, but for secrets. Nothing is shown twice.

    Attributes:
        apart: whether standard error is to come by a pipe of its own.
    """

    apart = False

    def __init__(self, log: BinaryIO, mask: Masker, news: str = "") -> None:
        self._log = os.dup(log.fileno())
        self._mask = LineMask(mask)
        self._news = news
        self._way = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._way.settimeout(0)
        if os.isatty(1):  # the launcher's, which never reads or writes there but for us
            os.set_blocking(1, False)

    def take(self, data: bytes, *, error: bool = False) -> None:
        """Take what the agent said."""
        del error
        self._show(self._mask.feed(data))

    def tick(self) -> float:
        """Do what is due; return the seconds after which something is again, 0 for nothing."""
        return 0.0

    def close(self) -> None:
        """Show what is left."""
        self._show(self._mask.close())
        os.close(self._log)
        self._way.close()

    def _show(self, data: bytes) -> None:
        if data:
            with contextlib.suppress(OSError):
                os.write(self._log, data)
            self._draw(data)
            self._tell()

    def _draw(self, data: bytes) -> None:
        """Write to the pane what it takes now: one that somebody holds still must hold nothing else."""
        with contextlib.suppress(OSError):
            writable = select.poll()
            writable.register(1, select.POLLOUT)
            view = memoryview(data)
            while view and writable.poll(DRAW_MILLISECONDS):
                view = view[_write_some(view) :]

    def _tell(self) -> None:
        """Wake the worker, if there is one; a full socket has woken it already."""
        if self._news:
            with contextlib.suppress(OSError):
                self._way.sendto(b"", self._news)


class StreamView(View):
    """Draws an agent's stream; saves it, masked, and what it said."""

    apart = True

    def __init__(self, log: BinaryIO, start: Start, directory: Path, stream: Any, news: str) -> None:
        super().__init__(log, start.mask, news)
        self._secrets = start.mask
        self._directory = directory
        self._resumed = start.resumed
        self._lines = LineSplitter(MAX_LINE)
        self._stream = stream
        self._kept = open(directory / "stream.jsonl", "ab", buffering=0, opener=_private)  # noqa: SIM115 - closed below
        self._size = 0
        self._saved = 0.0

    def take(self, data: bytes, *, error: bool = False) -> None:
        """Draw whole lines; what is said on standard error is shown as it is."""
        if error:
            super().take(data)
            return
        for line in self._lines.feed(data):
            self._take_line(self._secrets(line))

    def _take_line(self, line: bytes) -> None:
        if self._size < MAX_STREAM:
            with contextlib.suppress(OSError):
                self._size += self._kept.write(line + b"\n")
        shown: List[str] = self._stream.line(line)
        self._show("".join(f"{one}\n" for one in shown).encode(errors="replace"))

    def tick(self) -> float:
        """Save what is known, at most once a second."""
        if not self._stream.changed:
            return 0.0
        left = self._saved + SAVE_SECONDS - time.monotonic()
        if left > 0:
            return left
        self._save()
        return 0.0

    def _save(self) -> None:
        self._stream.changed = False
        self._saved = time.monotonic()
        with contextlib.suppress(OSError):
            write_json(self._directory / "facts.json", {**self._stream.facts(), "resumed": self._resumed})
        self._tell()

    def close(self) -> None:
        """Take a last line without an end, and save."""
        for line in self._lines.feed(b"\n"):
            if line:
                self._take_line(self._secrets(line))
        self._save()
        self._kept.close()
        super().close()


def _write_some(data: memoryview) -> int:
    """Write to the pane without waiting; return how many bytes it took."""
    try:
        return os.write(1, data)
    except BlockingIOError:
        time.sleep(PAUSE_SECONDS)  # there is room, but not enough
        return 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _view(job: JobFile, directory: Path, start: Start, log: BinaryIO) -> View:
    if job.stream:
        return StreamView(log, start, directory, new_stream(job.stream, job.prices), job.news)
    return View(log, start.mask, job.news)


def _watch(child: subprocess.Popen[bytes], view: View, began: float, timeout: float, stall: float) -> str:
    """Pass output on until the agent ends or a limit is passed; wakes only for these."""
    spoke = time.monotonic()
    ended_at: float | None = None
    with selectors.DefaultSelector() as selector, _end_of(child.pid) as end:
        _register(selector, child, end)
        while True:
            now = time.monotonic()
            left = min(began + timeout - now, spoke + stall - now, view.tick() or LOOK_SECONDS)
            if end is None or ended_at is not None:  # nobody says when it ends, or it has
                left = min(left, POLL_SECONDS)
            # An empty selector: it closed its output, and its limits still hold.
            keys = [key for key, _ in selector.select(timeout=max(0.0, left + 0.001)) if key.fileobj != end]
            now = time.monotonic()
            data = _take(selector, keys, child, view)
            spoke = now if data else spoke
            if child.poll() is None:
                if now - began > timeout:
                    return "timeout"
                if now - spoke > stall:
                    return "stall"
                continue
            if ended_at is None:
                ended_at = now
                if end is not None:
                    selector.unregister(end)
            # A background child may hold the pipe; what the agent itself said is there.
            quiet = not data and now - ended_at > QUIET_SECONDS
            if not selector.get_map() or quiet or now - ended_at > AFTER_SECONDS:
                return "exit"


def _register(selector: selectors.BaseSelector, child: subprocess.Popen[bytes], end: Optional[int]) -> None:
    for pipe in filter(None, (child.stdout, child.stderr)):
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe, selectors.EVENT_READ)
    if end is not None:
        selector.register(end, selectors.EVENT_READ)


@contextlib.contextmanager
def _end_of(pid: int) -> Iterator[Optional[int]]:
    """Yield a descriptor that can be read when a process has ended; None if kernel or Python have none."""
    fd = None
    with contextlib.suppress(OSError, AttributeError):
        fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _take(
    selector: selectors.BaseSelector, ready: List[selectors.SelectorKey], child: subprocess.Popen[bytes], view: View
) -> int:
    """Read what is there; return how many bytes. A pipe that was closed is looked at no more."""
    size = 0
    for key in ready:
        try:
            data = os.read(key.fd, 65536)
        except BlockingIOError:
            continue
        if not data:
            selector.unregister(key.fileobj)
        else:
            view.take(data, error=key.fileobj is child.stderr)
        size += len(data)
    return size


def _drain(child: subprocess.Popen[bytes], view: View) -> None:
    """Take what an agent said while it was being ended."""
    for pipe in filter(None, (child.stdout, child.stderr)):
        left = MAX_LEFT
        with contextlib.suppress(OSError):
            while left > 0 and (data := os.read(pipe.fileno(), 65536)):
                view.take(data, error=pipe is child.stderr)
                left -= len(data)


def _end(child: subprocess.Popen[bytes]) -> int:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(TERM_SECONDS)
    return child.wait()
