"""Limits on the size and the duration of request bodies."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from ocaptain.drydock.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_JSON = 1024 * 1024
MAX_FILE = 1024 * 1024 * 1024


@dataclass(frozen=True)
class BodyLimit:
    """How long a body may be, and how long it may take.

    Attributes:
        max_bytes: of the whole body.
        seconds: time limit of any body.
        bytes_per_second: minimum rate at which a long body extends the time limit; 0 = no extension.
    """

    max_bytes: int
    seconds: float = 30.0
    bytes_per_second: float = 0.0

    def seconds_for(self, received: int) -> float:
        """Return the time limit of a body of which ``received`` bytes have arrived."""
        return self.seconds + (received / self.bytes_per_second if self.bytes_per_second else 0.0)


JSON = BodyLimit(MAX_JSON)
FILE = BodyLimit(MAX_FILE, bytes_per_second=16 * 1024)


def body_limit(method: str, path: str) -> BodyLimit | None:
    """Return the limit of a call's body; None for a command's input, which lasts as long as the command."""
    area = path.split("/")[4:]
    if (method, area) == ("POST", ["exec"]):
        return None
    return FILE if area == ["fs", "write"] else JSON


class Bodies:
    """ASGI middleware that applies the limits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, with a limited body."""
        limit = body_limit(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if limit is None:
            await self._app(scope, receive, send)
            return
        body = _Body(limit, receive, send)
        await self._app(scope, body.receive, body.send)


class _Body:
    """One request's body; if it breaks a limit, the reply closes the connection."""

    def __init__(self, limit: BodyLimit, receive: Receive, send: Send) -> None:
        self._limit = limit
        self._receive = receive
        self._send = send
        self._since = time.monotonic()
        self._received = 0
        self._whole = self._broken = self._answered = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        if self._broken:
            return {"type": "http.disconnect"}
        left = self._since + self._limit.seconds_for(self._received) - time.monotonic()
        try:
            async with asyncio.timeout(left):
                message = await self._receive()
        except TimeoutError:
            return self._give_up(408, "request_timeout", "the request body arrived too slowly")
        self._received += len(message.get("body", b""))
        if self._received > self._limit.max_bytes:
            return self._give_up(413, "too_large", f"the request body is longer than {self._limit.max_bytes} bytes")
        self._whole = not message.get("more_body")
        return message

    def _give_up(self, status: int, code: str, why: str) -> Message:
        self._broken = True
        if not self._answered:
            raise ApiError(status, code, why)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._answered = True
            if self._broken:
                MutableHeaders(raw=message.setdefault("headers", []))["connection"] = "close"
        await self._send(message)
