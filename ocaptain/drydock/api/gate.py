"""The middleware before the routes: authorisation, request ids, counters, and waking of sprites.

A call counts (in the metrics, for fault rules and idle times) if it carries the token and its endpoint exists.
Any other call is answered and not counted.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute

from ocaptain.drydock.api.common import VERSION, error_reply, send_refusal
from ocaptain.drydock.connections import mark_accepted
from ocaptain.drydock.errors import ApiError, DrydockError, refusal_of_failure
from ocaptain.drydock.faults import ENDPOINT_KEY, SPRITE_PATH
from ocaptain.drydock.sprite import ORGANISATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ocaptain.drydock.store import Store, Tally

#: Calls to these areas of a sprite do not wake it.
AREAS_WITHOUT_WAKING = frozenset({"policy", "checkpoints", "upgrade", "restart"})
#: The allowed host names. A page whose foreign name resolves to this machine (DNS rebinding) is refused.
OWN_HOST_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


def refusal_of_headers(headers: Headers, token: str) -> ApiError | None:
    """Return the error for a call with a foreign host name or without the right token; None if it is valid."""
    host = [name.lower() for name in headers.getlist("host")]
    if len(host) != 1 or not {host[0], host[0].rpartition(":")[0]} & OWN_HOST_NAMES:
        return ApiError(421, "misdirected", "drydock answers only to the host names 127.0.0.1 and localhost")
    given = headers.getlist("authorization")
    if len(given) != 1 or not hmac.compare_digest(given[0].encode(), f"Bearer {token}".encode()):
        return ApiError(401, "unauthorized", "missing or wrong bearer token")
    return None


def endpoint_of(scope: Scope, routes: Sequence[BaseRoute]) -> str | None:
    """Return the path pattern of the route that serves a call, None if no route does."""
    for route in routes:
        if isinstance(route, Route | WebSocketRoute) and route.matches(scope)[0] is Match.FULL:
            return route.path
    return None


class Gate:
    """The outermost middleware: host and token, version header, last activity, counters.

    Attributes:
        open_calls: how many calls are being answered now.
        last_activity: monotonic time at which the last call ended.
    """

    def __init__(self, app: ASGIApp, token: str, store: Store, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._token = token
        self._store = store
        self._routes = routes
        self.open_calls = 0
        self.last_activity = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an authorised request on; refuse any other."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return

        request_id = f"{secrets.token_hex(13).upper()}-{ORGANISATION}"

        async def versioned(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept", "websocket.http.response.start"}:
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers.append("sprite-version", VERSION)
                headers.append("fly-request-id", request_id)
            await send(message)

        if (refused := refusal_of_headers(Headers(scope=scope), self._token)) is not None:
            reply = error_reply(refused)
            reply.headers["connection"] = "close"
            await send_refusal(scope, receive, versioned, reply)
            return
        mark_accepted(scope)
        endpoint = endpoint_of(scope, self._routes)
        if endpoint is None:
            await self._app(scope, receive, versioned)
            return
        scope[ENDPOINT_KEY] = endpoint
        counted_send: Send = versioned
        if (tally := self._count_call(scope, endpoint)) is not None:
            receive, counted_send = _count_bytes(tally, receive, versioned)
        self.open_calls += 1
        try:
            await self._app(scope, receive, counted_send)
        finally:
            self.open_calls -= 1
            self.last_activity = time.monotonic()

    def _count_call(self, scope: Scope, endpoint: str) -> Tally | None:
        """Count a call to an existing sprite; return the sprite's counters."""
        name = sprite_name_of(scope, endpoint)
        if name is None or not self._store.has_sprite(name):
            return None
        tally = self._store.tally_of(name)
        method = "WS" if scope["type"] == "websocket" else scope["method"]
        tally.calls[f"{method} {endpoint.removeprefix(SPRITE_PATH)}"] += 1
        return tally


def sprite_name_of(scope: Scope, endpoint: str) -> str | None:
    """Return the name of the sprite in a call's path, None if it has none."""
    return str(scope["path"]).split("/")[3] if endpoint.startswith(SPRITE_PATH) else None


def _count_bytes(tally: Tally, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Return ``receive`` and ``send`` wrapped so that payload bytes are counted."""

    def size(message: Message) -> int:
        text = message.get("text")
        return len(message.get("body") or message.get("bytes") or b"") + (len(text) if text else 0)

    async def counted_receive() -> Message:
        message = await receive()
        tally.received += size(message)
        return message

    async def counted_send(message: Message) -> None:
        tally.sent += size(message)
        await send(message)

    return counted_receive, counted_send


class Waker:
    """ASGI middleware that wakes the sprite of a request and keeps it awake during the request."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self._app = app
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to a running sprite."""
        endpoint = scope.get(ENDPOINT_KEY, "")
        area = endpoint.removeprefix(SPRITE_PATH).split("/")[1:2]
        name = sprite_name_of(scope, endpoint) if area and area[0] not in AREAS_WITHOUT_WAKING else None
        async with contextlib.AsyncExitStack() as stack:
            try:
                if name is not None:
                    await stack.enter_async_context(self._store.get(name).awake())
            except ApiError as error:
                await send_refusal(
                    scope, receive, send, error_reply(error, "" if scope["type"] == "websocket" else scope["path"])
                )
                return
            except DrydockError as error:
                await send_refusal(scope, receive, send, error_reply(refusal_of_failure(error.message)))
                return
            await self._app(scope, receive, send)
