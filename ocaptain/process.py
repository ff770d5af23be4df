"""The captain as a process: in the background, one at a time, found by its lock.

In the voyage directory: ``captain.lock`` (flock for life), ``captain.pid``, ``captain.log``; and
``replace.pid`` of the run that makes ships in the place of lost ones. What runs as captain is
:mod:`ocaptain.captain.__main__`; a command that only looks must not load it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from ocaptain.background import start_module
from ocaptain.errors import OcaptainError
from ocaptain.locks import Lock, end_lock_holder, is_locked
from ocaptain.protocol.files import start_time

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 60.0
STARTS = 3
STOP_SECONDS = 10.0


def lock_path(directory: Path) -> Path:
    """Return the lock of a voyage's captain."""
    return directory / "captain.lock"


def take_over_mark(directory: Path) -> Path:
    """Return the file that tells the next captain to command also ships that know a newer one."""
    return directory / "take-over"


def work_lock(directory: Path) -> Lock:
    """Return the lock of whoever makes or ends ships of a voyage: one `sail` or `sink` at a time."""
    return Lock(directory / "fleet.lock")


def is_running(directory: Path) -> bool:
    """Whether a captain (or a sink) holds the voyage."""
    return is_locked(lock_path(directory))


def pid_of(directory: Path) -> int | None:
    """Return the pid of the voyage's captain, None if it is not there: a pid alone may be anybody's by now."""
    return _running(directory / "captain.pid")


def _running(file: Path) -> int | None:
    try:
        pid, _, born = file.read_text("ascii").strip().partition(" ")
        return int(pid) if born and start_time(int(pid)) == born else None
    except (OSError, ValueError):
        return None


def start(directory: Path) -> None:
    """Start a captain in the background, off any terminal; does nothing if one runs.

    Raises:
        OcaptainError: it did not come up.
    """
    with Lock(directory / "start.lock") as starting:
        if not starting.acquire_within(START_SECONDS):
            raise OcaptainError(
                f"another process has been starting the captain of {directory.name} for too long; wait, or end it"
            )
        _start(directory)


def _start(directory: Path) -> None:
    if is_running(directory):
        return
    (directory / "captain.pid").unlink(missing_ok=True)
    log_file = directory / "captain.log"
    for _ in range(STARTS):
        process = start_module("ocaptain.captain", [str(directory)], log_file)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            # It may even have ended already: with everything landed there is little to do.
            if pid_of(directory) is not None or process.poll() == 0:
                return
            if process.poll() is not None:
                break
            time.sleep(0.02)
        if (process.poll() or 0) >= 0:  # not killed while it came up: it would do the same again
            break
    tail = log_file.read_text("utf-8", "replace").strip()[-1500:]
    raise OcaptainError(f"the captain did not start (log: {log_file}):\n{tail}")


def stop(directory: Path) -> bool:
    """Stop the captain that runs; True if none runs afterwards. Its ships work on."""
    pid = pid_of(directory)
    lock = lock_path(directory)
    if not is_locked(lock):
        return True
    return pid is not None and end_lock_holder(lock, pid, STOP_SECONDS)


def note_replacement(directory: Path, pid: int) -> None:
    """Note who makes ships in the place of lost ones; ``pid`` leads a session of its own."""
    (directory / "replace.pid").write_text(f"{pid} {start_time(pid)}\n", "ascii")


def replaces(directory: Path) -> bool:
    """Whether ships are being made in the place of lost ones."""
    return _running(directory / "replace.pid") is not None


def stop_replacement(directory: Path) -> None:
    """End a replacement that is under way: what it made so far is in the provider's list."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        pid = _running(directory / "replace.pid")
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, kind)
        until = time.monotonic() + STOP_SECONDS
        while replaces(directory) and time.monotonic() < until:
            time.sleep(0.1)
