"""Which TCP ports a ship listens on, read from procfs."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"
#: Reading a network's table takes milliseconds, and each open command of each ship asks once a second.
_CACHE_SECONDS = 0.5


@dataclass(frozen=True)
class Port:
    """A port that a process of a ship listens on.

    Attributes:
        port: number.
        address: address that it is bound to.
        pid: pid of the process, as the ship sees it.
    """

    port: int
    address: str
    pid: int

    def describe(self, kind: str) -> dict[str, object]:
        """Return the API message for this port; ``kind`` is its type (``port_opened``, ``port_closed``)."""
        return {"type": kind, "port": self.port, "address": self.address, "pid": self.pid}


def listening_ports(init_pid: int, leader: int | None = None) -> frozenset[Port]:
    """Return the ports that the processes of a sandbox listen on.

    Args:
        init_pid: the sandbox's init.
        leader: count only this process (pid on the host) and its descendants.

    The network may be the host's, so a socket counts if a process of the ship has it open.
    """
    sockets = _listener_cache.get(init_pid)
    found = set()
    for place, pid in _list_descendants(leader) if leader else _list_processes(init_pid):
        for target in _list_open_files(f"{place}/fd"):
            if target in sockets:
                port_number, bound = sockets[target]
                found.add(Port(port_number, bound, pid))
    return frozenset(found)


class _ListenerCache:
    """Caches the listening sockets of each network for half a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[float, dict[str, tuple[int, str]]]] = {}

    def get(self, init_pid: int) -> dict[str, tuple[int, str]]:
        """Return port and address by socket name, as in ``/proc/PID/fd`` (``socket:[inode]``)."""
        try:
            network = os.stat(f"/proc/{init_pid}/ns/net").st_ino
        except OSError:
            return {}
        with self._lock:
            now = time.monotonic()
            self._known = {key: value for key, value in self._known.items() if now - value[0] < _CACHE_SECONDS}
            if network not in self._known:
                self._known[network] = now, _read_listeners(init_pid)
            return self._known[network][1]


_listener_cache = _ListenerCache()


def _read_listeners(init_pid: int) -> dict[str, tuple[int, str]]:
    sockets = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{init_pid}/net/{table}").read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    address, _, port = fields[1].partition(":")
                    sockets[f"socket:[{fields[9]}]"] = int(port, 16), _parse_address(address)
    return sockets


def _list_processes(init_pid: int) -> list[tuple[str, int]]:
    """Return every process of a sandbox: its procfs directory, and its pid inside the sandbox."""
    inside = f"/proc/{init_pid}/root/proc"
    with contextlib.suppress(OSError):
        return [(f"{inside}/{name}", int(name)) for name in os.listdir(inside) if name.isdecimal()]
    return []


def _list_descendants(pid: int) -> list[tuple[str, int]]:
    """Return the descendants of a process: procfs directory, and pid inside the sandbox."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text("ascii").split():
                status = Path(f"/proc/{child}/status").read_text("utf-8", "replace")
                inside = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
                found += [(f"/proc/{child}", int(inside)), *_list_descendants(int(child))]
    return found


def _list_open_files(directory: str) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"{directory}/{name}"))
    return found


def _parse_address(text: str) -> str:
    """Parse an address of /proc/net: 32-bit words in the machine's byte order."""
    words = [struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8)]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))
