"""OTLP/HTTP on loopback: read one request a connection, bounded, and answer it. Standard library only.

Source of the protocol: the OTLP specification 1.x, "OTLP/HTTP": POST to ``/v1/metrics``, ``/v1/logs`` or
``/v1/traces``; an error's answer is a ``google.rpc.Status`` in the request's own encoding; 429 and 503 are tried again
by the sender, other 4xx are not. Each answer closes its connection: an agent exports every few seconds at most.

What an attacker can make us hold: :data:`MAX_CONNECTIONS` requests' heads, and bodies of :data:`MAX_HELD` bytes in
all; whoever would need more is answered 503. A request that is not complete in :data:`REQUEST_SECONDS` is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass
from typing import AsyncIterator, Awaitable, Callable, Dict, Set, Tuple

from ocaptain.worker.otlp_body import JSON, MAX_BODY, PROTOBUF, BadBody, LargeBody

MAX_HEAD = 16 * 1024  # bytes
MAX_CONNECTIONS = 16
MAX_HELD = 8 * 1024 * 1024  # bytes of the bodies of all connections
REQUEST_SECONDS = 15.0
DISCARD_SECONDS = 1.0
MAX_SAID = 20  # lines in the worker's log
READ_BYTES = 32 * 1024
PATHS = {"/v1/metrics": "metrics", "/v1/logs": "logs", "/v1/traces": "traces"}
_WORDS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
#: Codes of google.rpc.Status (google/rpc/code.proto): INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE.
_STATUS_CODES = {413: 8, 503: 14}


@dataclass(frozen=True)
class Call:
    """A request of an exporter.

    Attributes:
        signal: ``metrics``, ``logs`` or ``traces``.
        content_type: ``application/x-protobuf`` or ``application/json``.
        gzipped: whether the body is gzip.
        body: as it was sent.
    """

    signal: str
    content_type: str
    gzipped: bool
    body: bytearray


class _Refused(Exception):
    """A request is answered with an error.

    Attributes:
        status: HTTP status code.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Request:
    """One HTTP/1.1 request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.signal = self.content_type = ""
        self.gzipped = False
        self.body = bytearray()
        self._reader = reader
        self._writer = writer
        self._length = 0
        self._is_chunked = False

    @property
    def answer_type(self) -> str:
        """The content type of its answer."""
        return self.content_type or PROTOBUF

    async def read_head(self) -> None:
        """Read request line and headers; raise _Refused if this is no call that is taken."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.LimitOverrunError, ValueError):
            raise _Refused(431, f"the headers are more than {MAX_HEAD} bytes") from None
        method, path, headers = _parse_head(head)
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        self.content_type = content_type if content_type in {PROTOBUF, JSON} else ""
        if path not in PATHS:
            raise _Refused(404, f"there are only {', '.join(PATHS)}")
        if method != "POST":
            raise _Refused(405, "only POST is allowed")
        if not self.content_type:
            raise _Refused(415, f"the content type must be {PROTOBUF} or {JSON}")
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding not in {"identity", "gzip"}:
            raise _Refused(415, "the content encoding must be gzip or identity")
        self.signal, self.gzipped = PATHS[path], encoding == "gzip"
        self._set_length(headers)
        if headers.get("expect", "").lower() == "100-continue":
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _set_length(self, headers: Dict[str, str]) -> None:
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        self._is_chunked = coding is not None
        if coding is not None and (coding.lower() != "chunked" or length is not None):
            raise _Refused(400, "the body must have a content length, or be chunked")
        if coding is None and length is None:
            raise _Refused(411, "the body must have a content length, or be chunked")
        if length is not None:
            if not (length.isascii() and length.isdigit()):
                raise _Refused(400, "the content length is not a number")
            self._length = int(length[:12])
            _require_size(self._length)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces."""
        if not self._is_chunked:
            async for piece in self._read(self._length):
                yield piece
            return
        total = 0
        while True:
            size = await self._chunk_size()
            total += size
            _require_size(total)
            if not size:
                break
            async for piece in self._read(size):
                yield piece
            if await self._reader.readexactly(2) != b"\r\n":
                raise _Refused(400, "a chunk of the body has another length than it says")
        while (await self._line()).strip():  # trailers
            pass

    async def _chunk_size(self) -> int:
        digits = (await self._line()).partition(b";")[0].strip()
        try:
            return int(digits[:8], 16) if len(digits) <= 8 else MAX_BODY + 1
        except ValueError:
            raise _Refused(400, "a chunk of the body has no length") from None

    async def _line(self) -> bytes:
        try:
            return await self._reader.readuntil(b"\r\n")
        except (asyncio.LimitOverrunError, ValueError):
            raise _Refused(400, "a line between the chunks of the body is too long") from None

    async def _read(self, size: int) -> AsyncIterator[bytes]:
        while size:
            piece = await self._reader.read(min(size, READ_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(piece)
            yield piece


class OtlpServer:
    """Serves connections; :meth:`serve_connection` is for ``asyncio.start_server``.

    Args:
        take: stores a call; raises BadBody or LargeBody if the body is not taken, OSError if it cannot be stored now.
        is_taking: whether calls are taken now.
    """

    def __init__(self, take: Callable[[Call], Awaitable[None]], is_taking: Callable[[], bool]) -> None:
        self._take = take
        self._is_taking = is_taking
        self._connections = 0
        self._held = 0  # bytes
        self._said: Set[str] = set()

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request and answer it."""
        self._connections += 1
        request = _Request(reader, writer)
        try:
            try:
                if self._connections > MAX_CONNECTIONS:
                    raise _Refused(503, "too many connections at a time")
                await self._receive(request)
                await self._store(request)
            except _Refused as refused:
                self._say(f"{request.signal or 'a request'} ({request.content_type}) was refused: {refused}")
                await _send(writer, refused.status, request.answer_type, _status_body(refused, request.answer_type))
                await _discard(reader)
            else:
                await _send(writer, 200, request.answer_type, b"{}" if request.answer_type == JSON else b"")
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            pass  # the other end is gone, or does not read
        finally:
            self._held -= len(request.body)
            self._connections -= 1
            writer.close()

    def _say(self, text: str) -> None:
        """Say in the worker's log what was refused, each text once: the sender may say it nowhere."""
        if text not in self._said and len(self._said) < MAX_SAID:
            self._said.add(text)
            print(f"telemetry: {text}", file=sys.stderr, flush=True)

    async def _receive(self, request: _Request) -> None:
        try:
            await asyncio.wait_for(self._read(request), REQUEST_SECONDS)
        except asyncio.TimeoutError:
            raise _Refused(408, f"the request was not complete in {REQUEST_SECONDS:g} s") from None

    async def _read(self, request: _Request) -> None:
        await request.read_head()
        async for piece in request.pieces():
            if self._held + len(piece) > MAX_HELD:
                raise _Refused(503, "too much is being received at a time")
            self._held += len(piece)
            request.body += piece

    async def _store(self, request: _Request) -> None:
        if not self._is_taking():
            raise _Refused(503, "this ship is about to sleep and takes no telemetry now")
        try:
            await self._take(Call(request.signal, request.content_type, request.gzipped, request.body))
        except BadBody as error:
            raise _Refused(400, f"the body is malformed: {error}") from None
        except LargeBody as error:
            raise _Refused(413, f"the body is too large: {error}") from None
        except OSError as error:
            raise _Refused(503, f"it cannot be stored on the ship: {error.strerror or error}") from None


def _require_size(size: int) -> None:
    if size > MAX_BODY:
        raise _Refused(413, f"the body is more than {MAX_BODY} bytes; send fewer points at a time")


def _parse_head(head: bytes) -> Tuple[str, str, Dict[str, str]]:
    """Return method, path and headers (lower-case names)."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused(400, "this is not an HTTP/1.1 request")
    headers: Dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _Refused(400, "a header is malformed")
        headers[name.lower()] = value.strip()
    return words[0], words[1], headers


def _status_body(refused: _Refused, content_type: str) -> bytes:
    """Return a ``google.rpc.Status``: field 1 is its code, field 2 its message."""
    code = _STATUS_CODES.get(refused.status, 3)
    if content_type == JSON:
        return json.dumps({"code": code, "message": str(refused)}).encode()
    text = str(refused).encode()[:16000]
    size = bytes([len(text)]) if len(text) < 128 else bytes([len(text) & 127 | 128, len(text) >> 7])
    return bytes([0x08, code, 0x12]) + size + text


async def _send(writer: asyncio.StreamWriter, status: int, content_type: str, body: bytes) -> None:
    head = [f"HTTP/1.1 {status} {_WORDS[status]}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    head += ["Allow: POST"] if status == 405 else ["Retry-After: 1"] if status == 503 else []
    writer.write("\r\n".join([*head, "Connection: close", "", ""]).encode() + body)
    await asyncio.wait_for(writer.drain(), DISCARD_SECONDS)
    if writer.can_write_eof():
        writer.write_eof()


async def _discard(reader: asyncio.StreamReader) -> None:
    """Read on for a moment: a connection that is closed before all was read may lose its answer (RFC 9112, 9.6)."""

    async def read_on() -> None:
        while await reader.read(READ_BYTES):
            pass

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(read_on(), DISCARD_SECONDS)
