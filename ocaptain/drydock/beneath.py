"""Open a path as if a directory were the root: the kernel resolves it, no link leads out (openat2(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import time

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_IN_ROOT = 0x10
_MAX_OPEN_TRIES = 64  # a second in all
_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path as if ``root_fd`` were the root directory.

    Raises:
        OSError: what ``openat2`` failed with.
    """
    if "\0" in path:
        raise OSError(22, "Invalid argument")
    # openat2 refuses O_PATH together with anything that it would ignore.
    extra = os.O_CLOEXEC | (0 if flags & os.O_PATH else os.O_NOCTTY)
    how = _OpenHow(flags | extra, mode, _RESOLVE_IN_ROOT)
    encoded = os.fsencode(path or "/")
    tries = 0
    while True:
        fd = _libc.syscall(_SYS_OPENAT2, root_fd, encoded, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        code, tries = ctypes.get_errno(), tries + 1
        # The kernel refuses ".." while anybody on the machine renames or mounts, and asks to try again (openat2(2)).
        if code != errno.EAGAIN or tries == _MAX_OPEN_TRIES:
            raise OSError(code, os.strerror(code))
        time.sleep(0.0005 * tries)
