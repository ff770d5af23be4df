"""The ships of a voyage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ocaptain.ledger.records import (
    ShipRow,
)
from ocaptain.ledger.store import Store, add_event
from ocaptain.names import VERIFY_SHIP

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence


_SHIPS = "SELECT id, sprite, state, reason, head, journal, cursors, replaced_by, way, role FROM ships"


class Fleet(Store):
    """The ships of a voyage."""

    def set_ship(self, ship: str, state: str, reason: str | None = None) -> None:
        """Set a ship's state."""
        with self._write() as db:
            before = db.execute("SELECT state, reason FROM ships WHERE id = ?", (ship,)).fetchone()
            if before is not None and (before["state"], before["reason"]) != (state, reason):
                db.execute("UPDATE ships SET state = ?, reason = ? WHERE id = ?", (state, reason, ship))
                add_event(db, "ship", ship, None, f"{state}{f': {reason}' if reason else ''}")

    def enable_replacement(self) -> None:
        """Have lost ships replaced from now on."""
        with self._write() as db:
            db.execute("UPDATE voyage SET replace_lost = 1")

    def replace_ships(self, recreate: Sequence[str], substitute: Sequence[str]) -> None:
        """Store which ships are being replaced.

        Args:
            recreate: ships whose sprite is gone and is made again under its name.
            substitute: ships that a new one takes the place of.
        """
        with self._write() as db:
            (position,) = db.execute("SELECT max(position) FROM ships").fetchone()
            (voyage,) = db.execute("SELECT id FROM voyage").fetchone()
            (number,) = db.execute("SELECT count(*) FROM ships WHERE role = 'work'").fetchone()
            for more, old in enumerate(substitute):
                ship = f"ship-{number + more}"
                db.execute(
                    "INSERT INTO ships (id, position, sprite, state) VALUES (?, ?, ?, 'provisioning')",
                    (ship, position + 1 + more, f"{voyage}-{ship}"),
                )
                db.execute("UPDATE ships SET replaced_by = ? WHERE id = ?", (ship, old))
                add_event(db, "replace", old, None, f"{ship} takes its place")
            for ship in recreate:
                add_event(db, "replace", ship, None, "it is made again")
            db.execute("UPDATE voyage SET replacements = replacements + ?", (len(recreate) + len(substitute),))

    def make_verify_ship(self, instead_of: str | None = None) -> None:
        """Store that the ship for the final verify is being made again.

        Args:
            instead_of: a ship that was destroyed to make room for it.
        """
        with self._write() as db:
            db.execute(
                "UPDATE ships SET state = 'provisioning', reason = NULL, head = NULL WHERE id = ?", (VERIFY_SHIP,)
            )
            add_event(db, "replace", VERIFY_SHIP, None, "it is made again")
            if instead_of:
                reason = "it made room for the final verify"
                db.execute(
                    "UPDATE ships SET state = 'gone', reason = ?, replaced_by = ? WHERE id = ?",
                    (reason, VERIFY_SHIP, instead_of),
                )
                add_event(db, "ship", instead_of, None, f"gone: {reason}")

    def count_verify_ships_made(self) -> int:
        """Return how often the ship for the final verify was made again."""
        found = self._db.execute("SELECT count(*) FROM events WHERE kind = 'replace' AND ship = ?", (VERIFY_SHIP,))
        return int(found.fetchone()[0])

    def set_ship_head(self, ship: str, commit: str | None) -> None:
        """Store the newest commit that a ship has (None: unknown)."""
        with self._write() as db:
            db.execute("UPDATE ships SET head = ? WHERE id = ?", (commit, ship))

    def set_ship_cursors(self, ship: str, journal: str, cursors: Mapping[str, int]) -> None:
        """Store the number up to which a ship's records are processed, by class of records."""
        with self._write() as db:
            db.execute(
                "UPDATE ships SET journal = ?, cursors = ? WHERE id = ?", (journal, json.dumps(dict(cursors)), ship)
            )

    def telemetry_mark(self, ship: str) -> tuple[str, int, int] | None:
        """Return the last call of a ship's telemetry that is known: id of its numbering, number, bytes up to it."""
        (found,) = self._db.execute("SELECT telemetry FROM ships WHERE id = ?", (ship,)).fetchone() or (None,)
        return tuple(json.loads(found)) if found else None

    def set_telemetry_marks(self, marks: Mapping[str, tuple[str, int, int]]) -> None:
        """Store the last calls of ships' telemetry that are known, by ship; see :meth:`telemetry_mark`."""
        with self._write() as db:
            for ship, mark in marks.items():
                db.execute("UPDATE ships SET telemetry = ? WHERE id = ?", (json.dumps(mark), ship))

    def ships(self) -> list[ShipRow]:
        """Return the ships in order."""
        return [_ship(row) for row in self._db.execute(f"{_SHIPS} ORDER BY position")]

    def ship_row(self, ship: str) -> ShipRow:
        """Return one ship."""
        return _ship(self._db.execute(f"{_SHIPS} WHERE id = ?", (ship,)).fetchone())

    def has_worked(self, ship: str) -> bool:
        """Whether a ship was ever handed a task."""
        return bool(self._db.execute("SELECT 1 FROM attempts WHERE ship = ? LIMIT 1", (ship,)).fetchone())


def _ship(row: sqlite3.Row) -> ShipRow:
    return ShipRow(**{**dict(row), "cursors": json.loads(row["cursors"])})
