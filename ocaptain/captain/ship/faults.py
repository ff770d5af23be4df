"""Whose fault something is, and what that means.

======  =============================  ==============================================================
whose   for example                    what is done
======  =============================  ==============================================================
ours    the repository is damaged,     nobody is blamed; claims stop (``paused: ours``) until it is
        the disk is full, no           looked at and found sound; then it is tried again
        descriptor or memory is left
way     the channel broke              tried again; the lease, or a ship that only breaks, is judged
ship    it answers what no ship may    its task goes elsewhere; after a second fault it is benched
gone    the provider has it no more    its task goes elsewhere at once
======  =============================  ==============================================================

(The task's own faults are no errors: :mod:`ocaptain.captain.decide.outcome` decides about them.)
"""

from __future__ import annotations

import errno
from typing import Literal

from ocaptain.captain.transport.base import CutShort, ShipGone, TransportError
from ocaptain.git import BadBundle, GitError
from ocaptain.sprites import SpritesError

Fault = Literal["ours", "way", "ship", "gone"]
#: Of this machine, whoever meets them.
OURS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EROFS, errno.EAGAIN}
)


def sort_fault(error: BaseException) -> Fault:
    """Return whose fault an error is that a ship's actor met."""
    if isinstance(error, ShipGone):
        return "gone"
    if isinstance(error, CutShort | TransportError | SpritesError):
        return "way"
    if isinstance(error, BadBundle):
        return "ship"
    if isinstance(error, GitError | MemoryError):
        return "ours"
    if isinstance(error, OSError) and error.errno in OURS:
        return "ours"
    return "ship"
