"""What a voyage cost: tokens, and the time that ships were awake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ocaptain.ledger.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocaptain.ledger.records import (
        Spent,
    )


class Spending(Store):
    """What a voyage cost: tokens, and the time that ships were awake."""

    def record_spent(self, token: int, spent: Spent, session: str | None) -> None:
        """Store what an attempt used so far, and its session; fewer tokens than stored are an older report, ignored."""
        with self._write() as db:
            db.execute(
                "UPDATE attempts SET model = ?, tokens_in = ?, tokens_out = ?, tokens_cached = ?, cost_nano = ?,"
                " cost_mark = ?, usage = ?, session = coalesce(?, session) WHERE token = ?"
                " AND coalesce(tokens_in, 0) + coalesce(tokens_out, 0) <= ?",
                (
                    *(spent.model, spent.tokens_in, spent.tokens_out, spent.tokens_cached, spent.cost_nano),
                    *(spent.mark, json.dumps(list(spent.usage)), session, token, spent.tokens_in + spent.tokens_out),
                ),
            )

    def set_log_skipped(self, token: int, skipped: int) -> None:
        """Store how many bytes of an attempt's log are missing in its file, minus the notes about that."""
        with self._write() as db:
            db.execute("UPDATE attempts SET log_skipped = ? WHERE token = ?", (skipped, token))

    def meters(self) -> dict[str, Mapping[str, Any]]:
        """Return the meters of ships' awake time, by ship, as :meth:`add_awake_seconds` stored them."""
        rows = self._db.execute("SELECT id, meter FROM ships WHERE meter IS NOT NULL")
        return {row["id"]: json.loads(row["meter"]) for row in rows}

    def add_awake_seconds(self, by_ship: Mapping[str, tuple[Mapping[str, Any] | None, float]]) -> None:
        """Add to the time that ships were awake.

        Args:
            by_ship: the ship's new meter (None: it has none), and the seconds to add.
        """
        with self._write() as db:
            db.executemany(
                "UPDATE ships SET awake_seconds = max(0.0, awake_seconds + ?), meter = coalesce(?, meter) WHERE id = ?",
                [(seconds, json.dumps(meter) if meter else None, ship) for ship, (meter, seconds) in by_ship.items()],
            )

    def total_spending(self) -> dict[str, Any]:
        """Return the sums of what all attempts used; triggers keep them up to date."""
        return dict(self._db.execute("SELECT * FROM spending").fetchone())
