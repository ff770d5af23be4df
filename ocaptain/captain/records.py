"""What ships tell beside results: pieces of log, and what agents used. Only the ship that has or had an attempt may."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.agents.facts import parse_facts
from ocaptain.captain.spending import spent_of
from ocaptain.protocol.envelope import LogBody
from ocaptain.text import clean_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.agents.facts import Facts
    from ocaptain.ledger import Ledger
    from ocaptain.prices import Prices
    from ocaptain.protocol.envelope import AgentBody

MAX_LOG = 65 * 1024 * 1024


class Records:
    """Writes logs into the voyage's directory and usage into its ledger."""

    def __init__(self, directory: Path, ledger: Ledger, prices: Prices) -> None:
        self._directory = directory
        self._ledger = ledger
        self._prices = prices
        self._logs: dict[tuple[str, int], Path] = {}
        self._skips: dict[int, int] = {}

    def take(self, ship: str, body: LogBody | AgentBody) -> None:
        """Take what a ship tells that is no result: a piece of log, or what an agent used so far."""
        if isinstance(body, LogBody):
            self.take_log(ship, body)
        else:
            self.take_usage(ship, body.token, parse_facts(body.facts))

    def take_usage(self, ship: str, token: int, facts: Facts | None) -> None:
        """Take what an agent used so far."""
        if facts is None:
            return
        attempt = self._ledger.attempt_row(token)
        if attempt is not None and attempt["ship"] == ship:
            self._ledger.spent(token, spent_of(facts, self._prices), facts.resumed or facts.session)

    def take_log(self, ship: str, body: LogBody) -> None:
        """Add to an attempt's log."""
        token = body.token
        path = self._logs.get((ship, token))
        if path is None:
            attempt = self._ledger.attempt_row(token)
            if attempt is None or attempt["ship"] != ship:
                return  # and it is not remembered: the token may be handed to this ship yet
            path = self._directory / "logs" / ship / f"{attempt['task']}.{attempt['number']}.log"
            self._logs[ship, token] = path
        skipped = self._skipped(token)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                piece = log_piece(body, os.fstat(file.fileno()).st_size, skipped)
                file.write(piece.data)
            if piece.skips:  # only of what is written: what is not is missed, and said, with the next piece
                self._skips[token] = skipped + piece.skips
                self._ledger.log_skipped(token, skipped + piece.skips)

    def _skipped(self, token: int) -> int:
        """Return how many bytes of an attempt's log are not in its file, less the notes that say so."""
        if token not in self._skips:
            attempt = self._ledger.attempt_row(token)
            self._skips[token] = attempt["log_skipped"] if attempt else 0
        return self._skips[token]


@dataclass(frozen=True)
class LogPiece:
    """What to add to a log's file.

    Attributes:
        data: bytes.
        skips: how many more bytes of the log are missing in the file, less the note in ``data``.
    """

    data: bytes = b""
    skips: int = 0


def log_piece(body: LogBody, size: int, skipped: int = 0) -> LogPiece:
    """Return what to add of a log record: nothing if it is not new or not sound.

    Args:
        body: the record.
        size: bytes of the file.
        skipped: bytes of the log that are missing in it, less the notes that say so.
    """
    offset = body.offset
    try:
        data = clean_bytes(base64.b64decode(body.data, validate=True))
    except (binascii.Error, ValueError):
        return LogPiece()
    there = size + skipped  # up to where the log is in the file
    note = b""
    if offset > there:
        note = f"\n[ocaptain: {offset - there} bytes of this log are missing: the ship had no room for them]\n".encode()
    fresh = note + data[max(0, there - offset) :]
    if not fresh or size + len(fresh) > MAX_LOG:
        return LogPiece()
    return LogPiece(fresh, max(0, offset - there) - len(note))
