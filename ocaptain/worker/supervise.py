"""The supervisor of one agent: runs in tmux, outlives worker and captain, writes an exit file.

It enforces the attempt's limits (time, silence) on the ship, so that a hung agent ends without the
captain, and kills every process of the attempt: as a child subreaper it inherits the orphans, and
all others carry the attempt's marker in their environment.

The agent's output is piped, and shown by :mod:`.output`; or the agent has the pane for itself (:mod:`.terminal`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, List, Mapping, Optional, Tuple

from ocaptain.protocol.codec import from_dict
from ocaptain.protocol.files import read_json, start_time, write_json
from ocaptain.worker.errors import StartRefused
from ocaptain.worker.job import JobFile
from ocaptain.worker.launch import prepare_run
from ocaptain.worker.output import OutputView, make_view
from ocaptain.worker.procs import MARKER, kill_attempt_processes
from ocaptain.worker.terminal import TerminalRun

_PR_SET_CHILD_SUBREAPER = 36
TERM_SECONDS = 5.0
MAX_WAIT_SECONDS = 3600.0
POLL_SECONDS = 0.05
QUIET_SECONDS = 0.2
MAX_DRAIN_SECONDS = 5.0  # what an agent's children may still say after it
MAX_REMAINING_BYTES = 4 * 1024 * 1024
STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


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
    running = _Running(began)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        code, reason = _run_agent(job, directory, running)
        _ignore_signals()  # here, where one that comes first is still caught
    except Stopped:
        _ignore_signals()
        reason = "stopped"
        code = _end_child(running.child) if running.child else 143
        if running.child and running.view:
            _read_remaining(running.child, running.view)
    except (OSError, StartRefused) as error:
        code, reason = _report_start_failure(error, job.log)
    _ignore_signals()
    kill_attempt_processes(marker, root=os.getpid(), excluded=frozenset({os.getpid()}))
    if running.screen and running.view:
        running.screen.finish(running.view)
        code, reason = (0, "exit") if reason == "done" else (code, reason)
    seconds = round(time.monotonic() - began, 3)
    if running.view:
        running.view.close()
    write_json(
        directory / "exit.json",
        {"code": code if code >= 0 else 128 - code, "reason": reason, "seconds": seconds},
    )
    return code


@dataclass
class _Running:
    """The parts of a run, as far as they exist.

    Attributes:
        began: when the attempt began, on the monotonic clock.
        child: the agent.
        view: takes its output.
        screen: its own, if it has one.
    """

    began: float
    child: Optional["subprocess.Popen[bytes]"] = None
    view: Optional[OutputView] = None
    screen: Optional[TerminalRun] = None


def _run_agent(job: JobFile, directory: Path, running: _Running) -> Tuple[int, str]:
    """Run the agent until it ends or is ended; return exit code and reason (``done``: its screen says that it is)."""
    home = Path(os.environ.get("OCAPTAIN_SHIP_HOME") or Path.home())
    prepared = prepare_run(job, directory, home)
    env = {**prepared.env, MARKER: job.marker}
    with open(prepared.prompt, "rb") as prompt, open(job.log, "ab", buffering=0) as log:
        log.write("".join(f"ocaptain: {note}\n" for note in prepared.notes).encode(errors="replace"))
        running.view = view = make_view(job, directory, prepared, log)
        if job.screen:
            running.screen = TerminalRun(job, prepared, env, home)
            running.child = child = running.screen.child
            reason = running.screen.watch(view, running.began, job.timeout, job.stall)
        else:
            running.child = child = _start_piped(prepared.argv, job.cwd, env, prompt, view)
            reason = _watch(child, view, running.began, job.timeout, job.stall)
        code = _end_child(child) if reason != "exit" else child.wait()
        _read_remaining(child, view)
    return code, reason


def _start_piped(
    argv: List[str], cwd: str, env: Mapping[str, str], prompt: BinaryIO, view: OutputView
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=prompt,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if view.has_separate_stderr else subprocess.STDOUT,
        start_new_session=True,
    )


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
