"""Who is at the other end of a unix socket."""

from __future__ import annotations

import os
import socket
import struct

#: Of ``getsockopt`` for LOCAL_PEERCRED (sys/un.h, sys/ucred.h of macOS): its level, and the size of ``struct xucred``.
_SOL_LOCAL = 0
_XUCRED_BYTES = 76


def is_ours(connection: socket.socket) -> bool:
    """Whether the other end runs as this user; where the system does not tell, the socket's mode protects it."""
    if hasattr(socket, "SO_PEERCRED"):  # Linux: struct ucred of pid, uid and gid
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return bool(struct.unpack("3i", data)[1] == os.geteuid())
    if hasattr(socket, "LOCAL_PEERCRED"):  # macOS and FreeBSD: struct xucred begins with its version and the uid
        data = connection.getsockopt(_SOL_LOCAL, socket.LOCAL_PEERCRED, _XUCRED_BYTES)
        return bool(struct.unpack_from("II", data)[1] == os.geteuid())
    return True
