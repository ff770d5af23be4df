"""Further queries of a ledger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ocaptain.ledger.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence


class Queries(Store):
    """Further queries of a ledger."""

    def count_tasks(self) -> dict[str, int]:
        """Return how many tasks are in each state."""
        return {row[0]: row[1] for row in self._db.execute("SELECT status, n FROM task_counts ORDER BY status")}

    def summary_row(self) -> dict[str, Any]:
        """Return what one line about the voyage needs, without its plan's texts."""
        row = self._db.execute(
            "SELECT id, name, state, paused_reason, provider, substr(note, 1, 1000) AS note, created, verify_clean,"
            " (SELECT count(*) FROM tasks WHERE status IN ('pending', 'in_progress') AND tries > 0) AS retrying,"
            " (SELECT total(awake_seconds) FROM ships) AS awake_seconds FROM voyage"
        ).fetchone()
        return dict(row)

    def failed_tasks(self) -> list[str]:
        """Return the tasks that failed for good, in the plan's order."""
        return [row["id"] for row in self._db.execute("SELECT id FROM tasks WHERE status = 'failed' ORDER BY position")]

    def has_open_tasks(self) -> bool:
        """Whether a task is worked on, or pending and not held by a failed one."""
        row = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM tasks WHERE status = 'in_progress')"
            " OR EXISTS (SELECT 1 FROM tasks WHERE status = 'pending' AND held_by IS NULL)"
        ).fetchone()
        return bool(row[0])

    def brief_tasks(self) -> list[dict[str, Any]]:
        """Return all tasks in the plan's order, without the plan's long texts."""
        rows = self._db.execute(
            "SELECT id, substr(subject, 1, 300) AS subject, status, ship, token, attempts, tries, commit_id,"
            " substr(reason, 1, 1000) AS reason, held_by, approved, pin, wish,"
            " CASE WHEN json_valid(raw) THEN json_extract(raw, '$.metadata.estimate.seconds') END AS estimate"
            " FROM tasks ORDER BY position"
        )
        return [dict(row) for row in rows]

    def brief_attempts(self) -> list[dict[str, Any]]:
        """Return all attempts, oldest first, without what they left."""
        rows = self._db.execute("SELECT token, task, number, ship, state, started, ended FROM attempts ORDER BY token")
        return [dict(row) for row in rows]

    def task_landings(self) -> list[dict[str, Any]]:
        """Return what landed of tasks, oldest first: ``task``, ``token``, ``commit_id``, ``at``."""
        rows = self._db.execute("SELECT task, token, commit_id, at FROM landings WHERE kind = 'task' ORDER BY n")
        return [dict(row) for row in rows]

    def state_changes(self) -> list[tuple[float, str]]:
        """Return when the voyage came into its states, in seconds since 1970, oldest first."""
        rows = self._db.execute("SELECT at, text FROM events WHERE kind = 'voyage' ORDER BY n")
        return [(row["at"], row["text"].partition(":")[0]) for row in rows]

    def built_times(self) -> dict[str, float]:
        """Return when each ship was built first, in seconds since 1970."""
        rows = self._db.execute(
            "SELECT ship, min(at) AS at FROM events WHERE kind = 'ship' AND text = 'bootstrapping' GROUP BY ship"
        )
        return {row["ship"]: row["at"] for row in rows}

    def open_pins(self) -> set[str]:
        """Return the ships that open tasks are pinned to."""
        rows = self._db.execute(
            "SELECT DISTINCT pin FROM tasks WHERE pin IS NOT NULL AND status = 'pending' AND held_by IS NULL"
        )
        return {row["pin"] for row in rows}

    def held_tasks(self, ships: Sequence[str] | None = None) -> list[str]:
        """Return the tasks that wait for nothing but the user's approval, in the plan's order.

        Args:
            ships: only tasks that one of these may have; None = all.
        """
        rows = self._db.execute(
            "SELECT id FROM tasks WHERE approved = 0 AND +status = 'pending' AND blockers = 0 AND held_by IS NULL"
            " AND (?1 IS NULL OR pin IS NULL OR pin IN (SELECT value FROM json_each(?1))) ORDER BY position",
            (None if ships is None else json.dumps(list(ships)),),
        )
        return [row["id"] for row in rows]

    def given_back_tasks(self) -> list[str]:
        """Return the tasks that people gave back too often, and that wait for the user's `retry`, in order."""
        rows = self._db.execute("SELECT id FROM tasks WHERE held_by = id AND status = 'pending' ORDER BY position")
        return [row["id"] for row in rows]

    def answer_to(self, command: str) -> dict[str, Any] | None:
        """Return what a command was answered with, None if it was not executed yet."""
        row = self._db.execute(
            "SELECT text FROM events WHERE CASE kind WHEN 'command' THEN json_extract(text, '$.id') END = ?", (command,)
        ).fetchone()
        found: dict[str, Any] | None = row and json.loads(row["text"])
        return found

    def task_rows(self, tasks: Sequence[str]) -> list[dict[str, Any]]:
        """Return the rows of some tasks, in the plan's order."""
        rows = self._db.execute(
            "SELECT * FROM tasks WHERE id IN (SELECT value FROM json_each(?)) ORDER BY position",
            (json.dumps(list(tasks)),),
        )
        return [dict(row) for row in rows]

    def edge_rows(self, tasks: Sequence[str]) -> list[dict[str, Any]]:
        """Return the edges that start or end at some tasks."""
        rows = self._db.execute(
            "WITH some AS (SELECT value FROM json_each(?)) SELECT * FROM edges WHERE task IN some"
            " UNION SELECT * FROM edges WHERE waits IN some ORDER BY task, waits",
            (json.dumps(list(tasks)),),
        )
        return [dict(row) for row in rows]

    def tasks_by_ship(self) -> dict[str, str]:
        """Return the running task of each working ship, by ship."""
        rows = self._db.execute("SELECT ship, id FROM tasks WHERE status = 'in_progress' AND ship IS NOT NULL")
        return {row["ship"]: row["id"] for row in rows}

    def verified_on(self) -> str | None:
        """Return the ship that the final verify ran on last, None if it was not run."""
        row = self._db.execute(
            "SELECT ship FROM events WHERE kind = 'verify' AND ship IS NOT NULL ORDER BY n DESC LIMIT 1"
        ).fetchone()
        return row and str(row["ship"])

    def last_verify(self) -> tuple[str | None, float] | None:
        """Return the ship of the last final verify, and when it had ended; None if there was none that ended."""
        row = self._db.execute(
            "SELECT ship, at FROM events WHERE kind = 'verify' AND EXISTS"
            " (SELECT 1 FROM voyage WHERE verify_ok IS NOT NULL) ORDER BY n DESC LIMIT 1"
        ).fetchone()
        return row and (row["ship"], float(row["at"]))

    def verify_stage(self) -> str:
        """Return what the exit code of the final verify is of: ``setup`` or ``verify``."""
        if "verify_stage" not in {row[1] for row in self._db.execute("PRAGMA table_info(voyage)")}:
            return "verify"  # an earlier version made this ledger, and nobody has taken command of it since
        (stage,) = self._db.execute("SELECT verify_stage FROM voyage").fetchone()
        return str(stage or "verify")

    def last_event_number(self) -> int:
        """Return the number of the newest event, 0 if there is none."""
        return int(self._db.execute("SELECT coalesce(max(n), 0) FROM events").fetchone()[0])

    def last_pause(self, reason: str) -> int:
        """Return the number of the last event by which the voyage was paused for a reason, 0 if there is none."""
        row = self._db.execute("SELECT coalesce(max(n), 0) FROM events WHERE kind = 'pause' AND text = ?", (reason,))
        return int(row.fetchone()[0])

    def last_end(self) -> int:
        """Return the number of the last event by which the voyage stopped (failed, paused, sinking), 0 for none."""
        row = self._db.execute(
            "SELECT coalesce(max(n), 0) FROM events WHERE kind = 'voyage'"
            " AND substr(text, 1, instr(text || ':', ':') - 1) IN ('failed', 'paused', 'sinking')"
        )
        return int(row.fetchone()[0])

    def events_after(self, number: int) -> list[dict[str, Any]]:
        """Return the events after ``number``."""
        rows = self._db.execute("SELECT * FROM events WHERE n > ? ORDER BY n LIMIT 1000", (number,))
        return [dict(row) for row in rows]
