"""``drydock start|status|stop``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import httpx

from ocaptain.cli import render
from ocaptain.drydock import server
from ocaptain.errors import OcaptainError
from ocaptain.sprites import SpritesClient
from ocaptain.voyage.home import LABEL

if TYPE_CHECKING:
    from ocaptain.sprites import Sprite


def start(port: int) -> None:
    """Start drydock and print where it is."""
    render.print_json(asdict(server.start(port=port)))


def _sprites(record: server.ServerRecord) -> list[Sprite]:
    async def ask() -> list[Sprite]:
        async with SpritesClient(record.url, record.token) as client:
            return await client.list()

    return asyncio.run(ask())


def status() -> int:
    """Print whether it serves, where, and its calls by sprite and endpoint; return the exit code."""
    record = server.running()
    if record is None:
        render.print_json({"running": False})
        return 1
    headers = {"Authorization": f"Bearer {record.token}"}
    metrics = httpx.get(f"{record.url}/drydock/metrics", headers=headers, trust_env=False, timeout=30).json()
    render.print_json({"running": True, **asdict(record), **metrics})
    return 0


def stop(*, force: bool) -> int:
    """Stop it, unless a voyage's ships are on it; return the exit code."""
    record = server.running()
    if record is not None and not force:
        ships = [sprite.name for sprite in _sprites(record) if LABEL in sprite.labels]
        if ships:
            remedy = "sink their voyages first (`ocaptain sink --all`), or stop with --force and lose their work:"
            raise OcaptainError(f"{len(ships)} ships are on drydock; {remedy}", ships)
    render.print_json({"stopped": server.stop()})
    return 0
