"""From what an agent sent to what is stored: decode, clean, count; then add to the store in one transaction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from ocaptain.telemetry.clean import clean
from ocaptain.telemetry.decode import count_items, decode
from ocaptain.telemetry.parts import Malformed
from ocaptain.telemetry.store import Entry
from ocaptain.telemetry.usage import count_used, new_of, sums

if TYPE_CHECKING:
    from ocaptain.telemetry.batch import Batch
    from ocaptain.telemetry.clean import Labels
    from ocaptain.telemetry.mask import Mask
    from ocaptain.telemetry.store import Store
    from ocaptain.telemetry.usage import Used

__all__ = ["Cleaned", "Malformed", "add", "clean_batch", "digest"]


@dataclass(frozen=True)
class Cleaned:
    """A call that may be stored.

    Attributes:
        body: an ``Export…ServiceRequest`` without content and credentials.
        items: points, records or spans of it.
        used: what it says was used.
    """

    body: bytes
    items: int
    used: Used


def digest(batch: Batch) -> bytes:
    """Return what tells a call from every other one: its times are in nanoseconds, so that no two are the same."""
    return sha256(f"{batch.ship}\0{batch.signal}\0{batch.content_type}\0".encode() + batch.body).digest()


def clean_batch(batch: Batch, labels: Labels, mask: Mask) -> Cleaned:
    """Return what may be kept of a call.

    Raises:
        Malformed: it is no OTLP call, or too large.
    """
    message = decode(batch.body, batch.content_type, batch.signal)
    clean(message, mask, labels)
    return Cleaned(message.SerializeToString(), count_items(message, batch.signal), count_used(message, batch.signal))


def add(store: Store, batch: Batch, labels: Labels, cleaned: Cleaned) -> bool:
    """Store a cleaned call, and what it says was used; return False if it was stored before.

    Raises:
        sqlite3.Error: it cannot be stored; nothing of it was.
    """
    with store.transaction():
        used = cleaned.used
        tokens = Counter(used.tokens)
        for one in used.series:
            tokens[one.kind] += new_of(one, store.sum_before(one.key))
            store.note_sum(one.key, one.start, one.value)
        return store.add(
            Entry(
                at=batch.received_at,
                ship=labels.ship,
                task=labels.task,
                attempt=labels.attempt,
                signal=batch.signal,
                items=cleaned.items,
                digest=digest(batch),
                body=cleaned.body,
                tokens=sums(tokens),
                tools={tool: (calls, used.failed[tool]) for tool, calls in used.calls.items()},
            )
        )
