"""Private temporary directories; the next `sail` removes those of killed processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator

Purpose = Literal["run", "check", "bundle", "tasks", "mirror"]
_PREFIXES = tuple(f"ocaptain-{purpose}-" for purpose in get_args(Purpose))
MIN_AGE_SECONDS = 60.0  # a younger one may not be locked by its owner yet


@contextlib.contextmanager
def scratch_directory(purpose: Purpose) -> Iterator[Path]:
    """Make a directory that only this user can read; remove it at the end of the block.

    It is locked while this process lives, so that :func:`remove_abandoned` keeps it.
    """
    with tempfile.TemporaryDirectory(prefix=f"ocaptain-{purpose}-") as name, _hold_lock(name):
        yield Path(name)


@contextlib.contextmanager
def _hold_lock(path: str) -> Iterator[None]:
    """Hold a directory's lock. Raises BlockingIOError if another process holds it, OSError if it is no directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def remove_abandoned() -> None:
    """Remove the directories of killed processes of this user."""
    for path in Path(tempfile.gettempdir()).glob("ocaptain-*"):
        if path.name.startswith(_PREFIXES):
            with contextlib.suppress(OSError):
                seen = path.lstat()
                ours = stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid()
                if ours and time.time() - seen.st_mtime > MIN_AGE_SECONDS:
                    with _hold_lock(str(path)):
                        shutil.rmtree(path, ignore_errors=True)
