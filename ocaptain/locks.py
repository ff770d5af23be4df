"""File locks (flock) that the kernel releases when their holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

TEST_SECONDS = 10.0  # how long who tests a lock may take


class Lock:
    """An exclusive flock on ``path``, held until :meth:`release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def acquire(self) -> bool:
        """Take the lock if it is free; return whether it was taken.

        A process that tests it (:func:`is_locked`) shares it for a moment, and is waited for: it may be interrupted
        just then, and a lock that is being looked at is free.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + TEST_SECONDS
        while not _try_flock(fd, fcntl.LOCK_EX):
            if not _try_flock(fd, fcntl.LOCK_SH) or time.monotonic() > until:
                os.close(fd)
                return False
            fcntl.flock(fd, fcntl.LOCK_UN)
            time.sleep(0.002)
        self._fd = fd
        return True

    def acquire_within(self, seconds: float) -> bool:
        """Try to take the lock for at most ``seconds``; return whether it was taken."""
        until = time.monotonic() + seconds
        while not self.acquire():
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def fileno(self) -> int:
        """Return the descriptor that holds the lock, for a process that is to inherit it.

        Raises:
            ValueError: it is not held.
        """
        if self._fd is None:
            raise ValueError(f"the lock {self.path} is not held")
        return self._fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _try_flock(fd: int, kind: int) -> bool:
    """Lock the file of ``fd`` (``LOCK_SH`` or ``LOCK_EX``) if that is possible now; return whether it was."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock on ``path``; never create the file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def end_lock_holder(lock: Path, pid: int, seconds: float, first_signal: signal.Signals = signal.SIGTERM) -> bool:
    """End the process ``pid`` that holds ``lock``: send ``first_signal``, and KILL after ``seconds``.

    Returns:
        Whether the lock is free now.
    """
    for number in (first_signal, signal.SIGKILL):
        if not is_locked(lock):
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + seconds
        while is_locked(lock) and time.monotonic() < until:
            time.sleep(0.05)
    return not is_locked(lock)
