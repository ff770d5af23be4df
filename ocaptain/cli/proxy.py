"""``proxy``: standard input and output joined to a TCP port of a ship, as ssh's ``ProxyCommand`` wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import threading
from typing import TYPE_CHECKING

from ocaptain.captain.ssh import argv, way_of
from ocaptain.cli.views import find
from ocaptain.config import load_settings
from ocaptain.errors import Interrupted, OcaptainError, UsageError
from ocaptain.ledger import overview
from ocaptain.provider import choose, endpoint
from ocaptain.sprites import NotFound
from ocaptain.voyage.home import Home

if TYPE_CHECKING:
    from ocaptain.captain.ssh import Way
    from ocaptain.config import ProviderName
    from ocaptain.provider import Endpoint
    from ocaptain.sprites import Tunnel

CHUNK = 64 * 1024
LINGER_SECONDS = 2.0  # for what the other side still says when our input has ended


def run_proxy(ship: str, port: int, *, provider: ProviderName | None) -> None:
    """Carry bytes both ways until either side ends.

    Args:
        ship: a sprite's whole name, or a ship (``ship-0``) of the one voyage that sails.
        port: of the ship.
        provider: where the sprite is; by default where its voyage sails, else as configured.

    Raises:
        OcaptainError: the ship or the port cannot be reached.
    """
    if (way := host_of(ship)) is not None:  # ssh is better at being ssh
        command = argv(way, ["-W", f"127.0.0.1:{port}"], [])
        os.execvp(command[0], command)  # noqa: S606 - an argv, no shell
    sprite, reached = resolve(ship, provider)
    try:
        asyncio.run(_join(reached, sprite, port))
    except asyncio.CancelledError:
        raise Interrupted("the connection was ended") from None


def host_of(ship: str) -> Way | None:
    """Return the way to a ship that is a host of the one voyage that sails; None if it is something else."""
    active = Home(load_settings().voyages).active()
    if len(active) != 1:
        return None
    with active[0].ledger() as ledger:
        found = [one for one in ledger.ships() if ship in {one.id, one.sprite} and one.way]
    return way_of(found[0]) if found else None


def resolve(ship: str, provider: ProviderName | None) -> tuple[str, Endpoint]:
    """Return the sprite that is meant and how to reach its service.

    Raises:
        UsageError: no ship of that name sails.
        OcaptainError: drydock does not run.
    """
    settings = load_settings()
    sprite = ship
    of_voyage = re.fullmatch(r"(?:(voyage-[0-9a-f]{12})-)?ship-[0-9]+", ship)
    if of_voyage:
        with find(of_voyage[1]).ledger() as ledger:
            seen = overview(ledger)
        there = {name: str(one["sprite"]) for one in seen.ships for name in (one["id"], one["sprite"])}
        if ship not in there:
            raise UsageError(f"{seen.voyage} has no ship {ship!r}; it has {', '.join(sorted(set(there.values())))}")
        sprite, provider = there[ship], provider or choose(settings, seen.provider)[0]
    reached = endpoint(provider or choose(settings, None)[0], settings)
    if reached is None:
        raise OcaptainError("drydock does not run, so its ships are gone")
    return sprite, reached


async def _join(reached: Endpoint, sprite: str, port: int) -> None:
    async with reached.client() as client:
        try:
            tunnel = await client.proxy(sprite, port)
        except NotFound as error:
            raise OcaptainError(f"there is no sprite {sprite}") from error
        sending = asyncio.create_task(_send(tunnel))
        receiving = asyncio.create_task(_receive(tunnel))
        try:
            done, _ = await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
            if sending in done and receiving not in done:
                # There is no half-close: what the other side still says must come before we end it.
                await asyncio.wait([receiving], timeout=LINGER_SECONDS)
            for task in done:
                task.result()
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)
            await tunnel.close()


async def _send(tunnel: Tunnel) -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue(4)
    # Standard input may be anything and may never end: nobody waits for this thread.
    threading.Thread(target=_read_all, args=(asyncio.get_running_loop(), pieces), daemon=True).start()
    while data := await pieces.get():
        await tunnel.send(data)


def _read_all(loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[bytes]) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # the loop has ended
        data = b"-"
        while data:
            data = os.read(sys.stdin.fileno(), CHUNK)
            asyncio.run_coroutine_threadsafe(pieces.put(data), loop).result()


async def _receive(tunnel: Tunnel) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever started us has gone
        async for data in tunnel:
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
