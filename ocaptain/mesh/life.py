"""The captain's part in a ship's joining and leaving the tailnet."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from ocaptain.mesh.api import MeshError, Refused
from ocaptain.mesh.record import MeshRecord, MeshRecords
from ocaptain.names import sprite_of_device

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from pathlib import Path

    from ocaptain.mesh.api import Device, Key, TailscaleClient
    from ocaptain.mesh.choice import Tailnet

MAX_CONCURRENT = 8


async def count_devices(tailnet: Tailnet) -> int:
    """Count the devices of the tailnet; also make sure that its keys can be read.

    Raises:
        MeshError: with what is wrong and what to do.
    """
    async with tailnet.client() as client:
        await client.keys()
        return len(await client.devices())


async def mint_key(tailnet: Tailnet, directory: Path, ship: str, sprite: str) -> Key:
    """Make a key by which one ship joins; it is recorded first.

    Raises:
        MeshError: no key was returned; if one may have been made nevertheless, a sink looks for it.
    """
    records = MeshRecords(directory)
    record = records.get(ship, sprite)
    records.put(replace(record, unsure=True))
    async with tailnet.client() as client:
        try:
            key = await client.mint(directory.name, [tailnet.tag])
        except MeshError as error:
            if not (record.unsure or error.sent or (isinstance(error, Refused) and error.status >= 500)):
                records.put(record)
            raise
    records.put(record.with_key(key.id))
    return key


async def record_joined(tailnet: Tailnet, directory: Path, ship: str, sprite: str, *, key: str, node: str) -> None:
    """Record a ship's device and delete the key that it used, or did not use.

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
    records = MeshRecords(directory)
    record = records.get(ship, sprite).with_node(node)
    records.put(record)  # before the call: a used key may be lost, the id of its device may not
    async with tailnet.client() as client:
        await client.delete_key(key)
    records.put(record.without_key(key))


def devices_of(devices: Sequence[Device], records: Sequence[MeshRecord], tag: str) -> dict[str, list[Device]]:
    """Return the devices of a voyage's ships, by ship.

    A device is a ship's if it carries the name of the ship's sprite, with a number behind it or not, or
    if it is the one that the ship named. Only ephemeral machines with our tag count: what a ship says
    of itself must not take a person's machine, nor another voyage's ship, out of the tailnet.
    """
    found: dict[str, list[Device]] = {record.ship: [] for record in records}
    by_sprite = {record.sprite: record.ship for record in records}
    by_node = {node: record.ship for record in records for node in record.nodes}
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
    """Delete the devices and keys of gone ships of a voyage; return a line for each that is left.

    The record of a ship of which nothing is left is deleted.

    Args:
        tailnet: that they joined.
        directory: the voyage's.
        keep: sprites that are there.
    """
    records = MeshRecords(directory)
    gone = [record for record in records.all() if record.sprite not in keep]
    if not gone:
        return []
    async with tailnet.client() as client:
        try:
            listed = devices_of(await client.devices(), gone, tailnet.tag)
            lost = await _find_lost_keys(client, directory.name) if any(record.unsure for record in gone) else []
        except MeshError as error:
            return [f"{record.ship}: {error.message}" for record in gone]
        gate = asyncio.Semaphore(MAX_CONCURRENT)
        # Keys of an unknown ship are removed together with the first ship that is unsure.
        owner = next((record.ship for record in gone if record.unsure), None)
        faults = await asyncio.gather(
            *(
                _remove_ship(client, gate, record, listed[record.ship], lost if record.ship == owner else [])
                for record in gone
            )
        )
    for record, found in zip(gone, faults, strict=True):
        if not found:
            records.drop(record.ship)
    return [line for found in faults for line in found]


async def _remove_ship(
    client: TailscaleClient, gate: asyncio.Semaphore, record: MeshRecord, devices: Sequence[Device], lost: Sequence[str]
) -> list[str]:
    work: list[tuple[str, Callable[[str], Awaitable[bool]], str]] = [
        *((f"device {device.node_id}", client.delete_device, device.node_id) for device in devices),
        *((f"key {key}", client.delete_key, key) for key in dict.fromkeys((*record.keys, *lost))),
    ]
    faults = []
    for what, delete, identity in work:
        async with gate:
            try:
                await delete(identity)
            except MeshError as error:
                faults.append(f"{record.ship}: {what}: {error.message}")
    return faults


async def _find_lost_keys(client: TailscaleClient, voyage: str) -> list[str]:
    """Return the ids of keys that were made for a voyage, by their description.

    The list of the service may hold ids alone; then each key is asked for.
    """
    gate = asyncio.Semaphore(MAX_CONCURRENT)

    async def described(key: Key) -> Key | None:
        async with gate:
            return key if key.description else await client.key(key.id)

    listed = await client.keys()
    found = await asyncio.gather(*(described(key) for key in listed))
    return [key.id for key in found if key and key.description == voyage]
