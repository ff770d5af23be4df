"""Whom the kernel ends when memory runs out: processes of the ships, never drydock.

The kernel picks the process with the highest score: its memory, plus ``oom_score_adj`` thousandths of all
memory (of the control group's limit, where that is what ran out; proc(5)). Without a word of ours the biggest process
goes, which is drydock as soon as a ship makes many small ones, and with drydock every ship.

::

    drydock, and the keepers of its commands    LOWERED   (only with CAP_SYS_RESOURCE; else what they inherited)
    a ship's keeper and init                    INIT      each is a whole ship: after every command; before it is built
    every command in a ship                     INIT      before its first instruction; inherited by what it forks
                                                COMMAND   as soon as its program runs: before, it is a copy of drydock

Raising one's own value needs no right. A value that was set with CAP_SYS_RESOURCE is a floor for the ship. Without that
right (an ordinary user, some containers) a ship that means harm may lower its own back to what drydock has; a limit of
its memory (:mod:`.cgroups`) stops that one.
"""

from __future__ import annotations

import os
from pathlib import Path

LOWERED = -500
INIT = 300
COMMAND = 700
SCORE_FILE = "oom_score_adj"


def raised(current: int, level: int) -> int:
    """Return the score that a process of a ship gets: ``level``, unless it has a higher one already."""
    return max(current, level)


def protect_this_process() -> bool:
    """Lower the score of this process, and of what it starts; return whether this machine allows it."""
    try:
        Path(f"/proc/self/{SCORE_FILE}").write_text(f"{LOWERED}\n", "ascii")
    except OSError:
        return False
    return True


def open_procfs() -> int:
    """Return a descriptor of the host's procfs, for :func:`open_score` inside of other namespaces."""
    return os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def open_score(procfs: int, pid: int | None = None) -> int | None:
    """Return a descriptor of a process's score, for :func:`raise_opened`; None where the kernel has none.

    Args:
        procfs: of :func:`open_procfs`: a ship's own ``/proc`` is not asked.
        pid: the process; None = the calling one.
    """
    try:
        return os.open(f"{pid or 'self'}/{SCORE_FILE}", os.O_RDWR | os.O_CLOEXEC, dir_fd=procfs)
    except FileNotFoundError:  # such a kernel has nothing to protect drydock from
        return None


def raise_opened(score: int | None, level: int) -> None:
    """Raise the score of the process that opened it, and close the descriptor.

    Raises:
        OSError: the kernel refuses it.
    """
    if score is None:
        return
    try:
        os.write(score, f"{raised(int(os.read(score, 16)), level)}\n".encode())
    finally:
        os.close(score)
