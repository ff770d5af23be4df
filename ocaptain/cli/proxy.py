"""``proxy``: connect standard input and output to a TCP port of a ship, for ssh's ``ProxyCommand``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from ocaptain.captain.transport.target import read_target, ssh_argv
from ocaptain.cli.shell import choose_ship
from ocaptain.cli.streams import RawOutput, ReaderGone
from ocaptain.cli.tunnel import CHUNK, carry_both_ways
from ocaptain.cli.views import find_voyage
from ocaptain.config import load_settings
from ocaptain.errors import Interrupted, OcaptainError
from ocaptain.names import HOSTS, SHIP_ID
from ocaptain.provider import choose_provider, endpoint
from ocaptain.query import Query
from ocaptain.sprites import NotFound
from ocaptain.voyage.home import Home

if TYPE_CHECKING:
    from ocaptain.names import ProviderName
    from ocaptain.provider import Endpoint
    from ocaptain.sprites import Tunnel


def run_proxy(voyage: str | None, ship: str | None, port: int, *, provider: ProviderName | None) -> None:
    """Copy bytes both ways until either side ends.

    Args:
        voyage: id of the ship's voyage; None = the only active one.
        ship: a ship (``ship-0``) or the full name of a sprite; None = the voyage's only ship.
        port: TCP port on the ship.
        provider: the sprite's provider; None = that of its voyage, else the configured one.

    Raises:
        UsageError: there is no such ship.
        OcaptainError: the ship or the port cannot be reached.
    """
    settings = load_settings()
    sprite = ship
    if voyage or ship is None or SHIP_ID.fullmatch(ship) or _is_host_of_active_voyage(ship):
        query = Query(find_voyage(voyage).path)
        seen = query.overview()
        is_sprite = any(ship == one["sprite"] for one in seen.ships)
        sprite = ship if is_sprite else choose_ship(seen, ship, command="ocaptain proxy {} PORT")
        if seen.provider == HOSTS:  # ssh forwards by itself
            target = read_target(next(one for one in query.ships() if one.sprite == sprite))
            command = ssh_argv(target, ["-W", f"127.0.0.1:{port}"], [])
            os.execvp(command[0], command)  # noqa: S606 - an argv, no shell
        provider = provider or choose_provider(settings, seen.provider)[0]
    reached = endpoint(provider or choose_provider(settings, None)[0], settings)
    if reached is None:
        raise OcaptainError("drydock is not running, so its ships are gone; `ocaptain sink` ends the voyage")
    try:
        asyncio.run(_relay(reached, str(sprite), port))
    except asyncio.CancelledError:
        raise Interrupted("interrupted; the connection is closed") from None


def _is_host_of_active_voyage(name: str) -> bool:
    """Whether ``name`` is a host of the only active voyage."""
    active = Home(load_settings().voyages).active_voyages()
    return len(active) == 1 and any(one.sprite == name and one.way for one in Query(active[0].path).ships())


async def _relay(reached: Endpoint, sprite: str, port: int) -> None:
    async with reached.client() as client:
        try:
            tunnel = await client.proxy(sprite, port)
        except NotFound as error:
            raise OcaptainError(f"there is no sprite {sprite}") from error
        try:
            await carry_both_ways(_send_stdin(tunnel), _write_stdout(tunnel))
        finally:
            await tunnel.close()


async def _send_stdin(tunnel: Tunnel) -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue(4)
    # Reading standard input may block for ever, so this thread is never joined.
    threading.Thread(target=_read_stdin, args=(asyncio.get_running_loop(), pieces), daemon=True).start()
    while data := await pieces.get():
        await tunnel.send(data)


def _read_stdin(loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[bytes]) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # the loop has ended
        data = b"-"
        while data:
            data = os.read(sys.stdin.fileno(), CHUNK)
            asyncio.run_coroutine_threadsafe(pieces.put(data), loop).result()


async def _write_stdout(tunnel: Tunnel) -> None:
    output = RawOutput(1, required=True)
    with contextlib.suppress(ReaderGone):  # the process that started us has gone
        async for data in tunnel:
            view = memoryview(data)
            while view:
                view = view[output.write(view) :]
