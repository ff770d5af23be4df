"""Commands and sessions: run by WebSocket or POST, list, kill."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocketDisconnect

from ocaptain.drydock.api.common import (
    error_reply,
    is_flag_set,
    ndjson_reply,
    parse_duration,
    parse_integer,
    read_json,
)
from ocaptain.drydock.errors import ApiError
from ocaptain.drydock.ports import listening_ports
from ocaptain.drydock.sessions import (
    EXIT,
    PIPE_RUN_AFTER_DISCONNECT,
    STDIN,
    STDIN_EOF,
    TTY_RUN_AFTER_DISCONNECT,
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

CLOSE_DELAY_SECONDS = 1.0  # a client that still has to send its EOF must find the socket open
PORTS_POLL_SECONDS = 1.0
KEEPALIVE_SECONDS = 20.0  # the js SDK gives up a silent command after 45 s


def exec_request(params: QueryParams, *, over_post: bool = False) -> ExecRequest:
    """Return the command that the query of an exec call describes.

    Raises:
        ApiError: 400: a parameter is invalid.
    """
    argv = tuple(params.getlist("cmd")) or (params.get("path", "bash"),)
    pairs = [item.partition("=") for item in params.getlist("env")]
    if any(not name or not equals for name, equals, _ in pairs):
        raise ApiError(400, "invalid_request", "env must be KEY=VALUE")
    tty = is_flag_set(params, "tty") and not over_post
    run_after_disconnect = params.get("max_run_after_disconnect")
    return ExecRequest(
        argv=argv,
        environment={name: value for name, _, value in pairs},
        cwd=params.get("dir") or "/home/sprite",
        tty=tty,
        rows=parse_integer(params.get("rows"), 24),
        cols=parse_integer(params.get("cols"), 80),
        stdin=is_flag_set(params, "stdin", "true" if tty else "false"),
        run_after_disconnect=parse_duration(run_after_disconnect)
        if run_after_disconnect
        else (TTY_RUN_AFTER_DISCONNECT if tty else PIPE_RUN_AFTER_DISCONNECT),
    )


class SocketWatcher:
    """Sends a session's frames over a WebSocket."""

    def __init__(self, socket: WebSocket, *, tty: bool) -> None:
        self._socket = socket
        self._tty = tty
        self.last_sent = time.monotonic()
        self.done = asyncio.Event()

    async def send_message(self, message: dict[str, object]) -> None:
        """Send a text message."""
        self.last_sent = time.monotonic()
        await self._socket.send_text(json.dumps(message))

    async def output(self, stream: int, data: bytes) -> None:
        """Send a piece of output as one message."""
        self.last_sent = time.monotonic()
        await self._socket.send_bytes(data if self._tty else bytes([stream]) + data)

    async def exited(self, code: int) -> None:
        """Send the exit code in both forms, text first."""
        await self.send_message({"type": "exit", "exit_code": code})
        if not self._tty:
            await self._socket.send_bytes(bytes([EXIT, code & 0xFF]))
        self.done.set()


FRAME_GAP_SECONDS = 0.02
EXIT_GAP_SECONDS = 0.2


def gap_before(frame: bytes, since_last: float | None) -> float:
    """Return the seconds to wait before a frame of a POST's reply is sent.

    Args:
        frame: the frame.
        since_last: seconds since the frame before it was sent; None = it is the first one.
    """
    return max(0.0, EXIT_GAP_SECONDS - since_last) if frame[0] == EXIT and since_last is not None else 0.0


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
    """Runs a command over one POST: the body is its stdin, each chunk of the reply is one frame.

    Input and output run at the same time, so a command may answer before its input ends. Starlette's
    ``StreamingResponse`` cannot be used: it would consume the body's messages.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(media_type="application/octet-stream")
        del self.headers["content-length"]
        self._session = session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames of the session until the command ends."""
        del scope
        watcher = ChunkWatcher()
        work = [asyncio.create_task(self._feed(receive)), asyncio.create_task(self._session.attach(watcher))]
        last_sent: float | None = None
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while (frame := await watcher.frames.get()) is not None:
                # Framing lives in the chunk boundaries, and a client that is slow to read joins what
                # came together: the exit frame, which the js SDK then misses, stands well apart.
                await asyncio.sleep(gap_before(frame, None if last_sent is None else time.monotonic() - last_sent))
                await send({"type": "http.response.body", "body": frame, "more_body": True})
                last_sent = time.monotonic()
                await asyncio.sleep(FRAME_GAP_SECONDS)
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

    async def serve_socket(self, socket: WebSocket) -> None:
        """``WSS …/exec`` (new or ``?id=``) and ``…/exec/{id}`` (attach)."""
        params = socket.query_params
        try:
            sprite = self._store.get(socket.path_params["name"])
            session_id = socket.path_params.get("id") or params.get("id")
            is_owner = session_id is None
            session = self._get_session(sprite, session_id) if session_id else await sprite.run(exec_request(params))
        except ApiError as error:
            await socket.send_denial_response(error_reply(error))
            return
        try:
            await socket.accept(headers=[(b"x-sprite-capabilities", b"signal")])
        except (WebSocketDisconnect, RuntimeError, OSError):
            return  # the client left before the 101; the command's time limit without watchers runs
        watcher = SocketWatcher(socket, tty=session.request.tty)
        await watcher.send_message(
            {
                "type": "session_info",
                "session_id": session.id,
                "command": " ".join(session.request.argv),
                "created": int(session.created),
                "cols": session.request.cols,
                "rows": session.request.rows,
                "is_owner": is_owner,
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
        sprite, session_id = self._store.get(request.path_params["name"]), request.path_params["id"]
        if session_id in sprite.ended_sessions and session_id not in sprite.sessions:
            raise ApiError(410, "gone", f"session {session_id} has ended")
        session = self._get_session(sprite, session_id)
        parameters = {**await read_json(request), **request.query_params}
        name = str(parameters.get("signal", "TERM"))
        number = parse_signal(name)
        if number is None:
            raise ApiError(400, "invalid_signal", f"unknown signal: {name}")
        seconds = parse_duration(str(parameters.get("timeout", "10s")))
        return ndjson_reply(_kill_events(session, name, number, seconds))

    @staticmethod
    def _get_session(sprite: Sprite, session_id: str) -> Session:
        session = sprite.sessions.get(session_id)
        if session is None:
            raise ApiError(404, "not_found", f"session not found: {session_id}")
        return session


async def _serve_socket(socket: WebSocket, sprite: Sprite, session: Session, watcher: SocketWatcher) -> None:
    tasks = [
        asyncio.create_task(_receive_messages(socket, session)),
        asyncio.create_task(_keep_alive(watcher)),
        asyncio.create_task(_send_port_changes(sprite, session, watcher)),
    ]
    attaching = asyncio.create_task(session.attach(watcher))
    finished = asyncio.create_task(watcher.done.wait())
    try:
        await asyncio.wait([tasks[0], finished], return_when=asyncio.FIRST_COMPLETED)
        if watcher.done.is_set() and not tasks[0].done():
            if not session.request.tty:  # the js SDK waits for the server's close of a terminal
                await asyncio.wait([tasks[0]], timeout=CLOSE_DELAY_SECONDS)
            if not tasks[0].done():
                await socket.close(1000)
    except (WebSocketDisconnect, RuntimeError, OSError):
        pass  # the client is gone; the command goes on for as long as it asked
    finally:
        session.detach(watcher)
        for task in (*tasks, attaching, finished):
            task.cancel()
        await asyncio.gather(*tasks, attaching, finished, return_exceptions=True)


async def _receive_messages(socket: WebSocket, session: Session) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if (data := message.get("bytes")) is not None:
            await _handle_input_message(session, data)
        elif (text := message.get("text")) is not None:
            _handle_control_message(session, text)


async def _keep_alive(watcher: SocketWatcher) -> None:
    while True:
        await asyncio.sleep(1)
        if time.monotonic() - watcher.last_sent > KEEPALIVE_SECONDS:
            await watcher.send_message({"type": "debug", "msg": "keepalive"})


async def _send_port_changes(sprite: Sprite, session: Session, watcher: SocketWatcher) -> None:
    """Send the ports that the command and its children open and close, while it runs."""
    known: frozenset[Port] = frozenset()
    while True:
        await asyncio.sleep(PORTS_POLL_SECONDS)
        now = await asyncio.to_thread(listening_ports, sprite.box.init_pid, session.leader)
        if session.exit_code is not None:
            return
        for port in now ^ known:
            await watcher.send_message(port.describe("port_opened" if port in now else "port_closed"))
        known = now


async def _handle_input_message(session: Session, data: bytes) -> None:
    if session.request.tty:
        await session.feed(data)
    elif data[:1] == bytes([STDIN]):
        await session.feed(data[1:])
    elif data[:1] == bytes([STDIN_EOF]):
        session.end_input()


def _handle_control_message(session: Session, text: str) -> None:
    """Handle a resize or signal message; ignore anything else, as on the live service."""
    try:
        message = json.loads(text)
    except ValueError:
        return
    match message:
        case {"type": "resize", "rows": int(rows), "cols": int(cols)}:
            session.resize(rows, cols)
        case {"type": "signal", "signal": str(name)} if number := parse_signal(name):
            session.signal(number)


async def _kill_events(session: Session, name: str, number: int, seconds: float) -> AsyncIterator[dict[str, object]]:
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
