"""One request of the API: its deadline, its errors, its retries."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from ocaptain import __version__
from ocaptain.sprites.errors import (
    ConnectionFailed,
    SpritesError,
    api_error,
)
from ocaptain.sprites.retry import retry_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

REQUEST_SECONDS = 60.0  # a handshake may wake a sleeping sprite
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
        sleep: how to wait between tries.
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
        self._url = url.rstrip("/")
        # A server on this machine is never reached through a proxy, which would see the token.
        self._local = httpx.URL(self._url).host in {"127.0.0.1", "localhost", "::1"}
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": USER_AGENT}
        self._sleep = sleep
        self._seconds = seconds
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def retrying(self, idempotent: bool, once: Callable[[], Awaitable[_Result]]) -> _Result:  # noqa: FBT001
        """Return what ``once`` returns, calling it again as :mod:`ocaptain.sprites.retry` says. Raises SpritesError."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await once()
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
        content: Callable[[], bytes | AsyncIterator[bytes]] | None = None,
        factor: float = 1.0,
        idempotent: bool = True,
    ) -> _Result:
        """Return what ``parse`` makes of the reply.

        Args:
            method: of the request.
            path: of its URL.
            params: of its URL.
            parse: of a reply that is a success.
            body: sent as JSON.
            content: makes the body of each try.
            factor: of the client's deadline.
            idempotent: whether it may be sent again when it is not known whether it arrived.

        Raises:
            SpritesError: the service refuses, or cannot be reached in time.
        """
        what = f"{method} {path}"
        seconds = self._seconds * factor

        async def once() -> _Result:
            try:
                async with asyncio.timeout(seconds):
                    response = await self._http.request(
                        method, path, params=params, json=body, content=content() if content else None, timeout=seconds
                    )
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                raise ConnectionFailed(f"{what}: cannot reach {self._url}: {error}") from error
            except (TimeoutError, httpx.TimeoutException) as error:
                raise ConnectionFailed(f"{what}: no answer from {self._url} in {seconds:g} s", sent=True) from error
            except httpx.HTTPError as error:
                reason = str(error) or type(error).__name__
                raise ConnectionFailed(
                    f"{what}: the connection to {self._url} was lost: {reason}", sent=True
                ) from error
            if response.is_success:
                return parse(response)
            raise api_error(what, response.status_code, response.headers, response.content)

        return await self.retrying(idempotent, once)
