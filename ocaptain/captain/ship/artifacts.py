"""What an attempt left for people, brought here from its ship after its result was judged.

::

    result names artifacts ──expect──> judged, landed ──collect──> artifacts/<task>/     (landing.collect_artifacts)
                                                        └─broken again and again──> given up, and said in an event
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ocaptain.captain import landing
from ocaptain.captain.transport.base import ShipGone, TransportError
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from ocaptain.captain.ship.context import Context
    from ocaptain.captain.transport.base import Transport
    from ocaptain.protocol.messages import Artifacts

MAX_BROKEN_FETCHES = 3


class ArtifactCollector:
    """Fetches the artifacts of one ship's attempts.

    Attributes:
        collected: whether no result is known whose artifacts are still on the ship.
    """

    def __init__(self, context: Context, transport: Transport) -> None:
        self._context = context
        self._transport = transport
        self._broken_fetches = 0
        self.collected = asyncio.Event()
        self.collected.set()

    def expect(self, artifacts: Artifacts | None) -> None:
        """Note that a result has these artifacts, which :meth:`collect` fetches later."""
        if artifacts:
            self.collected.clear()

    async def collect(self, artifacts: Artifacts | None, left: landing.Left) -> None:
        """Fetch what an attempt left, if anything; after some broken tries it is given up, so that the ship goes on.

        Raises:
            TransportError: the ship cannot be reached; it is tried again when it can.
        """
        if not artifacts:
            return
        context = self._context
        try:
            await landing.collect_artifacts(context.artifacts, context.ledger, self._transport, artifacts, left)
        except TransportError as error:
            self._broken_fetches += 1
            is_last = isinstance(error, ShipGone) or self._broken_fetches >= MAX_BROKEN_FETCHES
            if not is_last:
                raise
            why = clean_line(str(error), 300)
            context.ledger.add_event("left out", f"artifacts are lost: {why}", ship=left.ship, task=left.task)
            if isinstance(error, ShipGone):
                self.collected.set()
                raise
        self._broken_fetches = 0
        self.collected.set()
