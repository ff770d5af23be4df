"""Requests to the API: deadlines, errors, retries."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from ocaptain import __version__
from ocaptain.errors import UsageError
from ocaptain.sprites.errors import (
    BadReply,
    ConnectionFailed,
    SpritesError,
    api_error,
)
from ocaptain.sprites.redact import hide_secret, redact_line, request_id_suffix
from ocaptain.sprites.retry import retry_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

REQUEST_SECONDS = 60.0  # a handshake may wake a sleeping sprite
MAX_REPLY = 16 * 1024 * 1024
MAX_REFUSAL = 64 * 1024
PIECE = 256 * 1024
_TRANSFER_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_Result = TypeVar("_Result")
USER_AGENT = f"ocaptain/{__version__}"


class Http:
    """A connection pool to one endpoint, with one token. Use it as an async context manager.

    Args:
        url: base URL, without the ``/v1``.
        token: bearer token; chooses the organisation. Opaque, never logged.
        seconds: deadline of a plain call and of a handshake; a create may take 2.5 times, a file
            ten times as long.
        transport: an httpx transport in place of the network's, for tests of the REST part.
        sleep: called to wait between tries.

    Raises:
        UsageError: a proxy variable of the environment is invalid.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        seconds: float = REQUEST_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        hide_secret(token)
        self._url = url.rstrip("/")
        # A server on this machine is never reached through a proxy, which would see the token.
        self._local = httpx.URL(self._url).host in {"127.0.0.1", "localhost", "::1"}
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": USER_AGENT}
        self._sleep = sleep
        self._seconds = seconds
        try:
            self._http = httpx.AsyncClient(
                base_url=self._url,
                headers=self._headers,
                timeout=httpx.Timeout(seconds, connect=min(15.0, seconds)),
                limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
                transport=transport,
                trust_env=not self._local,
                # Reading the machine's certificates takes longer than a local call does.
                verify=True if self._url.startswith("https") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            # The URL is not shown: it cannot be parsed, so a password in it cannot be removed.
            is_socks = isinstance(error, ImportError)  # httpx would need another package for one
            reason = "it is a SOCKS proxy" if is_socks else "its URL is wrong"
            message = f"the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {reason}"
            raise UsageError(f"{message}; name an HTTP proxy, or unset the variable") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call_with_retries(self, call: Callable[[], Awaitable[_Result]], *, idempotent: bool) -> _Result:
        """Return what ``call`` returns; after a failure repeat it as :mod:`ocaptain.sprites.retry` decides.

        Raises:
            SpritesError: the last try failed.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await call()
            except SpritesError as error:
                wait = retry_wait(error, attempt, idempotent=idempotent)
                if wait is None:
                    raise
            await self._sleep(wait)

    async def request(
        self,
        method: str,
        path: str,
        parse: Callable[[httpx.Response], _Result],
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content: bytes | None = None,
        factor: float = 1.0,
        idempotent: bool = True,
    ) -> _Result:
        """Send a request and return the parsed reply.

        Args:
            method: HTTP method.
            path: path of the URL.
            parse: converts a successful reply.
            params: query of the URL.
            body: sent as JSON.
            content: its body.
            factor: multiplies the client's deadline.
            idempotent: whether it may be repeated after an error that leaves open whether it was carried out.

        Raises:
            SpritesError: the service refused, or could not be reached in time.
        """
        operation = f"{method} {path}"
        seconds = self._seconds * factor
        # A transfer may take long, but each piece of it no longer than any other call.
        limits = seconds if content is None else self._seconds
        headers = None if content is None else {"Content-Length": str(len(content))}

        async def send() -> _Result:
            data = None if content is None else _pieces(content)
            response_start: httpx.Response | None = None
            try:
                async with (
                    asyncio.timeout(seconds),
                    self._http.stream(
                        method, path, params=params, json=body, content=data, headers=headers, timeout=limits
                    ) as response_start,
                ):
                    response = await read_reply(operation, response_start)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                raise ConnectionFailed(f"{operation}: cannot reach {self._url}: {redact_line(error)}") from None
            except (TimeoutError, httpx.TimeoutException):
                why = f"no answer from {self._url} in {seconds:g} s{request_id_of(response_start)}"
                raise ConnectionFailed(f"{operation}: {why}", sent=True, silent=True) from None
            except httpx.HTTPError as error:
                raise self.connection_lost_error(operation, error, response_start) from None
            if response.is_success:
                return parse(response)
            raise api_error(operation, response.status_code, response.headers, response.content)

        return await self.call_with_retries(send, idempotent=idempotent)

    def connection_lost_error(
        self, operation: str, error: Exception | str, response_start: httpx.Response | None
    ) -> ConnectionFailed:
        """Return the error for a connection that broke; ``response_start`` is the reply, if one began."""
        reason = f"{redact_line(error) or type(error).__name__}{request_id_of(response_start)}"
        message = f"{operation}: the connection to {self._url} was lost: {reason}"
        return ConnectionFailed(message, sent=True, silent=isinstance(error, httpx.TimeoutException))


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    """Yield a body in pieces, each of which must be taken within the time limit."""
    for at in range(0, len(content), PIECE):
        yield content[at : at + PIECE]


def request_id_of(response_start: httpx.Response | None) -> str:
    """Return the request id of a reply that began, as the end of a message; "" if there is none."""
    return request_id_suffix(response_start.headers) if response_start is not None else ""


async def read_reply(operation: str, stream: httpx.Response) -> httpx.Response:
    """Read a reply of limited length.

    Only the beginning of a long refusal is read.

    Raises:
        BadReply: it is a success and too long.
        httpx.HTTPError: the connection broke.
    """
    data = bytearray()
    limit = MAX_REPLY if stream.is_success else MAX_REFUSAL
    async for piece in stream.aiter_bytes():
        data += piece
        if len(data) > limit:
            if stream.is_success:
                raise BadReply(
                    f"{operation}: the reply is longer than {limit} bytes{request_id_suffix(stream.headers)}"
                )
            break
    # The content is decoded and complete, so headers about its transfer are left out.
    kept_headers = [pair for pair in stream.headers.multi_items() if pair[0] not in _TRANSFER_HEADERS]
    return httpx.Response(stream.status_code, headers=kept_headers, content=bytes(data[:limit]), request=stream.request)
