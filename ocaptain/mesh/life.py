"""A ship's way into the tailnet and out of it, as the captain sees it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from ocaptain.mesh.api import MeshError, Refused
from ocaptain.mesh.record import MeshRecord, Records
from ocaptain.names import sprite_of_device

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from pathlib import Path

    from ocaptain.mesh.api import Device, Key, TailscaleClient
    from ocaptain.mesh.choice import Tailnet

AT_ONCE = 8


async def check_access(tailnet: Tailnet) -> int:
    """Make sure that keys and devices can be read; return how many devices there are.

    Raises:
        MeshError: with what is wrong and what to do.
    """
    async with tailnet.client() as client:
        await client.keys()
        return len(await client.devices())


async def mint(tailnet: Tailnet, directory: Path, ship: str, sprite: str) -> Key:
    """Make a key by which one ship joins, noted first in the voyage's records.

    Raises:
        MeshError: there is none; if one may have been made all the same, a sink looks for it.
    """
    records = Records(directory)
    left = records.get(ship, sprite)
    records.put(replace(left, unsure=True))
    async with tailnet.client() as client:
        try:
            key = await client.mint(directory.name, [tailnet.tag])
        except MeshError as error:
            if not (left.unsure or error.sent or (isinstance(error, Refused) and error.status >= 500)):
                records.put(left)
            raise
    records.put(left.with_key(key.id))
    return key


async def joined(tailnet: Tailnet, directory: Path, ship: str, sprite: str, *, key: str, node: str) -> None:
    """Note a ship's device and delete the key that it joined by, or did not join by.

    Args:
        tailnet: that it joined.
        directory: the voyage's.
        ship: id.
        sprite: its name on the tailnet.
        key: id of the key.
        node: id of the device; "" if it did not join.

    Raises:
        MeshError: the key could not be deleted; a sink will.
    """
    records = Records(directory)
    left = records.get(ship, sprite).with_node(node)
    records.put(left)  # before the call: what a ship joined by is worth nothing, its device is
    async with tailnet.client() as client:
        await client.delete_key(key)
    records.put(left.without_key(key))


def devices_of(devices: Sequence[Device], records: Sequence[MeshRecord], tag: str) -> dict[str, list[Device]]:
    """Return the devices of a voyage's ships, by ship.

    A device is a ship's if it carries the name of the ship's sprite, with a number behind it or not, or
    if it is the one that the ship named. Only ephemeral machines with our tag count: what a ship says
    of itself must not take a person's machine, nor another voyage's ship, out of the tailnet.
    """
    found: dict[str, list[Device]] = {left.ship: [] for left in records}
    by_sprite = {left.sprite: left.ship for left in records}
    by_node = {node: left.ship for left in records for node in left.nodes}
    for device in devices:
        if not device.node_id or not device.is_ephemeral or tag not in device.tags:
            continue
        named = {sprite for name in (device.hostname, device.name.split(".")[0]) if (sprite := sprite_of_device(name))}
        ours = {by_sprite[name] for name in named if name in by_sprite}
        if not named and device.node_id in by_node:
            ours = {by_node[device.node_id]}
        for ship in ours:
            found[ship].append(device)
    return found


async def remove_devices(tailnet: Tailnet, directory: Path, *, keep: Collection[str] = ()) -> list[str]:
    """Delete the devices and keys of a voyage whose ships are gone; return what is left, a line each.

    A ship of which nothing is left is forgotten.

    Args:
        tailnet: that they joined.
        directory: the voyage's.
        keep: sprites that are there.
    """
    records = Records(directory)
    known = [left for left in records.all() if left.sprite not in keep]
    if not known:
        return []
    async with tailnet.client() as client:
        try:
            listed = devices_of(await client.devices(), known, tailnet.tag)
            lost = await _lost_keys(client, directory.name) if any(left.unsure for left in known) else []
        except MeshError as error:
            return [f"{left.ship}: {error.message}" for left in known]
        gate = asyncio.Semaphore(AT_ONCE)
        # A key that nobody knows the ship of goes with the first that is unsure.
        owner = next((left.ship for left in known if left.unsure), None)
        faults = await asyncio.gather(
            *(_take_one(client, gate, left, listed[left.ship], lost if left.ship == owner else []) for left in known)
        )
    for left, found in zip(known, faults, strict=True):
        if not found:
            records.drop(left.ship)
    return [line for found in faults for line in found]


async def _take_one(
    client: TailscaleClient, gate: asyncio.Semaphore, left: MeshRecord, devices: Sequence[Device], lost: Sequence[str]
) -> list[str]:
    work: list[tuple[str, Callable[[str], Awaitable[bool]], str]] = [
        *((f"device {device.node_id}", client.delete_device, device.node_id) for device in devices),
        *((f"key {key}", client.delete_key, key) for key in dict.fromkeys((*left.keys, *lost))),
    ]
    faults = []
    for what, delete, identity in work:
        async with gate:
            try:
                await delete(identity)
            except MeshError as error:
                faults.append(f"{left.ship}: {what}: {error.message}")
    return faults


async def _lost_keys(client: TailscaleClient, voyage: str) -> list[str]:
    """Return the ids of keys that were made for a voyage, by their description.

    The list of the service may hold ids alone; then each key is asked for.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def described(key: Key) -> Key | None:
        async with gate:
            return key if key.description else await client.key(key.id)

    listed = await client.keys()
    found = await asyncio.gather(*(described(key) for key in listed))
    return [key.id for key in found if key and key.description == voyage]
