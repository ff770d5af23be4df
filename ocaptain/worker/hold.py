"""Keep the VM awake while there is work, and not longer.

A sprite pauses after about 30 s without activity. While a command runs, the worker holds a Task at
the sprite's own API socket, and afterwards until the captain has the result and says that there is
no more work (:meth:`Hold.release`); without a captain for :data:`LINGER_SECONDS`. Without the
Task the sprite sleeps and costs nothing. Without the socket (an ssh host) nothing is done.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from pathlib import Path
from typing import Iterator

SOCKET = Path("/.sprite/api.sock")
NAME = "ocaptain-worker"
EXPIRE_SECONDS = 300
REFRESH_SECONDS = 120.0
LINGER_SECONDS = 600.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("sprite", timeout=5)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(5)
        self.sock.connect(self._path)


class Hold:
    """Counts running commands; refreshes the Task in a separate thread."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self._working = 0
        self._until = 0.0
        self._wake = threading.Event()
        if path.exists():
            threading.Thread(target=self._refresh_task, daemon=True).start()

    @contextlib.contextmanager
    def keep_awake(self, *, linger: bool = True) -> Iterator[None]:
        """Keep the VM awake inside the block, and with ``linger`` for a while after it."""
        self._working += 1
        self._wake.set()
        try:
            yield
        finally:
            self._working -= 1
            if linger:
                self._until = time.monotonic() + LINGER_SECONDS
            else:
                self._wake.set()

    def release(self) -> None:
        """Delete the Task now, unless a command runs."""
        self._until = 0.0
        self._wake.set()

    def _refresh_task(self) -> None:
        is_held = True  # perhaps by an earlier worker: then the Task is deleted
        while True:
            self._wake.clear()  # before looking: work that begins after the look wakes us again
            is_needed = self._working > 0 or time.monotonic() < self._until
            if is_needed:
                self._call("PUT", {"name": NAME, "expire": EXPIRE_SECONDS})
            elif is_held:
                self._call("DELETE", None)
            is_held = is_needed
            self._wake.wait(REFRESH_SECONDS if is_needed else None)

    def _call(self, method: str, body: object) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = _Connection(self._path)
            payload = json.dumps(body) if body else None
            connection.request(method, f"/v1/tasks/{NAME}", payload, {"Content-Type": "application/json"})
            connection.getresponse().read()
            connection.close()
