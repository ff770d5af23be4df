"""What the actions ``sprite``, ``sprite_service`` and ``sprite_policy`` do."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain.sprites import NotFound, RateLimited, SpritesError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from ocaptain.provider import Endpoint
    from ocaptain.sprites import Checkpoint, SpritesClient

AT_ONCE = 32
NO_ROOM = "concurrent_sprite_limit_exceeded"  # the account runs as many as it may


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


async def make_present(
    reached: Endpoint, names: Sequence[str], labels: Sequence[str], *, spare: Sequence[str] = (), check: bool
) -> SpriteChange:
    """Make the sprites that are not there, all at once.

    One look at the list comes first: what was there before is never taken for new, however many
    answers get lost, and a second run costs that one call.

    Args:
        reached: the provider.
        names: of the sprites.
        labels: of those that are made.
        spare: those of them that make room for the others, where the account has none for all.
        check: make nothing.

    Raises:
        SpritesError: the list cannot be had.
    """
    async with reached.client() as client:
        prefix = os.path.commonprefix(list(names))  # noqa: RUF071 - of names, not of paths
        there = {sprite.name for sprite in await client.list(prefix)}
        missing = [name for name in names if name not in there]

        no_room: set[str] = set()

        async def create(name: str) -> bool:
            try:
                return (await client.create(name, labels=labels))[1]
            except RateLimited as error:
                if error.code == NO_ROOM:
                    no_room.add(name)
                raise

        done, failed = ({}, {}) if check else await _each(missing, [create(name) for name in missing])
        made = [name for name in spare if done.get(name)]
        crowded_out = [name for name in missing if name in no_room and name not in spare]
        for gives, takes in zip(made, crowded_out, strict=False):  # as many as both have
            await client.destroy(gives)
            failed[gives] = f"the account has no room for it beside {takes}"
            del done[gives], failed[takes]
            again, refused = await _each([takes], [create(takes)])
            done, failed = {**done, **again}, {**failed, **refused}
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


async def make_checkpointed(reached: Endpoint, names: Sequence[str], checkpoint: str, *, check: bool) -> SpriteChange:
    """Copy the disks of the sprites, all at once; one that has a checkpoint of that name is left alone."""
    async with reached.client() as client:

        async def copy(name: str) -> bool:
            if find_checkpoint(await client.list_checkpoints(name), checkpoint):
                return False
            if not check:
                await client.create_checkpoint(name, checkpoint)
            return True

        done, failed = await _each(names, [copy(name) for name in names])
    return SpriteChange(list(done), [name for name in names if done.get(name)], failed)


async def make_restored(reached: Endpoint, names: Sequence[str], checkpoint: str, *, check: bool) -> SpriteChange:
    """Put a checkpoint in the place of the disks of the sprites, all at once; always a change."""
    async with reached.client() as client:

        async def restore(name: str) -> bool:
            found = find_checkpoint(await client.list_checkpoints(name), checkpoint)
            if found is None:
                raise NoCheckpoint(f"{name} has no checkpoint {checkpoint!r}")
            if not check:
                await client.restore_checkpoint(name, found)
            return True

        done, failed = await _each(names, [restore(name) for name in names])
    return SpriteChange(list(done), list(done), failed)


class NoCheckpoint(SpritesError):
    """A sprite has no checkpoint of that name or id."""


def find_checkpoint(listed: Sequence[Checkpoint], wanted: str) -> str | None:
    """Return the id of the newest checkpoint with the comment ``wanted``, else of the one with that id."""
    by_name = next((one.id for one in listed if one.comment == wanted), None)
    return by_name or next((one.id for one in listed if one.id == wanted), None)


def policy_rules(allow: Sequence[str], deny: Sequence[str], *, defaults: bool) -> list[dict[str, object]]:
    """Return the rules of an egress policy.

    With an ``allow`` or ``defaults`` whatever matches no rule is denied, by the service's rules;
    with neither nothing is restricted but what ``deny`` names.
    """
    rules: list[dict[str, object]] = [{"include": "defaults"}] if defaults else []
    rules += [{"domain": domain, "action": "allow"} for domain in allow]
    if deny and not rules:
        rules.append({"domain": "*", "action": "allow"})
    rules += [{"domain": domain, "action": "deny"} for domain in deny]  # of two equal ones the later counts
    return rules


async def ensure_policy(
    reached: Endpoint, sprite: str, rules: Sequence[dict[str, object]], *, check: bool
) -> tuple[list[dict[str, object]], bool]:
    """Give a sprite its egress rules; return those that it had, and whether they differ."""
    async with reached.client() as client:
        before = list(await client.get_network_policy(sprite))
        differs = before != list(rules)
        if differs and not check:
            await client.set_network_policy(sprite, rules)
        return before, differs


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


async def ensure_service(
    reached: Endpoint, sprite: str, wanted: ServiceSpec, *, restart: bool, check: bool
) -> tuple[dict[str, object], bool]:
    """Define and start a service if it is not as wanted.

    Returns:
        What was there before ({}: nothing, or nobody looked), and whether it was (or would be) put.
    """
    async with reached.client() as client:
        # What is started anew in any case need not be looked at: a ship is built by one call less.
        found = None if restart and not check else await client.get_service(sprite, wanted.name)
        if not restart and not service_differs(found, wanted):
            return found or {}, False
        if not check:
            await client.put_service(sprite, wanted.name, wanted.cmd, wanted.args, cwd=wanted.cwd)
        return found or {}, True


def service_text(found: Mapping[str, object]) -> str:
    """Return a service as the lines of a diff; "" if there is none."""
    shown = {name: found[name] for name in ("cmd", "args", "dir", "state") if name in found}
    return json.dumps(shown, indent=2) + "\n" if shown else ""


async def forget_service(reached: Endpoint, sprite: str, name: str, *, check: bool) -> bool:
    """Stop and remove a service; return whether there was one."""
    async with reached.client() as client:
        if check:
            return await client.get_service(sprite, name) is not None
        return await client.delete_service(sprite, name)
