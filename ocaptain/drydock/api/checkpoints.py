"""Checkpoints: create and restore reply with JSON lines; errors are plain text, as on the live service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from ocaptain.drydock.api.common import ndjson_reply, read_body
from ocaptain.drydock.errors import ApiError, DrydockError
from ocaptain.drydock.tasks import format_timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

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

    async def create(self, request: Request) -> Response:
        """``POST …/checkpoint``."""
        sprite = self._store.get(request.path_params["name"])
        body = await read_body(request, CheckpointBody)

        async def checkpoint() -> str:
            async with sprite.awake():
                return f"Checkpoint {(await sprite.create_checkpoint(body.comment)).id} created"

        return ndjson_reply(_progress("Creating checkpoint", checkpoint()))

    async def list(self, request: Request) -> Response:
        """``GET …/checkpoints``, newest first."""
        sprite = self._store.get(request.path_params["name"])
        return JSONResponse([one.describe() for one in reversed(sprite.record.checkpoints)])

    async def item(self, request: Request) -> Response:
        """``GET`` or ``DELETE …/checkpoints/{id}``."""
        sprite = self._store.get(request.path_params["name"])
        checkpoint_id = request.path_params["id"]
        if request.method == "DELETE":
            await sprite.delete_checkpoint(checkpoint_id)
            return Response(status_code=204)
        return JSONResponse(sprite.find_checkpoint(checkpoint_id).describe())

    async def restore(self, request: Request) -> Response:
        """``POST …/checkpoints/{id}/restore``."""
        sprite = self._store.get(request.path_params["name"])
        found = sprite.find_checkpoint(request.path_params["id"])

        async def restore() -> str:
            await sprite.restore_checkpoint(found.id)
            return f"Checkpoint {found.id} restored"

        return ndjson_reply(_progress(f"Restoring checkpoint {found.id}", restore()))


async def _progress(title: str, work: Awaitable[str]) -> AsyncIterator[dict[str, object]]:
    yield {"type": "info", "data": title, "time": format_timestamp(time.time())}
    try:
        outcome = await work
    except (ApiError, DrydockError) as error:  # status 200 was sent already: the last line carries the error
        yield {"type": "error", "error": error.message, "time": format_timestamp(time.time())}
        return
    yield {"type": "complete", "data": outcome, "time": format_timestamp(time.time())}
