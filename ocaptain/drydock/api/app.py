"""The routes, and the middleware before them (:mod:`.gate`, :mod:`.bodies`).

Handlers parse, call :mod:`ocaptain.drydock.store` and its neighbours, and shape the reply.
``/control`` answers 404 on purpose: every SDK then falls back to plain exec sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute

from ocaptain.drydock.api.bodies import Bodies
from ocaptain.drydock.api.checkpoints import Checkpoints
from ocaptain.drydock.api.common import error_reply, handle_error, read_body, send_refusal
from ocaptain.drydock.api.exec import Exec
from ocaptain.drydock.api.fs import Fs
from ocaptain.drydock.api.gate import Gate, Waker
from ocaptain.drydock.api.policy import Policies
from ocaptain.drydock.api.services import Services
from ocaptain.drydock.api.sprites import Sprites
from ocaptain.drydock.api.streams import Streams
from ocaptain.drydock.api.tasks import TaskCalls
from ocaptain.drydock.connections import mark_accepted
from ocaptain.drydock.errors import ApiError, DrydockError
from ocaptain.drydock.faults import SPRITE_PATH, FaultGate, FaultPlan, Faults
from ocaptain.drydock.outlets import PROXY_PORT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ocaptain.drydock.store import Store


class HostPorts(BaseModel):
    """Body of ``PUT /drydock/sprites/{name}/ports``: ports of the host's loopback that are the sprite's, too."""

    ports: Annotated[list[Annotated[int, Field(ge=1, le=65535)]], Field(max_length=100)]


class Advance(BaseModel):
    """Body of ``POST /drydock/clock``: seconds by which the clock of pauses and Tasks is put forward."""

    advance: Annotated[float, Field(ge=0, le=86400 * 366)]


def build_app(store: Store, token: str, stop: Callable[[], None], faults: Faults) -> Gate:
    """Return the application that serves ``store``.

    Args:
        store: the sprites.
        token: bearer token that clients must send.
        stop: called to end the server.
        faults: injected into its replies.
    """
    not_found = ApiError(404, "not_found", "drydock has no such endpoint")

    async def send_not_found(scope: Scope, receive: Receive, send: Send) -> None:
        await send_refusal(scope, receive, send, error_reply(not_found))

    handlers: dict[Any, Any] = dict.fromkeys(
        (ApiError, DrydockError, OSError, RecursionError, ClientDisconnect, 500), handle_error
    )
    self_routes = _self_service_routes(store)
    fallback = Mount("/", app=send_not_found)
    inner = Bodies(Starlette(routes=[*self_routes, *_socket_routes(store), fallback], exception_handlers=handlers))
    store.make_socket_app = lambda name: _sprite_socket_app(inner, name)
    routes = [*_sprite_routes(store), *self_routes, *_policy_routes(store), *_drydock_routes(store, stop, faults)]
    outer = Bodies(Starlette(routes=[*routes, fallback], exception_handlers=handlers))
    gate = FaultGate(Waker(outer, store), faults, lambda name: store.get(name).awake())
    return Gate(gate, token, store, routes)


def _route(path: str, handler: Callable[[Any], Awaitable[Response]], *methods: str) -> Route:
    return Route(SPRITE_PATH + path, handler, methods=list(methods))


def _self_service_routes(store: Store) -> list[BaseRoute]:
    """Return the routes that a sprite may also use on itself."""
    checkpoints, services = Checkpoints(store), Services(store)
    return [
        _route("/checkpoint", checkpoints.create, "POST"),
        _route("/checkpoints", checkpoints.list, "GET"),
        _route("/checkpoints/{id}", checkpoints.item, "GET", "DELETE"),
        _route("/checkpoints/{id}/restore", checkpoints.restore, "POST"),
        _route("/services", services.list, "GET"),
        _route("/services/signal", services.signal, "POST"),
        _route("/services/{service}", services.item, "GET", "PUT", "DELETE"),
        _route("/services/{service}/logs", services.logs, "GET"),
        _route("/services/{service}/{verb}", services.change_state, "POST"),
    ]


def _socket_routes(store: Store) -> list[BaseRoute]:
    """Return the routes of a sprite's own socket alone."""
    tasks, sprites = TaskCalls(store), Sprites(store)
    return [
        _route("/info", sprites.info, "GET"),
        _route("/tasks", tasks.collection, "GET", "POST", "PUT"),
        _route("/tasks/{task}", tasks.item, "GET", "PUT", "DELETE"),
    ]


def _sprite_routes(store: Store) -> list[BaseRoute]:
    sprites, commands, fs, streams = Sprites(store), Exec(store), Fs(store), Streams(store)
    return [
        Route("/v1/sprites", sprites.create, methods=["POST"]),
        Route("/v1/sprites", sprites.list, methods=["GET"]),
        Route("/v1/organization", sprites.organization, methods=["GET"]),
        _route("", sprites.item, "GET", "PUT", "DELETE"),
        _route("/upgrade", sprites.upgrade, "POST"),
        _route("/restart", sprites.restart, "POST"),
        _route("/check", sprites.check, "GET"),
        WebSocketRoute(SPRITE_PATH + "/exec", commands.serve_socket),
        WebSocketRoute(SPRITE_PATH + "/exec/{id}", commands.serve_socket),
        _route("/exec", commands.collection, "GET", "HEAD", "POST"),
        _route("/exec/{id}/kill", commands.kill, "POST"),
        WebSocketRoute(SPRITE_PATH + "/proxy", streams.proxy),
        WebSocketRoute(SPRITE_PATH + "/fs/watch", streams.watch_files),
        WebSocketRoute(SPRITE_PATH + "/ports/watch", streams.watch_ports),
        _route("/fs/read", fs.read, "GET"),
        _route("/fs/write", fs.write, "PUT"),
        _route("/fs/list", fs.list, "GET"),
        _route("/fs/delete", fs.delete, "DELETE"),
        _route("/fs/rename", fs.rename, "POST"),
        _route("/fs/copy", fs.copy, "POST"),
        _route("/fs/chmod", fs.chmod, "POST"),
        _route("/fs/chown", fs.chown, "POST"),
    ]


def _policy_routes(store: Store) -> list[BaseRoute]:
    policies = Policies(store)
    return [
        _route("/policy/network", policies.network_policy, "GET", "POST"),
        _route("/policy/privileges", policies.privileges_policy, "GET", "POST", "DELETE"),
        _route("/policy/resources", policies.resources_policy, "GET", "POST", "DELETE"),
    ]


def _drydock_routes(store: Store, stop: Callable[[], None], faults: Faults) -> list[BaseRoute]:
    """Return the routes that only drydock has: for tests, and to stop the server."""

    async def metrics(_: Request) -> Response:
        return JSONResponse(store.metrics())

    async def fault_plan(request: Request) -> Response:
        if request.method == "PUT":
            faults.replace_plan(await read_body(request, FaultPlan))
        elif request.method == "DELETE":
            faults.replace_plan(FaultPlan())
        return JSONResponse(faults.describe())

    async def clock(request: Request) -> Response:
        await store.advance((await read_body(request, Advance)).advance)
        return JSONResponse(store.count_by_state())

    async def host_ports(request: Request) -> Response:
        sprite = store.get(request.path_params["name"])
        if request.method == "PUT":
            ports = (await read_body(request, HostPorts)).ports
            if PROXY_PORT in ports:
                raise ApiError(400, "invalid_request", f"port {PROXY_PORT} of a sprite is the proxy's")
            await sprite.set_host_ports(ports)
        return JSONResponse({"ports": sprite.record.host_ports, "network": store.defaults.network.mode})

    async def shutdown(_: Request) -> Response:
        stop()
        return Response(status_code=202)

    return [
        Route("/drydock/metrics", metrics, methods=["GET"]),
        Route("/drydock/faults", fault_plan, methods=["GET", "PUT", "DELETE"]),
        Route("/drydock/clock", clock, methods=["POST"]),
        Route("/drydock/sprites/{name}/ports", host_ports, methods=["GET", "PUT"]),
        Route("/drydock/shutdown", shutdown, methods=["POST"]),
    ]


def _sprite_socket_app(inner: ASGIApp, name: str) -> ASGIApp:
    """Return the application of a sprite's own socket: the same paths, without the sprite's name."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        mark_accepted(scope)
        if scope["type"] == "http" and path.startswith("/v1/"):
            full = f"/v1/sprites/{name}/{path.removeprefix('/v1/')}"
            scope = {**scope, "path": full, "raw_path": full.encode()}
        await inner(scope, receive, send)

    return serve
