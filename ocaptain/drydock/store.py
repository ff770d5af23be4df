"""The sprites that drydock has: their records, sandboxes, sessions, services and call counts."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ocaptain.drydock.errors import ApiError
from ocaptain.drydock.sandbox import Sandbox
from ocaptain.drydock.sessions import ExecRequest, Session

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.drydock.services import Service

ORGANISATION = "drydock"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PAGE = 50


EnvName = Annotated[str, StringConstraints(pattern=r"^[^=\x00]+$")]
EnvValue = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


class UrlSettings(BaseModel):
    """``url_settings`` of a sprite."""

    model_config = ConfigDict(extra="allow")

    auth: str = "sprite"


class CreateBody(BaseModel):
    """Body of ``POST /v1/sprites``; sizes are accepted and ignored, as live."""

    model_config = ConfigDict(extra="ignore")

    name: str
    labels: list[str] = []
    environment: dict[EnvName, EnvValue] = {}
    url_settings: UrlSettings = Field(default_factory=UrlSettings)
    config: dict[str, Any] = {}
    runtime: str = "default"
    wait_for_capacity: bool = False


class UpdateBody(BaseModel):
    """Body of ``PUT /v1/sprites/{name}``; what is absent stays."""

    model_config = ConfigDict(extra="ignore")

    labels: list[str] | None = None
    clear_labels: bool = False
    url_settings: UrlSettings | None = None


@dataclass
class Sprite:
    """One sprite."""

    body: CreateBody
    box: Sandbox
    id: str = field(default_factory=lambda: f"sprite-{uuid.uuid4()}")
    created_at: str = field(default_factory=lambda: stamp())  # noqa: PLW0108 - defined below
    updated_at: str = field(default_factory=lambda: stamp())  # noqa: PLW0108 - defined below
    sessions: dict[str, Session] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    _watches: set[asyncio.Task[bool]] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The sprite's name, unique in the organisation."""
        return self.body.name

    def describe(self) -> dict[str, object]:
        """Return the sprite as the API shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "organization": ORGANISATION,
            "org_slug": ORGANISATION,
            "url": f"https://{self.name}-{ORGANISATION}.invalid",
            "url_settings": self.body.url_settings.model_dump(),
            "status": "running",
            "labels": self.body.labels,
            "environment_version": "drydock",
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "last_running_at": self.updated_at,
        }

    async def run(self, request: ExecRequest) -> Session:
        """Start a command; it leaves the list when it has ended."""
        environment = {**self.body.environment, **request.environment}
        session = await Session.start(self.box, ExecRequest(**{**vars(request), "environment": environment}))
        self.sessions[session.id] = session
        watch = asyncio.create_task(session.ended.wait())
        self._watches.add(watch)  # the loop itself holds a task only weakly
        watch.add_done_callback(self._watches.discard)
        watch.add_done_callback(lambda _: self.sessions.pop(session.id, None))
        return session


class Store:
    """All sprites.

    Args:
        directory: folder for the sandboxes, on a file system that overlays can be put upon.
        base: the shared base layer.
        limit: most sprites at once, as an account has one; None = no limit.
    """

    def __init__(self, directory: Path, base: Path, limit: int | None = None) -> None:
        self._directory = directory
        self._base = base
        self._limit = limit
        self._sprites: dict[str, Sprite] = {}
        self._reserved: set[str] = set()
        self.calls: dict[str, Counter[str]] = {}

    def count(self, sprite: str, endpoint: str) -> None:
        """Count a call that names ``sprite``; kept after the sprite is gone."""
        self.calls.setdefault(sprite, Counter())[endpoint] += 1

    def get(self, name: str) -> Sprite:
        """Return a sprite, or raise 404."""
        sprite = self._sprites.get(name)
        if sprite is None:
            raise ApiError(404, "not_found", f"sprite not found: {name}")
        return sprite

    def __len__(self) -> int:
        return len(self._sprites) + len(self._reserved)

    async def create(self, body: CreateBody) -> Sprite:
        """Create a sprite; 400 for a bad name, 409 for one that is taken, 429 beyond the limit."""
        if not NAME.fullmatch(body.name):
            raise ApiError(400, "invalid_name", "name must be 1-63 of a-z, 0-9 and inner hyphens")
        if body.name in self._sprites or body.name in self._reserved:
            raise ApiError(409, "already_exists", f"sprite {body.name} already exists")
        if self._limit is not None and len(self) >= self._limit:
            message = f"{len(self)} sprites are there, the limit is {self._limit}"
            raise ApiError(429, "concurrent_sprite_limit_exceeded", message)
        self._reserved.add(body.name)
        try:
            box = await Sandbox.create(body.name, self._directory / uuid.uuid4().hex, self._base)
        finally:
            self._reserved.discard(body.name)
        sprite = self._sprites[body.name] = Sprite(body, box)
        return sprite

    def update(self, name: str, change: UpdateBody) -> Sprite:
        """Apply a partial change."""
        sprite = self.get(name)
        if change.clear_labels:
            sprite.body.labels = []
        if change.labels is not None:
            sprite.body.labels = change.labels
        if change.url_settings is not None:
            sprite.body.url_settings = change.url_settings
        sprite.updated_at = stamp()
        return sprite

    async def destroy(self, name: str) -> None:
        """Destroy a sprite and all that runs in it."""
        sprite = self.get(name)
        del self._sprites[name]
        self._reserved.add(name)  # the name is free when nothing is left of it
        try:
            await asyncio.gather(*(service.stop(0) for service in sprite.services.values()))
            await sprite.box.destroy()
        finally:
            self._reserved.discard(name)

    async def destroy_all(self) -> None:
        """Destroy every sprite."""
        await asyncio.gather(*(self.destroy(name) for name in list(self._sprites)))

    def page(self, prefix: str, size: int, token: str | None) -> dict[str, object]:
        """Return one page of the list, by name; the token is the last name of the page before."""
        found = sorted(name for name in self._sprites if name.startswith(prefix))
        rest = [name for name in found if token is None or name > token]
        names = rest[: max(1, min(size, PAGE))]
        more = len(rest) > len(names)
        counts = {"running": len(self._sprites), "warm": 0, "cold": 0, "running_limit": self._limit, "warm_limit": None}
        return {
            "sprites": [self._sprites[name].describe() for name in names],
            "has_more": more,
            "next_continuation_token": names[-1] if more else None,
            "name": ORGANISATION,
            **counts,
            "org": {"name": ORGANISATION, **counts},
        }


def stamp() -> str:
    """Return the time now as RFC 3339 in UTC (the Go SDK decodes nothing else)."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
