"""Sprites: create, list, watch, change, destroy, check, restart."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, PlainTextResponse, Response

from ocaptain.drydock.api.common import VERSION, ndjson_reply, parse_integer, read_body
from ocaptain.drydock.record import CreateBody, UpdateBody
from ocaptain.drydock.tasks import format_timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from ocaptain.drydock.store import Store

HEARTBEAT_SECONDS = 15.0


class Sprites:
    """Sprites of the organisation."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, request: Request) -> Response:
        """``POST /v1/sprites``."""
        body = await read_body(request, CreateBody)
        sprite = await self._store.create(body)
        self._store.tally_of(body.name).calls["POST"] += 1
        return JSONResponse(sprite.describe(), 201)

    async def list(self, request: Request) -> Response:
        """``GET /v1/sprites``: a page, or with ``Accept: application/x-ndjson`` every change from now on.

        Asking for more than a page holds gets a full page.
        """
        params = request.query_params
        prefix, size = params.get("prefix", ""), parse_integer(params.get("max_results"), 50)
        if "application/x-ndjson" in request.headers.get("accept", ""):
            return ndjson_reply(self._status_events(prefix))
        return JSONResponse(self._store.list_page(prefix, size, params.get("continuation_token")))

    async def _status_events(self, prefix: str) -> AsyncIterator[dict[str, object]]:
        """Yield the status of every sprite, then each change, and heartbeats."""
        queue = self._store.subscribe()
        try:
            for sprite in self._store.find_by_prefix(prefix):
                yield self._store.status_event(sprite)
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    now = format_timestamp(self._store.clock.wall())
                    yield {"type": "heartbeat", "timestamp": now, "org": self._store.organisation()}
                    continue
                if str(event["name"]).startswith(prefix):
                    yield event
        finally:
            self._store.unsubscribe(queue)

    async def item(self, request: Request) -> Response:
        """``GET``, ``PUT`` or ``DELETE /v1/sprites/{name}``; none of them wakes it."""
        name = request.path_params["name"]
        if request.method == "DELETE":
            await self._store.destroy(name)
            return Response(status_code=204)
        if request.method == "PUT":
            self._store.get(name)
            return JSONResponse((await self._store.update(name, await read_body(request, UpdateBody))).describe())
        return JSONResponse(self._store.get(name).describe())

    async def organization(self, _: Request) -> Response:
        """``GET /v1/organization``: the call is in the public reference, the fields of its reply are a guess."""
        return JSONResponse(self._store.organisation())

    async def info(self, request: Request) -> Response:
        """What ``sprite-env info`` prints: name, URL and version, one a line; the live words are not known."""
        shown = self._store.get(request.path_params["name"]).describe()
        return PlainTextResponse(f"name: {shown['name']}\nurl: {shown['url']}\nversion: {VERSION}\n")

    async def upgrade(self, request: Request) -> Response:
        """``POST …/upgrade``: does nothing, since drydock has only one version."""
        self._store.get(request.path_params["name"])
        return Response(status_code=204)

    async def restart(self, request: Request) -> Response:
        """``POST …/restart``: every process ends, the services start again."""
        sprite = self._store.get(request.path_params["name"])
        await sprite.restart()
        return JSONResponse(
            {"sprite_name": sprite.name, "machine_id": sprite.box.directory.name, "message": "restarted"}
        )

    async def check(self, request: Request) -> Response:
        """``GET …/check``: whether a command can be run, by running one."""
        began = time.monotonic()
        sprite = self._store.get(request.path_params["name"])
        async with sprite.awake():
            status, reason = await sprite.check_health()
        shown = {
            "sprite_name": sprite.name,
            "sprite_id": sprite.record.id,
            "status": status,
            "checked_at": format_timestamp(self._store.clock.wall()),
            "elapsed": round(time.monotonic() - began, 3),
        }
        return JSONResponse({**shown, **({"reason": reason} if reason else {})})
