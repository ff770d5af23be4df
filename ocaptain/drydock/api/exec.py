"""Commands and sessions: over a WebSocket, over one POST, listed, killed."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocketDisconnect

from ocaptain.drydock.api.common import (
    error_reply,
    integer,
    ndjson,
    parse_duration,
    read_json,
    true,
)
from ocaptain.drydock.errors import ApiError
from ocaptain.drydock.ports import listening_ports
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send
    from starlette.websockets import WebSocket

    from ocaptain.drydock.ports import Port
    from ocaptain.drydock.sprite import Sprite
    from ocaptain.drydock.store import Store

HOLD_SECONDS = 1.0  # a client that still has to send its EOF must find the socket open
PORTS_SECONDS = 1.0
KEEPALIVE_SECONDS = 20.0  # the js SDK gives a silent command up after 45 s


def exec_request(params: QueryParams, *, over_post: bool = False) -> ExecRequest:
    """Return what the query of an exec call asks for.

    Raises:
        ApiError: 400, a parameter that cannot be understood.
    """
    argv = tuple(params.getlist("cmd")) or (params.get("path", "bash"),)
    pairs = [item.partition("=") for item in params.getlist("env")]
    if any(not name or not equals for name, equals, _ in pairs):
        raise ApiError(400, "invalid_request", "env must be KEY=VALUE")
    tty = true(params, "tty") and not over_post
    run_on = params.get("max_run_after_disconnect")
    return ExecRequest(
        argv=argv,
        environment={name: value for name, _, value in pairs},
        cwd=params.get("dir") or "/home/sprite",
        tty=tty,
        rows=integer(params.get("rows"), 24),
        cols=integer(params.get("cols"), 80),
        stdin=true(params, "stdin", "true" if tty else "false"),
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


FRAMES_APART = 0.02
EXIT_APART = 0.2


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
                # Framing lives in the chunk boundaries, and a client that is slow to read joins what
                # came together: the exit frame, which the js SDK then misses, stands well apart.
                await asyncio.sleep(EXIT_APART if frame[0] == EXIT else 0)
                await send({"type": "http.response.body", "body": frame, "more_body": True})
                await asyncio.sleep(FRAMES_APART)
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
            await socket.send_denial_response(error_reply(error))
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
        await _serve_socket(socket, sprite, session, watcher)

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
        sprite, wanted = self._store.get(request.path_params["name"]), request.path_params["id"]
        if wanted in sprite.ended and wanted not in sprite.sessions:
            raise ApiError(410, "gone", f"session {wanted} has ended")
        session = self._session(sprite, wanted)
        given = {**await read_json(request), **request.query_params}
        name = str(given.get("signal", "TERM"))
        number = parse_signal(name)
        if number is None:
            raise ApiError(400, "invalid_signal", f"unknown signal {name}")
        seconds = parse_duration(str(given.get("timeout", "10s")))
        return ndjson(_kill(session, name, number, seconds))

    @staticmethod
    def _session(sprite: Sprite, wanted: str) -> Session:
        session = sprite.sessions.get(wanted)
        if session is None:
            raise ApiError(404, "not_found", f"session not found: {wanted}")
        return session


async def _serve_socket(socket: WebSocket, sprite: Sprite, session: Session, watcher: SocketWatcher) -> None:
    tasks = [
        asyncio.create_task(_listen(socket, session)),
        asyncio.create_task(_keep_alive(watcher)),
        asyncio.create_task(_tell_ports(sprite, session, watcher)),
    ]
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


async def _tell_ports(sprite: Sprite, session: Session, watcher: SocketWatcher) -> None:
    """Tell the ports that the command and its children open and close, while it runs."""
    known: frozenset[Port] = frozenset()
    while True:
        await asyncio.sleep(PORTS_SECONDS)
        now = await asyncio.to_thread(listening_ports, sprite.box.init_pid, session.leader)
        if session.exit_code is not None:
            return
        for port in now ^ known:
            await watcher.say(port.describe("port_opened" if port in now else "port_closed"))
        known = now


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
