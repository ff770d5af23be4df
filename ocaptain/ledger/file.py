"""Open SQLite files with paths of any length.

SQLite takes paths of up to 512 bytes (``MAX_PATHNAME`` of its Unix layer), even if the system allows more. A
longer one is opened through an open directory, ``/proc/self/fd/N/ledger.db``. SQLite would resolve that
link to the long path; therefore its ``lstat`` is replaced by ``stat``, through its interface
for replacing system calls, so that it sees no link. The database, its log and its index stay where they are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes; SQLite appends ``-journal`` to it.
MAX_PATH = 480
MIN_FREE_BYTES = 1024 * 1024  # of a disk that is not full: a ledger and its log need less


class _DirectoryConnection(sqlite3.Connection):
    """A connection that opened its file through a directory's descriptor, which is closed with it."""

    directory: int | None = None

    def close(self) -> None:
        super().close()
        if self.directory is not None:
            os.close(self.directory)
            self.directory = None


def connect(path: Path, **options: Any) -> sqlite3.Connection:
    """Open a database as :func:`sqlite3.connect` does, with a path of any length that the system allows.

    Raises:
        sqlite3.Error: it cannot be opened.
        OSError: its directory cannot be opened.
        UsageError: the path is too long for this machine's SQLite.
    """
    if len(os.fsencode(path)) <= MAX_PATH:
        short: sqlite3.Connection = sqlite3.connect(path, **options)
        return short
    require_short_path(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        opened = sqlite3.connect(f"/proc/self/fd/{directory}/{path.name}", factory=_DirectoryConnection, **options)
    except BaseException:
        os.close(directory)
        raise
    opened.directory = directory
    return opened


def remedy(path: Path) -> str:
    """Return what to do about a ledger that cannot be read or written for now; SQLite's own words hide a full disk."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(path.parent).free < MIN_FREE_BYTES:
            return "its disk is full: free some space, then try again"
    return "try again"


def require_short_path(path: Path) -> None:
    """Refuse a path that is too long for a database.

    Raises:
        UsageError: the path is too long for this machine's SQLite.
    """
    from ocaptain.ledger.long_paths import accepts_symlinked_path  # noqa: PLC0415 - few paths are long

    size = len(os.fsencode(path))
    if size > MAX_PATH and not accepts_symlinked_path():
        raise UsageError(
            f"a path of {size} bytes is too long for this machine's SQLite, which takes {MAX_PATH}: {path};"
            " choose a shorter directory (OCAPTAIN_HOME)"
        )
