"""Services of a sprite. Errors are plain text, as on the live service."""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import TYPE_CHECKING

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from ocaptain.drydock.api.common import ndjson_reply, parse_duration, parse_integer, read_body
from ocaptain.drydock.errors import ApiError, FsError
from ocaptain.drydock.files import Files
from ocaptain.drydock.record import ServiceDefinition
from ocaptain.drydock.sessions import parse_signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from ocaptain.drydock.services import Service
    from ocaptain.drydock.sprite import Sprite
    from ocaptain.drydock.store import Store


LOG_TAIL = 1024 * 1024
STOP_MARGIN = 5.0


class SignalBody(BaseModel):
    """Body of ``POST …/services/signal``."""

    name: str
    signal: str


class Services:
    """Services of a sprite. Errors are plain text, as on the live service."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _find(self, request: Request) -> tuple[Sprite, Service]:
        sprite = self._store.get(request.path_params["name"])
        service = sprite.services.get(request.path_params["service"])
        if service is None:
            raise ApiError(404, "not_found", f"service not found: {request.path_params['service']}")
        return sprite, service

    async def list(self, request: Request) -> Response:
        """``GET …/services``: a bare array, which the Go SDK needs."""
        sprite = self._store.get(request.path_params["name"])
        return JSONResponse([service.describe() for service in sprite.services.values()])

    async def item(self, request: Request) -> Response:
        """``GET``, ``PUT`` (define and start) or ``DELETE …/services/{service}``."""
        if request.method == "PUT":
            return await self._put(request)
        sprite, service = self._find(request)
        if request.method == "DELETE":
            await sprite.remove_service(service.name)
            return Response(status_code=204)
        return JSONResponse(service.describe())

    async def _put(self, request: Request) -> Response:
        sprite = self._store.get(request.path_params["name"])
        name = request.path_params["service"]
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
            raise ApiError(400, "invalid_request", f"invalid service name: {name}")
        definition = await read_body(request, ServiceDefinition)
        ports = {other.name for other in sprite.services.values() if other.definition.http_port} - {name}
        if definition.http_port and ports:
            raise ApiError(409, "conflict", f"another service already has an HTTP port configured: {min(ports)}")
        seconds = _seconds(request, "duration", "5s")
        service = await sprite.put_service(name, definition)
        events = service.follow_events(seconds)
        await service.start()
        return ndjson_reply(events)

    async def change_state(self, request: Request) -> Response:
        """``POST …/services/{service}/start|stop|restart``."""
        sprite, service = self._find(request)
        verb = request.path_params["verb"]
        if verb not in {"start", "stop", "restart"}:
            raise ApiError(404, "not_found", f"unknown action {verb!r}: use start, stop or restart")
        if verb == "stop":
            if service.status == "stopped":
                raise ApiError(409, "conflict", f"service {service.name} is not running")
            seconds = _seconds(request, "timeout", "10s")
            await sprite.set_service_wanted(service.name, wanted=False)
            events = service.follow_events(seconds + STOP_MARGIN, last_kind="stopped")
            service.stopping = asyncio.create_task(service.stop(seconds))  # also if the client leaves
            return ndjson_reply(events)
        seconds = _seconds(request, "duration", "5s")
        if verb == "restart":
            await service.stop()
        await sprite.set_service_wanted(service.name, wanted=True)
        events = service.follow_events(seconds)
        await service.start()
        return ndjson_reply(events)

    async def logs(self, request: Request) -> Response:
        """``GET …/services/{service}/logs``: the last lines, then what follows for a while."""
        sprite, service = self._find(request)
        count = parse_integer(request.query_params.get("lines"), 100)
        seconds = _seconds(request, "duration", "0s")
        return ndjson_reply(_log_events(Files(sprite.box.root, sprite.box.ids), service, count, seconds))

    async def signal(self, request: Request) -> Response:
        """``POST …/services/signal``."""
        sprite = self._store.get(request.path_params["name"])
        body = await read_body(request, SignalBody)
        number = parse_signal(body.signal)
        if number is None:
            raise ApiError(400, "invalid_request", f"unknown signal: {body.signal}")
        if body.name not in sprite.services:
            raise ApiError(404, "not_found", f"service not found: {body.name}")
        if not sprite.services[body.name].signal(number):
            raise ApiError(409, "conflict", f"service {body.name} is not running")
        return Response(status_code=204)


def _seconds(request: Request, name: str, default: str) -> float:
    return parse_duration(request.query_params.get(name, default))


async def _log_events(files: Files, service: Service, count: int, seconds: float) -> AsyncIterator[dict[str, object]]:
    following = service.follow_events(seconds)
    for line in await _last_lines(files, service.log_path, count):
        head, _, said = line.partition("] ")
        stream = "stderr" if head.endswith("[stderr") else "stdout"
        yield {"type": stream, "timestamp": int(time.time() * 1000), "data": said + "\n"}
    async for event in following:
        yield event


async def _last_lines(files: Files, log: str, count: int) -> list[str]:
    try:
        fd = await files.open_read(log)
    except FsError:  # it has written nothing yet
        return []
    try:
        size = os.fstat(fd).st_size
        data = os.pread(fd, LOG_TAIL, max(0, size - LOG_TAIL))
    finally:
        os.close(fd)
    return data.decode(errors="replace").splitlines()[-count:] if count else []
