"""The sprites that drydock has, and what was counted about them."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from ocaptain.drydock.errors import ApiError, DrydockError
from ocaptain.drydock.life import Clock, IdlePolicy, State
from ocaptain.drydock.record import CreateBody, SpriteRecord, UpdateBody
from ocaptain.drydock.sandbox import Sandbox, remove_tree
from ocaptain.drydock.sprite import ORGANISATION, Sprite
from ocaptain.drydock.tasks import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

SPRITE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
MAX_PAGE_SIZE = 50
TICK_SECONDS = 0.5
#: The looks of one jump of the clock; a longer jump has coarser ones.
MAX_CLOCK_STEPS = 10_000
log = logging.getLogger("drydock")


@dataclass(frozen=True)
class SpriteDefaults:
    """What every sprite is made with.

    Attributes:
        limit: most sprites that run at once, as an account has one; None = no limit.
        idle_policy: when they pause.
        isolated: each has a network of its own.
        ports: of the host's loopback, that isolated ones may reach.
        layers: directories laid over the base below all of them, the first one highest.
    """

    limit: int | None = None
    idle_policy: IdlePolicy = field(default_factory=IdlePolicy)
    isolated: bool = False
    ports: tuple[int, ...] = ()
    layers: tuple[Path, ...] = ()


@dataclass
class Tally:
    """What was counted about a sprite; kept after it is gone.

    Attributes:
        calls: by endpoint.
        sent: bytes to clients.
        received: bytes from clients.
        awake: seconds in which it ran, of sprites of this name that are gone.
    """

    calls: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0
    awake: float = 0.0


async def _unavailable_app(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(status_code=503)(scope, receive, send)


class Store:
    """All sprites.

    Args:
        directory: folder for the sandboxes, on a file system that overlays can be put upon.
        base: the shared base layer.
        defaults: what they are made with.
    """

    def __init__(self, directory: Path, base: Path, defaults: SpriteDefaults) -> None:
        self.defaults = defaults
        self.clock = Clock()
        self.tallies: dict[str, Tally] = {}
        #: Makes the application behind a sprite's own socket; set by whoever serves.
        self.make_socket_app: Callable[[str], ASGIApp] = lambda _: _unavailable_app
        self._directory = directory
        self._base = base
        self._sprites: dict[str, Sprite] = {}
        self._reserved: set[str] = set()
        self.unreadable: list[Path] = []
        self._listeners: set[asyncio.Queue[dict[str, Any]]] = set()

    def tally_of(self, sprite: str) -> Tally:
        """Return the counters of a name."""
        return self.tallies.setdefault(sprite, Tally())

    def has_sprite(self, name: str) -> bool:
        """Whether there is a sprite of that name."""
        return name in self._sprites

    def get(self, name: str) -> Sprite:
        """Return a sprite, or raise 404."""
        sprite = self._sprites.get(name)
        if sprite is None and self.unreadable:  # one of them may be it: absent is not gone
            message = f"{self.unreadable[0]} holds a sprite whose record cannot be read; repair or remove the folder"
            raise ApiError(423, "unreadable", message)
        if sprite is None:
            raise ApiError(404, "not_found", f"sprite not found: {name}")
        return sprite

    def __len__(self) -> int:
        return len(self._sprites) + len(self._reserved)

    async def create(self, body: CreateBody) -> Sprite:
        """Create a sprite; 400 for a bad name, 409 for one that is taken, 429 beyond the limit."""
        if not SPRITE_NAME.fullmatch(body.name):
            raise ApiError(400, "invalid_name", "name must be 1-63 of a-z, 0-9 and inner hyphens")
        if body.name in self._sprites or body.name in self._reserved:
            raise ApiError(409, "already_exists", f"sprite {body.name} already exists")
        self._check_limit()
        self._reserved.add(body.name)
        try:
            directory = self._directory / uuid.uuid4().hex
            box = await Sandbox.create(
                body.name, directory, self._base, isolated=self.defaults.isolated, layers=self.defaults.layers
            )
            try:
                now = format_timestamp(self.clock.wall())
                record = SpriteRecord(body=body, id=f"sprite-{uuid.uuid4()}", created_at=now, updated_at=now)
                sprite = self._make_sprite(record, box)
                _install_tools(directory)
                await sprite.finish_boot()
            except BaseException:
                await box.destroy()
                raise
        finally:
            self._reserved.discard(body.name)
        self._sprites[body.name] = sprite
        self._notify(sprite)
        return sprite

    def _check_limit(self) -> None:
        running = self.count_by_state()["running"] + len(self._reserved)
        if self.defaults.limit is not None and running >= self.defaults.limit:
            message = f"{running} sprites run, the limit is {self.defaults.limit}"
            numbers = {"current_count": running, "limit": self.defaults.limit}
            raise ApiError(429, "concurrent_sprite_limit_exceeded", message, numbers)

    def _make_sprite(self, record: SpriteRecord, box: Sandbox) -> Sprite:
        return Sprite(
            record,
            box,
            idle_policy=self.defaults.idle_policy,
            clock=self.clock,
            socket_app=self.make_socket_app(record.body.name),
            ports=self.defaults.ports,
            on_change=self._notify,
        )

    async def load_sprites_from_disk(self) -> None:
        """Take over what a drydock that was killed has left: disks, as cold sprites.

        Its processes ended with it. A folder that never became a sprite goes; one whose record is
        damaged stays, and while it does no sprite is said not to exist.
        """
        for directory in sorted(self._directory.iterdir()) if self._directory.is_dir() else []:
            try:
                record = SpriteRecord.load(directory)
            except FileNotFoundError:
                log.warning("%s holds no sprite and goes", directory)
                await asyncio.to_thread(_remove_with_retries, directory)
                continue
            except (OSError, ValueError) as error:
                log.warning("%s: the record of its sprite cannot be read: %s", directory, error)
                self.unreadable.append(directory)
                continue
            box = Sandbox(
                record.body.name, directory, self._base, isolated=self.defaults.isolated, layers=self.defaults.layers
            )
            self._sprites[record.body.name] = self._make_sprite(record, box)

    async def run_pause_loop(self) -> None:
        """Pause sprites when it is due, for ever."""
        while True:
            await asyncio.sleep(self._tick_seconds)
            await self.pause_idle_sprites()

    @property
    def _tick_seconds(self) -> float:
        """Seconds between two looks at who is to be paused."""
        idle_policy = self.defaults.idle_policy
        return min([TICK_SECONDS, *(seconds / 4 for seconds in (idle_policy.idle, idle_policy.cold) if seconds > 0)])

    async def advance(self, seconds: float) -> None:
        """Put the clock forward, with all the pauses that would have come in that time.

        It goes from look to look, as if the time had passed: what is quiet for long enough becomes
        warm and then cold, and a hold that ends on the way counts until its end.
        """
        steps = max(min(math.ceil(seconds / self._tick_seconds), MAX_CLOCK_STEPS), 1)
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            await self.pause_idle_sprites()

    async def pause_idle_sprites(self) -> None:
        """Pause every sprite that has been quiet for long enough."""
        for sprite in list(self._sprites.values()):
            try:
                await sprite.pause_if_due()
            except DrydockError as error:
                log.warning("%s could not be paused: %s", sprite.name, error)

    def update(self, name: str, change: UpdateBody) -> Sprite:
        """Apply a partial change."""
        sprite = self.get(name)
        body = sprite.record.body
        if change.clear_labels:
            body.labels = []
        if change.labels is not None:
            body.labels = change.labels
        if change.url_settings is not None:
            body.url_settings = change.url_settings
        sprite.record.updated_at = format_timestamp(self.clock.wall())
        sprite.save()
        return sprite

    async def destroy(self, name: str) -> None:
        """Destroy a sprite and all that runs in it."""
        sprite = self.get(name)
        del self._sprites[name]
        self._reserved.add(name)  # the name is free when nothing is left of it
        try:
            await sprite.destroy()
        finally:
            self._reserved.discard(name)
            self.tally_of(name).awake += sprite.awake_seconds

    async def halt_all(self) -> None:
        """End all that runs in every sprite, and keep the disks."""
        await asyncio.gather(*(self._halt(sprite) for sprite in self._sprites.values()))

    async def _halt(self, sprite: Sprite) -> None:
        async with sprite.lock:
            try:
                await sprite.halt()
            except DrydockError as error:  # what cannot be ended ends with the server
                log.warning("%s could not be halted: %s", sprite.name, error)

    async def destroy_all(self) -> None:
        """Destroy every sprite."""
        await asyncio.gather(*(self.destroy(name) for name in list(self._sprites)))

    # -- what is told ---------------------------------------------------------------------

    def count_by_state(self) -> dict[str, int]:
        """Return how many sprites are in each state."""
        found = Counter(sprite.state for sprite in self._sprites.values())
        return {str(state): found[state] for state in State}

    def organisation(self) -> dict[str, Any]:
        """Return name, counts and limits of the organisation."""
        return {
            "name": ORGANISATION,
            **self.count_by_state(),
            "running_limit": self.defaults.limit,
            "warm_limit": None,
        }

    def list_page(self, prefix: str, size: int, token: str | None) -> dict[str, object]:
        """Return one page of the list, by name; the token is the last name of the page before."""
        found = sorted(name for name in self._sprites if name.startswith(prefix))
        rest = [name for name in found if token is None or name > token]
        names = rest[: max(1, min(size, MAX_PAGE_SIZE))]
        more = len(rest) > len(names)
        return {
            "sprites": [self._sprites[name].describe() for name in names],
            "has_more": more,
            "next_continuation_token": names[-1] if more else None,
            **self.organisation(),
            "org": self.organisation(),
        }

    def metrics(self) -> dict[str, object]:
        """Return what was counted, by sprite."""
        awake = {name: sprite.awake_seconds for name, sprite in self._sprites.items()}
        return {
            "sprites": len(self),
            "states": self.count_by_state(),
            "calls": {name: tally.calls for name, tally in self.tallies.items()},
            "bytes": {name: {"sent": one.sent, "received": one.received} for name, one in self.tallies.items()},
            "awake_seconds": {
                name: round(self.tally_of(name).awake + awake.get(name, 0.0), 3) for name in {*self.tallies, *awake}
            },
        }

    def find_by_prefix(self, prefix: str) -> list[Sprite]:
        """Return the sprites whose names start with ``prefix``, by name."""
        return [self._sprites[name] for name in sorted(self._sprites) if name.startswith(prefix)]

    def subscribe(self) -> asyncio.Queue[dict[str, Any]]:
        """Return a queue of every change of a sprite's status from now on."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._listeners.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[dict[str, Any]]) -> None:
        """Let a queue of :meth:`subscribe` go."""
        self._listeners.discard(queue)

    def status_event(self, sprite: Sprite) -> dict[str, Any]:
        """Return a sprite's status as the watch call tells it."""
        shown = sprite.describe()
        shown_keys = ("name", "status", "last_running_at", "last_warming_at")
        fields = {str(key): value for key, value in shown.items() if key in shown_keys}
        return {**fields, "timestamp": format_timestamp(self.clock.wall()), "org": self.organisation()}

    def _notify(self, sprite: Sprite) -> None:
        if self._listeners and self._sprites.get(sprite.name) is sprite:  # else it is not yet, or no longer
            event = self.status_event(sprite)
            for queue in self._listeners:
                queue.put_nowait(event)


def _install_tools(directory: Path) -> None:
    """Put drydock's own tools into a sandbox in which nothing of the ship has run yet."""
    tool = directory / "dot-sprite/bin/sprite-env"
    tool.write_bytes(b"#!/usr/bin/python3\n" + (files("ocaptain.drydock") / "sprite_env.py").read_bytes())
    tool.chmod(0o755)


def _remove_with_retries(directory: Path) -> None:
    """Remove a killed server's folder; its last mounts may need a moment to go."""
    for _ in range(20):
        try:
            remove_tree(directory)
        except DrydockError:
            time.sleep(0.1)
        else:
            return
    log.warning("%s cannot be removed", directory)
