"""What crosses from the way of telemetry (ship, channel) into the captain's store: one :class:`Batch` a call.

A batch is what an agent sent, unread: the captain's edge (:mod:`ocaptain.captain.ship.telemetry`) knows ship, attempt
and signal; what is in ``body`` is the sink's to check, decode and mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Batch:
    """One OTLP call of an agent, as the ship received it.

    Attributes:
        ship: name of the ship.
        attempt: token of the attempt that ran when it came; None if none did.
        signal: ``metrics``, ``logs`` or ``traces``.
        content_type: ``application/x-protobuf`` or ``application/json``.
        body: the request's body, unzipped.
        received_at: seconds since the epoch, by the ship's clock.
        dropped_calls: calls that the ship had to drop before this one, since the last batch.
        dropped_bytes: bytes of those, as the ship stored them.
        spool: id of the ship's numbering of its calls.
        number: of the call in that numbering; it only grows. A captain that was killed may be sent its last calls
            again; the store tells them by a digest (:func:`ocaptain.telemetry.intake.digest`), not by this number.
    """

    ship: str
    attempt: int | None
    signal: str
    content_type: str
    body: bytes
    received_at: float
    dropped_calls: int = 0
    dropped_bytes: int = 0
    spool: str = ""
    number: int = 0


class TelemetrySink(Protocol):
    """Where the captain's edge brings batches."""

    def put(self, batch: Batch) -> None:
        """Take a batch; quick, never raises, may drop it. Called on the captain's event loop."""
