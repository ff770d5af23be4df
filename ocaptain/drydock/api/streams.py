"""WebSockets other than exec: TCP through ``/proxy``, file changes, opened and closed ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from ocaptain.drydock.api.common import error_reply
from ocaptain.drydock.errors import ApiError, FsError
from ocaptain.drydock.network import CHUNK_BYTES, connect_to_sandbox_port
from ocaptain.drydock.ports import listening_ports
from ocaptain.drydock.tasks import format_timestamp
from ocaptain.drydock.watch import FileWatch

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.websockets import WebSocket

    from ocaptain.drydock.sprite import Sprite
    from ocaptain.drydock.store import Store

POLL_SECONDS = 0.5
FIRST_MESSAGE_SECONDS = 10.0
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1", "")


class Target(BaseModel):
    """First message on ``/proxy``."""

    model_config = ConfigDict(extra="ignore")

    host: str = "localhost"
    port: Annotated[int, Field(gt=0, lt=65536)]


class Subscription(BaseModel):
    """First message on ``/fs/watch``."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["subscribe"]
    paths: Annotated[list[str], Field(min_length=1, max_length=100)]
    recursive: bool = False
    workingDir: str = "/"  # noqa: N815 - the API's spelling


class Streams:
    """The sockets of a sprite."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def _accept(self, socket: WebSocket) -> Sprite | None:
        try:
            sprite = self._store.get(socket.path_params["name"])
        except ApiError as error:
            await socket.send_denial_response(error_reply(error))
            return None
        await socket.accept()
        return sprite

    async def proxy(self, socket: WebSocket) -> None:
        """``WSS …/proxy``: one TCP connection to a port of the sprite's own loopback."""
        sprite = await self._accept(socket)
        if sprite is None:
            return
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            try:
                async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
                    target = Target.model_validate_json(await socket.receive_text())
                if target.host.lower() not in (*LOOPBACK_NAMES, sprite.name):
                    raise OSError(f"host {target.host}: only the sprite's own loopback can be reached; use localhost")
                reader, writer = await connect_to_sandbox_port(sprite.box.init_pid, target.port)
            except (OSError, ValidationError, KeyError) as error:  # TimeoutError is an OSError
                reason = (
                    "the first message must be {host, port}"
                    if isinstance(error, ValidationError | KeyError)
                    else str(error)
                )
                await socket.send_text(json.dumps({"status": "error", "error": reason or "no answer"}))
                await socket.close(1000)
                return
            await socket.send_text(json.dumps({"status": "connected", "target": f"127.0.0.1:{target.port}"}))
            try:
                await _run_until_first_ends(_copy_to_socket(reader, socket), _copy_from_socket(socket, writer))
                await writer.drain()
            finally:
                writer.close()
            await socket.close(1000)

    async def watch_files(self, socket: WebSocket) -> None:
        """``WSS …/fs/watch``."""
        sprite = await self._accept(socket)
        if sprite is None:
            return
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            try:
                async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
                    subscription = Subscription.model_validate_json(await socket.receive_text())
            except (TimeoutError, ValidationError, KeyError):
                await socket.send_text(
                    json.dumps({"type": "error", "message": "the first message must be a subscription"})
                )
                await socket.close(1000)
                return
            watch = FileWatch(sprite.box.root, sprite.box.ids, subscription.workingDir)
            try:
                for path in subscription.paths:
                    await watch.add(path, recursive=subscription.recursive)
                await socket.send_text(json.dumps({"type": "subscribed", "paths": subscription.paths}))
                await _run_until_first_ends(_send_file_changes(watch, socket), _wait_for_disconnect(socket))
            except FsError as error:
                await socket.send_text(json.dumps({"type": "error", "message": error.message}))
                await socket.close(1000)
            finally:
                watch.close()

    async def watch_ports(self, socket: WebSocket) -> None:
        """``WSS …/ports/watch``."""
        sprite = await self._accept(socket)
        if sprite is None:
            return
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            await _run_until_first_ends(_send_port_changes(sprite, socket), _wait_for_disconnect(socket))


async def _run_until_first_ends(*work: Awaitable[None]) -> None:
    """Wait until the first one ends, cancel the others; raise its error."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy_to_socket(reader: asyncio.StreamReader, socket: WebSocket) -> None:
    while data := await reader.read(CHUNK_BYTES):
        await socket.send_bytes(data)


async def _copy_from_socket(socket: WebSocket, writer: asyncio.StreamWriter) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if data := message.get("bytes"):
            writer.write(data)
            await writer.drain()


async def _wait_for_disconnect(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _send_file_changes(watch: FileWatch, socket: WebSocket) -> None:
    async for change in watch:
        shown = {
            "type": "event",
            "path": change.path,
            "event": change.kind,
            "timestamp": format_timestamp(time.time()),
            "size": change.size,
            "isDir": change.is_directory,
        }
        await socket.send_text(json.dumps(shown))


async def _send_port_changes(sprite: Sprite, socket: WebSocket) -> None:
    known = await asyncio.to_thread(listening_ports, sprite.box.init_pid)
    await socket.send_text(json.dumps({"type": "port_list", "ports": [one.describe("port_opened") for one in known]}))
    while True:
        await asyncio.sleep(POLL_SECONDS)
        now = await asyncio.to_thread(listening_ports, sprite.box.init_pid)
        for one in now - known:
            await socket.send_text(json.dumps(one.describe("port_opened")))
        for one in known - now:
            await socket.send_text(json.dumps(one.describe("port_closed")))
        known = now
