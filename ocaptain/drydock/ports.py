"""Which TCP ports a ship listens on, read from procfs."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"


@dataclass(frozen=True)
class Port:
    """A port that a process of a ship listens on.

    Attributes:
        port: number.
        address: that it is bound to.
        pid: of the process, as the ship sees it.
    """

    port: int
    address: str
    pid: int

    def describe(self, kind: str) -> dict[str, object]:
        """Return the message that tells it."""
        return {"type": kind, "port": self.port, "address": self.address, "pid": self.pid}


def listening(init_pid: int) -> frozenset[Port]:
    """Return the ports of the sandbox of ``init_pid``; only what its own processes hold.

    The network may be the host's, so a socket counts if a process of the ship has it open.
    """
    sockets: dict[str, tuple[int, str]] = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{init_pid}/net/{table}").read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    address, _, port = fields[1].partition(":")
                    sockets[f"socket:[{fields[9]}]"] = int(port, 16), _address(address)
    found = set()
    inside = f"/proc/{init_pid}/root/proc"
    with contextlib.suppress(OSError):
        for pid in (name for name in os.listdir(inside) if name.isdecimal()):
            for target in _open_files(f"{inside}/{pid}/fd"):
                if target in sockets:
                    port_number, bound = sockets[target]
                    found.add(Port(port_number, bound, int(pid)))
    return frozenset(found)


def _open_files(directory: str) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"{directory}/{name}"))
    return found


def _address(text: str) -> str:
    """Return an address of /proc/net: words of 32 bits in the machine's own order."""
    words = [struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8)]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))
