"""The file that an upload writes to: looked at before anything of it changes, removed if it was new and stays half.

::

    open_target   exists? no: create it   is a regular file? is there room for all of it? ── else as if never called
    write …       the disk is full: Target.discard

An existing file is written in place, as on the live service: its links, owner and watchers stay. What a full disk
leaves of one is what was written; who needs all or nothing writes to another name and renames.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 512  # bytes of a unit of st_blocks (stat(2))


@dataclass(frozen=True)
class Target:
    """An open file.

    Attributes:
        fd: to write to.
        is_new: whether this upload created it.
    """

    fd: int
    is_new: bool

    def discard(self, parent: int, name: str) -> None:
        """Remove the file if this upload created it and its name still means it.

        Args:
            parent: descriptor of its directory.
            name: in the directory.
        """
        if not self.is_new:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(name, dir_fd=parent, follow_symlinks=False), os.fstat(self.fd)):
                os.unlink(name, dir_fd=parent)


def open_target(
    open_file: Callable[[int], int], discard: Callable[[Target], None], mode: int | None, size: int | None
) -> Target:
    """Open the file that is written, empty.

    Args:
        open_file: opens it with the given flags of open(2).
        discard: calls :meth:`Target.discard`.
        mode: permission bits to set, also if it exists; None = as they are.
        size: bytes that will be written; None if that is not known.

    Raises:
        OSError: it cannot be opened, is no regular file, or there is no room for it (ENOSPC); it is as it was.
    """
    flags = os.O_WRONLY | os.O_NONBLOCK
    try:
        target = Target(open_file(flags), is_new=False)
    except FileNotFoundError:
        target = Target(open_file(flags | os.O_CREAT), is_new=True)
    try:
        status = os.fstat(target.fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        if size is not None and size > room_for(target.fd, status):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(target.fd, 0)
        if mode is not None:
            os.fchmod(target.fd, mode)
    except OSError:
        discard(target)
        os.close(target.fd)
        raise
    return target


def room_for(fd: int, status: os.stat_result) -> float:
    """Return the bytes that a file may have: what is free, and what it has already."""
    free = os.fstatvfs(fd)
    return free.f_bavail * free.f_frsize + status.st_blocks * _BLOCK if free.f_blocks else float("inf")
