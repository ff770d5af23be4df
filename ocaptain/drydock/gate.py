"""A gate that commands pass on their way into a ship: closed while the ship stands still.

::

    spawn     wait until it is open ── inside +1 ── the command is started ── inside -1
    freeze    closed from now on ── wait until nobody is inside ── stop all processes
    thaw      continue all processes ── open, if it was closed once only

So nothing starts in a ship between the moment in which its processes are counted and that in which they go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Gate:
    """An open gate."""

    def __init__(self) -> None:
        self._closed = 0  # times: a ship that stands still may be copied
        self._inside = 0
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Wait until it is open; then be inside for as long as the block lasts."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            async with self._changed:
                self._changed.notify_all()

    async def close(self) -> None:
        """Close it once more, and wait until nobody is inside."""
        self._closed += 1
        async with self._changed:
            await self._changed.wait_for(lambda: not self._inside)

    async def open(self, *, wholly: bool = False) -> None:
        """Undo one :meth:`close`, or all of them."""
        self._closed = 0 if wholly else max(0, self._closed - 1)
        async with self._changed:
            self._changed.notify_all()
