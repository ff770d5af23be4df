"""Replace an older worker by this program; the captain calls it while no command runs.

The old program's file is replaced, then the running worker is killed. Its service manager (the
sprite's services, systemd, our keeper) starts it again, with the new program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Optional

from ocaptain.protocol.files import start_time
from ocaptain.worker.places import Places

WORKER_FILE = "worker.pyz"
RESTART_SECONDS = 45.0


def install(places: Places, program: Path) -> int:
    """Install ``program`` as the worker; return 0 when it serves, 1 if it does not start."""
    target = places.own / WORKER_FILE
    with program.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(program, target)
    old_pid = listener_pid(places.socket)
    old_start_time = start_time(old_pid) if old_pid else None
    if old_pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(old_pid, signal.SIGKILL)
    until = time.monotonic() + RESTART_SECONDS
    while time.monotonic() < until:
        new_pid = listener_pid(places.socket)
        if new_pid is not None and (new_pid, start_time(new_pid)) != (old_pid, old_start_time):
            return 0
        time.sleep(0.1)
    sys.stderr.write(f"the new worker does not answer on {places.socket} after {RESTART_SECONDS:g} s\n")
    return 1


def listener_pid(path: Path) -> Optional[int]:
    """Return the pid of the process that listens on a unix socket, None if none does."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(path))
            size = struct.calcsize("3i")
            pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        except OSError:
            return None
    return int(pid) or None
