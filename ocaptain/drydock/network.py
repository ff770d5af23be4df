"""Reach a sandbox's own network from drydock, with system calls only.

A socket belongs to the network namespace in which it was made, no matter who uses it later. So a
separate thread joins the sandbox's network, makes one socket there and ends; everything else is
plain asyncio in drydock. Nothing of the ship is executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_libc = ctypes.CDLL(None, use_errno=True)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_CLONE_NEWNET = 0x40000000
CONNECT_SECONDS = 10.0
CHUNK_BYTES = 64 * 1024


def open_sandbox_socket(init_pid: int, prepare: Callable[[socket.socket], None] = lambda _: None) -> socket.socket:
    """Return a new TCP socket in a sandbox's network.

    Args:
        init_pid: pid of the sandbox's init.
        prepare: called with the socket while its thread is in that network.

    Raises:
        OSError: the sandbox is gone, or ``prepare`` failed.
    """
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def work() -> None:
        try:
            fd = os.open(f"/proc/{init_pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(fd, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(fd)
            # The protocol is named: asyncio sets TCP_NODELAY only then.
            new_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            try:
                new_socket.setblocking(False)  # noqa: FBT003 - the only spelling
                prepare(new_socket)
            except BaseException:
                new_socket.close()
                raise
            made.append(new_socket)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="in-network")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def bring_up_loopback(init_pid: int) -> None:
    """Bring up the loopback interface of a sandbox's network.

    Raises:
        OSError: it cannot be done.
    """

    def up(any_socket: socket.socket) -> None:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | _IFF_UP, b""))

    open_sandbox_socket(init_pid, up).close()


async def connect_to_sandbox_port(init_pid: int, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port on the loopback of a sandbox's network.

    Raises:
        OSError: refused, or no answer in time (TimeoutError).
    """
    new_socket = await asyncio.to_thread(open_sandbox_socket, init_pid)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(new_socket, ("127.0.0.1", port))
            return await asyncio.open_connection(sock=new_socket, limit=CHUNK_BYTES)
    except BaseException:
        new_socket.close()
        raise


async def end_writer(writer: asyncio.StreamWriter) -> None:
    """Close a connection when what was written to it has been sent; until then it counts as open."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def abandon_writer(writer: asyncio.StreamWriter) -> None:
    """Close a connection now: one whose peer does not read would keep its descriptor for as long as it likes."""
    if writer.transport.get_write_buffer_size():
        writer.transport.abort()
    else:
        writer.close()


StreamPair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def relay(one: StreamPair, other: StreamPair, *, until_other_ends: bool = False) -> None:
    """Copy bytes in both directions, with back-pressure; then the other side is closed, and one is left open.

    Args:
        one: the one side; whoever has accepted it closes it.
        other: the other side.
        until_other_ends: end when the other side has ended, else only when both have.
    """

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    there = asyncio.ensure_future(carry(one[0], other[1]))
    try:
        await carry(other[0], one[1])
        if not until_other_ends:
            await there
            await end_writer(other[1])
    finally:
        there.cancel()
        await asyncio.gather(there, return_exceptions=True)
        abandon_writer(other[1])
