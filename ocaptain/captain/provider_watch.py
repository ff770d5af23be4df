"""Check whether the provider answers. While it does not, no ship counts as gone and none is to blame.

A drydock that was killed is restarted by the next caller that needs it: its ships' disks still exist.
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
        ask: makes any call to it; raises OcaptainError if it does not answer.

    Attributes:
        problem: why it does not answer; None while it answers, as far as is known.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        self.problem: str | None = None
        self._ask = ask
        self._asked: float | None = None
        self._answer: asyncio.Task[str | None] | None = None

    def check(self, *, needed: bool) -> str | None:
        """Return why the provider does not answer, None if it does, as far as is known now.

        It is asked in the background, so this never waits.

        Args:
            needed: whether to ask it, since some ship cannot be reached; it is also asked if it did not answer before.

        Raises:
            Exception: what ``ask`` raised beside OcaptainError.
        """
        self._take_answer()
        now = asyncio.get_running_loop().time()
        is_due = self._asked is None or now - self._asked >= LOOK_SECONDS
        if (needed or self.problem) and is_due and self._answer is None:
            self._asked = now
            self._answer = asyncio.create_task(self._ask_once(), name="provider")
        return self.problem

    async def close(self) -> None:
        """Stop asking."""
        if self._answer:
            self._answer.cancel()
            await asyncio.gather(self._answer, return_exceptions=True)

    def _take_answer(self) -> None:
        if self._answer is None or not self._answer.done():
            return
        answer, self._answer = self._answer, None
        problem = answer.result()
        if (problem is None) != (self.problem is None):
            log.warning("%s", problem or "the provider answers again")
        self.problem = problem

    async def _ask_once(self) -> str | None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._ask()
        except TimeoutError:
            return f"the provider did not answer in {ASK_SECONDS:g} s"
        except OcaptainError as error:
            return f"the provider does not answer: {error.message}"
        return None
