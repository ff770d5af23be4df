"""The captain's edge of telemetry: join the pieces of ships' OTLP calls, and hand each call to the sink once.

::

    records ``otlp`` of a ship ──Joiner: whole calls, in order, each once──> unzip in a thread, within a limit
        ──> TelemetrySink.put(Batch), on the loop

A ship may send anything: a piece that does not follow is dropped with its call, no attempt is named that is not the
ship's, and no more than :data:`MAX_WAITING` bytes wait to be unzipped. What was dropped, here or on the ship, follows
from the numbers in the records, and is named in the next batch. The last call of each ship is noted in the ledger, so
that this holds for the time in which there was no captain, too. It is noted :data:`NOTE_SECONDS` late, for all ships
at once; so a captain that is killed may be sent its last calls again, which a store knows by their numbers.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ocaptain.ledger import LedgerError
from ocaptain.telemetry.batch import Batch

if TYPE_CHECKING:
    from ocaptain.ledger import Ledger
    from ocaptain.protocol.envelope import OtlpBody
    from ocaptain.telemetry.batch import TelemetrySink

MAX_UNZIPPED = 16 * 1024 * 1024  # bytes of a call
MAX_WAITING = 32 * 1024 * 1024  # bytes of calls that are not unzipped yet
CALL_BYTES = 2000  # that a call takes beside them while it waits: a ship may send countless small ones
NOTE_SECONDS = 1.0
_ANY_HEADER = 32 + zlib.MAX_WBITS  # gzip or zlib
log = logging.getLogger("ocaptain.captain")


@dataclass(frozen=True)
class Mark:
    """Up to where the calls of a ship are known.

    Attributes:
        spool: id of the ship's numbering.
        call: number of the last call.
        end: bytes of all calls up to it.
    """

    spool: str
    call: int
    end: int


@dataclass(frozen=True)
class Joined:
    """A whole call.

    Attributes:
        body: its last piece.
        data: as the ship stored it.
        dropped_calls, dropped_bytes: what is missing before it.
    """

    body: OtlpBody
    data: bytes
    dropped_calls: int = 0
    dropped_bytes: int = 0


class Joiner:
    """Joins the pieces of one ship's calls.

    Args:
        mark: the last call that is known.
    """

    def __init__(self, mark: Mark | None = None) -> None:
        self.mark = mark
        self._first: OtlpBody | None = None
        self._data: list[bytes] = []
        self._size = 0  # bytes of it

    def take(self, body: OtlpBody) -> Joined | None:
        """Take the next piece; return its call if that is whole now and was not known before."""
        if body.piece == 0:
            self._first, self._data, self._size = body, [], 0
        first = self._first
        if first is None or body.piece != len(self._data) or replace(body, piece=0, data=first.data) != first:
            self._first = None  # the beginning of the call was dropped, or this is no piece of it
            return None
        try:
            data = base64.b64decode(body.data, validate=True)
        except (binascii.Error, ValueError):
            data = b""
        self._data.append(data)
        self._size += len(data)
        is_last = body.piece + 1 == body.pieces
        if not data or self._size > body.size or (is_last and self._size != body.size):
            self._first = None
        if self._first is None or not is_last:
            return None
        self._first = None
        return self._finish(Joined(body, b"".join(self._data)))

    def _finish(self, joined: Joined) -> Joined | None:
        body = joined.body
        before = self.mark or Mark(body.spool, 0, 0)  # of a ship none of whose calls came yet, the first may be dropped
        if before.spool == body.spool:
            if body.call <= before.call:
                return None
            missing, missing_bytes = body.call - before.call - 1, max(0, body.before - before.end)
            joined = replace(joined, dropped_calls=missing, dropped_bytes=missing_bytes if missing else 0)
        self.mark = Mark(body.spool, body.call, body.before + body.size)
        return joined


class TelemetryEdge:
    """Hands the calls of all ships to the sink.

    Args:
        sink: where they go.
        ledger: of the voyage.
    """

    def __init__(self, sink: TelemetrySink, ledger: Ledger) -> None:
        self._sink = sink
        self._ledger = ledger
        self._joiners: dict[str, Joiner] = {}
        self._marked: dict[str, Mark | None] = {}  # as the ledger has them
        self._lost: dict[str, tuple[int, int]] = {}  # calls and bytes, since the ship's last batch
        self._owners: dict[int, str] = {}  # by token: its ship
        self._waiting = 0  # bytes
        self._unzipping: set[asyncio.Future[None]] = set()
        self._thread = ThreadPoolExecutor(1, "telemetry")
        self._timer: asyncio.TimerHandle | None = None

    def take(self, ship: str, body: OtlpBody) -> None:
        """Take a record of a ship."""
        if ship not in self._joiners:
            found = self._ledger.telemetry_mark(ship)
            self._marked[ship] = mark = Mark(*found) if found else None
            self._joiners[ship] = Joiner(mark)
        joined = self._joiners[ship].take(body)
        if joined is None:
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTE_SECONDS, self._note)
        self._count_lost(ship, joined.dropped_calls, joined.dropped_bytes)
        if self._waiting + len(joined.data) + CALL_BYTES > MAX_WAITING:
            self._count_lost(ship, 1, len(joined.data))
            return
        self._waiting += len(joined.data) + CALL_BYTES
        task = asyncio.ensure_future(self._deliver(ship, joined))
        self._unzipping.add(task)
        task.add_done_callback(self._unzipping.discard)

    async def _deliver(self, ship: str, joined: Joined) -> None:
        body, loop = joined.body, asyncio.get_running_loop()
        try:
            # One thread: the calls of a ship stay in order.
            data = await loop.run_in_executor(self._thread, unzip, joined.data)
        finally:
            self._waiting -= len(joined.data) + CALL_BYTES
        if data is None:
            self._count_lost(ship, 1, len(joined.data))
            return
        lost_calls, lost_bytes = self._lost.pop(ship, (0, 0))
        if lost_calls:
            log.warning("%s: %d calls of telemetry were dropped (%d bytes)", ship, lost_calls, lost_bytes)
        self._sink.put(
            Batch(
                ship=ship,
                attempt=self._attempt_of(ship, body.token),
                signal=body.signal,
                content_type=body.type,
                body=data,
                received_at=body.at,
                dropped_calls=lost_calls,
                dropped_bytes=lost_bytes,
                spool=body.spool,
                number=body.call,
            )
        )

    def _count_lost(self, ship: str, calls: int, size: int) -> None:
        before = self._lost.get(ship, (0, 0))
        self._lost[ship] = (before[0] + calls, before[1] + size)

    def _attempt_of(self, ship: str, token: int | None) -> int | None:
        """Return the token of an attempt if it is the ship's."""
        if token is None:
            return None
        if token not in self._owners and (attempt := self._ledger.attempt_row(token)):
            self._owners[token] = attempt["ship"]
        return token if self._owners.get(token) == ship else None

    def _note(self) -> None:
        """Note the last call of each ship in the ledger."""
        self._timer = None
        marks = {ship: one.mark for ship, one in self._joiners.items() if one.mark and one.mark != self._marked[ship]}
        if not marks:
            return
        try:
            self._ledger.set_telemetry_marks({ship: (mark.spool, mark.call, mark.end) for ship, mark in marks.items()})
        except LedgerError as error:  # another captain has taken over, or it cannot be written: then later, or never
            log.warning("the last calls of telemetry could not be noted: %s", error)
        else:
            self._marked.update(marks)

    async def close(self) -> None:
        """Hand over what was received; nothing may be taken any more."""
        await asyncio.gather(*self._unzipping, return_exceptions=True)
        self._thread.shutdown(wait=False)
        if self._timer:
            self._timer.cancel()
            self._note()


def unzip(data: bytes) -> bytes | None:
    """Return the body of a call; None if it cannot be unpacked within :data:`MAX_UNZIPPED` bytes."""
    stream = zlib.decompressobj(_ANY_HEADER)
    try:
        body = stream.decompress(data, MAX_UNZIPPED + 1)
    except zlib.error:
        return None
    return body if stream.eof and len(body) <= MAX_UNZIPPED else None
