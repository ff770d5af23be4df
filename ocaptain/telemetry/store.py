"""``telemetry.db``: cleaned messages, what was used, and what was lost. SQLite, a file of its own beside the ledger.

    Entry (a cleaned message) ──add──> batches (compressed, oldest deleted beyond a bound), usage, tools, series
                                   ├──after(n)──> forwarder, export
    reason, calls, bytes ──lose──> lost ─────────> status

A message is one row: to store fifty thousand points is one insertion. Nothing asks for single points; an export
decodes. Losing the last second at a power cut is no harm (``synchronous = NORMAL``): the ledger does not depend on it.

One process writes: a voyage's captain, or the receiver. A message that comes twice (an exporter that had no answer, a
captain that was killed before it confirmed) is stored and counted once.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

FILE_NAME = "telemetry.db"
FORMAT = 1
#: Compressed bytes of messages that are kept; a day of ten busy agents is a tenth of it.
MAX_BYTES = 256 * 1024 * 1024
MAX_SERIES = 20_000
#: Rows of calls of tools; beyond that they are counted under one name.
MAX_TOOLS, OTHER_TOOLS = 5_000, "(others)"
#: Of any sum: ships and agents say what they like, and SQLite's own end at 9 * 10**18.
MAX_SUM = 10**15
#: Times that a writer waits for a reader, in seconds.
_PATIENCE = 5.0
#: Whose a message is: an agent's, or our own about the voyage.
AGENT, OWN = "agent", "own"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
  n         INTEGER PRIMARY KEY AUTOINCREMENT,
  at        REAL NOT NULL,          -- when it was received, in seconds since 1970
  origin    TEXT NOT NULL CHECK (origin IN ('agent', 'own')),
  ship      TEXT NOT NULL,
  task      TEXT NOT NULL,
  attempt   INTEGER NOT NULL,
  signal    TEXT NOT NULL CHECK (signal IN ('metrics', 'logs', 'traces')),
  items     INTEGER NOT NULL,       -- points, records or spans
  digest    BLOB NOT NULL UNIQUE,   -- of what was sent
  body      BLOB NOT NULL           -- an Export...ServiceRequest, cleaned; zlib
) STRICT;
CREATE TABLE IF NOT EXISTS usage (
  ship TEXT NOT NULL, task TEXT NOT NULL, attempt INTEGER NOT NULL,
  tokens_in INTEGER NOT NULL DEFAULT 0, tokens_out INTEGER NOT NULL DEFAULT 0, tokens_cached INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (ship, task, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tools (
  ship TEXT NOT NULL, task TEXT NOT NULL, attempt INTEGER NOT NULL, tool TEXT NOT NULL,
  calls INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (ship, task, attempt, tool)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS series (
  n INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, start INTEGER NOT NULL, value REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS lost (
  reason TEXT PRIMARY KEY, calls INTEGER NOT NULL, bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spans (id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;  -- our own that are stored
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Entry:
    """A message to be stored.

    Attributes:
        at: when it was received, in seconds since 1970.
        ship, task, attempt: whose it is; "" and 0 where that is not known.
        signal: ``metrics``, ``logs`` or ``traces``.
        items: points, records or spans of it.
        digest: of what was sent; one that is stored already is not stored again.
        body: the cleaned message.
        tokens: read, written, and of the former from the cache.
        tools: calls and failed calls of each tool.
        origin: :data:`AGENT` or :data:`OWN`.
    """

    at: float
    ship: str
    task: str
    attempt: int
    signal: str
    items: int
    digest: bytes
    body: bytes
    tokens: tuple[int, int, int] = (0, 0, 0)
    tools: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    origin: str = AGENT


@dataclass(frozen=True)
class Stored:
    """A stored message: its number, and what :class:`Entry` says of it."""

    n: int
    at: float
    origin: str
    signal: str
    items: int
    body: bytes


class Store:
    """A store, opened for writing. Not for several threads at once.

    Args:
        path: of its file; it is made if it is missing, readable by its owner alone.
        max_bytes: compressed bytes of messages that are kept.

    Raises:
        sqlite3.Error: it cannot be opened.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self._max_bytes = max_bytes
        self._db = sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > FORMAT:
                raise sqlite3.DatabaseError(f"made by a newer version of ocaptain (format {version})")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            (self._bytes,) = self._db.execute("SELECT total(length(body)) FROM batches").fetchone()
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Run what is inside in one transaction.

        Raises:
            sqlite3.Error: it was not carried out, no part of it.
        """
        self._db.execute("BEGIN IMMEDIATE")
        before = self._bytes
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._bytes = before
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def has(self, digest: bytes) -> bool:
        """Return whether a message with this digest is stored."""
        return self._db.execute("SELECT 1 FROM batches WHERE digest = ?", (digest,)).fetchone() is not None

    def add(self, entry: Entry) -> bool:
        """Store a message and what it says was used; return False if it is stored already.

        Raises:
            sqlite3.Error: it cannot be written.
        """
        body = zlib.compress(entry.body, 1)
        whose = (entry.ship, entry.task, entry.attempt)
        row = (entry.at, entry.origin, *whose, entry.signal, entry.items, entry.digest, body)
        added = self._db.execute(
            "INSERT INTO batches (at, origin, ship, task, attempt, signal, items, digest, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
            row,
        ).rowcount
        if not added:
            return False
        if any(entry.tokens):
            kinds = ("read", "written", "cached")
            counts = {kind: min(count, MAX_SUM) for kind, count in zip(kinds, entry.tokens, strict=True)}
            self._db.execute(
                "INSERT INTO usage VALUES (:ship, :task, :attempt, :read, :written, :cached) ON CONFLICT DO UPDATE SET"
                " tokens_in = min(tokens_in + :read, :most), tokens_out = min(tokens_out + :written, :most),"
                " tokens_cached = min(tokens_cached + :cached, :most)",
                {**dict(zip(("ship", "task", "attempt"), whose, strict=True)), **counts, "most": MAX_SUM},
            )
        tools = self._bounded(entry.tools)
        self._db.executemany(
            "INSERT INTO tools VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " calls = calls + excluded.calls, failed = failed + excluded.failed",
            [(*whose, tool, *counts) for tool, counts in tools.items()],
        )
        self._bytes += len(body)
        self._delete_oldest()
        return True

    def _bounded(self, tools: Mapping[str, tuple[int, int]]) -> Mapping[str, tuple[int, int]]:
        """Return the calls of tools, under one name if there are too many names: an agent makes them up."""
        (known,) = self._db.execute("SELECT count(*) FROM tools").fetchone()
        if known + len(tools) <= MAX_TOOLS:
            return tools
        return {OTHER_TOOLS: (sum(one[0] for one in tools.values()), sum(one[1] for one in tools.values()))}

    def _delete_oldest(self) -> None:
        while self._bytes > self._max_bytes:
            row = self._db.execute("SELECT n, length(body) AS bytes FROM batches ORDER BY n LIMIT 1").fetchone()
            if row is None:
                return
            self._db.execute("DELETE FROM batches WHERE n = ?", (row[0],))
            self._bytes -= row[1]
            self._lose("store", 1, row[1])

    def sum_before(self, key: bytes) -> tuple[int, float] | None:
        """Return the start and the value of a cumulative sum as it was seen last, None if it was not."""
        row = self._db.execute("SELECT start, value FROM series WHERE key = ?", (key,)).fetchone()
        return row and (row[0], row[1])

    def note_sum(self, key: bytes, start: int, value: float) -> None:
        """Note a cumulative sum; of too many the oldest are forgotten."""
        self._db.execute(
            "INSERT INTO series (key, start, value) VALUES (?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET start = excluded.start, value = excluded.value",
            (key, start, value),
        )
        self._db.execute("DELETE FROM series WHERE n <= (SELECT max(n) FROM series) - ?", (MAX_SERIES,))

    def lose(self, reason: str, calls: int, size: int) -> None:
        """Count what was not stored.

        Args:
            reason: a key of :data:`LOSSES`.
            calls: how many.
            size: their bytes.
        """
        self._lose(reason, calls, size)

    def _lose(self, reason: str, calls: int, size: int) -> None:
        self._db.execute(
            "INSERT INTO lost VALUES (:reason, :calls, :size) ON CONFLICT DO UPDATE SET"
            " calls = min(calls + :calls, :most), bytes = min(bytes + :size, :most)",
            {"reason": reason, "calls": min(calls, MAX_SUM), "size": min(size, MAX_SUM), "most": MAX_SUM},
        )

    def new_spans(self, ids: Iterable[bytes]) -> set[bytes]:
        """Return which of our own spans are not stored yet, and note them as stored."""
        fresh = set()
        for one in ids:
            if self._db.execute("INSERT INTO spans VALUES (?) ON CONFLICT DO NOTHING", (one,)).rowcount:
                fresh.add(one)
        return fresh

    def tokens(self) -> tuple[int, int, int]:
        """Return what agents reported: tokens read, written, and of the former from the cache."""
        row = self._db.execute("SELECT sum(tokens_in), sum(tokens_out), sum(tokens_cached) FROM usage").fetchone()
        return row[0] or 0, row[1] or 0, row[2] or 0

    # -- what is forwarded --------------------------------------------------------------------------

    @property
    def forwarded(self) -> int:
        """The number of the last message that was forwarded."""
        row = self._db.execute("SELECT value FROM meta WHERE name = 'forwarded'").fetchone()
        return int(row[0]) if row else 0

    def set_forwarded(self, number: int) -> None:
        """Note up to which message all were forwarded."""
        self._db.execute(
            "INSERT INTO meta VALUES ('forwarded', ?) ON CONFLICT DO UPDATE SET value = excluded.value", (number,)
        )

    def next_after(self, number: int) -> Stored | None:
        """Return the first message after a number, None if there is none."""
        return next(read_after(self._db, number, 1), None)


#: Why calls were lost, in words.
LOSSES = {
    "ship": "dropped on ships, whose room was full",
    "queue": "dropped here, since more came than could be stored",
    "malformed": "no OTLP, or too large",
    "failed": "could not be stored",
    "store": "deleted for newer ones",
    "refused": "refused by the collector",
}


def read_after(db: sqlite3.Connection, number: int, limit: int = -1) -> Iterator[Stored]:
    """Yield the stored messages after a number, oldest first.

    Args:
        db: a store's.
        number: of the last message that is known.
        limit: how many; -1 = all.

    Raises:
        sqlite3.Error: they cannot be read.
    """
    rows = db.execute(
        "SELECT n, at, origin, signal, items, body FROM batches WHERE n > ? ORDER BY n LIMIT ?", (number, limit)
    )
    for n, at, origin, signal, items, body in rows:
        try:
            whole = zlib.decompress(body)
        except zlib.error:
            raise sqlite3.DatabaseError(f"message {n} is damaged") from None
        yield Stored(n, at, origin, signal, items, whole)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Open a store for reading; None if there is none.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    if not path.is_file():
        yield None
        return
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2)) as db:
        yield db


@dataclass(frozen=True)
class Reported:
    """What agents reported, in sum.

    Attributes:
        tokens_in, tokens_out, tokens_cached: all that was read (cached or not), written, and of the former cached.
        tools: calls and failed calls of each tool, the most used first.
        calls: how many calls of agents are stored.
        lost: how many were not stored or not forwarded, by :data:`LOSSES`.
        by_ship: tokens read and written and calls of tools of each ship.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tools: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    calls: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    by_ship: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``--json`` prints it."""
        return {
            "tokens": {"in": self.tokens_in, "out": self.tokens_out, "cached": self.tokens_cached},
            "tools": {name: {"calls": calls, "failed": failed} for name, (calls, failed) in self.tools.items()},
            "calls": self.calls,
            "lost": dict(self.lost),
        }


def read_reported(path: Path) -> Reported | None:
    """Return what agents reported, None if nothing is known: there is no store, or it cannot be read now."""
    try:
        with reading(path) as db:
            return None if db is None else _reported(db)
    except sqlite3.Error:
        return None


def _reported(db: sqlite3.Connection) -> Reported:
    tokens = db.execute("SELECT ship, sum(tokens_in), sum(tokens_out), sum(tokens_cached) FROM usage GROUP BY ship")
    by_ship = {ship: (read, written, cached) for ship, read, written, cached in tokens}
    tools = db.execute("SELECT tool, sum(calls), sum(failed) FROM tools GROUP BY tool ORDER BY 2 DESC, 1")
    of_ship = dict(db.execute("SELECT ship, sum(calls) FROM tools GROUP BY ship").fetchall())
    (calls,) = db.execute("SELECT count(*) FROM batches WHERE origin = ?", (AGENT,)).fetchone()
    return Reported(
        tokens_in=sum(one[0] for one in by_ship.values()),
        tokens_out=sum(one[1] for one in by_ship.values()),
        tokens_cached=sum(one[2] for one in by_ship.values()),
        tools={name: (made, failed) for name, made, failed in tools},
        calls=calls,
        lost=dict(db.execute("SELECT reason, calls FROM lost ORDER BY reason").fetchall()),
        by_ship={
            ship: (*by_ship.get(ship, (0, 0, 0))[:2], of_ship.get(ship, 0)) for ship in sorted({*by_ship, *of_ship})
        },
    )
