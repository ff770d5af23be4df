"""Policies of a sprite. Errors are plain text, as on the live service; a change replies 204, as the SDKs require."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from ocaptain.drydock.api.common import read_body
from ocaptain.drydock.policy import NetworkPolicy, PrivilegesPolicy, ResourcesPolicy

if TYPE_CHECKING:
    from starlette.requests import Request

    from ocaptain.drydock.store import Store


class Policies:
    """``GET`` and ``POST …/policy/network``; those and ``DELETE …/policy/privileges|resources``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def network_policy(self, request: Request) -> Response:
        """``policy/network``: what the sprite may connect to."""
        sprite = self._store.get(request.path_params["name"])
        if request.method == "POST":
            await sprite.set_network_policy(await read_body(request, NetworkPolicy))
            return Response(status_code=204)
        return JSONResponse(sprite.record.network.model_dump(exclude_none=True))

    async def privileges_policy(self, request: Request) -> Response:
        """``policy/privileges``: only stored."""
        return await self._get_or_store(request, "privileges", PrivilegesPolicy)

    async def resources_policy(self, request: Request) -> Response:
        """``policy/resources``: only stored."""
        return await self._get_or_store(request, "resources", ResourcesPolicy)

    async def _get_or_store(
        self, request: Request, kind: str, model: type[PrivilegesPolicy | ResourcesPolicy]
    ) -> Response:
        sprite = self._store.get(request.path_params["name"])
        if request.method == "GET":
            return JSONResponse(getattr(sprite.record, kind).model_dump(exclude_none=True))
        policy = await read_body(request, model) if request.method == "POST" else model()
        async with sprite.changing() as record:
            setattr(record, kind, policy)
        return Response(status_code=204)
