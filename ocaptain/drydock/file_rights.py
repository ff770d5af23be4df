"""The rights over files of a ship's user or root, for one thread of drydock (``setfsuid`` is per thread)."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

from ocaptain.drydock import kernel

if TYPE_CHECKING:
    from ocaptain.drydock.ids import Ids

#: chown, dac_override, fowner, fsetid: what the ship's root does with files. And setgid, setuid: to become another.
_ROOT_CAPABILITIES, _SET_IDS = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4, 1 << 6 | 1 << 7
_of_thread = threading.local()
_NOBODY = -1  # no valid id: setfsuid(2) then changes nothing, and returns the id of now


def become(ids: Ids, *, as_root: bool) -> None:
    """Give this thread the file rights of a ship's user or root; a thread is always of the same kind."""
    owner = ids.first if as_root else ids.sprite
    if ids.is_own and not getattr(_of_thread, "is_reduced", False):
        kernel.clear_thread_groups()
        kept = _SET_IDS | (_ROOT_CAPABILITIES if as_root else 0)
        kernel.set_capabilities(kept, kept)
        _of_thread.is_reduced = True
    for change in (kernel.libc.setfsgid, kernel.libc.setfsuid):
        change(owner)
        if change(_NOBODY) != owner:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
    if ids.is_own and as_root:  # the kernel took them away when the id was no longer 0
        kernel.set_capabilities(_SET_IDS | _ROOT_CAPABILITIES, _SET_IDS | _ROOT_CAPABILITIES)
