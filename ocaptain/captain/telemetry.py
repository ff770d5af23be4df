"""The captain's telemetry: open for as long as it commands; what agents report is stored, and forwarded if configured.

    Batch ──label: task and number of the attempt──> StoringSink ──> telemetry.db ──> Forwarder ──> collector
    ledger, at the end ──> the voyage's own spans ──────────────────────↑

Nothing of it can end a voyage or hold it up: what fails is logged, and the end waits a few seconds at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from ocaptain.agents import ADAPTERS
from ocaptain.query.telemetry import read_course, telemetry_path
from ocaptain.sources import read_variables
from ocaptain.telemetry.clean import Labels
from ocaptain.telemetry.configured import configured_collector, known_secrets
from ocaptain.telemetry.forward import Forwarder
from ocaptain.telemetry.sink import StoringSink
from ocaptain.telemetry.store import OWN, Entry, Store

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.config import Settings
    from ocaptain.ledger import Ledger
    from ocaptain.telemetry.batch import Batch
    from ocaptain.telemetry.spans import Course

log = logging.getLogger("ocaptain.captain")


class VoyageTelemetry:
    """Telemetry of one voyage, for as long as its captain commands.

    Args:
        directory: the voyage's.
        ledger: its.
        settings: what is configured.

    Attributes:
        sink: where batches go; None if the voyage sails without telemetry.
    """

    def __init__(self, directory: Path, ledger: Ledger, settings: Settings) -> None:
        self._path = telemetry_path(directory)
        self._ledger = ledger
        self._voyage = ledger.voyage()
        self._attempts: dict[int, tuple[str, int]] = {}
        is_wanted = self._voyage.telemetry
        collector = configured_collector(settings) if is_wanted else None
        self._forwarder = Forwarder(self._path, collector) if collector else None
        wake = self._forwarder.wake if self._forwarder else None
        self.sink = StoringSink(self._path, self._label, _secrets(settings), wake) if is_wanted else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        course = None
        if self._forwarder:
            try:
                course = read_course(self._ledger)
            except Exception:
                log.exception("the voyage's own spans cannot be made")
        await asyncio.to_thread(self._close, course)

    def _close(self, course: Course | None) -> None:
        if self.sink and not self.sink.close():
            log.warning("telemetry was not stored in time; what was left is lost")
        if not self._forwarder:
            return
        if course:
            try:
                store_own_spans(self._path, course)
            except Exception:
                log.exception("the voyage's own spans cannot be stored")
        self._forwarder.close()

    def _label(self, batch: Batch) -> Labels:
        """Return whose a batch is."""
        token = batch.attempt
        if token is None:
            return Labels(self._voyage.id, batch.ship)
        if token not in self._attempts:
            row = self._ledger.attempt_row(token)
            self._attempts[token] = (row["task"], row["number"]) if row else ("", 0)
        return Labels(self._voyage.id, batch.ship, *self._attempts[token])


def _secrets(settings: Settings) -> list[str]:
    of_agents = read_variables(name for adapter in ADAPTERS.values() for name in adapter.credentials)
    return [*known_secrets(settings), *of_agents.values()]


def store_own_spans(path: Path, course: Course) -> None:
    """Store the voyage's own spans that are not stored yet.

    Raises:
        sqlite3.Error: they cannot be stored.
        OSError: likewise.
    """
    from ocaptain.telemetry.spans import spans_message, voyage_spans  # noqa: PLC0415 - loads opentelemetry-proto

    spans = voyage_spans(course)
    with Store(path) as store, store.transaction():
        fresh = store.new_spans(one.span_id for one in spans)
        if not fresh:
            return
        body = spans_message(course.voyage, [one for one in spans if one.span_id in fresh]).SerializeToString()
        make = partial(Entry, time.time(), "", "", 0, "traces", len(fresh), sha256(body).digest(), body)
        store.add(make(origin=OWN))
