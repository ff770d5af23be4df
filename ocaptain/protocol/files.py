"""Atomic file writes, and start times that identify processes. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes, mode: int = 0o600, *, durable: bool = True, one_writer: bool = False) -> None:
    """Replace a file atomically: readers see the old or the new content; safe for concurrent threads.

    Args:
        path: of the file; its directory must exist.
        data: the whole content.
        mode: permission bits of the file.
        durable: sync it, and its name in the directory, to disk before returning.
        one_writer: no other thread or process writes this file now; then one fixed temporary name is used, so
            that killed writers leave at most one temporary file.

    Raises:
        OSError: it could not be written; the old content remains.
    """
    which = "tmp" if one_writer else f"{os.getpid()}.{threading.get_ident()}"
    scratch = path.with_name(f".{path.name}.{which}")
    try:
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink()  # it takes what a full disk has left
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Sync the names in a directory to disk, on file systems that can: else a new file may have none after a crash."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON with :func:`write_atomic`."""
    write_atomic(path, json.dumps(content).encode())


def read_json(path: Path) -> Any:
    """Return a JSON file's content, None if it is missing or invalid."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_bytes())
    return None


def start_time(pid: int) -> str:
    """Return the start time of a process, which identifies it if its pid is reused; "" if it ended or is a zombie.

    Source: proc(5), field 22 of ``/proc/pid/stat``, in clock ticks since the machine started.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if not fields or fields[0] in {b"Z", b"X"} else fields[19].decode()
