"""What stands before the routes: who may call, what is counted, which sprite is woken.

A call counts (in the metrics, in the faults' rules, for the idle clock) if it comes from somebody with the
token and there is such an endpoint. Any other is answered and leaves no trace, however many there are.
"""

from __future__ import annotations

import contextlib
import hmac
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute

from ocaptain.drydock.api.common import error_reply, send_refusal
from ocaptain.drydock.connections import mark_accepted
from ocaptain.drydock.errors import ApiError, DrydockError
from ocaptain.drydock.faults import ENDPOINT_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ocaptain.drydock.store import Store, Tally

VERSION = "v0.0.1-rc46"
SPRITE_PATH = "/v1/sprites/{name}"
#: What is answered about a sprite without waking it.
AREAS_WITHOUT_WAKING = frozenset({"policy", "checkpoints", "upgrade", "restart"})
#: Names of this machine. A page of a foreign name that resolves to it (DNS rebinding) is turned away.
OWN_HOST_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


def refusal_of_headers(headers: Headers, token: str) -> ApiError | None:
    """Return why a call is none of ours, None if it is: it must name this machine and carry the token."""
    host = [name.lower() for name in headers.getlist("host")]
    if len(host) != 1 or not {host[0], host[0].rpartition(":")[0]} & OWN_HOST_NAMES:
        return ApiError(421, "misdirected", "drydock answers to 127.0.0.1 and localhost alone")
    given = headers.getlist("authorization")
    if len(given) != 1 or not hmac.compare_digest(given[0].encode(), f"Bearer {token}".encode()):
        return ApiError(401, "unauthorized", "missing or wrong bearer token")
    return None


def endpoint_of(scope: Scope, routes: Sequence[BaseRoute]) -> str | None:
    """Return the path pattern of the route that serves a call, None if there is none for it."""
    for route in routes:
        if isinstance(route, Route | WebSocketRoute) and route.matches(scope)[0] is Match.FULL:
            return route.path
    return None


class Gate:
    """Outermost layer: host and token, version header, last activity, counts by sprite.

    Attributes:
        open_calls: how many calls are being answered now.
        last_activity: monotonic time of the last one's end.
    """

    def __init__(self, app: ASGIApp, token: str, store: Store, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._token = token
        self._store = store
        self._routes = routes
        self.open_calls = 0
        self.last_activity = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an authorised request on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return

        async def versioned(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept", "websocket.http.response.start"}:
                MutableHeaders(raw=message.setdefault("headers", [])).append("sprite-version", VERSION)
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
        """Count a call of a sprite that there is; return the sprite's counters."""
        name = sprite_name_of(scope, endpoint)
        if name is None or not self._store.has_sprite(name):
            return None
        tally = self._store.tally_of(name)
        method = "WS" if scope["type"] == "websocket" else scope["method"]
        tally.calls[f"{method} {endpoint.removeprefix(SPRITE_PATH)}"] += 1
        return tally


def sprite_name_of(scope: Scope, endpoint: str) -> str | None:
    """Return the name of the sprite that a call is about, None if it is about none."""
    return str(scope["path"]).split("/")[3] if endpoint.startswith(SPRITE_PATH) else None


def _count_bytes(tally: Tally, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Return both directions with their payload counted."""

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
    """Wakes the sprite that a request is about, and keeps it awake while the request lasts."""

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
                refused = ApiError(500, "sandbox_failed", error.message)
                await send_refusal(scope, receive, send, error_reply(refused))
                return
            await self._app(scope, receive, send)
