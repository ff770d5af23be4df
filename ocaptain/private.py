"""Private directories with short paths, for what a voyage's own directory is too long a path for.

A socket's path may have about 100 bytes, a voyage's directory a thousand. So a directory with a random name is made
elsewhere, and a file beside the voyage's own, the pointer, contains its path: no name is guessed in a directory that
others can write to, and what is found there must belong to us and be closed to others.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.protocol.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

RANDOM_PART = "12345678"  # as long as what `tempfile.mkdtemp` adds


def is_private(path: Path) -> bool:
    """Whether a path is a directory, no link, that belongs to us and is closed to others.

    Raises:
        OSError: it cannot be looked at.
    """
    seen = path.lstat()
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid() and not seen.st_mode & 0o077


def make_private_directory(pointer: Path, prefix: str, fits: Callable[[Path], bool]) -> Path | None:
    """Make a directory below ``XDG_RUNTIME_DIR``, the directory for temporary files or ``/tmp``, and its pointer file.

    Args:
        pointer: the file; it is replaced.
        prefix: of the directory's name.
        fits: whether a path is short enough.

    Returns:
        The directory, None if none could be made.
    """
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp's own
        if not parent or not fits(Path(parent) / f"{prefix}{RANDOM_PART}"):
            continue
        with contextlib.suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            try:
                write_atomic(pointer, os.fsencode(made), durable=False, one_writer=True)
            except OSError:
                made.rmdir()
                raise
            return made
    return None


def find_private_directory(pointer: Path, prefix: str) -> Path:
    """Return the directory that a pointer file names.

    Raises:
        OSError: there is no pointer file or no directory, or it is not ours alone.
        ValueError: the file contains no path.
    """
    named = Path(os.fsdecode(pointer.read_bytes()))
    if not named.name.startswith(prefix) or not is_private(named):
        raise PermissionError(f"{named} is not a private directory of this user")
    return named
