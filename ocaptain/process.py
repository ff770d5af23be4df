"""The captain as a process: in the background, one at a time, found by its lock.

In the voyage directory: ``captain.lock`` (flock for life), ``captain.pid``, ``captain.log``; and
``replace.pid`` of a replacement run, which makes ships instead of lost ones; ``build-PID`` of each
Ansible process that builds ships now. The captain's code is
:mod:`ocaptain.captain.__main__`; a command that only reads must not load it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.background import start_module
from ocaptain.errors import OcaptainError
from ocaptain.locks import Lock, end_lock_holder, is_locked
from ocaptain.protocol.files import start_time, write_atomic

if TYPE_CHECKING:
    import subprocess

START_SECONDS = 60.0
MAX_STARTS = 3
STOP_SECONDS = 10.0
RECORD_SECONDS = 5.0
UNKNOWN = "-"
BUILD_PREFIX = "build-"
_PROCESSES = Path("/proc/self/stat")


def captain_lock_path(directory: Path) -> Path:
    """Return the lock of a voyage's captain."""
    return directory / "captain.lock"


def take_over_path(directory: Path) -> Path:
    """Return the path of the file that tells the next captain to command ships that know a newer captain."""
    return directory / "take-over"


def fleet_lock(directory: Path) -> Lock:
    """Return the lock for creating and destroying a voyage's ships: one `sail` or `sink` at a time."""
    return Lock(directory / "fleet.lock")


def is_captain_running(directory: Path) -> bool:
    """Whether a captain (or a sink) holds the captain's lock of the voyage."""
    return is_locked(captain_lock_path(directory))


def captain_pid(directory: Path) -> int | None:
    """Return the pid of the voyage's captain, None if it is not running; a reused pid is recognised."""
    return live_pid(directory / "captain.pid")


def live_pid(file: Path) -> int | None:
    """Return the pid that a file names, with what :func:`identify` said of it; None if that process has ended."""
    try:
        pid, _, started = file.read_text("ascii").strip().partition(" ")
        if started == UNKNOWN:
            return int(pid) if is_locked(file) else None
        return int(pid) if started and start_time(int(pid)) == started else None
    except (OSError, ValueError):
        return None


def identify(pid: int) -> str:
    """Return what tells a process from a later one with its pid, :data:`UNKNOWN` where the system does not say it."""
    return start_time(pid) or ("" if _PROCESSES.exists() else UNKNOWN)


def record_captain(directory: Path) -> Lock:
    """Record this process as the voyage's captain; return a lock to be held for life.

    Where the system does not tell when a process began (macOS has no ``/proc``), a pid counts only as long as the
    file that names it is locked: the kernel releases that lock when the process ends, however it ends.

    Raises:
        OSError: the file cannot be written.
    """
    path = directory / "captain.pid"
    record = f"{os.getpid()} {identify(os.getpid())}\n".encode()
    write_atomic(path, record, 0o644, durable=False, one_writer=True)
    lock = Lock(path)
    lock.acquire_within(RECORD_SECONDS)  # a reader may hold it for a moment, to test whether it is held
    return lock


def start_captain(directory: Path) -> None:
    """Start a captain in the background, without a terminal; do nothing if one is running.

    Raises:
        OcaptainError: it did not start.
    """
    with Lock(directory / "start.lock") as starting:
        if not starting.acquire_within(START_SECONDS):
            raise OcaptainError(
                f"another process is still starting the captain of {directory.name}; wait for it, or end it"
            )
        _start(directory)


def _start(directory: Path) -> None:
    if is_captain_running(directory):
        return
    (directory / "captain.pid").unlink(missing_ok=True)
    log_file = directory / "captain.log"
    for _ in range(MAX_STARTS):
        process = start_module("ocaptain.captain", [str(directory)], log_file)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            # It may have ended already: if everything has landed, little is left to do.
            if captain_pid(directory) is not None or process.poll() == 0:
                return
            if process.poll() is not None:
                break
            time.sleep(0.02)
        if (process.poll() or 0) >= 0:  # it was not killed while starting: another try would fail, too
            break
    tail = log_file.read_text("utf-8", "replace").strip()[-1500:]
    raise OcaptainError(f"the captain did not start (log: {log_file}):\n{tail}")


def stop_captain(directory: Path) -> bool:
    """Stop the running captain; return whether none runs afterwards. Its ships work on."""
    pid = captain_pid(directory)
    lock = captain_lock_path(directory)
    if not is_locked(lock):
        return True
    return pid is not None and end_lock_holder(lock, pid, STOP_SECONDS)


def start_replacement(directory: Path) -> subprocess.Popen[bytes]:
    """Start ``ocaptain sail --resume`` in the background, which makes the ships that the ledger lists as missing.

    Its pid is recorded in a file that it keeps locked: it inherits the lock.
    """
    path = directory / "replace.pid"
    path.unlink(missing_ok=True)  # a run that still lives has the lock of the former file
    with Lock(path) as lock:
        lock.acquire_within(RECORD_SECONDS)  # a reader of the former file may test this one for a moment
        arguments = ["sail", "--resume", directory.name, "--json"]
        run = start_module(
            "ocaptain", arguments, directory / "replace.log", keep=lock.fileno() if lock.is_held else None
        )
        path.write_text(f"{run.pid} {identify(run.pid)}\n", "ascii")
    return run


def is_replacement_running(directory: Path) -> bool:
    """Whether a replacement run is under way, which makes ships instead of lost ones."""
    return live_pid(directory / "replace.pid") is not None


def stop_replacement(directory: Path) -> None:
    """Stop a replacement run; the ships that it made so far are in the provider's list."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        pid = live_pid(directory / "replace.pid")
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, kind)
        until = time.monotonic() + STOP_SECONDS
        while is_replacement_running(directory) and time.monotonic() < until:
            time.sleep(0.1)


def record_build(directory: Path, pid: int) -> None:
    """Record a process that builds the voyage's ships from now on.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomic(directory / f"{BUILD_PREFIX}{pid}", f"{pid} {identify(pid)}\n".encode(), durable=False)


def end_build(directory: Path, pid: int) -> None:
    """Record that a process builds no ship any more."""
    (directory / f"{BUILD_PREFIX}{pid}").unlink(missing_ok=True)


def is_building(directory: Path) -> bool:
    """Whether anybody builds ships of the voyage: a process that is recorded, or a replacement run that begins.

    Processes that have ended are forgotten.
    """
    found = is_replacement_running(directory)
    for file in directory.glob(f"{BUILD_PREFIX}*"):
        if _is_builder_alive(file):
            found = True
        else:
            file.unlink(missing_ok=True)
    return found


def _is_builder_alive(file: Path) -> bool:
    try:
        pid, _, started = file.read_text("ascii").strip().partition(" ")
        if started == UNKNOWN:  # where the system does not tell when a process began, its pid alone must do
            os.kill(int(pid), 0)
    except (OSError, ValueError):
        return False
    return started == UNKNOWN or live_pid(file) is not None
