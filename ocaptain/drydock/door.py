"""``/.sprite/api.sock``: the part of the API that a sprite may use on itself, without a token.

The socket is drydock's, in a folder that the ship's user owns, so nothing of that folder is
trusted: the name is bound relative to its descriptor, and binding follows no link.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.server import ServerState

from ocaptain.drydock.connections import BoundedProtocol

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

SOCKET_NAME = "api.sock"
MAX_CONNECTIONS = 64  # of one ship, so that it cannot use up the descriptors of the others


class _Protocol(BoundedProtocol):
    max_unaccepted = 16


class SpriteSocket:
    """The socket of one sprite, served by ``app``; it belongs to the user id ``owner``."""

    def __init__(self, folder: Path, app: ASGIApp, owner: int) -> None:
        self._folder = folder
        self._owner = owner
        self._config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            limit_concurrency=MAX_CONNECTIONS,
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Bind and serve; if the ship removed the socket, make it again.

        Raises:
            OSError: it cannot be bound, because the ship put something else at that name.
        """
        await self.close()
        if not self._config.loaded:
            self._config.load()
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(SOCKET_NAME, dir_fd=folder)
            # By the descriptor: paths of sockets hold 107 bytes, and ours may be longer.
            listener.bind(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
            os.chown(SOCKET_NAME, self._owner, self._owner, dir_fd=folder, follow_symlinks=False)
            listener.setblocking(False)  # noqa: FBT003 - the only spelling
            self._server = await asyncio.get_running_loop().create_unix_server(self._new_http_protocol, sock=listener)
        except BaseException:
            listener.close()
            raise
        finally:
            os.close(folder)

    def _new_http_protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self._state, app_state={}
        )
        return made

    async def close(self) -> None:
        """Stop serving and cut open calls."""
        if self._server:
            self._server.close()
            self._server = None
        for connection in list(self._state.connections):
            connection.transport.close()
