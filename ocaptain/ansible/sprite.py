"""What the actions ``sprite`` and ``sprite_service`` do: many sprites at once, concurrently."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain.sprites import NotFound, SpritesError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from ocaptain.provider import Endpoint
    from ocaptain.sprites import SpritesClient

AT_ONCE = 32


@dataclass(frozen=True)
class SpriteChange:
    """What became of the sprites that were named.

    Attributes:
        present: names that are there now.
        changed: names that this call made or destroyed (would, in check mode).
        failed: the others, with the reason.
    """

    present: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


async def _each(names: Sequence[str], work: Sequence[Awaitable[bool]]) -> tuple[dict[str, bool], dict[str, str]]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: Awaitable[bool]) -> bool:
        async with gate:
            return await item

    results = await asyncio.gather(*(one(item) for item in work), return_exceptions=True)
    done: dict[str, bool] = {}
    failed: dict[str, str] = {}
    for name, result in zip(names, results, strict=True):
        if isinstance(result, SpritesError):
            failed[name] = result.message
        elif isinstance(result, BaseException):
            raise result
        else:
            done[name] = result
    return done, failed


async def make_present(reached: Endpoint, names: Sequence[str], labels: Sequence[str], *, check: bool) -> SpriteChange:
    """Make the sprites that are not there, all at once.

    One look at the list comes first: what was there before is never taken for new, however many
    answers get lost, and a second run costs that one call.

    Raises:
        SpritesError: the list cannot be had.
    """
    async with reached.client() as client:
        prefix = os.path.commonprefix(list(names))  # noqa: RUF071 - of names, not of paths
        there = {sprite.name for sprite in await client.list(prefix)}
        missing = [name for name in names if name not in there]

        async def create(name: str) -> bool:
            return (await client.create(name, labels=labels))[1]

        done, failed = ({}, {}) if check else await _each(missing, [create(name) for name in missing])
    changed = missing if check else [name for name in missing if done.get(name)]
    return SpriteChange([name for name in names if name in there or name in done], changed, failed)


async def make_absent(reached: Endpoint, names: Sequence[str], *, check: bool) -> SpriteChange:
    """Destroy the sprites that are there, all at once."""
    async with reached.client() as client:

        async def destroy(name: str) -> bool:
            return await _exists(client, name) if check else await client.destroy(name)

        done, failed = await _each(names, [destroy(name) for name in names])
    changed = [name for name in names if done.get(name)]
    return SpriteChange([name for name in changed if check], changed, failed)


async def _exists(client: SpritesClient, name: str) -> bool:
    try:
        await client.get(name)
    except NotFound:
        return False
    return True


@dataclass(frozen=True)
class ServiceSpec:
    """A service as it should be."""

    name: str
    cmd: str
    args: tuple[str, ...]
    cwd: str


def service_differs(found: dict[str, object] | None, wanted: ServiceSpec) -> bool:
    """Whether a service must be put: it is not there, not running, or another one."""
    if found is None:
        return True
    state = found.get("state")
    status = state.get("status") if isinstance(state, dict) else None
    is_same = (found.get("cmd"), found.get("args") or [], found.get("dir")) == (
        wanted.cmd,
        list(wanted.args),
        wanted.cwd,
    )
    return not is_same or status not in {"running", "starting"}


async def ensure_service(reached: Endpoint, sprite: str, wanted: ServiceSpec, *, restart: bool, check: bool) -> bool:
    """Define and start a service if it is not as wanted; return whether that was (or would be) done."""
    async with reached.client() as client:
        if not restart and not service_differs(await client.get_service(sprite, wanted.name), wanted):
            return False
        if not check:
            await client.put_service(sprite, wanted.name, wanted.cmd, wanted.args, cwd=wanted.cwd)
        return True
