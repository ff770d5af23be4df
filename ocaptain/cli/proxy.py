"""``proxy``: standard input and output joined to a TCP port of a ship, as ssh's ``ProxyCommand`` wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from ocaptain.captain.transport.target import read_target, ssh_argv
from ocaptain.cli.shell import choose_ship
from ocaptain.cli.views import find
from ocaptain.config import HOSTS, load_settings
from ocaptain.errors import Interrupted, OcaptainError
from ocaptain.names import SHIP_ID
from ocaptain.provider import choose_provider, endpoint
from ocaptain.query import Query
from ocaptain.sprites import NotFound
from ocaptain.voyage.home import Home

if TYPE_CHECKING:
    from ocaptain.names import ProviderName
    from ocaptain.provider import Endpoint
    from ocaptain.sprites import Tunnel

CHUNK = 64 * 1024
LINGER_SECONDS = 2.0  # for what the other side still says when our input has ended


def run_proxy(voyage: str | None, ship: str | None, port: int, *, provider: ProviderName | None) -> None:
    """Carry bytes both ways until either side ends.

    Args:
        voyage: whose ship it is; None = the one that sails.
        ship: one of its ships (``ship-0``), or any sprite's whole name; None = the voyage's only one.
        port: of the ship.
        provider: where the sprite is; by default where its voyage sails, else as configured.

    Raises:
        UsageError: there is no such ship.
        OcaptainError: the ship or the port cannot be reached.
    """
    settings = load_settings()
    sprite = ship
    if voyage or ship is None or SHIP_ID.fullmatch(ship) or _is_host(ship):
        query = Query(find(voyage).path)
        seen = query.overview()
        sprite = ship if any(ship == one["sprite"] for one in seen.ships) else choose_ship(seen, ship)
        if seen.provider == HOSTS:  # ssh is better at being ssh
            way = read_target(next(one for one in query.ships() if one.sprite == sprite))
            command = ssh_argv(way, ["-W", f"127.0.0.1:{port}"], [])
            os.execvp(command[0], command)  # noqa: S606 - an argv, no shell
        provider = provider or choose_provider(settings, seen.provider)[0]
    reached = endpoint(provider or choose_provider(settings, None)[0], settings)
    if reached is None:
        raise OcaptainError("drydock is not running, so its ships are gone; `ocaptain sink` ends the voyage")
    try:
        asyncio.run(_relay(reached, str(sprite), port))
    except asyncio.CancelledError:
        raise Interrupted("interrupted; the connection is closed") from None


def _is_host(name: str) -> bool:
    """Whether it is a host of the one voyage that sails."""
    active = Home(load_settings().voyages).active()
    return len(active) == 1 and any(one.sprite == name and one.way for one in Query(active[0].path).ships())


async def _relay(reached: Endpoint, sprite: str, port: int) -> None:
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
