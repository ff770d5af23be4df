"""Classify errors that an actor meets by what failed.

======  =============================  ==============================================================
fault   for example                    reaction
======  =============================  ==============================================================
ours    the repository is damaged,     no ship or task is blamed; claims stop (``paused: ours``) until
        the disk is full, no           a check finds all sound; then it is tried again
        descriptor or memory is left
way     the channel broke              reconnect, until the lease ends or the channel only breaks
ship    it sends what no ship may      its task goes elsewhere; after a second fault it is out of service
gone    the provider does not have it  its task goes elsewhere at once
======  =============================  ==============================================================

(The task's own failures are no errors: :mod:`ocaptain.captain.decide.outcome` decides about them.)
"""

from __future__ import annotations

import errno
from typing import Literal

from ocaptain.captain.transport.base import CutShort, ShipGone, TransportError
from ocaptain.git import BadBundle, GitError
from ocaptain.sprites import SpritesError

Fault = Literal["ours", "way", "ship", "gone"]
#: Error numbers that mean that this machine failed.
OURS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EROFS, errno.EAGAIN}
)


def classify_fault(error: BaseException) -> Fault:
    """Return what failed when a ship's actor met an error."""
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
