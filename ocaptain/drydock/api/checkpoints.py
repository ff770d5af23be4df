"""Checkpoints: create and restore reply with JSON lines; errors are plain text, as on the live service."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from ocaptain.drydock import snapshots
from ocaptain.drydock.api.common import ndjson_reply, read_body
from ocaptain.drydock.errors import ApiError, DrydockError
from ocaptain.drydock.tasks import format_timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from starlette.requests import Request

    from ocaptain.drydock.store import Store


class CheckpointBody(BaseModel):
    """Body of ``POST …/checkpoint``."""

    model_config = ConfigDict(extra="ignore")

    comment: str = ""


class Checkpoints:
    """Checkpoints of a sprite."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: set[asyncio.Task[str]] = set()  # the loop itself holds a task only weakly

    async def create(self, request: Request) -> Response:
        """``POST …/checkpoint``."""
        sprite = self._store.get(request.path_params["name"])
        body = await read_body(request, CheckpointBody)

        async def checkpoint() -> str:
            async with sprite.awake():
                return f"Checkpoint {(await snapshots.create_checkpoint(sprite, body.comment)).id} created"

        return ndjson_reply(self._progress("Creating checkpoint", checkpoint()))

    async def list(self, request: Request) -> Response:
        """``GET …/checkpoints``, newest first."""
        sprite = self._store.get(request.path_params["name"])
        return JSONResponse([one.describe() for one in reversed(sprite.record.checkpoints)])

    async def item(self, request: Request) -> Response:
        """``GET`` or ``DELETE …/checkpoints/{id}``."""
        sprite = self._store.get(request.path_params["name"])
        checkpoint_id = request.path_params["id"]
        if request.method == "DELETE":
            await snapshots.delete_checkpoint(sprite, checkpoint_id)
            return Response(status_code=204)
        return JSONResponse(snapshots.find_checkpoint(sprite, checkpoint_id).describe())

    async def restore(self, request: Request) -> Response:
        """``POST …/checkpoints/{id}/restore``."""
        sprite = self._store.get(request.path_params["name"])
        found = snapshots.find_checkpoint(sprite, request.path_params["id"])

        async def restore() -> str:
            await snapshots.restore_checkpoint(sprite, found.id)
            return f"Checkpoint {found.id} restored"

        return ndjson_reply(self._progress(f"Restoring checkpoint {found.id}", restore()))

    def _forget(self, task: asyncio.Task[str]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # if the client left, nobody else asks for it

    async def _progress(self, title: str, work: Coroutine[None, None, str]) -> AsyncIterator[dict[str, object]]:
        """Yield what is done; it is done to its end, also if the client leaves."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        yield {"type": "info", "data": title, "time": format_timestamp(time.time())}
        try:
            outcome = await asyncio.shield(task)
        except (ApiError, DrydockError) as error:  # status 200 was sent already: the last line carries the error
            yield {"type": "error", "error": error.message, "time": format_timestamp(time.time())}
            return
        yield {"type": "complete", "data": outcome, "time": format_timestamp(time.time())}
