"""What spoils a reply on its way to the client: half of it, a cut, a hole in the middle (:mod:`.faults` decides)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Message, Send

#: Streams that may lose output, by the number in the first byte of an exec frame.
STREAMS = {"stdout": frozenset({1}), "stderr": frozenset({2}), "both": frozenset({1, 2})}


class ConnectionCut(Exception):
    """Raised to end a connection in the middle of a reply: the server then closes it."""


class HalfBodySender:
    """Sends the first half of a reply's body as if it were complete."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        """Collect the body; send half of it at its end."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        half = bytes(self._body[: len(self._body) // 2])
        headers = [(name, value) for name, value in self._start.get("headers", []) if name != b"content-length"]
        length = (b"content-length", str(len(half)).encode())
        status = self._start["status"]
        await self._send({**self._start, "headers": headers if status == 204 else [*headers, length]})
        await self._send({"type": "http.response.body", "body": half})


class CuttingSender:
    """Lets some messages through, then breaks the connection."""

    def __init__(self, send: Send, messages: int) -> None:
        self._send = send
        self._left = messages
        self.cut = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        """Send a message, or cut the connection."""
        if message["type"] == "http.response.start":
            # A length that is never reached: the client sees that something is missing.
            headers = [pair for pair in message.get("headers", []) if pair[0] != b"content-length"]
            await self._send({**message, "headers": [*headers, (b"content-length", b"1000000")]})
            return
        if message["type"] in {"websocket.accept", "websocket.http.response.start"}:
            await self._send(message)
            return
        if self._left <= 0:
            self.cut.set()
            raise ConnectionCut
        self._left -= 1
        if message["type"] == "http.response.body":
            await self._send({**message, "body": message.get("body", b"")[:1000], "more_body": True})
        else:
            await self._send(message)


def keep_outside_holes(data: bytes, passed: int, kept: int, lost: int) -> bytes:
    """Return what is left of a piece of output when after each ``kept`` bytes the next ``lost`` bytes are missing.

    Args:
        data: the piece.
        passed: number of bytes of the output before it, missing ones included.
        kept: bytes.
        lost: bytes.
    """
    left, at = bytearray(), 0
    while at < len(data):
        place = (passed + at) % (kept + lost)
        step = (kept if place < kept else kept + lost) - place
        if place < kept:
            left += data[at : at + step]
        at += step
    return bytes(left)


class LosingSender:
    """Leaves holes in a command's output, in each stream by itself; all else, the exit code included, arrives.

    Each message of a socket, and each chunk of a POST's reply, is one frame; a terminal's have no stream number and
    are standard output.
    """

    def __init__(self, send: Send, kept: int, lost: int, *, stream: str, tty: bool) -> None:
        self._send = send
        self._kept = kept
        self._lost = lost
        self._losing = STREAMS[stream]
        self._head = 0 if tty else 1
        self._passed = {1: 0, 2: 0}

    async def __call__(self, message: Message) -> None:
        """Send a message without what is lost of it."""
        key = {"websocket.send": "bytes", "http.response.body": "body"}.get(message["type"])
        frame = message.get(key) if key else None
        number = frame[0] if frame and self._head else 1
        if key is None or not frame or number not in self._losing:
            await self._send(message)
            return
        data = frame[self._head :]
        left = keep_outside_holes(data, self._passed[number], self._kept, self._lost)
        self._passed[number] += len(data)
        if left or not data:
            await self._send({**message, key: frame[: self._head] + left})
