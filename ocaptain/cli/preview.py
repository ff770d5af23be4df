"""``open``: a port of a ship on this machine, for a browser.

::

    browser ──http://<ship>.localhost:PORT──> 127.0.0.1, a free port ──a tunnel each──> the ship's port

Names below ``localhost`` are this machine (RFC 6761, section 6.3; browsers ask no name server for them), and each ship
has its own, so that cookies and storage of one are not sent to another, or to what else this machine serves.
Connections are copied as they are. A ship that is asleep is not reached: a page that calls its server again and again
would wake it, and keep it awake.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ocaptain.cli import render
from ocaptain.cli.shell import choose_ship
from ocaptain.cli.tunnel import CHUNK, carry_both_ways
from ocaptain.cli.views import find_voyage
from ocaptain.config import load_settings
from ocaptain.errors import Interrupted, OcaptainError, UsageError
from ocaptain.names import HOSTS
from ocaptain.process import is_captain_running
from ocaptain.provider import choose_provider, endpoint
from ocaptain.query import NOT_SAILING, Query
from ocaptain.sprites import NotFound, SpritesError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocaptain.query import ShipRow
    from ocaptain.sprites import SpritesClient, Tunnel

ADDRESS = "127.0.0.1"
LOOK_SECONDS = 1.0  # between two looks at how the ship stands
MAX_CONNECTIONS = 64  # at the same time; a browser has six for a page


def why_closed(ship: ShipRow | None, *, has_captain: bool) -> str | None:
    """Return why a ship's ports are not served, None if they are.

    Args:
        ship: as the ledger has it, None if it is not there any more.
        has_captain: whether a captain is in command; without one the ledger does not say when a ship falls asleep.
    """
    if ship is None:
        return "the ship was replaced; see `ocaptain status`"
    if ship.state == "asleep":
        return f"{ship.id} is asleep, and a preview would wake it; it wakes with its next task"
    if ship.state in {*NOT_SAILING, "provisioning"}:
        return f"{ship.id} is {'being built' if ship.state == 'provisioning' else ship.state}; see `ocaptain status`"
    if not has_captain:
        return f"the voyage does not sail, so {ship.id} falls asleep, and a preview would wake it"
    return None


def run_open(voyage: str | None, named: str | None, port: int) -> None:
    """Serve a port of a ship on this machine until it is interrupted.

    Args:
        voyage: id of the ship's voyage; None = the only active one.
        named: the ship; None = the voyage's only one, or the only one at work.
        port: TCP port on the ship.

    Raises:
        UsageError: there is no such ship, it is asleep, or it is a host.
        OcaptainError: nothing listens on the port, the ship cannot be reached, or it went to sleep or was lost.
        Interrupted: the user ended it.
    """
    directory = find_voyage(voyage).path
    query = Query(directory)
    seen = query.overview()
    if seen.state == "sunk":
        raise UsageError(f"{seen.voyage} is sunk: it has no ships; get what landed: ocaptain clone {seen.voyage}")
    sprite = choose_ship(seen, named, query.subjects(), command=f"ocaptain open {{}} {port}")

    def find() -> ShipRow | None:
        return next((one for one in query.ships() if one.sprite == sprite), None)

    def look() -> str | None:
        return why_closed(find(), has_captain=is_captain_running(directory))

    now = find()
    if seen.provider == HOSTS:
        there = f"ssh -L {port}:127.0.0.1:{port} {sprite}"
        raise UsageError(f"{named or sprite} is a host of yours, which ssh reaches by itself: {there}")
    if why := look():
        raise UsageError(why)
    settings = load_settings()
    reached = endpoint(choose_provider(settings, seen.provider)[0], settings)
    if reached is None or now is None:
        raise OcaptainError("drydock is not running, so its ships are gone; `ocaptain sink` ends the voyage")
    try:
        asyncio.run(_Preview(now, port, look).serve(reached.client()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise Interrupted(f"interrupted: port {port} of {now.id} is not served here any more") from None


class _Preview:
    def __init__(self, ship: ShipRow, port: int, look: Callable[[], str | None]) -> None:
        self._ship = ship
        self._port = port
        self._look = look
        self._connections: set[asyncio.Task[None]] = set()
        self._said = ""

    async def serve(self, made: SpritesClient) -> None:
        async with made as client:
            try:
                await (await client.proxy(self._ship.sprite, self._port)).close()
            except NotFound as error:
                raise OcaptainError(f"{self._ship.id} does not exist any more; see `ocaptain status`") from error
            server = await asyncio.start_server(lambda *ends: self._accept(client, *ends), ADDRESS, 0)
            try:
                url = f"http://{self._ship.id}.localhost:{server.sockets[0].getsockname()[1]}"
                render.out().print(url, highlight=False, soft_wrap=True)
                render.err().print(
                    f"what is shown there was written by the agent on {self._ship.id}: give it no password and no"
                    " token; Ctrl-C ends it"
                )
                while not (why := await asyncio.to_thread(self._look)):  # noqa: ASYNC110 - in a file
                    await asyncio.sleep(LOOK_SECONDS)
                raise OcaptainError(f"the preview has ended: {why}")
            finally:
                server.close()
                for one in tuple(self._connections):
                    one.cancel()
                await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, client: SpritesClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._connect(client, reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connect(self, client: SpritesClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await asyncio.to_thread(self._look):
                return  # it ends at the next look
            tunnel = await client.proxy(self._ship.sprite, self._port)
            try:
                await carry_both_ways(_send(tunnel, reader), _receive(tunnel, writer))
            finally:
                await tunnel.close()
        except SpritesError as error:
            self._say(str(error))
        except (OSError, OcaptainError):
            pass  # the browser has gone, or the ledger is being written: it asks again
        finally:
            writer.close()

    def _say(self, words: str) -> None:
        """Say why a connection failed; a page that tries again and again is told of once."""
        if words != self._said:
            self._said = words
            render.err().print(f"not reached: {words}")


async def _send(tunnel: Tunnel, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(CHUNK):
        await tunnel.send(data)


async def _receive(tunnel: Tunnel, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # the browser has closed its end
        async for data in tunnel:
            writer.write(data)
            await writer.drain()
