"""Carry bytes both ways between a tunnel to a ship's port and something of this machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

CHUNK = 64 * 1024
LINGER_SECONDS = 2.0  # wait so long for data of the ship after the other side has sent all


async def carry_both_ways(send: Coroutine[Any, Any, None], receive: Coroutine[Any, Any, None]) -> None:
    """Run both directions until one of them ends; what the ship still sends is waited for a moment.

    Args:
        send: towards the ship.
        receive: from it.

    Raises:
        SpritesError, OSError: as the direction that ended first raised it.
    """
    sending, receiving = asyncio.create_task(send), asyncio.create_task(receive)
    try:
        done, _ = await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
        if sending in done and receiving not in done:
            # A tunnel has no half-close: receive what the ship still sends before closing it.
            await asyncio.wait([receiving], timeout=LINGER_SECONDS)
        for task in done:
            task.result()
    finally:
        sending.cancel()
        receiving.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
