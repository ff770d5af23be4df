"""Files that are written whole or not at all, and processes that are known again. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes, mode: int = 0o600, *, durable: bool = True, one_writer: bool = False) -> None:
    """Write a file so that a reader sees all of it or what was there before; threads may do so at one time.

    Args:
        path: of the file; its directory is there.
        data: all of it.
        mode: of a new file.
        durable: whether it is on the disk when this returns, and not only in the kernel's memory.
        one_writer: nobody else writes this file now; so what a killed writer left half-written is overwritten
            by the next one, and never piles up.

    Raises:
        OSError: it could not be written; what was there before is.
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


def write_json(path: Path, content: Any) -> None:
    """Write JSON by :func:`write_atomic`."""
    write_atomic(path, json.dumps(content).encode())


def read_json(path: Path) -> Any:
    """Return a JSON file's content, None if it is not there or not whole."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_bytes())
    return None


def start_time(pid: int) -> str:
    """Return when ``pid`` started, in a form that a recycled pid does not share; "" if it is gone or a zombie.

    Source: proc(5), field 22 of ``/proc/pid/stat``, in clock ticks since the machine started.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if not fields or fields[0] in {b"Z", b"X"} else fields[19].decode()
