"""The switch: what Mutagen starts as ``ssh`` goes by the captain's transports to ships, and only to those at work.

::

    daemon ──runs──> thin.py ──unix socket: argv, folder, descriptors 0, 1, 2──> Switch ──Transport.command──> ship
                        <──exit code, one byte──                                  │ is it us? at work? Mutagen's call?
                                                                                  └─no──> 255 at once

A connection is an exec, which keeps a ship awake. Mutagen dials a ship that it lost each 15 s; since the answer for one
that is not at work is 255 before anything is sent, that wakes nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ocaptain.peers import is_ours
from ocaptain.sync import pipes
from ocaptain.sync.calls import Command, read_call
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from ocaptain.sync.calls import Call

REFUSED = 255  # as of ssh, when there is no connection
STDERR = 2
CALL_SECONDS = 5.0  # for a client to say what it wants
MAX_CALL = 64 * 1024
MAX_AGENT = 64 * 1024 * 1024
MAX_CLIENTS = 512
UPLOAD_SECONDS = 120.0
log = logging.getLogger("ocaptain.captain")


class Remote(Protocol):
    """A command that runs on a ship; see ``ocaptain.captain.transport.base.RemoteCommand``."""

    async def send(self, data: bytes) -> None:
        """Send input."""

    async def send_eof(self) -> None:
        """End the input."""

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield its output."""

    @property
    def exit_code(self) -> int:
        """The exit code."""

    async def close(self) -> None:
        """End it."""


class Way(Protocol):
    """The way to a ship: of a transport, what the switch needs."""

    async def put(self, path: str, data: bytes) -> None:
        """Write a file below the home."""

    async def command(self, argv: Sequence[str]) -> Remote:
        """Start a command in the home."""


class Switch:
    """Serves the clients of one captain.

    Args:
        path: of the socket, in a directory that is this user's alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ways: dict[str, Way] = {}
        self._serving: dict[asyncio.Task[None], str] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen, on the running loop. Raises OSError."""
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(0)
        before = os.umask(0o177)
        try:
            self._socket.bind(str(self._path))
        finally:
            os.umask(before)
        self._socket.listen(64)
        self._accepting = asyncio.create_task(self._accept(self._socket), name="switch")

    async def close(self) -> None:
        """Stop listening and end every connection."""
        tasks = [*self._serving, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket:
            self._socket.close()
        self._path.unlink(missing_ok=True)

    def admit(self, host: str, way: Way) -> None:
        """Let Mutagen reach a ship, which is at work now."""
        self._ways[host] = way

    async def cut(self, host: str) -> None:
        """Refuse a ship from now on, and end every connection to it."""
        self._ways.pop(host, None)
        tasks = [task for task, to in self._serving.items() if to == host]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def connections(self, host: str) -> int:
        """Return how many connections to a ship there are."""
        return sum(to == host for to in self._serving.values())

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = await asyncio.get_running_loop().sock_accept(listening)
            except OSError as error:  # no descriptor is left
                log.debug("mirrors: a client cannot be served: %s", error)
                await asyncio.sleep(1)
                continue
            client.settimeout(0)
            if len(self._serving) >= MAX_CLIENTS or not is_ours(client):
                client.close()
                continue
            task = asyncio.create_task(self._serve(client))
            self._serving[task] = ""
            task.add_done_callback(lambda one: self._serving.pop(one, None))

    async def _serve(self, client: socket.socket) -> None:
        """Serve a client: its end ends the command, and the other way round."""
        fds: list[int] = []
        try:
            async with asyncio.timeout(CALL_SECONDS):
                call = await _receive(client, fds)
            code = REFUSED
            asked = read_call(call.tool, call.argv) if len(fds) == 3 else None
            way = self._ways.get(asked.host) if asked else None
            if asked and way and (me := asyncio.current_task()):
                self._serving[me] = asked.host
                code = await _while_there(client, _carry_out(way, asked, Path(call.cwd), fds))
            client.send(bytes([code & 0xFF]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:  # a TimeoutError is an OSError
            log.debug("mirrors: a client was not served: %s", error)
        finally:
            client.close()
            for fd in fds:
                os.close(fd)


class _Asked(NamedTuple):
    """What a client says: which program it stands for, with which arguments, in which folder."""

    tool: str
    argv: list[str]
    cwd: str


async def _receive(client: socket.socket, fds: list[int]) -> _Asked:
    """Receive a call, and the descriptors that come with it; those are added to ``fds`` as they arrive.

    Raises:
        OSError: the client has ended.
        ValueError, KeyError, TypeError: it is no call.
    """
    data = b""
    while b"\n" not in data:
        await pipes.wait_readable(client.fileno())
        piece, given, _, _ = socket.recv_fds(client, MAX_CALL, 3)
        fds += given
        for fd in given:
            pipes.prepare(fd)
        data += piece
        if not piece or len(data) > MAX_CALL:
            raise ValueError("it is no call")
    call = json.loads(data)
    return _Asked(str(call["tool"]), [str(one) for one in call["argv"]], str(call["cwd"]))


async def _while_there(client: socket.socket, work: Coroutine[Any, Any, int]) -> int:
    """Return the result of some work; a client that ends, or says more, cancels it.

    Raises:
        OSError: the client ended.
    """
    working, ended = asyncio.create_task(work), asyncio.create_task(pipes.wait_readable(client.fileno()))
    try:
        await asyncio.wait([working, ended], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise BrokenPipeError("the client ended")
    finally:
        working.cancel()
        ended.cancel()
        await asyncio.gather(working, ended, return_exceptions=True)


async def _carry_out(way: Way, asked: Call, cwd: Path, fds: Sequence[int]) -> int:
    """Do what a client asks for; return the exit code. What fails on the way is said on its stderr, as ssh does."""
    try:
        if isinstance(asked, Command):
            return await _run(way, asked.argv, fds)
        async with asyncio.timeout(UPLOAD_SECONDS):
            await way.put(asked.path, await asyncio.to_thread(_read_program, cwd / asked.source))
            return await _run(way, ("chmod", "700", asked.path), fds)
    except Exception as error:  # noqa: BLE001 - whatever a ship does must not end the captain
        with contextlib.suppress(OSError):
            await pipes.write(fds[STDERR], f"ocaptain: {clean_line(str(error)) or type(error).__name__}\n".encode())
        return REFUSED


async def _run(way: Way, argv: Sequence[str], fds: Sequence[int]) -> int:
    """Run a command between the client's descriptors; its end ends the reading of the client's input."""
    remote = await way.command(argv)
    feeding = asyncio.create_task(_feed(remote, fds[0]))
    try:
        async for stream, data in remote:
            await pipes.write(fds[stream], data)
        return remote.exit_code
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)  # a broken way is reported by the reading side
        await remote.close()


async def _feed(remote: Remote, fd: int) -> None:
    while data := await pipes.read(fd):
        await remote.send(data)
    await remote.send_eof()


def _read_program(path: Path) -> bytes:
    """Return a program's bytes. Raises OSError, also if it is no file or too large for one."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_AGENT:
            raise OSError(f"{path} has {size} bytes, more than an agent of Mutagen's")
        return file.read(MAX_AGENT)
