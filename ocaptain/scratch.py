"""Private directories for a moment: gone with their process, or with the next sail if it was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Purpose = Literal["run", "check", "bundle"]
_PREFIXES = ("ocaptain-run-", "ocaptain-check-", "ocaptain-bundle-")
MIN_AGE_SECONDS = 60.0  # its maker may not have locked it yet


@contextlib.contextmanager
def scratch_directory(purpose: Purpose) -> Iterator[Path]:
    """Make a directory that only this user can read, and remove it in the end.

    It is locked as long as this process lives, which tells :func:`remove_abandoned` whose process was killed.
    """
    with tempfile.TemporaryDirectory(prefix=f"ocaptain-{purpose}-") as name, _hold_lock(name):
        yield Path(name)


@contextlib.contextmanager
def _hold_lock(path: str) -> Iterator[None]:
    """Hold a directory's lock; raises BlockingIOError if another process does, OSError if it is no directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def remove_abandoned() -> None:
    """Remove what killed processes of this user left."""
    for path in Path(tempfile.gettempdir()).glob("ocaptain-*"):
        if path.name.startswith(_PREFIXES):
            with contextlib.suppress(OSError):
                seen = path.lstat()
                ours = stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid()
                if ours and time.time() - seen.st_mtime > MIN_AGE_SECONDS:
                    with _hold_lock(str(path)):
                        shutil.rmtree(path, ignore_errors=True)
