"""Open SQLite files with paths of any length.

SQLite takes paths of up to 512 bytes (``MAX_PATHNAME`` of its Unix layer), even if the system allows more. A
longer one is opened through an open directory, ``/proc/self/fd/N/ledger.db``. SQLite would resolve that
link to the long path; therefore its ``lstat`` is replaced by ``stat``, through its interface
for replacing system calls, so that it sees no link. The database, its log and its index stay where they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from ocaptain.errors import UsageError

#: Bytes; SQLite appends ``-journal`` to it.
MAX_PATH = 480
MIN_FREE_BYTES = 1024 * 1024  # of a disk that is not full: a ledger and its log need less
_POINTERS = (
    *("xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose"),
    *("xRandomness", "xSleep", "xCurrentTime", "xGetLastError", "xCurrentTimeInt64"),
)


class _Vfs(ctypes.Structure):
    """``sqlite3_vfs`` of sqlite3.h, version 3, as far as the call that is needed."""


_SetSystemCall = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Vfs), ctypes.c_char_p, ctypes.c_void_p)
_Vfs._fields_ = [
    *(("iVersion", ctypes.c_int), ("szOsFile", ctypes.c_int), ("mxPathname", ctypes.c_int)),
    *(("pNext", ctypes.c_void_p), ("zName", ctypes.c_char_p), ("pAppData", ctypes.c_void_p)),
    *((name, ctypes.c_void_p) for name in _POINTERS),
    ("xSetSystemCall", _SetSystemCall),
]


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
    size = len(os.fsencode(path))
    if size > MAX_PATH and not _accepts_symlinked_path():
        raise UsageError(
            f"a path of {size} bytes is too long for this machine's SQLite, which takes {MAX_PATH}: {path};"
            " choose a shorter directory (OCAPTAIN_HOME)"
        )


@functools.cache
def _accepts_symlinked_path() -> bool:
    """Make SQLite accept a path through ``/proc/self/fd`` without resolving it; return whether it does."""
    if not Path("/proc/self/fd").is_dir():
        return False
    try:
        import _sqlite3  # noqa: PLC0415 - the library that it was linked with is meant

        library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
        vfs = library.sqlite3_vfs_find(None)
        stat = ctypes.cast(ctypes.CDLL(None).stat, ctypes.c_void_p)
        if not vfs or vfs.contents.iVersion < 3 or vfs.contents.zName != b"unix":
            return False
        return bool(vfs.contents.xSetSystemCall(vfs, b"lstat", stat) == sqlite3.SQLITE_OK)
    except (ImportError, OSError, AttributeError):
        return False
