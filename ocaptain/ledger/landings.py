"""What landed: intents, commits, saved refs, and the final verify."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from ocaptain.ledger.records import (
    Intent,
    LedgerError,
)
from ocaptain.ledger.store import Store, add_event, held_task, hold_anew
from ocaptain.names import stage_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Landings(Store):
    """What landed: intents, commits, saved refs, and the final verify."""

    def begin_landing(self, token: int, ref: str, old: str, new: str, evidence: Mapping[str, Any]) -> bool:
        """Store the intent to move ``ref`` from ``old`` to ``new``; return False if the token lost its task.

        Raises:
            LedgerError: another landing of this token is under way.
        """
        with self._write() as db:
            row = held_task(db, token)
            if not row:
                return False
            begun = db.execute(
                "INSERT INTO intents (token, task, ref, old, new, state) VALUES (?, ?, ?, ?, ?, 'open')"
                " ON CONFLICT (token) DO UPDATE SET ref = excluded.ref, old = excluded.old, new = excluded.new,"
                " state = 'open' WHERE state = 'void'",
                (token, row["id"], ref, old, new),
            ).rowcount
            if not begun:
                raise LedgerError(
                    f"{self.path}: the claim with token {token} is landing already; a second landing was refused"
                )
            db.execute("UPDATE attempts SET evidence = ? WHERE token = ?", (json.dumps(evidence), token))
            return True

    def finish_landing(self, token: int) -> None:
        """Mark the task of an intent whose ref has moved as completed, and unblock the tasks that wait for it."""
        with self._write() as db:
            intent = db.execute("SELECT * FROM intents WHERE token = ? AND state = 'open'", (token,)).fetchone()
            if intent is None:
                raise LedgerError(f"{self.path}: the claim with token {token} is not being landed; please report this")
            attempt = db.execute("SELECT ship, evidence FROM attempts WHERE token = ?", (token,)).fetchone()
            db.execute("UPDATE intents SET state = 'done' WHERE token = ?", (token,))
            db.execute("UPDATE attempts SET state = 'landed', ended = ? WHERE token = ?", (time.time(), token))
            was = db.execute("SELECT status FROM tasks WHERE id = ?", (intent["task"],)).fetchone()["status"]
            changed = db.execute(
                "UPDATE tasks SET status = 'completed', commit_id = ?, ship = ?, token = ?, reason = NULL,"
                " held_by = NULL WHERE id = ? AND status != 'completed'",
                (intent["new"], attempt["ship"], token, intent["task"]),
            ).rowcount
            if was == "failed":  # for good, but then the branch was moved after all: it holds no task any more
                hold_anew(db, intent["task"])
            if changed:
                db.execute(
                    "UPDATE tasks SET blockers = blockers - 1 WHERE id IN (SELECT task FROM edges WHERE waits = ?)",
                    (intent["task"],),
                )
                db.execute(
                    "INSERT INTO landings (kind, task, token, commit_id, at) VALUES ('task', ?, ?, ?, ?)",
                    (intent["task"], token, intent["new"], time.time()),
                )
            db.execute("UPDATE ships SET state = 'idle' WHERE id = ? AND state = 'working'", (attempt["ship"],))
            add_event(db, "landed", attempt["ship"], intent["task"], intent["new"])
            for line in json.loads(attempt["evidence"] or "{}").get("settings", []):
                add_event(db, "settings", attempt["ship"], intent["task"], line)
            self._note_changed(intent["task"])

    def void_landing(self, token: int) -> None:
        """Void an intent whose ref did not move."""
        with self._write() as db:
            db.execute("UPDATE intents SET state = 'void' WHERE token = ? AND state = 'open'", (token,))

    def open_intents(self) -> list[Intent]:
        """Return the landings that were begun and not finished."""
        rows = self._db.execute("SELECT token, task, ref, old, new FROM intents WHERE state = 'open'")
        return [Intent(**dict(row)) for row in rows]

    def add_saved_ref(
        self, ref: str, ship: str, token: int | None, commit: str, *, name: str | None = None, size: int | None = None
    ) -> None:
        """Store a ref under which work of a ship was saved.

        Args:
            ref: its name.
            ship: that made it.
            token: of the attempt, None if it is not known.
            commit: that it holds.
            name: the agent's own name for it, None for its files.
            size: bytes that it added, None if they were not counted.
        """
        with self._write() as db:
            db.execute(
                "INSERT INTO saved_refs (ref, ship, token, name, commit_id, bytes, at) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (ref) DO UPDATE SET commit_id = excluded.commit_id, name = excluded.name,"
                " bytes = excluded.bytes, at = excluded.at",
                (ref, ship, token, name, commit, size, time.time()),
            )

    def saved_commits(self, commits: Iterable[str]) -> set[str]:
        """Return those of some commits that were saved."""
        asked = json.dumps(list(commits))
        rows = self._db.execute(
            "SELECT commit_id FROM saved_refs WHERE commit_id IN (SELECT value FROM json_each(?))", (asked,)
        )
        return {row["commit_id"] for row in rows}

    def record_verify(
        self, *, ok: bool, code: int, clean: bool | None, commit: str, tail: str, ship: str, stage: str = "verify"
    ) -> None:
        """Store the result of the final verify.

        Args:
            ok: whether it passed.
            code: its exit code.
            clean: whether it ran in a fresh clone where no agent ran; None: that was not asked for.
            commit: what was verified.
            tail: the end of what it printed.
            ship: that ran it.
            stage: what the exit code is of: ``setup`` or ``verify``.
        """
        with self._write() as db:
            db.execute(
                "UPDATE voyage SET verify_ok = ?, verify_code = ?, verify_clean = ?,"
                " verify_commit = ?, verify_tail = ?, verify_stage = ?",
                (int(ok), code, None if clean is None else int(clean), commit, tail, stage),
            )
            failed = f"{stage_name(stage)} ended with exit code {code}"
            add_event(db, "verify", ship, None, f"{'passed' if ok else failed} at {commit}")

    def landed_ships(self) -> list[str]:
        """Return the ships whose work landed, the one that landed last first."""
        rows = self._db.execute(
            "SELECT a.ship FROM landings l JOIN attempts a ON a.token = l.token GROUP BY a.ship ORDER BY max(l.n) DESC"
        )
        return [row["ship"] for row in rows]

    def last_landed_at(self) -> float:
        """Return when something landed last, Unix seconds; 0 if nothing has."""
        return float(self._db.execute("SELECT coalesce(max(at), 0) FROM landings").fetchone()[0])

    def last_landing(self) -> str | None:
        """Return the commit that landed last, None if nothing has."""
        row = self._db.execute("SELECT commit_id FROM landings ORDER BY n DESC LIMIT 1").fetchone()
        return None if row is None else str(row["commit_id"])

    def landed_commits(self) -> list[str]:
        """Return every commit that landed, oldest first."""
        return [row["commit_id"] for row in self._db.execute("SELECT commit_id FROM landings ORDER BY n")]

    def task_statuses(self) -> dict[str, str]:
        """Return the status of each task."""
        return {row["id"]: row["status"] for row in self._db.execute("SELECT id, status FROM tasks")}

    def notices(self) -> list[dict[str, str]]:
        """Return the notices about landings that changed agents' settings: ``task`` and ``text``."""
        rows = self._db.execute("SELECT task, text FROM events WHERE kind = 'settings' ORDER BY n LIMIT 50")
        return [{"task": row["task"], "text": row["text"]} for row in rows]

    def gate_trial(self) -> dict[str, str] | None:
        """Return the result of the last trial of the gate: ``outcome``, ``text``, ``ship``; None if there was none."""
        row = self._db.execute(
            "SELECT substr(kind, 6) AS outcome, text, ship FROM events WHERE kind GLOB 'gate:*' ORDER BY n DESC LIMIT 1"
        ).fetchone()
        return None if row is None else dict(row)

    def recent_landings(self, limit: int) -> list[tuple[str, str]]:
        """Return (task, subject) of the last ``limit`` landings, oldest first."""
        rows = self._db.execute(
            "SELECT t.id, t.subject FROM landings l JOIN tasks t ON t.id = l.task ORDER BY l.n DESC LIMIT ?",
            (limit,),
        )
        return [(row["id"], row["subject"]) for row in rows][::-1]
