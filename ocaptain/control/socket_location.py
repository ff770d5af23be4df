"""The path of a captain's socket, which may have about 100 bytes; a voyage's directory may have a thousand.

- a file in the voyage's directory, if the path is short enough;
- else on Linux the same file, by the path of an open directory (``/proc/self/fd``);
- else a file in a private directory (:mod:`ocaptain.private`).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError
from ocaptain.private import find_private_directory, make_private_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET_NAME = "control.sock"
POINTER_NAME = "control.place"
_PREFIX = "ocaptain-"
MAX_PATH_BYTES = 100  # bytes; the kernel's own limit is 108, of some systems 104
OPEN_DIRECTORIES = Path("/proc/self/fd")


@contextlib.contextmanager
def socket_path(directory: Path, *, fresh: bool = False) -> Iterator[Path]:
    """Yield the path of the captain's socket, short enough for the kernel; valid inside the block.

    Args:
        directory: the voyage's directory.
        fresh: make a new private directory if one is needed; the caller holds the captain's lock.

    Raises:
        OSError: there is no private directory, or it is not ours.
        OcaptainError: no directory has a short enough path.
    """
    if _fits(directory / SOCKET_NAME):
        yield directory / SOCKET_NAME
    elif OPEN_DIRECTORIES.is_dir():
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield OPEN_DIRECTORIES / str(fd) / SOCKET_NAME
        finally:
            os.close(fd)
    else:
        yield (_make_private_directory(directory) if fresh else _find_private_directory(directory)) / SOCKET_NAME


def remove_private_directory(directory: Path) -> None:
    """Remove the private directory of this voyage's captain, if it is ours and contains nothing else."""
    with contextlib.suppress(OSError):
        private = _find_private_directory(directory)
        (private / SOCKET_NAME).unlink(missing_ok=True)
        private.rmdir()
    with contextlib.suppress(OSError):
        (directory / POINTER_NAME).unlink()


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_PATH_BYTES


def _make_private_directory(directory: Path) -> Path:
    remove_private_directory(directory)
    made = make_private_directory(directory / POINTER_NAME, _PREFIX, lambda path: _fits(path / SOCKET_NAME))
    if made is None:
        raise OcaptainError(
            f"{directory} is too long a path for a socket; set XDG_RUNTIME_DIR to a directory with a short path"
        )
    return made


def _find_private_directory(directory: Path) -> Path:
    return find_private_directory(directory / POINTER_NAME, _PREFIX)
