"""Find and kill the processes of an attempt."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ocaptain.protocol.files import start_time

MARKER = "OCAPTAIN_MARKER"


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parents() -> dict[int, int]:
    parents = {}
    for pid in _pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stat:
            parents[pid] = int(stat.read().rpartition(b")")[2].split()[1])
    return parents


def descendants(root: int) -> set[int]:
    """Return all processes below ``root``."""
    parents = _parents()
    found = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found - {root}


def ancestors(pid: int) -> set[int]:
    """Return the parent of a process, and the parents of that."""
    parents = _parents()
    found: set[int] = set()
    while (pid := parents.get(pid, 0)) and pid not in found:
        found.add(pid)
    return found


def processes_with_marker(marker: str) -> set[int]:
    """Return every process whose environment carries the attempt's marker."""
    wanted = f"{MARKER}={marker}".encode()
    found = set()
    for pid in _pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environ:
            if wanted in environ.read().split(b"\0"):
                found.add(pid)
    return found


def kill_attempt_processes(marker: str, *, root: int | None = None, excluded: frozenset[int] = frozenset()) -> None:
    """Kill the processes with the marker and the descendants of ``root``, until none is left (at most 10 s)."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        found = (processes_with_marker(marker) | (descendants(root) if root else set())) - excluded - {os.getpid()}
        living = {pid for pid in found if start_time(pid)}
        if not living:
            return
        for pid in living:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
