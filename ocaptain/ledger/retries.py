"""What failed and is tried again after all: as a user asks, or since it was not to blame."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from ocaptain.ledger.store import Store, add_event, hold_dependents

if TYPE_CHECKING:
    from collections.abc import Collection


class Retries(Store):
    """Failures that are taken back."""

    def retry(self, tasks: Collection[str]) -> list[str]:
        """Put tasks that failed for good back, with fresh tries; return them, in the plan's order.

        What waits for them is held no more, unless another task that it waits for has failed, too.

        Args:
            tasks: that are meant; none = all that failed. Others are left as they are.
        """
        with self._write() as db:
            rows = db.execute(
                "UPDATE tasks SET status = 'pending', tries = 0, ship = NULL WHERE status = 'failed'"
                " AND (?1 = '[]' OR id IN (SELECT value FROM json_each(?1))) RETURNING id, position",
                (json.dumps(list(tasks)),),
            ).fetchall()
            back = [row["id"] for row in sorted(rows, key=lambda row: row["position"])]
            free = db.execute(
                "UPDATE tasks SET held_by = NULL WHERE held_by IN (SELECT value FROM json_each(?)) RETURNING id",
                (json.dumps(back),),
            ).fetchall()
            for row in db.execute("SELECT id FROM tasks WHERE status = 'failed' ORDER BY position").fetchall():
                hold_dependents(db, row["id"])
            for task in back:
                add_event(db, "again", None, task, "it is tried again, as was asked")
            self._note_changed(*back, *(row["id"] for row in free))
            return back

    def forgive(self, since: float) -> tuple[list[str], list[str]]:
        """Take back the blame for what failed since a time: it was not theirs.

        Attempts that failed count no more, tasks that failed by them are tried again, and ships that
        were taken out of service sail again.

        Returns:
            The tasks, and the ships.
        """
        with self._write() as db:
            failed = db.execute(
                "UPDATE attempts SET state = 'lost' WHERE state = 'failed' AND ended >= ? RETURNING task", (since,)
            ).fetchall()
            counts = Counter(row["task"] for row in failed)
            for task, count in counts.items():
                db.execute("UPDATE tasks SET tries = max(0, tries - ?) WHERE id = ?", (count, task))
                db.execute(
                    "UPDATE tasks SET status = 'pending', ship = NULL WHERE id = ? AND status = 'failed'", (task,)
                )
                freed = db.execute("UPDATE tasks SET held_by = NULL WHERE held_by = ? RETURNING id", (task,)).fetchall()
                self._note_changed(task, *(row["id"] for row in freed))
            for row in db.execute("SELECT id FROM tasks WHERE status = 'failed' ORDER BY position").fetchall():
                hold_dependents(db, row["id"])
            ships = db.execute(
                "UPDATE ships SET state = 'lost', reason = NULL WHERE state = 'failed' AND replaced_by IS NULL"
                " AND id IN (SELECT ship FROM events WHERE kind = 'ship' AND at >= ? AND text LIKE 'failed%')"
                " RETURNING id",
                (since,),
            ).fetchall()
            for task in counts:
                add_event(db, "forgiven", None, task, "its failure was not its own: it is tried again")
            for row in ships:
                add_event(db, "forgiven", row["id"], None, "its fault was not its own: it sails again")
            return list(counts), [row["id"] for row in ships]
