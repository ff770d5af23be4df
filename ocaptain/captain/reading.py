"""Reading what a ship sends: line by line, bounded before anything is made of it, with turns for others between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakSet

from ocaptain.captain.share import Share
from ocaptain.captain.transport.base import ShipFault
from ocaptain.protocol import MAX_SHIP_LINE, LineSplitter, OversizedLine, decode_from_ship

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ocaptain.captain.transport.base import Stream
    from ocaptain.protocol import Message

PIECE = 64 * 1024  # bytes that are cut into lines at once
TURN_SECONDS = 0.005  # of reading, after which others have their turn
MAX_NOISE = 1024 * 1024  # bytes of lines that are no messages
NOW_AND_THEN = 1.0  # seconds


class Reading:
    """The messages of a stream.

    Attributes:
        heard: when bytes came last, on the loop's clock.
        line: bytes of the message that came last.
    """

    _open: ClassVar[WeakSet[Reading]] = WeakSet()

    def __init__(self, stream: Stream) -> None:
        self.heard = asyncio.get_running_loop().time()
        self.line = 0
        self._stream = stream
        self._share = Share(self.heard)
        self._noise = 0
        self._open.add(self)

    def close(self) -> None:
        """Count no more among those that share the loop."""
        self._open.discard(self)

    async def messages(self) -> AsyncIterator[Message]:
        """Yield messages. What is done with each counts for the ship's share of the loop.

        Raises:
            TransportError: the stream broke.
            ShipFault: it sends what no worker sends.
        """
        clock = asyncio.get_running_loop().time
        lines = LineSplitter(MAX_SHIP_LINE)
        async for data in self._stream:
            began = self.heard = clock()
            for at in range(0, len(data), PIECE):
                for line in lines.feed(data[at : at + PIECE]):
                    if (message := self._decode(line)) is not None:
                        yield message
                    if clock() - began > TURN_SECONDS:
                        await asyncio.sleep(self._spend(clock() - began))
                        began = clock()
                if lines.dropped:
                    raise ShipFault(f"it sent a line of more than {MAX_SHIP_LINE} bytes")
            self._spend(clock() - began)

    def _spend(self, used: float) -> float:
        return self._share.spend(asyncio.get_running_loop().time(), used, len(self._open))

    def _decode(self, line: bytes) -> Message | None:
        self.line = len(line)
        try:
            message = decode_from_ship(line)
        except OversizedLine as excess:
            raise ShipFault(str(excess)) from excess
        if message is None:
            self._noise += len(line) + 1
            if self._noise > MAX_NOISE:
                raise ShipFault(f"it sent more than {MAX_NOISE} bytes that are no messages")
        return message


class NowAndThen:
    """Passes on a text that changes, at most once in :data:`NOW_AND_THEN` seconds; the last one always.

    Args:
        tell: takes it.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._now = self._told = ""
        self._timer: asyncio.TimerHandle | None = None

    def take(self, text: str) -> None:
        """Take what it is now."""
        self._now = text
        if self._timer is None and text != self._told:
            self._told = text
            self._timer = asyncio.get_running_loop().call_later(NOW_AND_THEN, self._again)
            self._tell(text)

    def _again(self) -> None:
        self._timer = None
        self.take(self._now)

    def close(self) -> None:
        """Tell nothing more."""
        if self._timer:
            self._timer.cancel()
