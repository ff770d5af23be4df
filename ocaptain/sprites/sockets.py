"""The WebSocket connections: a command, and a TCP connection through ``/proxy``."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed, WebSocketException

from ocaptain.sprites.errors import BadReply, ExecInterrupted, ProxyFailed, SpritesError
from ocaptain.sprites.redact import redact_line, request_id_suffix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.client import ClientConnection


def _request_id_suffix(socket: ClientConnection) -> str:
    """Return the request id of the handshake, to append to a message; "" if there is none."""
    return request_id_suffix(socket.response.headers) if socket.response else ""


STDIN, STDOUT, STDERR, EXIT, STDIN_EOF = range(5)


@dataclass(frozen=True)
class Frame:
    """What a message of a running command says.

    Attributes:
        stream: stream of ``data``; None = it has no output.
        data: output.
        code: the exit code.
        session: the session's id.
        is_last: whether nothing follows.
    """

    stream: int | None = None
    data: bytes = b""
    code: int | None = None
    session: str | None = None
    is_last: bool = False


def parse_frame(message: bytes | str, *, tty: bool) -> Frame:
    """Parse a message of ``/exec``; what is not known says nothing.

    Without a terminal the binary form of the exit is the last word: live, the text form has come too early.
    A terminal has no binary form, and its output has no stream number.
    """
    if isinstance(message, str):
        return _parse_text(message, tty=tty)
    if tty:
        return Frame(STDOUT, message)
    match message[:1]:
        case b"\x01" | b"\x02":
            return Frame(message[0], message[1:])
        case b"\x03":
            return Frame(code=message[1] if len(message) > 1 else 0, is_last=True)
    return Frame()


def _parse_text(message: str, *, tty: bool) -> Frame:
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        return Frame()
    match fields:
        case {"type": "session_info", "session_id": session}:
            return Frame(session=str(session))
        case {"type": "exit", "exit_code": int(code)}:
            return Frame(code=code, is_last=tty)
    return Frame()


class Execution:
    """A running command: iterate for ``(stream, bytes)``, stream 1 stdout, 2 stderr.

    After the iteration :attr:`code` holds the exit code. On a terminal all output is stream 1.

    Attributes:
        session: id of the session, "" until it is known.
        heard: time of the event loop at which the last message came, keepalives included.
    """

    def __init__(self, socket: ClientConnection, name: str, *, tty: bool) -> None:
        self._socket = socket
        self._name = name
        self._tty = tty
        self._code: int | None = None
        self._failure: ExecInterrupted | None = None
        self.session: str = ""
        self.heard = asyncio.get_running_loop().time()

    def fail(self, error: ExecInterrupted) -> None:
        """End the connection at once; whoever reads the command's output gets ``error``."""
        self._failure = error
        self._socket.transport.abort()

    @property
    def code(self) -> int:
        """The exit code.

        Raises:
            ExecInterrupted: the connection ended before the exit code arrived.
        """
        if self._code is None:
            raise self._interrupted("the connection ended before the command")
        return self._code

    async def send(self, data: bytes) -> None:
        """Send input; wait while the service does not accept it (back-pressure)."""
        await self._send(data if self._tty else bytes([STDIN]) + data)

    async def send_eof(self) -> None:
        """End the input: a message of its own, since a socket has no half-close."""
        await self._send(b"\x04" if self._tty else bytes([STDIN_EOF]))

    async def resize(self, rows: int, cols: int) -> None:
        """Set the terminal's size."""
        await self._send(json.dumps({"type": "resize", "rows": rows, "cols": cols}))

    async def signal(self, name: str) -> None:
        """Send a signal (``TERM``, ``KILL``) to the command."""
        await self._send(json.dumps({"type": "signal", "signal": name}))

    async def _send(self, message: bytes | str) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise self._interrupted(error) from None

    def _interrupted(self, why: object) -> ExecInterrupted:
        return self._failure or ExecInterrupted(
            f"exec on {self._name}: {redact_line(why)}{_request_id_suffix(self._socket)}"
        )

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        try:
            async for message in self._socket:
                self.heard = asyncio.get_running_loop().time()
                frame = parse_frame(message, tty=self._tty)
                self.session = self.session if frame.session is None else frame.session
                self._code = self._code if frame.code is None else frame.code
                if frame.stream is not None:
                    yield frame.stream, frame.data
                if frame.is_last:
                    return
        except ConnectionClosed as error:
            self._code = None  # output may be missing even if the text form of the exit was seen
            raise self._interrupted(error) from None
        if self._code is None:
            raise self._interrupted("the connection closed before its exit code came; the command may have run")

    async def close(self) -> None:
        """Close the socket; a command that still runs is killed first."""
        if self._code is None:
            with contextlib.suppress(SpritesError, TimeoutError):
                async with asyncio.timeout(2):
                    await self.signal("KILL")
        with contextlib.suppress(TimeoutError, OSError, WebSocketException):
            async with asyncio.timeout(2):
                await self._socket.close()


class Tunnel:
    """A TCP connection to a port of a sprite: iterate to receive, :meth:`send` to send.

    There is no half-close: either side closes both directions.
    """

    def __init__(self, socket: ClientConnection, what: str) -> None:
        self._socket = socket
        self._what = what

    @classmethod
    async def open(cls, socket: ClientConnection, port: int, what: str) -> Tunnel:
        """Request the connection on a new WebSocket.

        Raises:
            ProxyFailed: nothing listens on the port, or the service does not connect.
            BadReply: the answer is invalid.
        """
        try:
            await socket.send(json.dumps({"host": "localhost", "port": port}))
            answer = await socket.recv()
            fields = json.loads(answer)
            status = fields["status"]
        except ConnectionClosed as error:
            raise ProxyFailed(f"{what}: {redact_line(error)}{_request_id_suffix(socket)}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadReply(f"{what}: the service's answer is invalid{_request_id_suffix(socket)}") from None
        if status != "connected":
            raise ProxyFailed(f"{what}: {redact_line(fields.get('error') or status)}{_request_id_suffix(socket)}")
        return cls(socket, what)

    async def send(self, data: bytes) -> None:
        """Send bytes; wait while the other side does not accept them.

        Raises:
            ProxyFailed: the connection ended.
        """
        try:
            await self._socket.send(data)
        except ConnectionClosed as error:
            raise ProxyFailed(f"{self._what}: {redact_line(error)}{_request_id_suffix(self._socket)}") from None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for message in self._socket:
                if isinstance(message, bytes):
                    yield message
        except ConnectionClosed as error:
            raise ProxyFailed(f"{self._what}: {redact_line(error)}{_request_id_suffix(self._socket)}") from None

    async def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(TimeoutError, OSError, WebSocketException):
            async with asyncio.timeout(2):
                await self._socket.close()
