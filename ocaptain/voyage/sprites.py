"""The work of the actions ``sprite``, ``sprite_service`` and ``sprite_policy``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain.provider import explaining_errors
from ocaptain.sprites import SPRITE_LIMIT_CODE, NotFound, RateLimited, SpritesError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from ocaptain.provider import Endpoint
    from ocaptain.sprites import Checkpoint, SpritesClient

MAX_CONCURRENT = 32


@dataclass(frozen=True)
class SpriteChange:
    """The result of a call for several sprites.

    Attributes:
        present: names of sprites that exist now.
        changed: names of sprites that this call created, destroyed or changed (would, in check mode).
        failed: names of the others, with the reason.
    """

    present: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


async def _run_all(names: Sequence[str], work: Sequence[Awaitable[bool]]) -> tuple[dict[str, bool], dict[str, str]]:
    gate = asyncio.Semaphore(MAX_CONCURRENT)

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
    reached: Endpoint,
    names: Sequence[str],
    labels: Sequence[str],
    *,
    spare: Sequence[str] = (),
    host_ports: Sequence[int] = (),
    check: bool,
) -> SpriteChange:
    """Create the sprites that do not exist, in parallel.

    The list is read first: so an older sprite never counts as new, even if answers get lost, and a
    second run costs one call.

    Args:
        reached: the provider.
        names: names of the sprites.
        labels: labels for new ones.
        spare: those of ``names`` to give up for the others if the account's limit is too low for all.
        host_ports: ports of this machine that are opened to all of them, if the provider is drydock.
        check: create nothing.

    Raises:
        SpritesError: the list cannot be read.
    """
    async with reached.client() as client:
        prefix = os.path.commonprefix(list(names))  # noqa: RUF071 - of names, not of paths
        existing = {sprite.name for sprite in await client.list(prefix)}
        missing = [name for name in names if name not in existing]

        no_room: set[str] = set()

        async def create(name: str) -> bool:
            try:
                with explaining_errors(reached):
                    return (await client.create(name, labels=labels))[1]
            except RateLimited as error:
                if error.code == SPRITE_LIMIT_CODE:
                    no_room.add(name)
                raise

        done, failed = ({}, {}) if check else await _run_all(missing, [create(name) for name in missing])
        made = [name for name in spare if done.get(name)]
        crowded_out = [name for name in missing if name in no_room and name not in spare]
        for given_up, wanted in zip(made, crowded_out, strict=False):  # as many as both have
            await client.destroy(given_up)
            failed[given_up] = f"the account has no room for it beside {wanted}"
            del done[given_up], failed[wanted]
            again, refused = await _run_all([wanted], [create(wanted)])
            done, failed = {**done, **again}, {**failed, **refused}
        if host_ports and reached.provider == "drydock" and not check:
            there = [name for name in names if name in existing or name in done]
            _, closed = await _run_all(there, [_open_ports(client, name, host_ports) for name in there])
            failed |= closed
            existing -= closed.keys()
            done = {name: was_made for name, was_made in done.items() if name not in closed}
    changed = missing if check else [name for name in missing if done.get(name)]
    return SpriteChange([name for name in names if name in existing or name in done], changed, failed)


async def _open_ports(client: SpritesClient, name: str, ports: Sequence[int]) -> bool:
    with contextlib.suppress(NotFound):  # a drydock of an earlier version, whose ships share our network
        await client.set_host_ports(name, ports)
    return True


async def make_absent(reached: Endpoint, names: Sequence[str], *, check: bool) -> SpriteChange:
    """Destroy the sprites that exist, in parallel."""
    async with reached.client() as client:

        async def destroy(name: str) -> bool:
            return await _exists(client, name) if check else await client.destroy(name)

        done, failed = await _run_all(names, [destroy(name) for name in names])
    changed = [name for name in names if done.get(name)]
    return SpriteChange([name for name in changed if check], changed, failed)


async def make_checkpointed(reached: Endpoint, names: Sequence[str], checkpoint: str, *, check: bool) -> SpriteChange:
    """Checkpoint the sprites, in parallel; skip those that have a checkpoint of that name.

    In check mode a sprite that does not exist would be made, and changed.
    """
    async with reached.client() as client:

        async def copy(name: str) -> bool:
            if find_checkpoint(await _list_checkpoints(client, name, check=check), checkpoint):
                return False
            if not check:
                await client.create_checkpoint(name, checkpoint)
            return True

        done, failed = await _run_all(names, [copy(name) for name in names])
    return SpriteChange(list(done), [name for name in names if done.get(name)], failed)


async def make_restored(reached: Endpoint, names: Sequence[str], checkpoint: str, *, check: bool) -> SpriteChange:
    """Restore the sprites' disks from a checkpoint, in parallel; always counts as a change.

    In check mode also from a checkpoint that does not exist: a task before may be to make it.
    """
    async with reached.client() as client:

        async def restore(name: str) -> bool:
            if check:
                return True
            found = find_checkpoint(await client.list_checkpoints(name), checkpoint)
            if found is None:
                raise NoCheckpoint(f"{name} has no checkpoint {checkpoint!r}")
            await client.restore_checkpoint(name, found)
            return True

        done, failed = await _run_all(names, [restore(name) for name in names])
    return SpriteChange(list(done), list(done), failed)


async def _list_checkpoints(client: SpritesClient, name: str, *, check: bool) -> Sequence[Checkpoint]:
    try:
        return await client.list_checkpoints(name)
    except NotFound:
        if not check:
            raise
        return ()


class NoCheckpoint(SpritesError):
    """A sprite has no checkpoint of that name or id."""


def find_checkpoint(listed: Sequence[Checkpoint], name: str) -> str | None:
    """Return the id of the newest checkpoint with the comment ``name``, else of the one with that id."""
    by_name = next((one.id for one in listed if one.comment == name), None)
    return by_name or next((one.id for one in listed if one.id == name), None)


def policy_rules(allow: Sequence[str], deny: Sequence[str], *, defaults: bool) -> list[dict[str, object]]:
    """Return the rules of an egress policy.

    With ``allow`` or ``defaults`` the service denies every domain that matches no rule; with neither
    only the domains of ``deny`` are denied.
    """
    rules: list[dict[str, object]] = [{"include": "defaults"}] if defaults else []
    rules += [{"domain": domain, "action": "allow"} for domain in allow]
    if deny and not rules:
        rules.append({"domain": "*", "action": "allow"})
    rules += [
        {"domain": domain, "action": "deny"} for domain in deny
    ]  # of two rules for the same domain the later one wins
    return rules


async def ensure_policy(
    reached: Endpoint | None, sprite: str, rules: Sequence[dict[str, object]], *, check: bool
) -> tuple[list[dict[str, object]], bool]:
    """Set a sprite's egress rules; return the former ones, and whether they differ.

    Args:
        reached: the provider; None only in check mode: it has no sprite yet.
        sprite: name; in check mode it need not exist, and would get its rules.
        rules: the rules.
        check: change nothing.
    """
    if reached is None:
        return [], True
    async with reached.client() as client:
        try:
            before = list(await client.get_network_policy(sprite))
        except NotFound:
            if not check:
                raise
            return [], True
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
    """The desired definition of a service."""

    name: str
    cmd: str
    args: tuple[str, ...]
    cwd: str


def service_differs(found: dict[str, object] | None, spec: ServiceSpec) -> bool:
    """Whether a service must be defined again: it does not exist, does not run, or has another definition."""
    if found is None:
        return True
    state = found.get("state")
    status = state.get("status") if isinstance(state, dict) else None
    is_same = (found.get("cmd"), found.get("args") or [], found.get("dir")) == (
        spec.cmd,
        list(spec.args),
        spec.cwd,
    )
    return not is_same or status not in {"running", "starting"}


async def ensure_service(
    reached: Endpoint | None, sprite: str, spec: ServiceSpec, *, restart: bool, check: bool
) -> tuple[dict[str, object], bool]:
    """Define and start a service if it differs from ``spec``.

    Args:
        reached: the provider; None only in check mode: it has no sprite yet.
        sprite: name; in check mode it need not exist.
        spec: what is to run.
        restart: start it anew even if it is as described.
        check: change nothing.

    Returns:
        The former service ({}: none, or not read), and whether it was (or would be) defined.
    """
    if reached is None:
        return {}, True
    async with reached.client() as client:
        # A service that is restarted anyway need not be read: that saves a call for each ship.
        found = None if restart and not check else await client.get_service(sprite, spec.name)
        if not restart and not service_differs(found, spec):
            return found or {}, False
        if not check:
            await client.put_service(sprite, spec.name, spec.cmd, spec.args, cwd=spec.cwd)
        return found or {}, True


def format_service(found: Mapping[str, object]) -> str:
    """Format a service for a diff; "" if there is none."""
    shown = {name: found[name] for name in ("cmd", "args", "dir", "state") if name in found}
    return json.dumps(shown, indent=2) + "\n" if shown else ""


async def remove_service(reached: Endpoint | None, sprite: str, name: str, *, check: bool) -> bool:
    """Stop and remove a service; return whether it existed.

    Args:
        reached: the provider; None only in check mode: it has no sprite yet.
        sprite: name; in check mode it need not exist.
        name: of the service.
        check: change nothing.
    """
    if reached is None:
        return False
    async with reached.client() as client:
        if check:
            return await client.get_service(sprite, name) is not None
        return await client.delete_service(sprite, name)
