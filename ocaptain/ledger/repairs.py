"""Repairs: failures that are undone, and landings and numbers that an older copy of the ledger lacks."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ocaptain.ledger.store import HOLDING, Store, add_event, hold_anew, hold_dependents

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Mapping, Sequence


@dataclass(frozen=True)
class TaskChange:
    """What replaces a task that is tried again.

    Attributes:
        task: its id.
        raw: the corrected task, in the form of the plan's JSON.
        agent, wish, pin: which agent has it, and which ship is preferred for it, or is the only one.
        approved: whether ships may have it; False = it waits for the user's approval.
        added, removed: edges (task, task that it waits for) that it adds or takes away.
        priorities: of all tasks that have not landed, if the change may alter them.
    """

    task: str
    raw: Mapping[str, Any]
    agent: str
    wish: str | None
    pin: str | None
    approved: bool
    added: frozenset[tuple[str, str]] = frozenset()
    removed: frozenset[tuple[str, str]] = frozenset()
    priorities: Mapping[str, int] = field(default_factory=dict)


class Repairs(Store):
    """Undo failures, approve tasks, and bring a ledger that went back in time up to date."""

    def retry_failed(
        self,
        tasks: Collection[str],
        *,
        changes: Sequence[TaskChange] = (),
        unpin: Collection[str] = (),
        voyage: Mapping[str, str] | None = None,
        answer: Callable[[list[str]], Mapping[str, Any]] | None = None,
    ) -> list[str]:
        """Return tasks that failed for good, or that people gave back too often, to the pool; return them, in order.

        Tasks that depend on them are held no more, unless another task that they depend on has failed, too. A voyage
        that ended as ``failed`` runs again if a task was returned, changed or unpinned.

        Args:
            tasks: ids; empty = all such tasks. Others are left as they are.
            changes: of tasks that are changed first.
            unpin: ids of tasks that any ship may have from now on.
            voyage: new values of the voyage's ``agent_cmd`` and ``model``.
            answer: makes the answer to the command, of the tasks that were returned; stored with it.
        """
        with self._write() as db:
            _change_tasks(db, changes)
            db.execute(
                "UPDATE tasks SET pin = NULL, raw = json_remove(raw, '$.metadata.pin')"
                " WHERE id IN (SELECT value FROM json_each(?)) AND status != 'completed'",
                (json.dumps(list(unpin)),),
            )
            for column in ("agent_cmd", "model"):
                if value := (voyage or {}).get(column):
                    db.execute(f"UPDATE voyage SET {column} = ?", (value,))  # noqa: S608 - our own names
            rows = db.execute(
                "UPDATE tasks SET status = 'pending', tries = 0, ship = NULL, held_by = NULL,"
                " retried = (SELECT last_token FROM voyage)"
                " WHERE (status = 'failed' OR (status = 'pending' AND held_by = id))"
                " AND (?1 = '[]' OR id IN (SELECT value FROM json_each(?1))) RETURNING id, position",
                (json.dumps(list(tasks)),),
            ).fetchall()
            back = [row["id"] for row in sorted(rows, key=lambda row: row["position"])]
            is_reordered = any(change.added or change.removed for change in changes)
            free = db.execute(
                "UPDATE tasks SET held_by = NULL WHERE held_by IN (SELECT value FROM json_each(?1))"
                " OR (?2 AND held_by IS NOT NULL AND held_by != id) RETURNING id",
                (json.dumps(back), is_reordered),
            ).fetchall()
            again: list[str] = []
            for row in db.execute(f"SELECT id FROM tasks WHERE {HOLDING} ORDER BY position").fetchall():  # noqa: S608
                again += hold_dependents(db, row["id"])
            for task in back:
                add_event(db, "again", None, task, "the user asked to try it again")
            changed = [*back, *(change.task for change in changes), *unpin]
            if (
                changed
                and db.execute("UPDATE voyage SET state = 'running', note = NULL WHERE state = 'failed'").rowcount
            ):
                add_event(db, "voyage", None, None, "running")
            if answer:
                add_event(db, "command", None, None, json.dumps(answer(back)))
            self._note_changed(*changed, *(row["id"] for row in free), *again)
            return back

    def approve(self, tasks: Collection[str], answer: Callable[[list[str]], Mapping[str, Any]]) -> list[str]:
        """Let ships have tasks that wait for the user's approval; return those that waited.

        Args:
            tasks: ids.
            answer: makes the answer to the command, of the tasks that waited; stored with it.
        """
        with self._write() as db:
            rows = db.execute(
                "UPDATE tasks SET approved = 1 WHERE approved = 0 AND id IN (SELECT value FROM json_each(?))"
                " RETURNING id, position",
                (json.dumps(list(tasks)),),
            ).fetchall()
            approved = [row["id"] for row in sorted(rows, key=lambda row: row["position"])]
            for task in approved:
                add_event(db, "approved", None, task, "the user approved it")
            add_event(db, "command", None, None, json.dumps(answer(approved)))
            self._note_changed(*approved)
            return approved

    def undo_failures(self, since: float) -> tuple[list[str], list[str]]:
        """Undo the failures since a time, which this machine or the repository caused.

        Failed attempts do not count any more, tasks that failed by them are tried again, and ships that
        were taken out of service are used again.

        Args:
            since: Unix seconds.

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
            for row in db.execute(f"SELECT id FROM tasks WHERE {HOLDING} ORDER BY position").fetchall():  # noqa: S608
                hold_dependents(db, row["id"])
            ships = db.execute(
                "UPDATE ships SET state = 'lost', reason = NULL WHERE state = 'failed' AND replaced_by IS NULL"
                " AND id IN (SELECT ship FROM events WHERE kind = 'ship' AND at >= ? AND text LIKE 'failed%')"
                " RETURNING id",
                (since,),
            ).fetchall()
            for task in counts:
                add_event(
                    db, "forgiven", None, task, "this machine or the repository caused its failure: it is tried again"
                )
            for row in ships:
                add_event(
                    db, "forgiven", row["id"], None, "this machine or the repository caused its fault: it is used again"
                )
            return list(counts), [row["id"] for row in ships]

    def adopt_landing(self, task: str, ship: str, number: int, commit: str) -> None:
        """Add a landing that is on the branch and that this ledger lacks."""
        with self._write() as db:
            row = db.execute("SELECT status, token FROM tasks WHERE id = ?", (task,)).fetchone()
            if row is None or row["status"] == "completed":
                return
            token = _attempt_of(db, task, ship, number)
            db.execute("UPDATE attempts SET state = 'landed', ended = ? WHERE token = ?", (time.time(), token))
            if row["token"] not in {None, token}:
                db.execute(
                    "UPDATE attempts SET state = 'lost', reason = ?, ended = ? WHERE token = ?",
                    ("the task had landed already", time.time(), row["token"]),
                )
            db.execute("UPDATE intents SET state = 'done' WHERE token = ?", (token,))
            db.execute(
                "UPDATE tasks SET status = 'completed', commit_id = ?, ship = ?, token = ?, reason = NULL,"
                " held_by = NULL, attempts = max(attempts, ?) WHERE id = ?",
                (commit, ship, token, number, task),
            )
            hold_anew(db, task)
            db.execute(
                "UPDATE tasks SET blockers = blockers - 1 WHERE id IN (SELECT task FROM edges WHERE waits = ?)", (task,)
            )
            db.execute(
                "INSERT INTO landings (kind, task, token, commit_id, at) VALUES ('task', ?, ?, ?, ?)",
                (task, token, commit, time.time()),
            )
            add_event(db, "adopted", ship, task, f"{commit} is on the branch, and this ledger lacked its landing")
            self._note_changed(task)

    def raise_counters(self, attempts: Mapping[str, int], token: int) -> None:
        """Raise the numbers of attempts and the last token, so that new ones do not repeat those found in refs."""
        with self._write() as db:
            db.execute("UPDATE voyage SET last_token = max(last_token, ?)", (token,))
            db.executemany(
                "UPDATE tasks SET attempts = ? WHERE id = ? AND attempts < ?",
                [(number, task, number) for task, number in attempts.items()],
            )

    def raise_fence(self, epoch: int, generation: int) -> None:
        """Raise epoch and generation, so that ships that know these numbers obey this captain."""
        with self._write() as db:
            (self.epoch,) = db.execute(
                "UPDATE voyage SET epoch = max(epoch, ?), generation = max(generation, ?) RETURNING epoch",
                (epoch, generation),
            ).fetchone()

    def generation(self) -> int:
        """Return the number of the newest channel."""
        return int(self._db.execute("SELECT generation FROM voyage").fetchone()[0])


def _change_tasks(db: sqlite3.Connection, changes: Sequence[TaskChange]) -> None:
    """Replace tasks that no ship works on, and their edges."""
    for change in changes:
        db.execute(
            "UPDATE tasks SET raw = ?, subject = ?, agent = ?, wish = ?, pin = ?, approved = ? WHERE id = ?"
            " AND status IN ('pending', 'failed')",
            (
                json.dumps(change.raw, ensure_ascii=False),
                change.raw["subject"],
                change.agent,
                change.wish,
                change.pin,
                int(change.approved),
                change.task,
            ),
        )
        db.executemany("DELETE FROM edges WHERE task = ? AND waits = ?", change.removed)
        db.executemany("INSERT OR IGNORE INTO edges (task, waits) VALUES (?, ?)", change.added)
        db.executemany(
            "UPDATE tasks SET blockers = (SELECT count(*) FROM edges e JOIN tasks w ON w.id = e.waits"
            " WHERE e.task = tasks.id AND w.status != 'completed') WHERE id = ?",
            {(task,) for task, _ in change.added | change.removed},
        )
        db.executemany(
            "UPDATE tasks SET priority = ? WHERE id = ? AND priority != ?",
            [(priority, task, priority) for task, priority in change.priorities.items()],
        )


def _attempt_of(db: sqlite3.Connection, task: str, ship: str, number: int) -> int:
    """Return the token of an attempt; adds the attempt if this ledger lacks it."""
    row = db.execute("SELECT token FROM attempts WHERE task = ? AND number = ?", (task, number)).fetchone()
    if row is not None:
        return int(row["token"])
    (token,) = db.execute("UPDATE voyage SET last_token = last_token + 1 RETURNING last_token").fetchone()
    db.execute(
        "INSERT INTO attempts (token, task, number, ship, state, started) VALUES (?, ?, ?, ?, 'lost', ?)",
        (token, task, number, ship, time.time()),
    )
    return int(token)
