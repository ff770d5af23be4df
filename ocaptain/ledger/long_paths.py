"""Have SQLite open a file through an open directory, where a path is too long for it (:mod:`ocaptain.ledger.file`)."""

from __future__ import annotations

import ctypes
import functools
import sqlite3
from pathlib import Path

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


@functools.cache
def accepts_symlinked_path() -> bool:
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
