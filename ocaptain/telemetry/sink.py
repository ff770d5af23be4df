"""The sink: takes what agents sent, and stores it in a thread of its own.

    put ──> queue (at most MAX_QUEUED bytes) ──> [thread] decode ──> clean ──> count ──> Store
     └── no room: counted as lost                   └── Malformed: counted as lost

The thread takes one call at a time, so that at most one is in memory decoded. Whatever goes wrong with a call is
counted and said once in the log; it has no other effect on the voyage. While the store cannot be written (its disk is
full), calls wait in the queue, and what has no room there is counted as soon as it can be.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING

from ocaptain.telemetry.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ocaptain.telemetry.batch import Batch
    from ocaptain.telemetry.clean import Labels
    from ocaptain.telemetry.mask import Mask

#: Of calls that wait to be stored.
MAX_QUEUED = 32 * 1024 * 1024
MAX_QUEUED_CALLS = 10_000
_CALL_BYTES = 500  # that a call takes beside its body
CLOSE_SECONDS = 10.0
RETRY_SECONDS = 5.0
log = logging.getLogger("ocaptain.telemetry")


class StoringSink:
    """A :class:`~ocaptain.telemetry.batch.TelemetrySink` that stores what it takes.

    Args:
        path: of the store.
        label: returns whose a batch is; called by :meth:`put`, in its thread.
        secrets: to be masked, beside what looks like a credential.
        on_stored: called in the sink's thread after something was stored.
        max_queued: bytes of calls that wait.
    """

    def __init__(
        self,
        path: Path,
        label: Callable[[Batch], Labels],
        secrets: Iterable[str] = (),
        on_stored: Callable[[], None] | None = None,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._path = path
        self._label = label
        self._secrets = tuple(secrets)
        self._on_stored = on_stored
        self._max_queued = max_queued
        self._queue: deque[tuple[Batch, Labels]] = deque()
        self._queued = 0
        self._lost: Counter[str] = Counter()  # calls by reason
        self._lost_bytes: Counter[str] = Counter()
        self._is_closing = False
        self._news = threading.Condition()
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Take a batch; see :meth:`~ocaptain.telemetry.batch.TelemetrySink.put`."""
        try:
            labels = self._label(batch)
        except Exception:
            log.exception("telemetry of %s cannot be told whose it is", batch.ship)
            with self._news:
                self._lose("failed", 1, len(batch.body))
                self._news.notify()
            return
        size = _size(batch)
        with self._news:
            if batch.dropped_calls or batch.dropped_bytes:
                self._lose("ship", batch.dropped_calls, batch.dropped_bytes)
            if self._is_closing or not self._fits(size):
                self._lose("queue", 1, len(batch.body))
            else:
                self._queue.append((batch, labels))
                self._queued += size
            self._news.notify()

    def has_room(self, size: int) -> bool:
        """Return whether a body of so many bytes would be taken now."""
        with self._news:
            return not self._is_closing and self._fits(size + _CALL_BYTES)

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Store what waits, then end; return whether all was stored in that time."""
        with self._news:
            self._is_closing = True
            self._news.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _fits(self, size: int) -> bool:
        return self._queued + size <= self._max_queued and len(self._queue) < MAX_QUEUED_CALLS

    def _lose(self, reason: str, calls: int, size: int) -> None:
        self._lost[reason] += calls
        self._lost_bytes[reason] += size

    # -- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        from ocaptain.telemetry.mask import Mask  # noqa: PLC0415 - in this thread: nobody waits for these

        mask = Mask(self._secrets)
        store: Store | None = None
        try:
            while not self._is_over():
                store = store or self._open()
                if store is None:
                    self._wait(RETRY_SECONDS)
                    if self._is_closing:
                        return
                    continue
                self._store_next(store, mask)
        finally:
            if store:
                store.close()

    def _is_over(self) -> bool:
        """Wait until there is something to do; return whether there will be nothing any more."""
        with self._news:
            while not (self._queue or +self._lost or self._is_closing):
                self._news.wait()
            return self._is_closing and not self._queue and not +self._lost

    def _wait(self, seconds: float) -> None:
        with self._news:
            if not self._is_closing:
                self._news.wait_for(lambda: self._is_closing, seconds)

    def _open(self) -> Store | None:
        try:
            return Store(self._path)
        except (sqlite3.Error, OSError) as error:
            self._say(f"{self._path} cannot be opened: {error}; telemetry waits, and beyond a bound is dropped")
            return None

    def _store_next(self, store: Store, mask: Mask) -> None:
        """Store one call, or what was lost so far."""
        with self._news:
            taken = self._queue.popleft() if self._queue else None
        try:
            is_new = taken is not None and self._store(store, mask, *taken)
            self._store_lost(store)
        except sqlite3.Error as error:  # a full disk, or a reader that takes long; a file that was damaged
            self._say(f"{self._path} cannot be written: {error}; telemetry waits, and beyond a bound is dropped")
            with self._news:
                if self._is_closing:
                    self._queue.clear()
                    self._lost.clear()
                elif taken:
                    self._queue.appendleft(taken)
                    taken = None
            self._wait(RETRY_SECONDS)
            is_new = False
        if taken:
            with self._news:
                self._queued -= _size(taken[0])
        if is_new and self._on_stored:
            self._on_stored()

    def _store(self, store: Store, mask: Mask, batch: Batch, labels: Labels) -> bool:
        """Store a call; return whether it was new and well-formed.

        Raises:
            sqlite3.Error: the store cannot be written now.
        """
        from ocaptain.telemetry import intake  # noqa: PLC0415 - loads opentelemetry-proto

        try:
            digest = intake.digest(batch)
            return not store.has(digest) and intake.add(store, batch, labels, intake.clean_batch(batch, labels, mask))
        except intake.Malformed as error:
            self._say(f"telemetry of {batch.ship or 'this machine'} was refused: {error}")
            reason = "malformed"
        except Exception as error:  # whatever an agent can send
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise
            log.exception("telemetry of %s could not be stored", batch.ship)
            reason = "failed"
        with self._news:
            self._lose(reason, 1, len(batch.body))
        return False

    def _store_lost(self, store: Store) -> None:
        with self._news:
            lost, size = self._lost.copy(), self._lost_bytes.copy()
        if not +lost:
            return
        with store.transaction():
            for reason, calls in lost.items():
                store.lose(reason, calls, size[reason])
        with self._news:
            self._lost -= lost
            self._lost_bytes -= size

    def _say(self, text: str) -> None:
        """Log something once: an agent may send it a thousand times."""
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            log.warning("%s", text)


def _size(batch: Batch) -> int:
    return len(batch.body) + _CALL_BYTES
