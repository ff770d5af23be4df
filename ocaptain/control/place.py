"""Where a captain's socket is: a path of one has room for some hundred bytes, a voyage's directory may have a thousand.

- the voyage's directory, where that is short enough;
- on Linux the same file, by way of an open directory: whoever can read the directory finds it;
- elsewhere a private directory with a name that nobody can know beforehand, below ``XDG_RUNTIME_DIR`` or the
  place for temporary files. The voyage's directory says where: nothing is looked for in a place that others
  can write to, and what is found there must be a directory of ours that nobody else may enter.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError
from ocaptain.protocol.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "control.sock"
POINTER = "control.place"
MAX_PATH = 100  # bytes; the kernel's own limit is 108, of some systems 104
OPEN_DIRECTORIES = Path("/proc/self/fd")


@contextlib.contextmanager
def socket_path(directory: Path, *, fresh: bool = False) -> Iterator[Path]:
    """Yield where a voyage's captain listens, by a path that the kernel takes, good inside the block.

    Args:
        directory: the voyage's.
        fresh: a new place is made where one is needed; the caller holds the captain's lock.

    Raises:
        OSError: it listens nowhere, or not in a place of ours.
        OcaptainError: no place is short enough.
    """
    if _fits(directory / NAME):
        yield directory / NAME
    elif OPEN_DIRECTORIES.is_dir():
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield OPEN_DIRECTORIES / str(fd) / NAME
        finally:
            os.close(fd)
    else:
        yield (_make(directory) if fresh else _find(directory)) / NAME


def clear(directory: Path) -> None:
    """Remove the private directory that a captain of this voyage had made, if it is ours and holds nothing else."""
    with contextlib.suppress(OSError):
        place = _find(directory)
        (place / NAME).unlink(missing_ok=True)
        place.rmdir()
    with contextlib.suppress(OSError):
        (directory / POINTER).unlink()


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_PATH


def _make(directory: Path) -> Path:
    clear(directory)
    for place in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp's own
        if not place or not _fits(Path(place) / "ocaptain-12345678" / NAME):
            continue
        with contextlib.suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix="ocaptain-", dir=place))
            write_atomic(directory / POINTER, os.fsencode(made), durable=False, one_writer=True)
            return made
    raise OcaptainError(f"{directory} is too long a path for a socket; set XDG_RUNTIME_DIR to a short directory")


def _find(directory: Path) -> Path:
    """Return the place that the voyage's directory names.

    Raises:
        OSError: it names none, or one that is not ours alone.
    """
    place = Path(os.fsdecode((directory / POINTER).read_bytes()))
    seen = place.lstat()
    ours = stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid() and not seen.st_mode & 0o077
    if not ours or not place.name.startswith("ocaptain-"):
        raise PermissionError(f"{place} is no private directory of ours")
    return place
