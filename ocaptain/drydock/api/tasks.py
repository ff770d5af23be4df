"""Tasks, which only a sprite itself can create; see :mod:`ocaptain.drydock.tasks`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from ocaptain.drydock.api.common import parse_duration, read_body

if TYPE_CHECKING:
    from starlette.requests import Request

    from ocaptain.drydock.store import Store


class TaskBody(BaseModel):
    """Body of ``POST`` and ``PUT``; ``expire`` in seconds or as a duration."""

    model_config = ConfigDict(extra="ignore")

    name: str = ""
    expire: int | float | str


class TaskCalls:
    """``/v1/tasks`` and ``/v1/tasks/{task}``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def collection(self, request: Request) -> Response:
        """``GET``, ``POST`` (new) and ``PUT`` (new or refreshed)."""
        tasks = self._store.get(request.path_params["name"]).tasks
        if request.method == "GET":
            return JSONResponse({"tasks": [task.describe() for task in tasks.live_tasks()]})
        body = await read_body(request, TaskBody)
        new = request.method == "POST"
        task = tasks.create_or_refresh(body.name, parse_duration(str(body.expire)), must_be_new=new)
        return JSONResponse(task.describe(), 201 if new else 200)

    async def item(self, request: Request) -> Response:
        """``GET``, ``PUT`` (new or refreshed) and ``DELETE``."""
        tasks = self._store.get(request.path_params["name"]).tasks
        task = request.path_params["task"]
        if request.method == "DELETE":
            tasks.release(task)
            return Response(status_code=204)
        if request.method == "PUT":
            body = await read_body(request, TaskBody)
            return JSONResponse(tasks.create_or_refresh(task, parse_duration(str(body.expire))).describe())
        return JSONResponse(tasks.get_or_404(task).describe())
