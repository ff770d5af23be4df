"""The HTTP and WebSocket surface: routing, authentication, error dialects, call counts.

Handlers parse, call :mod:`ocaptain.drydock.store` and its neighbours, and shape the reply.
``/control`` answers 404 on purpose: every SDK then falls back to plain exec sockets.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ocaptain.drydock.errors import ApiError, DrydockError, FsError
from ocaptain.drydock.faults import FaultGate, FaultPlan, Faults
from ocaptain.drydock.files import CHUNK, Files
from ocaptain.drydock.rootless import owner
from ocaptain.drydock.services import Service, ServiceDefinition
from ocaptain.drydock.sessions import (
    EXIT,
    PIPE_RUN_ON,
    STDIN,
    STDIN_EOF,
    TTY_RUN_ON,
    ExecRequest,
    Session,
    parse_signal,
)
from ocaptain.drydock.store import CreateBody, Sprite, Store, UpdateBody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_Model = TypeVar("_Model", bound=BaseModel)
VERSION = "v0.0.1-rc46"
HOLD_SECONDS = 1.0  # a client that still has to send its EOF must find the socket open
KEEPALIVE_SECONDS = 20.0  # the js SDK gives a silent command up after 45 s
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Return seconds of a Go-style duration (``1m30s``, ``5.0s``) or of a bare number.

    Raises:
        ApiError: 400, not a duration.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not text or _DURATION.sub("", text):
        raise ApiError(400, "invalid_duration", f"not a duration: {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


class Gate:
    """Outermost layer: token, version header, last activity, calls by endpoint and sprite."""

    def __init__(self, app: ASGIApp, token: str, store: Store) -> None:
        self._app = app
        self._token = token
        self._store = store
        self.open = 0
        self.last_activity = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an authorised request on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("authorization", "")
        self._count(scope)

        async def versioned(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept", "websocket.http.response.start"}:
                MutableHeaders(raw=message.setdefault("headers", [])).append("sprite-version", VERSION)
            await send(message)

        self.open += 1
        try:
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                refusal = _error(ApiError(401, "unauthorized", "missing or wrong bearer token"))
                await _deny(scope, receive, versioned, refusal)
            else:
                await self._app(scope, receive, versioned)
        finally:
            self.open -= 1
            self.last_activity = time.monotonic()

    def _count(self, scope: Scope) -> None:
        parts = scope["path"].split("/")
        if parts[1:3] == ["v1", "sprites"] and len(parts) > 3:
            method = "WS" if scope["type"] == "websocket" else scope["method"]
            self._store.count(parts[3], f"{method} {'/'.join(['', *parts[4:6]])}")


async def _deny(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)


def _error(error: ApiError) -> Response:
    return JSONResponse(error.body(), error.status)


async def _body(request: Request, model: type[_Model]) -> _Model:
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise ApiError(400, "invalid_request", f"{where}: {first['msg']}") from error


def _integer(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,9}", text):
        raise ApiError(400, "invalid_request", f"not a number: {text!r}")
    return int(text)


def _true(params: QueryParams, name: str, default: str = "false") -> bool:
    return params.get(name, default).lower() in {"true", "1"}


def _ndjson(events: AsyncIterator[dict[str, object]]) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        async for event in events:
            yield json.dumps(event).encode() + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


# -- sprites ---------------------------------------------------------------------------


class Sprites:
    """CRUD of sprites."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, request: Request) -> Response:
        """``POST /v1/sprites``."""
        body = await _body(request, CreateBody)
        self._store.count(body.name, "POST")
        try:
            sprite = await self._store.create(body)
        except DrydockError as error:
            raise ApiError(500, "sandbox_failed", str(error)) from error
        return JSONResponse(sprite.describe(), 201)

    async def list(self, request: Request) -> Response:
        """``GET /v1/sprites``, one page; asking for more than a page holds gets a full page."""
        params = request.query_params
        size = _integer(params.get("max_results"), 50)
        return JSONResponse(self._store.page(params.get("prefix", ""), size, params.get("continuation_token")))

    async def one(self, request: Request) -> Response:
        """``GET``, ``PUT`` or ``DELETE /v1/sprites/{name}``."""
        name = request.path_params["name"]
        if request.method == "DELETE":
            try:
                await self._store.destroy(name)
            except DrydockError as error:
                raise ApiError(500, "destroy_failed", str(error)) from error
            return Response(status_code=204)
        if request.method == "PUT":
            self._store.get(name)
            return JSONResponse(self._store.update(name, await _body(request, UpdateBody)).describe())
        return JSONResponse(self._store.get(name).describe())


# -- exec ------------------------------------------------------------------------------


def exec_request(params: QueryParams, *, over_post: bool = False) -> ExecRequest:
    """Return what the query of an exec call asks for.

    Raises:
        ApiError: 400, a parameter that cannot be understood.
    """
    argv = tuple(params.getlist("cmd")) or (params.get("path", "bash"),)
    pairs = [item.partition("=") for item in params.getlist("env")]
    if any(not name or not equals for name, equals, _ in pairs):
        raise ApiError(400, "invalid_request", "env must be KEY=VALUE")
    tty = _true(params, "tty") and not over_post
    run_on = params.get("max_run_after_disconnect")
    return ExecRequest(
        argv=argv,
        environment={name: value for name, _, value in pairs},
        cwd=params.get("dir") or "/home/sprite",
        tty=tty,
        rows=_integer(params.get("rows"), 24),
        cols=_integer(params.get("cols"), 80),
        stdin=_true(params, "stdin", "true" if tty else "false"),
        run_on=parse_duration(run_on) if run_on else (TTY_RUN_ON if tty else PIPE_RUN_ON),
    )


class SocketWatcher:
    """Sends a session's frames over a WebSocket."""

    def __init__(self, socket: WebSocket, *, tty: bool) -> None:
        self._socket = socket
        self._tty = tty
        self.last_sent = time.monotonic()
        self.done = asyncio.Event()

    async def say(self, message: dict[str, object]) -> None:
        """Send a text message."""
        self.last_sent = time.monotonic()
        await self._socket.send_text(json.dumps(message))

    async def output(self, stream: int, data: bytes) -> None:
        """Send a piece of output as one message."""
        self.last_sent = time.monotonic()
        await self._socket.send_bytes(data if self._tty else bytes([stream]) + data)

    async def exited(self, code: int) -> None:
        """Send the exit code in both forms, text first."""
        await self.say({"type": "exit", "exit_code": code})
        if not self._tty:
            await self._socket.send_bytes(bytes([EXIT, code & 0xFF]))
        self.done.set()


class ChunkWatcher:
    """Collects a session's frames for a chunked HTTP reply: one chunk a frame."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes | None] = asyncio.Queue(64)

    async def output(self, stream: int, data: bytes) -> None:
        """Queue output in pieces that arrive whole."""
        for start in range(0, len(data), 8192):
            await self.frames.put(bytes([stream]) + data[start : start + 8192])

    async def exited(self, code: int) -> None:
        """Queue the exit frame and the end."""
        await self.frames.put(bytes([EXIT, code & 0xFF]))
        await self.frames.put(None)


class ExecResponse(Response):
    """Runs a command over one POST: the body is its stdin, each chunk of the reply one frame.

    Both go on at once, so that a command may answer while it is still being fed; a streaming
    response of Starlette's would take the body's messages for its own.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(media_type="application/octet-stream")
        del self.headers["content-length"]
        self._session = session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        del scope
        watcher = ChunkWatcher()
        work = [asyncio.create_task(self._feed(receive)), asyncio.create_task(self._session.attach(watcher))]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while (frame := await watcher.frames.get()) is not None:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
                await asyncio.sleep(0.005)  # framing lives in the chunk boundaries
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._session.detach(watcher)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _feed(self, receive: Receive) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if self._session.request.stdin and message.get("body"):
                await self._session.feed(message["body"])
            more = message.get("more_body", False)
        self._session.end_input()


class Exec:
    """Commands and sessions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def socket(self, socket: WebSocket) -> None:
        """``WSS …/exec`` (new or ``?id=``) and ``…/exec/{id}`` (attach)."""
        params = socket.query_params
        try:
            sprite = self._store.get(socket.path_params["name"])
            wanted = socket.path_params.get("id") or params.get("id")
            owner = wanted is None
            session = self._session(sprite, wanted) if wanted else await sprite.run(exec_request(params))
        except ApiError as error:
            await socket.send_denial_response(_error(error))
            return
        try:
            await socket.accept(headers=[(b"x-sprite-capabilities", b"signal")])
        except (WebSocketDisconnect, RuntimeError, OSError):
            return  # the client left before the 101; nobody watches, so its time to run on runs
        watcher = SocketWatcher(socket, tty=session.request.tty)
        await watcher.say(
            {
                "type": "session_info",
                "session_id": session.id,
                "command": " ".join(session.request.argv),
                "created": int(session.created),
                "cols": session.request.cols,
                "rows": session.request.rows,
                "is_owner": owner,
                "tty": session.request.tty,
            }
        )
        await _serve_socket(socket, session, watcher)

    async def collection(self, request: Request) -> Response:
        """``GET`` (list), ``HEAD`` and ``POST`` (run without a socket) ``…/exec``."""
        sprite = self._store.get(request.path_params["name"])
        if request.method == "HEAD":
            return Response()
        if request.method == "GET":
            sessions = [session.describe() for session in sprite.sessions.values()]
            return JSONResponse({"count": len(sessions), "sessions": sessions})
        return ExecResponse(await sprite.run(exec_request(request.query_params, over_post=True)))

    async def kill(self, request: Request) -> Response:
        """``POST …/exec/{id}/kill``; parameters in the query (js, go) or in JSON (py)."""
        session = self._session(self._store.get(request.path_params["name"]), request.path_params["id"])
        try:
            body = json.loads(await request.body() or b"{}")
        except ValueError as error:
            raise ApiError(400, "invalid_request", "body is not JSON") from error
        given = {**(body if isinstance(body, dict) else {}), **request.query_params}
        name = str(given.get("signal", "TERM"))
        number = parse_signal(name)
        if number is None:
            raise ApiError(400, "invalid_signal", f"unknown signal {name}")
        seconds = parse_duration(str(given.get("timeout", "10s")))
        return _ndjson(_kill(session, name, number, seconds))

    @staticmethod
    def _session(sprite: Sprite, wanted: str) -> Session:
        session = sprite.sessions.get(wanted)
        if session is None:
            raise ApiError(404, "not_found", f"session not found: {wanted}")
        return session


async def _serve_socket(socket: WebSocket, session: Session, watcher: SocketWatcher) -> None:
    tasks = [asyncio.create_task(_listen(socket, session)), asyncio.create_task(_keep_alive(watcher))]
    attaching = asyncio.create_task(session.attach(watcher))
    finished = asyncio.create_task(watcher.done.wait())
    try:
        await asyncio.wait([tasks[0], finished], return_when=asyncio.FIRST_COMPLETED)
        if watcher.done.is_set() and not tasks[0].done():
            if not session.request.tty:  # the js SDK waits for the server's close of a terminal
                await asyncio.wait([tasks[0]], timeout=HOLD_SECONDS)
            if not tasks[0].done():
                await socket.close(1000)
    except (WebSocketDisconnect, RuntimeError, OSError):
        pass  # the client is gone; the command goes on for as long as it asked
    finally:
        session.detach(watcher)
        for task in (*tasks, attaching, finished):
            task.cancel()
        await asyncio.gather(*tasks, attaching, finished, return_exceptions=True)


async def _listen(socket: WebSocket, session: Session) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if (data := message.get("bytes")) is not None:
            await _take_bytes(session, data)
        elif (text := message.get("text")) is not None:
            _take_text(session, text)


async def _keep_alive(watcher: SocketWatcher) -> None:
    while True:
        await asyncio.sleep(1)
        if time.monotonic() - watcher.last_sent > KEEPALIVE_SECONDS:
            await watcher.say({"type": "debug", "msg": "keepalive"})


async def _take_bytes(session: Session, data: bytes) -> None:
    if session.request.tty:
        await session.feed(data)
    elif data[:1] == bytes([STDIN]):
        await session.feed(data[1:])
    elif data[:1] == bytes([STDIN_EOF]):
        session.end_input()


def _take_text(session: Session, text: str) -> None:
    """Obey a control message; anything else is ignored, as live."""
    try:
        message = json.loads(text)
    except ValueError:
        return
    match message:
        case {"type": "resize", "rows": int(rows), "cols": int(cols)}:
            session.resize(rows, cols)
        case {"type": "signal", "signal": str(name)} if number := parse_signal(name):
            session.signal(number)


async def _kill(session: Session, name: str, number: int, seconds: float) -> AsyncIterator[dict[str, object]]:
    session.signal(number)
    yield {"type": "signal", "message": f"sent {name}", "signal": name, "pid": int(session.id)}
    if seconds > 0:
        try:
            await asyncio.wait_for(session.ended.wait(), seconds)
            yield {"type": "exited"}
        except TimeoutError:
            yield {"type": "timeout"}
            await session.kill()
            yield {"type": "killed"}
    yield {"type": "complete", "exit_code": session.exit_code or 0}


# -- files -----------------------------------------------------------------------------


class FsBody(BaseModel):
    """JSON body of the fs calls that take one."""

    path: str = ""
    source: str = ""
    dest: str = ""
    workingDir: str = "/"  # noqa: N815 - the API's spelling
    recursive: bool = False
    preserveAttrs: bool = False  # noqa: N815
    asRoot: bool = False  # noqa: N815
    mode: str | int = ""
    uid: str | int | None = None
    gid: str | int | None = None


def parse_mode(given: str | int) -> int:
    """Return the permission bits of octal text (``0644``, ``644``)."""
    if not re.fullmatch(r"0?o?[0-7]{1,4}", str(given)):
        raise FsError("EINVAL", "", f"mode is not octal: {given!r}")
    return int(str(given).replace("o", ""), 8)


class Fs:
    """The file-system API of a sprite."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _files(self, request: Request, cwd: str, *, as_root: bool = False) -> Files:
        sprite = self._store.get(request.path_params["name"])
        return Files(sprite.box.root, cwd, as_root=as_root)

    async def read(self, request: Request) -> Response:
        """``GET …/fs/read``."""
        params = request.query_params
        fd = await self._files(request, params.get("workingDir", "/")).open_read(params.get("path", ""))

        async def content() -> AsyncIterator[bytes]:
            try:
                while data := await asyncio.to_thread(os.read, fd, CHUNK):
                    yield data
            finally:
                os.close(fd)

        # A file may grow while it is read, and one of procfs has no size at all.
        return StreamingResponse(content(), media_type="application/octet-stream")

    async def write(self, request: Request) -> Response:
        """``PUT …/fs/write``; makes missing parents whatever the flag says, as live."""
        params = request.query_params
        files = self._files(request, params.get("workingDir", "/"), as_root=_true(params, "asRoot"))
        mode = parse_mode(params["mode"]) if params.get("mode") else None
        return JSONResponse(await files.write(params.get("path", ""), request.stream(), mode))

    async def list(self, request: Request) -> Response:
        """``GET …/fs/list``."""
        params = request.query_params
        files = self._files(request, params.get("workingDir", "/"))
        recursive = _true(params, "recursive")
        return JSONResponse(
            await files.list_directory(params.get("path", ""), recursive=recursive, pattern=params.get("pattern", ""))
        )

    async def delete(self, request: Request) -> Response:
        """``DELETE …/fs/delete``; parameters in the query (SDKs) or in JSON (docs)."""
        params = request.query_params
        body = await _body(request, FsBody)
        cwd = params.get("workingDir", body.workingDir)
        files = self._files(request, cwd, as_root=body.asRoot or _true(params, "asRoot"))
        recursive = body.recursive or _true(params, "recursive")
        return JSONResponse(await files.delete(params.get("path", body.path), recursive=recursive))

    async def rename(self, request: Request) -> Response:
        """``POST …/fs/rename``."""
        body = await _body(request, FsBody)
        files = self._files(request, body.workingDir, as_root=body.asRoot)
        return JSONResponse(await files.rename(body.source, body.dest))

    async def copy(self, request: Request) -> Response:
        """``POST …/fs/copy``."""
        body = await _body(request, FsBody)
        files = self._files(request, body.workingDir, as_root=body.asRoot)
        done = await files.copy(body.source, body.dest, recursive=body.recursive, preserve=body.preserveAttrs)
        return JSONResponse(done)

    async def chmod(self, request: Request) -> Response:
        """``POST …/fs/chmod``."""
        body = await _body(request, FsBody)
        mode = parse_mode(body.mode)
        files = self._files(request, body.workingDir, as_root=body.asRoot)
        found = await files.change(body.path, lambda fd: os.fchmod(fd, mode), recursive=body.recursive)
        affected = [{"path": path, "mode": f"{now.st_mode & 0o7777:04o}"} for path, now in found]
        return JSONResponse({"affected": affected, "count": len(affected)})

    async def chown(self, request: Request) -> Response:
        """``POST …/fs/chown``; owners by number, or ``root`` and ``sprite``."""
        body = await _body(request, FsBody)
        uid, gid = _owner(body.uid), _owner(body.gid)
        files = self._files(request, body.workingDir, as_root=body.asRoot)
        found = await files.change(body.path, lambda fd: os.fchown(fd, uid, gid), recursive=body.recursive)
        affected = [{"path": path, "uid": now.st_uid, "gid": now.st_gid} for path, now in found]
        return JSONResponse({"affected": affected, "count": len(affected)})


def _owner(given: str | int | None) -> int:
    names = {"root": 0, "sprite": owner()}
    if given is None or given == "":
        return -1
    if str(given) in names:
        return names[str(given)]
    if not re.fullmatch(r"\d{1,9}", str(given)):
        raise FsError("EINVAL", "", f"unknown owner: {given!r}")
    return int(given)


# -- services --------------------------------------------------------------------------


class SignalBody(BaseModel):
    """Body of ``POST …/services/signal``."""

    name: str
    signal: str


class Services:
    """Services of a sprite. Refusals are plain text here, as live."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _find(self, request: Request) -> tuple[Sprite, Service]:
        sprite = self._store.get(request.path_params["name"])
        service = sprite.services.get(request.path_params["service"])
        if service is None:
            raise PlainError(404, f"service not found: {request.path_params['service']}")
        return sprite, service

    async def list(self, request: Request) -> Response:
        """``GET …/services``: a bare array, which the Go SDK needs."""
        sprite = self._store.get(request.path_params["name"])
        return JSONResponse([service.describe() for service in sprite.services.values()])

    async def one(self, request: Request) -> Response:
        """``GET``, ``PUT`` (define and start) or ``DELETE …/services/{service}``."""
        if request.method == "PUT":
            return await self._put(request)
        sprite, service = self._find(request)
        if request.method == "DELETE":
            await service.stop()
            sprite.services.pop(service.name, None)
            return Response(status_code=204)
        return JSONResponse(service.describe())

    async def _put(self, request: Request) -> Response:
        sprite = self._store.get(request.path_params["name"])
        name = request.path_params["service"]
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
            raise PlainError(400, f"not a service name: {name}")
        definition = await _body(request, ServiceDefinition)
        taken = [
            other.name
            for other in sprite.services.values()
            if definition.http_port and other.name != name and other.definition.http_port == definition.http_port
        ]
        if taken:
            raise PlainError(409, f"service {taken[0]} already has HTTP port {definition.http_port}")
        seconds = _seconds(request, "duration", "5s")
        if before := sprite.services.get(name):
            await before.stop()
        service = sprite.services[name] = Service(sprite.box, name, definition)
        events = service.events(seconds)
        await service.start()
        return _ndjson(events)

    async def act(self, request: Request) -> Response:
        """``POST …/services/{service}/start|stop|restart``."""
        _, service = self._find(request)
        verb = request.path_params["verb"]
        if verb not in {"start", "stop", "restart"}:
            raise PlainError(404, f"services have no verb {verb}")
        if verb == "stop":
            if service.status == "stopped":
                raise PlainError(409, f"service {service.name} is not running")
            await service.stop(_seconds(request, "timeout", "10s"))
            return _ndjson(service.events(0))
        if verb == "restart":
            await service.stop()
        events = service.events(_seconds(request, "duration", "5s"))
        await service.start()
        return _ndjson(events)

    async def signal(self, request: Request) -> Response:
        """``POST …/services/signal``."""
        sprite = self._store.get(request.path_params["name"])
        body = await _body(request, SignalBody)
        number = parse_signal(body.signal)
        if number is None:
            raise PlainError(400, f"unknown signal: {body.signal}")
        if body.name not in sprite.services:
            raise PlainError(404, f"service not found: {body.name}")
        if not sprite.services[body.name].signal(number):
            raise PlainError(409, f"service {body.name} is not running")
        return Response(status_code=204)


class PlainError(ApiError):
    """A refusal in plain text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, "", message)


def _seconds(request: Request, name: str, default: str) -> float:
    return parse_duration(request.query_params.get(name, default))


# -- the whole -------------------------------------------------------------------------


async def _on_error(_: Request, error: Exception) -> Response:
    match error:
        case PlainError():
            return PlainTextResponse(error.message, error.status)
        case ApiError():
            return _error(error)
        case RecursionError():
            return _error(ApiError(400, "invalid_request", "the path or tree is too deep"))
    return _error(ApiError(500, "internal_error", f"{type(error).__name__}: {error}"))


def build(store: Store, token: str, stop: Callable[[], None], faults: Faults) -> Gate:
    """Return the application over ``store``; ``stop`` ends the server, ``faults`` spoil its answers."""
    sprites, commands, fs, services = Sprites(store), Exec(store), Fs(store), Services(store)
    absent = ApiError(404, "not_found", "drydock has no such endpoint")

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        await _deny(scope, receive, send, _error(absent))

    async def metrics(_: Request) -> Response:
        return JSONResponse({"sprites": len(store), "calls": store.calls})

    async def fault_plan(request: Request) -> Response:
        if request.method == "PUT":
            faults.set(await _body(request, FaultPlan))
        elif request.method == "DELETE":
            faults.set(FaultPlan())
        return JSONResponse(faults.describe())

    async def shutdown(_: Request) -> Response:
        stop()
        return Response(status_code=202)

    one = "/v1/sprites/{name}"

    def route(path: str, handler: Callable[[Any], Awaitable[Response]], *methods: str) -> Route:
        return Route(one + path, handler, methods=list(methods))

    app = Starlette(
        routes=[
            Route("/v1/sprites", sprites.create, methods=["POST"]),
            Route("/v1/sprites", sprites.list, methods=["GET"]),
            route("", sprites.one, "GET", "PUT", "DELETE"),
            WebSocketRoute(one + "/exec", commands.socket),
            WebSocketRoute(one + "/exec/{id}", commands.socket),
            route("/exec", commands.collection, "GET", "HEAD", "POST"),
            route("/exec/{id}/kill", commands.kill, "POST"),
            route("/fs/read", fs.read, "GET"),
            route("/fs/write", fs.write, "PUT"),
            route("/fs/list", fs.list, "GET"),
            route("/fs/delete", fs.delete, "DELETE"),
            route("/fs/rename", fs.rename, "POST"),
            route("/fs/copy", fs.copy, "POST"),
            route("/fs/chmod", fs.chmod, "POST"),
            route("/fs/chown", fs.chown, "POST"),
            route("/services", services.list, "GET"),
            route("/services/signal", services.signal, "POST"),
            route("/services/{service}", services.one, "GET", "PUT", "DELETE"),
            route("/services/{service}/{verb}", services.act, "POST"),
            Route("/drydock/metrics", metrics, methods=["GET"]),
            Route("/drydock/faults", fault_plan, methods=["GET", "PUT", "DELETE"]),
            Route("/drydock/shutdown", shutdown, methods=["POST"]),
            Mount("/", app=nothing),
        ],
        exception_handlers={ApiError: _on_error, RecursionError: _on_error, 500: _on_error},
    )
    return Gate(FaultGate(app, faults), token, store)
