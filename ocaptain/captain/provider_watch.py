"""Whether the provider answers. Absent is not gone: while it does not, nothing ends and nobody is blamed.

A drydock that was killed is started again by whoever needs it: its ships' disks are there.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOOK_SECONDS = 5.0
ASK_SECONDS = 20.0
log = logging.getLogger("ocaptain.captain")


class ProviderWatch:
    """Asks the provider while a ship cannot be reached.

    Args:
        ask: asks it anything; raises OcaptainError if it does not answer.

    Attributes:
        problem: why it does not answer, None while it is not known not to.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        self.problem: str | None = None
        self._ask = ask
        self._looked: float | None = None

    async def look(self, *, needed: bool) -> str | None:
        """Return why the provider does not answer; ask it, if some ship cannot be reached, or it did not answer."""
        now = asyncio.get_running_loop().time()
        if not needed and self.problem is None:
            return None
        if self._looked is None or now - self._looked >= LOOK_SECONDS:
            self._looked = now
            found = await self._look_once()
            if (found is None) != (self.problem is None):
                log.warning("%s", found or "the provider answers again")
            self.problem = found
        return self.problem

    async def _look_once(self) -> str | None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._ask()
        except TimeoutError:
            return f"the provider does not answer in {ASK_SECONDS:g} s"
        except OcaptainError as error:
            return f"the provider does not answer: {error.message}"
        return None
