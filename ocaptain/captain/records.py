"""Save the records of ships that are no results: log pieces, agents' usage and telemetry.

Only a ship that has or had the attempt may send them.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.agents.facts import parse_facts
from ocaptain.captain.person import show_wait
from ocaptain.captain.spending import spent_of
from ocaptain.log_times import note_piece
from ocaptain.protocol.envelope import LogBody, OtlpBody
from ocaptain.text import clean_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocaptain.agents.facts import Facts
    from ocaptain.captain.ship.telemetry import TelemetryEdge
    from ocaptain.ledger import Ledger
    from ocaptain.prices import Prices
    from ocaptain.protocol.envelope import Notice

MAX_LOG = 65 * 1024 * 1024


class Records:
    """Writes logs into the voyage's directory and usage into its ledger.

    Args:
        directory: the voyage's.
        ledger: its.
        prices: of the models.
        clock: seconds since 1970.
        telemetry: takes what agents report; None = it is not kept.
    """

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        prices: Prices,
        clock: Callable[[], float] = time.time,
        telemetry: TelemetryEdge | None = None,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._prices = prices
        self._clock = clock
        self._telemetry = telemetry
        self._logs: dict[tuple[str, int], tuple[Path, float]] = {}
        self._skips: dict[int, int] = {}

    def save(self, ship: str, body: Notice) -> None:
        """Save a record that is no result: a piece of log, what an agent used so far, or of its telemetry."""
        if isinstance(body, LogBody):
            self.save_log(ship, body)
        elif isinstance(body, OtlpBody):
            if self._telemetry:
                self._telemetry.take(ship, body)
        else:
            facts = parse_facts(body.facts)
            self.save_usage(ship, body.token, facts)
            if facts is not None:
                show_wait(self._ledger, ship, body.token, facts.waits)

    def save_usage(self, ship: str, token: int, facts: Facts | None) -> None:
        """Save what an agent used so far."""
        if facts is None:
            return
        attempt = self._ledger.attempt_row(token)
        if attempt is not None and attempt["ship"] == ship:
            self._ledger.record_spent(token, spent_of(facts, self._prices), facts.resumed or facts.session)

    def save_log(self, ship: str, body: LogBody) -> None:
        """Append a piece to an attempt's log file, and before that note when it was written."""
        token = body.token
        known = self._logs.get((ship, token))
        if known is None:
            attempt = self._ledger.attempt_row(token)
            if attempt is None or attempt["ship"] != ship:
                return  # not cached: the token may be handed to this ship later
            path = self._directory / "logs" / ship / f"{attempt['task']}.{attempt['number']}.log"
            known = self._logs[ship, token] = (path, attempt["started"])
        path, began = known
        skipped = self._skipped(token)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                size = os.fstat(file.fileno()).st_size
                piece = next_log_piece(body, size, skipped)
                if piece.data:
                    with contextlib.suppress(OSError):  # a log is worth more than its times
                        note_piece(path, size, body.at, began=began, now=self._clock())
                file.write(piece.data)
            if piece.skips:  # only after it is written: otherwise the next piece notes the gap
                self._skips[token] = skipped + piece.skips
                self._ledger.set_log_skipped(token, skipped + piece.skips)

    def _skipped(self, token: int) -> int:
        """Return the bytes of an attempt's log that are missing in its file, minus the notes about that."""
        if token not in self._skips:
            attempt = self._ledger.attempt_row(token)
            self._skips[token] = attempt["log_skipped"] if attempt else 0
        return self._skips[token]


@dataclass(frozen=True)
class LogPiece:
    """What to append to a log file.

    Attributes:
        data: bytes.
        skips: how many more bytes of the log are missing in the file, minus the note about that in ``data``.
    """

    data: bytes = b""
    skips: int = 0


def next_log_piece(body: LogBody, size: int, skipped: int = 0) -> LogPiece:
    """Return what to append of a log record: nothing if it is not new or not valid.

    Args:
        body: the record.
        size: bytes of the file.
        skipped: bytes of the log that are missing in it, minus the bytes of the notes about that.
    """
    offset = body.offset
    try:
        data = clean_bytes(base64.b64decode(body.data, validate=True))
    except (binascii.Error, ValueError):
        return LogPiece()
    position = size + skipped  # in the log, of the file's end
    missing = max(0, offset - position)
    note = b""
    if missing:
        note = f"\n[ocaptain: {missing} bytes of this log are missing: the ship had no room for them]\n".encode()
    fresh = note + data[max(0, position - offset) :]
    if not fresh or size + len(fresh) > MAX_LOG:
        return LogPiece()
    return LogPiece(fresh, missing - len(note))
