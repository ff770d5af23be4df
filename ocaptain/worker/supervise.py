"""The supervisor of one agent: runs in tmux, outlives worker and captain, writes an exit file.

It enforces the attempt's limits (time, silence) on the ship, so that a hung agent ends without the
captain, and kills every process of the attempt: as a child subreaper it inherits the orphans, and
all others carry the attempt's marker in their environment.

The agent's output goes to the attempt's log and to the pane, without its secrets: unchanged, or
formatted by the agent's ``stream`` module. In that case the stream is saved beside the job, and its
facts in ``facts.json``.
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
from ocaptain.worker.errors import StartRefused
from ocaptain.worker.job import JobFile
from ocaptain.worker.launch import PreparedRun, prepare_run
from ocaptain.worker.procs import MARKER, kill_attempt_processes
from ocaptain.worker.show import MAX_LINE, LineMasker, Masker
from ocaptain.worker.streams import new_stream

_PR_SET_CHILD_SUBREAPER = 36
TERM_SECONDS = 5.0
SAVE_SECONDS = 1.0
MAX_WAIT_SECONDS = 3600.0
POLL_SECONDS = 0.05
QUIET_SECONDS = 0.2
DRAW_MILLISECONDS = 200
PAUSE_SECONDS = 0.01
MAX_DRAIN_SECONDS = 5.0  # what an agent's children may still say after it
MAX_REMAINING_BYTES = 4 * 1024 * 1024
STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
MAX_STREAM_BYTES = 256 * 1024 * 1024


class Stopped(Exception):
    """A signal asked the supervisor to end the attempt."""


def _raise_stopped(number: int, _: Any) -> None:
    raise Stopped(signal.Signals(number).name)


def supervise(directory: Path, on_started: Callable[[], None]) -> int:
    """Run the job described by ``directory/job.json``; return the agent's exit code.

    Args:
        directory: of the job.
        on_started: called when ``supervisor.json`` is there; not if another supervisor has the job.

    ``exit.json`` then holds code, reason (``exit``, ``timeout``, ``stall``, ``stopped``; ``error``: this ship
    cannot start it; ``refused``: the repository's settings forbid it) and seconds.
    """
    job = from_dict(JobFile, read_json(directory / "job.json"))
    if not _take_job_lock(directory):
        return 1  # another supervisor has it
    marker = job.marker
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Held back until they can be caught: whoever reads the file may stop this process at once.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    for number in STOP_SIGNALS:
        signal.signal(number, _raise_stopped)
    write_json(directory / "supervisor.json", {"pid": os.getpid(), "start": start_time(os.getpid())})
    on_started()
    began = time.monotonic()
    code, reason = 127, "error"
    child: subprocess.Popen[bytes] | None = None
    view: Optional[OutputView] = None
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        prepared = prepare_run(job, directory, Path(os.environ.get("OCAPTAIN_SHIP_HOME") or Path.home()))
        with open(prepared.prompt, "rb") as prompt, open(job.log, "ab", buffering=0) as log:
            log.write("".join(f"ocaptain: {note}\n" for note in prepared.notes).encode(errors="replace"))
            view = _make_view(job, directory, prepared, log)
            child = subprocess.Popen(
                prepared.argv,
                cwd=job.cwd,
                env={**prepared.env, MARKER: marker},
                stdin=prompt,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if view.has_separate_stderr else subprocess.STDOUT,
                start_new_session=True,
            )
            reason = _watch(child, view, began, job.timeout, job.stall)
            code = _end_child(child) if reason != "exit" else child.wait()
            _read_remaining(child, view)
        _ignore_signals()  # here, where one that comes first is still caught
    except Stopped:
        _ignore_signals()
        reason = "stopped"
        code = _end_child(child) if child else 143
        if child and view:
            _read_remaining(child, view)
    except (OSError, StartRefused) as error:
        code, reason = _report_start_failure(error, job.log)
    _ignore_signals()
    kill_attempt_processes(marker, root=os.getpid(), excluded=frozenset({os.getpid()}))
    seconds = round(time.monotonic() - began, 3)
    if view:
        view.close()
    write_json(
        directory / "exit.json",
        {"code": code if code >= 0 else 128 - code, "reason": reason, "seconds": seconds},
    )
    return code


def _report_start_failure(error: Exception, log: str) -> Tuple[int, str]:
    """Write to the log why an agent was not started; return exit code and reason."""
    is_refused = isinstance(error, StartRefused)
    with contextlib.suppress(OSError), open(log, "ab") as file:
        text = str(error) if is_refused else f"ocaptain: the agent could not be started: {error}"
        file.write(f"{text}\n".encode(errors="replace"))
    if is_refused:
        return 126, "refused"
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        return 126, "exit"  # not the ship's fault: no ship can start it, as a shell says by this code
    return 127, "error"


def _take_job_lock(directory: Path) -> bool:
    """Lock a job until this process ends; return False if another supervisor holds it."""
    lock = os.open(directory / "begun", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _ignore_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class OutputView:
    """Writes output to log and pane, without secrets.

    Attributes:
        apart: whether standard error needs its own pipe.
    """

    has_separate_stderr = False

    def __init__(self, log: BinaryIO, mask: Masker, news: str = "") -> None:
        self._log = os.dup(log.fileno())
        self._mask = LineMasker(mask)
        self._news = news
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        if os.isatty(1):  # the launcher's, which never reads or writes there but for us
            os.set_blocking(1, False)

    def receive(self, data: bytes, *, error: bool = False) -> None:
        """Process a piece of the agent's output."""
        del error
        self._show(self._mask.feed(data))

    def tick(self) -> float:
        """Do due work; return the seconds until more is due, 0 if nothing is."""
        return 0.0

    def close(self) -> None:
        """Show the rest and close the log."""
        self._show(self._mask.close())
        os.close(self._log)
        self._socket.close()

    def _show(self, data: bytes) -> None:
        if data:
            with contextlib.suppress(OSError):
                os.write(self._log, data)
            self._write_to_pane(data)
            self._wake_worker()

    def _write_to_pane(self, data: bytes) -> None:
        """Write to the pane as far as it accepts data: a paused pane must not block the agent."""
        with contextlib.suppress(OSError):
            writable = select.poll()
            writable.register(1, select.POLLOUT)
            view = memoryview(data)
            while view and writable.poll(DRAW_MILLISECONDS):
                view = view[_write_some(view) :]

    def _wake_worker(self) -> None:
        """Wake the worker, if one runs; a full socket has woken it already."""
        if self._news:
            with contextlib.suppress(OSError):
                self._socket.sendto(b"", self._news)


class StreamOutputView(OutputView):
    """Shows an agent's stream in readable form; saves the masked stream and its facts."""

    has_separate_stderr = True

    def __init__(self, log: BinaryIO, start: PreparedRun, directory: Path, stream: Any, news: str) -> None:
        super().__init__(log, start.mask, news)
        self._secrets = start.mask
        self._directory = directory
        self._resumed = start.resumed
        self._lines = LineSplitter(MAX_LINE)
        self._stream = stream
        self._saved_stream = open(directory / "stream.jsonl", "ab", buffering=0, opener=_open_private)  # noqa: SIM115 - closed below
        self._size = 0
        self._saved = 0.0

    def receive(self, data: bytes, *, error: bool = False) -> None:
        """Show complete lines of the stream; show standard error unchanged."""
        if error:
            super().receive(data)
            return
        for line in self._lines.feed(data):
            self._receive_line(self._secrets(line))

    def _receive_line(self, line: bytes) -> None:
        if self._size < MAX_STREAM_BYTES:
            with contextlib.suppress(OSError):
                self._size += self._saved_stream.write(line + b"\n")
        shown: List[str] = self._stream.line(line)
        self._show("".join(f"{one}\n" for one in shown).encode(errors="replace"))

    def tick(self) -> float:
        """Save the facts, at most once a second."""
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
        self._wake_worker()

    def close(self) -> None:
        """Process an incomplete last line, and save."""
        for line in self._lines.feed(b"\n"):
            if line:
                self._receive_line(self._secrets(line))
        self._save()
        self._saved_stream.close()
        super().close()


def _write_some(data: memoryview) -> int:
    """Write to the pane without waiting; return the number of written bytes."""
    try:
        return os.write(1, data)
    except BlockingIOError:
        time.sleep(PAUSE_SECONDS)  # there is room, but not enough
        return 0


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_view(job: JobFile, directory: Path, prepared: PreparedRun, log: BinaryIO) -> OutputView:
    if job.stream:
        return StreamOutputView(log, prepared, directory, new_stream(job.stream, job.prices), job.news)
    return OutputView(log, prepared.mask, job.news)


def _watch(child: subprocess.Popen[bytes], view: OutputView, began: float, timeout: float, stall: float) -> str:
    """Process output until the agent ends or a limit is exceeded; return the reason."""
    last_output = time.monotonic()
    ended_at: float | None = None
    with selectors.DefaultSelector() as selector, _exit_descriptor(child.pid) as exit_fd:
        _register(selector, child, exit_fd)
        while True:
            now = time.monotonic()
            left = min(began + timeout - now, last_output + stall - now, view.tick() or MAX_WAIT_SECONDS)
            if exit_fd is None or ended_at is not None:  # nobody says when it ends, or it has
                left = min(left, POLL_SECONDS)
            # An empty selector: it closed its output, and its limits still hold.
            keys = [key for key, _ in selector.select(timeout=max(0.0, left + 0.001)) if key.fileobj != exit_fd]
            now = time.monotonic()
            data = _read_ready(selector, keys, child, view)
            last_output = now if data else last_output
            if child.poll() is None:
                if now - began > timeout:
                    return "timeout"
                if now - last_output > stall:
                    return "stall"
                continue
            if ended_at is None:
                ended_at = now
                if exit_fd is not None:
                    selector.unregister(exit_fd)
            # A background child may hold the pipe; what the agent itself said is there.
            quiet = not data and now - ended_at > QUIET_SECONDS
            if not selector.get_map() or quiet or now - ended_at > MAX_DRAIN_SECONDS:
                return "exit"


def _register(selector: selectors.BaseSelector, child: subprocess.Popen[bytes], exit_fd: Optional[int]) -> None:
    for pipe in filter(None, (child.stdout, child.stderr)):
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe, selectors.EVENT_READ)
    if exit_fd is not None:
        selector.register(exit_fd, selectors.EVENT_READ)


@contextlib.contextmanager
def _exit_descriptor(pid: int) -> Iterator[Optional[int]]:
    """Yield a descriptor that becomes readable when a process ends; None if that is not supported."""
    fd = None
    with contextlib.suppress(OSError, AttributeError):
        fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _read_ready(
    selector: selectors.BaseSelector,
    ready: List[selectors.SelectorKey],
    child: subprocess.Popen[bytes],
    view: OutputView,
) -> int:
    """Read available output; return the number of bytes. Unregister closed pipes."""
    size = 0
    for key in ready:
        try:
            data = os.read(key.fd, 65536)
        except BlockingIOError:
            continue
        if not data:
            selector.unregister(key.fileobj)
        else:
            view.receive(data, error=key.fileobj is child.stderr)
        size += len(data)
    return size


def _read_remaining(child: subprocess.Popen[bytes], view: OutputView) -> None:
    """Process the output that an agent wrote while it was being ended."""
    for pipe in filter(None, (child.stdout, child.stderr)):
        remaining = MAX_REMAINING_BYTES
        with contextlib.suppress(OSError):
            while remaining > 0 and (data := os.read(pipe.fileno(), 65536)):
                view.receive(data, error=pipe is child.stderr)
                remaining -= len(data)


def _end_child(child: subprocess.Popen[bytes]) -> int:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(TERM_SECONDS)
    return child.wait()
