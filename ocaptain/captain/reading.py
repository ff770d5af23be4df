"""Read what a ship sends: line by line, limited before it is parsed, with pauses so that other ships get their turn."""

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

PIECE = 64 * 1024  # bytes that are split into lines at once
TURN_SECONDS = 0.005  # of reading, after which other ships have their turn
MAX_NOISE = 1024 * 1024  # bytes of lines that are no messages
THROTTLE_SECONDS = 1.0  # seconds


class MessageReader:
    """Reads the messages of a stream.

    Attributes:
        heard: when bytes last arrived, on the loop's clock.
        line: size of the last message, in bytes.
    """

    _open: ClassVar[WeakSet[MessageReader]] = WeakSet()

    def __init__(self, stream: Stream) -> None:
        self.heard = asyncio.get_running_loop().time()
        self.line = 0
        self._stream = stream
        self._share = Share(self.heard)
        self._noise = 0
        self._open.add(self)

    def close(self) -> None:
        """Give up this reader's share of the loop."""
        self._open.discard(self)

    async def messages(self) -> AsyncIterator[Message]:
        """Yield messages. The time that the caller spends on each counts for the ship's share of the loop.

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


class Throttle:
    """Passes on a text that changes, at most once in :data:`THROTTLE_SECONDS`; the last text is always passed on.

    Args:
        publish: called with the text.
    """

    def __init__(self, publish: Callable[[str], None]) -> None:
        self._publish = publish
        self._now = self._published = ""
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, text: str) -> None:
        """Pass on a new text, now or when the time has passed."""
        self._now = text
        if self._timer is None and text != self._published:
            self._published = text
            self._timer = asyncio.get_running_loop().call_later(THROTTLE_SECONDS, self._again)
            self._publish(text)

    def _again(self) -> None:
        self._timer = None
        self.submit(self._now)

    def close(self) -> None:
        """Pass on nothing more."""
        if self._timer:
            self._timer.cancel()
