"""All sprites of a drydock, and their usage counters."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from ocaptain.drydock import pools
from ocaptain.drydock.cgroups import Limits, Place, ShipGroups
from ocaptain.drydock.errors import ApiError, DrydockError, InvalidRequest
from ocaptain.drydock.ids import IdClaims
from ocaptain.drydock.life import Clock, IdlePolicy, State
from ocaptain.drydock.outlets import ShipNetwork
from ocaptain.drydock.record import CreateBody, SpriteRecord, UpdateBody
from ocaptain.drydock.rootless import SandboxMode, is_machine_root, sandbox_mode
from ocaptain.drydock.sandbox import Sandbox, remove_tree
from ocaptain.drydock.sprite import ORGANISATION, Sprite
from ocaptain.drydock.tasks import format_timestamp
from ocaptain.drydock.unusable import Unusable, why_unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from ocaptain.drydock.ids import Ids

SPRITE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
MAX_PAGE_SIZE = 50
TICK_SECONDS = 0.5
#: Most steps in which the clock is advanced; a longer jump has longer steps.
MAX_CLOCK_STEPS = 10_000
log = logging.getLogger("drydock")


@dataclass(frozen=True)
class SpriteDefaults:
    """The settings for every sprite.

    Attributes:
        limit: maximum number of running sprites; None = no limit.
        idle_policy: when they pause.
        network: what they can reach.
        layers: directories laid over the base below all of them, the first one highest.
        limits: what each may use.
        places: where the control groups for the limits are made.
    """

    limit: int | None = None
    idle_policy: IdlePolicy = field(default_factory=IdlePolicy)
    network: ShipNetwork = field(default_factory=ShipNetwork)
    layers: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    places: Mapping[str, Place] = field(default_factory=dict)


@dataclass
class Tally:
    """The usage counters of a sprite's name; they remain when the sprite is destroyed.

    Attributes:
        calls: number of calls by endpoint.
        sent: bytes to clients.
        received: bytes from clients.
        awake: running seconds of destroyed sprites of this name.
    """

    calls: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0
    awake: float = 0.0


async def _unavailable_app(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(status_code=503)(scope, receive, send)


class Store:
    """All sprites of a drydock.

    Args:
        directory: folder for the sandboxes, on a file system that supports overlays.
        base: the shared base layer.
        defaults: the settings for every sprite.
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
        self.unusable = Unusable()
        self._claims = IdClaims()
        self._listeners: set[asyncio.Queue[dict[str, Any]]] = set()

    def tally_of(self, sprite: str) -> Tally:
        """Return the usage counters of a sprite's name."""
        return self.tallies.setdefault(sprite, Tally())

    def has_sprite(self, name: str) -> bool:
        """Return whether a sprite of that name exists."""
        return name in self._sprites

    def get(self, name: str) -> Sprite:
        """Return a sprite; raise ApiError: 404 if it does not exist, 423 if it may be one that cannot be served."""
        sprite = self._sprites.get(name)
        if sprite is None:
            raise self.unusable.error_for(name)
        return sprite

    def __len__(self) -> int:
        return len(self._sprites) + len(self._reserved)

    async def create(self, body: CreateBody) -> Sprite:
        """Create a sprite; 400 for a bad name, 409 for one that is taken, 429 beyond the limit."""
        if not SPRITE_NAME.fullmatch(body.name):
            raise InvalidRequest(["name must be 1-63 of a-z, 0-9 and inner hyphens"])
        if body.name in self._sprites or body.name in self._reserved:
            raise ApiError(409, "already_exists", f"sprite {body.name} already exists")
        if told := self.unusable.named.get(body.name):
            raise ApiError(409, "already_exists", told)
        self._check_limit()
        self._reserved.add(body.name)
        try:
            directory = self._directory / uuid.uuid4().hex
            ids = self._claims.claim()
            try:
                sprite = await self._create(body, directory, ids)
            except BaseException:
                self._claims.release(ids)
                raise
        finally:
            self._reserved.discard(body.name)
        self._sprites[body.name] = sprite
        self._notify(sprite)
        return sprite

    async def _create(self, body: CreateBody, directory: Path, ids: Ids) -> Sprite:
        box = self._new_box(body.name, directory, ids)
        await box.create()
        try:
            now = format_timestamp(self.clock.wall())
            record = SpriteRecord(
                body=body, id=f"sprite-{uuid.uuid4()}", created_at=now, updated_at=now, mode=sandbox_mode()
            )
            sprite = self._make_sprite(record, box)
            _install_tools(directory, ids)
            await sprite.finish_boot()
        except BaseException:
            await box.destroy()
            raise
        return sprite

    def _check_limit(self) -> None:
        running = self.count_by_state()["running"] + len(self._reserved)
        if self.defaults.limit is not None and running >= self.defaults.limit:
            message = f"{running} sprites run, the limit is {self.defaults.limit}"
            numbers = {"current_count": running, "limit": self.defaults.limit}
            raise ApiError(429, "concurrent_sprite_limit_exceeded", message, numbers)

    def _new_box(self, name: str, directory: Path, ids: Ids) -> Sandbox:
        given = self.defaults
        groups = ShipGroups(given.limits, given.places, directory.name)
        return Sandbox(
            name, directory, self._base, ids, isolated=given.network.is_own, layers=given.layers, groups=groups
        )

    def _make_sprite(self, record: SpriteRecord, box: Sandbox) -> Sprite:
        return Sprite(
            record,
            box,
            idle_policy=self.defaults.idle_policy,
            clock=self.clock,
            socket_app=self.make_socket_app(record.body.name),
            network=self.defaults.network,
            on_change=self._notify,
        )

    async def load_sprites_from_disk(self) -> None:
        """Load the sprites that an ended drydock has left on disk, as cold sprites.

        A folder without a record is removed. One whose record is damaged stays, and while there is one,
        :meth:`get` answers 423 instead of 404; so it does for the name of one that was made of another base.
        """
        for directory in sorted(self._directory.iterdir()) if self._directory.is_dir() else []:
            try:
                record = SpriteRecord.load(directory)
            except FileNotFoundError:
                log.warning("%s has no record of a sprite: it is removed", directory)
                await pools.removing(functools.partial(_remove_with_retries, directory))
                continue
            except (OSError, ValueError) as error:
                log.warning("%s: the record of its sprite cannot be read: %s", directory, error)
                self.unusable.add(directory, "has a record that cannot be read; repair or remove the folder")
                continue
            made = record.mode or (SandboxMode.HOST if is_machine_root() else sandbox_mode())  # of an earlier version
            if reason := why_unusable(made, sandbox_mode()):
                log.warning("%s: the sprite %s %s", directory, record.body.name, reason)
                self.unusable.add(directory, reason, record.body.name)
                continue
            box = self._new_box(record.body.name, directory, self._claims.claim(record.first_id))
            box.disk_first = record.first_id
            self._sprites[record.body.name] = self._make_sprite(record, box)

    async def run_pause_loop(self) -> None:
        """Pause idle sprites, until cancelled."""
        while True:
            await asyncio.sleep(self._tick_seconds)
            await self.pause_idle_sprites()

    @property
    def _tick_seconds(self) -> float:
        """Seconds between two checks for idle sprites."""
        idle_policy = self.defaults.idle_policy
        return min([TICK_SECONDS, *(seconds / 4 for seconds in (idle_policy.idle, idle_policy.cold) if seconds > 0)])

    async def advance(self, seconds: float) -> None:
        """Advance the clock, with all the pauses that would have happened in that time.

        It advances in steps and checks for idle sprites after each, as if the time had passed: an idle
        sprite becomes warm and then cold, and a Task that expires meanwhile counts until its expiry.
        """
        steps = max(min(math.ceil(seconds / self._tick_seconds), MAX_CLOCK_STEPS), 1)
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            await self.pause_idle_sprites()

    async def pause_idle_sprites(self) -> None:
        """Pause every sprite that has been idle for long enough, side by side: one may take long to stop."""
        await asyncio.gather(*(self._pause(sprite) for sprite in self._sprites.values()))

    async def _pause(self, sprite: Sprite) -> None:
        try:
            await sprite.pause_if_due()
        except DrydockError as error:
            log.warning("%s could not be paused: %s", sprite.name, error)

    async def update(self, name: str, change: UpdateBody) -> Sprite:
        """Apply a partial change to a sprite, whole or not at all."""
        sprite = self.get(name)
        async with sprite.changing() as record:
            if change.clear_labels:
                record.body.labels = []
            if change.labels is not None:
                record.body.labels = change.labels
            if change.url_settings is not None:
                record.body.url_settings = change.url_settings
            record.updated_at = format_timestamp(self.clock.wall())
        return sprite

    async def destroy(self, name: str) -> None:
        """Destroy a sprite and everything that runs in it."""
        sprite = self.get(name)
        del self._sprites[name]
        self._reserved.add(name)  # the name is free when everything is removed
        try:
            await sprite.destroy()
            self._claims.release(sprite.box.ids)
        finally:
            self._reserved.discard(name)
            self.tally_of(name).awake += sprite.awake_seconds

    async def halt_all(self) -> None:
        """End everything that runs in every sprite, and keep the disks."""
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

    # -- what clients see ---------------------------------------------------------------------

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
        """Return the usage counters of all sprites."""
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
        """Stop filling a queue of :meth:`subscribe`."""
        self._listeners.discard(queue)

    def status_event(self, sprite: Sprite) -> dict[str, Any]:
        """Return a sprite's status as an event of the watch call."""
        shown = sprite.describe()
        shown_keys = ("name", "status", "last_running_at", "last_warming_at")
        fields = {str(key): value for key, value in shown.items() if key in shown_keys}
        return {**fields, "timestamp": format_timestamp(self.clock.wall()), "org": self.organisation()}

    def _notify(self, sprite: Sprite) -> None:
        if self._listeners and self._sprites.get(sprite.name) is sprite:  # else it is not yet, or no longer
            event = self.status_event(sprite)
            for queue in self._listeners:
                queue.put_nowait(event)


def _install_tools(directory: Path, ids: Ids) -> None:
    """Install drydock's tools into a new sandbox, before anything of the ship runs."""
    tool = directory / "dot-sprite/bin/sprite-env"
    tool.write_bytes(b"#!/usr/bin/python3\n" + (files("ocaptain.drydock") / "sprite_env.py").read_bytes())
    os.chown(tool, ids.first, ids.first)
    tool.chmod(0o755)


def _remove_with_retries(directory: Path) -> None:
    """Remove a sandbox's folder; try again while its last mounts are being removed."""
    for _ in range(20):
        try:
            remove_tree(directory)
        except DrydockError:
            time.sleep(0.1)
        else:
            return
    log.warning("%s cannot be removed", directory)
