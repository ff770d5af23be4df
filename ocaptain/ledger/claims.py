"""Which ship holds which task: claims, the ends of attempts, and the tasks that can be claimed.

A task's life::

    pending ──claim──> in_progress ──begin/finish_landing──> completed
       ^                    │
       └──lose, conflict────┤      (no failure is counted)
       └──fail──────────────┘      (the third one: failed, dependents held by it)
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

from ocaptain.ledger.records import Claim
from ocaptain.ledger.store import Store, add_event, held_task, hold_dependents

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence


MAX_FAILURES = 3
MAX_CHANCES = 2  # failures of one session, after which an attempt starts a new one
MAX_SESSIONS = 3
#: A task that can be claimed, as far as its ship may be; the index ``ready`` has all of this but the approval.
_READY = "status = 'pending' AND blockers = 0 AND held_by IS NULL AND approved = 1"


class Claims(Store):
    """Tasks and the attempts at them."""

    def claim(
        self,
        ship: str,
        *,
        preferred: Collection[str] = (),
        excluded: Collection[str] = (),
        free: Collection[str] = (),
        last: Collection[str] = (),
    ) -> Claim | None:
        """Hand the best ready task to ``ship``: longest remaining chain first, then lowest id.

        Args:
            ship: its id.
            preferred: tasks that this ship had and should get again, before all others.
            excluded: tasks that are reserved for another ship for now.
            free: other ships that can take a task: tasks that prefer them are left to them.
            last: tasks that are handed out only when no other is ready.
        """
        with self._write() as db:
            row = _ready(db, ship, among=preferred) if preferred else None
            for without in ([*excluded, *last], excluded) if last else (excluded,):
                row = row or _ready_and_preferred(db, ship, without=without)
                row = row or _ready(db, ship, without=without, free=free)
            if row is None:
                return None
            token, opening = db.execute(
                "UPDATE voyage SET last_token = last_token + 1 RETURNING last_token, opening"
            ).fetchone()
            number = row["attempts"] + 1
            db.execute(
                "UPDATE tasks SET status = 'in_progress', token = ?, ship = ?, attempts = ? WHERE id = ?",
                (token, ship, number, row["id"]),
            )
            session = str(uuid.uuid4())
            db.execute(
                "INSERT INTO attempts (token, task, number, ship, opening, state, session, started)"
                " VALUES (?, ?, ?, ?, ?, 'claimed', ?, ?)",
                (token, row["id"], number, ship, opening, session, time.time()),
            )
            db.execute("UPDATE ships SET state = 'working', reason = NULL WHERE id = ?", (ship,))
            add_event(db, "claim", ship, row["id"], f"attempt {number}")
            self._note_changed(row["id"])
            raw = json.loads(row["raw"])
            sessions, work = _earlier_sessions(db, row["id"], ship, token)
            return Claim(
                token=token,
                task=row["id"],
                number=number,
                ship=ship,
                agent=row["agent"],
                raw=raw,
                base=None,
                reason=row["reason"],
                opening=opening,
                session=session,
                sessions=sessions,
                work=work,
            )

    def record_start(self, token: int, base: str) -> None:
        """Store the commit that an attempt starts from."""
        with self._write() as db:
            db.execute("UPDATE attempts SET base = ? WHERE token = ? AND state = 'claimed'", (base, token))

    def record_offer(self, token: int, *, work: str | None, code: int, seconds: float) -> bool:
        """Store what an attempt offered; return whether it still holds its task.

        Args:
            token: the attempt.
            work: commit of its files.
            code: exit code of its agent.
            seconds: that it took.
        """
        with self._write() as db:
            if not held_task(db, token):
                return False
            db.execute(
                "UPDATE attempts SET state = 'offered', work = ?, exit_code = ?, seconds = ? WHERE token = ?",
                (work, code, seconds, token),
            )
            return True

    def note_work(self, token: int, work: str | None, *, fresh: bool) -> None:
        """Store an attempt's work; ``fresh``: the next attempt must not resume its session.

        Args:
            token: the attempt.
            work: commit of the files that it left, None if it left none.
            fresh: whether its session must not be resumed.
        """
        with self._write() as db:
            db.execute(
                "UPDATE attempts SET work = coalesce(?, work), fresh = max(fresh, ?) WHERE token = ?",
                (work, int(fresh), token),
            )

    def return_task(
        self,
        token: int,
        state: str,
        reason: str,
        *,
        ship_state: str = "idle",
        evidence: Mapping[str, Any] | None = None,
        hold: bool = False,
    ) -> bool:
        """Return a task to the pool without counting a failure.

        Args:
            token: the attempt.
            state: that the attempt ends in: ``lost``, ``conflict``, ``sunk``, ``waited`` or ``denied``.
            reason: why, for the next attempt. If the service was busy (``waited``) or refused the credential
                (``denied``), an earlier reason about the work itself is kept.
            ship_state: new state of the ship that held it.
            evidence: what is known of the attempt, for people; None = nothing new.
            hold: whether no ship gets it, nor what depends on it, until the user retries it: it is held by itself.

        Returns:
            Whether the attempt still held its task.
        """
        with self._write() as db:
            row = held_task(db, token)
            if row:
                db.execute(
                    "UPDATE tasks SET status = 'pending', token = NULL, ship = NULL,"
                    " reason = CASE WHEN ?1 IN ('waited', 'denied') THEN coalesce(reason, ?2) ELSE ?2 END"
                    " WHERE id = ?3",
                    (state, reason, row["id"]),
                )
                kind, text = ("held", f"is held: {reason}") if hold else (state, reason)
                add_event(db, kind, row["ship"], row["id"], text)
                self._note_changed(row["id"])
                if hold:
                    db.execute("UPDATE tasks SET held_by = id WHERE id = ?", (row["id"],))
                    self._note_changed(*hold_dependents(db, row["id"]))
                db.execute(
                    "UPDATE ships SET state = ?, reason = CASE ? WHEN 'idle' THEN reason ELSE ? END WHERE id = ?",
                    (ship_state, ship_state, reason, row["ship"]),
                )
            db.execute(
                "UPDATE attempts SET state = ?, reason = ?, ended = ?, evidence = coalesce(?, evidence)"
                " WHERE token = ? AND state NOT IN ('landed', 'failed')",
                (state, reason, time.time(), json.dumps(evidence) if evidence else None, token),
            )
            return bool(row)

    def fail(
        self, token: int, reason: str, evidence: Mapping[str, Any] | None = None, *, final: bool = False
    ) -> str | None:
        """Count a failed attempt; return the task's new status, None if the token lost its task.

        The third failure, or a ``final`` one, fails the task for good; all tasks that depend on it, directly
        or not, are held by it.
        """
        with self._write() as db:
            row = held_task(db, token)
            if not row:
                return None
            db.execute(
                "UPDATE attempts SET state = 'failed', reason = ?, ended = ?, evidence = coalesce(?, evidence)"
                " WHERE token = ?",
                (reason, time.time(), json.dumps(evidence) if evidence else None, token),
            )
            status = "failed" if final or row["tries"] + 1 >= MAX_FAILURES else "pending"
            db.execute(
                "UPDATE tasks SET status = ?, tries = tries + 1, token = NULL, reason = ?,"
                " ship = CASE ? WHEN 'failed' THEN ship END WHERE id = ?",
                (status, reason, status, row["id"]),
            )
            db.execute("UPDATE ships SET state = 'idle' WHERE id = ? AND state = 'working'", (row["ship"],))
            self._note_changed(row["id"])
            if status == "failed":
                self._note_changed(*hold_dependents(db, row["id"]))
            add_event(db, status if status == "failed" else "retry", row["ship"], row["id"], reason)
            return status

    def note_late_result(self, token: int, reason: str) -> None:
        """Note that a lost attempt's result came late and was saved."""
        with self._write() as db:
            row = db.execute("SELECT task, ship FROM attempts WHERE token = ?", (token,)).fetchone()
            if row:
                db.execute(
                    "UPDATE attempts SET state = 'late', reason = ? WHERE token = ? AND state = 'lost'", (reason, token)
                )
                add_event(db, "late", row["ship"], row["task"], reason)

    def held_claim(self, ship: str) -> Claim | None:
        """Return the claim that ``ship`` holds, None if it holds none."""
        row = self._db.execute(
            "SELECT a.token, a.task, a.number, a.ship, t.agent, t.raw, a.base, t.reason, a.opening, a.session"
            " FROM tasks t JOIN attempts a ON a.token = t.token WHERE t.status = 'in_progress' AND t.ship = ?",
            (ship,),
        ).fetchone()
        if row is None:
            return None
        sessions, work = _earlier_sessions(self._db, row["task"], ship, row["token"])
        more = {"raw": json.loads(row["raw"]), "session": row["session"] or "", "sessions": sessions, "work": work}
        return Claim(**{**dict(row), **more})

    def attempt_row(self, token: int) -> dict[str, Any] | None:
        """Return an attempt's row, None if there is no such attempt."""
        row = self._db.execute("SELECT * FROM attempts WHERE token = ?", (token,)).fetchone()
        return dict(row) if row else None

    def count_losses(self, task: str) -> int:
        """Return how many attempts at a task were lost (neither failed nor in conflict), since its last retry."""
        row = self._db.execute(
            "SELECT count(*) FROM attempts a JOIN tasks t ON t.id = a.task"
            " WHERE a.task = ? AND a.state IN ('lost', 'late') AND a.token > coalesce(t.retried, 0)",
            (task,),
        )
        return int(row.fetchone()[0])

    def count_returns_for(self, task: str, reason: str) -> int:
        """Return how often a task was handed back, uncounted, for a reason that begins like this since its retry."""
        row = self._db.execute(
            "SELECT count(*) FROM attempts a JOIN tasks t ON t.id = a.task WHERE a.task = ?1 AND a.state = 'conflict'"
            " AND substr(a.reason, 1, length(?2)) = ?2 AND a.token > coalesce(t.retried, 0)",
            (task, reason),
        )
        return int(row.fetchone()[0])

    def count_waits(self, task: str) -> int:
        """Return how many of the last ended attempts since a task's last retry, in a row, found the service busy."""
        waits = 0
        ended = self._db.execute(
            "SELECT a.state FROM attempts a JOIN tasks t ON t.id = a.task"
            " WHERE a.task = ? AND (t.token IS NULL OR a.token != t.token) AND a.token > coalesce(t.retried, 0)"
            " ORDER BY a.token DESC",
            (task,),
        )
        for (state,) in ended:
            if state != "waited":
                break
            waits += 1
        return waits

    def ready_tasks(self, ships: Sequence[str], excluded: Collection[str] = ()) -> list[tuple[str, str | None]]:
        """Return (task, pin) of tasks that ``ships`` could claim now, enough for one each; unpinned tasks last.

        Args:
            ships: their ids.
            excluded: tasks that are reserved for some ship, and are not returned.
        """
        without = json.dumps(list(excluded))
        found: list[tuple[str, str | None]] = []
        for ship in ships:
            row = self._db.execute(
                f"SELECT id, pin FROM tasks INDEXED BY ready_pinned WHERE pin = ? AND {_READY}"  # noqa: S608 - our words
                " AND id NOT IN (SELECT value FROM json_each(?)) LIMIT 1",
                (ship, without),
            ).fetchone()
            found += [(row["id"], row["pin"])] if row else []
        rows = self._db.execute(
            f"SELECT id FROM tasks INDEXED BY ready WHERE {_READY}"  # noqa: S608 - likewise
            " AND pin IS NULL AND id NOT IN (SELECT value FROM json_each(?)) LIMIT ?",
            (without, len(ships)),
        )
        return [*found, *((row["id"], None) for row in rows)]

    def ready_order(self) -> list[str]:
        """Return every task that could be claimed now, the best first."""
        rows = self._db.execute(
            f"SELECT id FROM tasks INDEXED BY ready WHERE {_READY}"  # noqa: S608 - likewise
            " ORDER BY priority DESC, position"
        )
        return [row["id"] for row in rows]

    def running_tasks(self) -> list[str]:
        """Return every task that a ship works on."""
        return [row["id"] for row in self._db.execute("SELECT id FROM tasks WHERE status = 'in_progress'")]

    def task_paths(self) -> dict[str, tuple[str, ...]]:
        """Return ``metadata.paths`` of the tasks that have any and are not completed."""
        rows = self._db.execute("SELECT id, raw FROM tasks WHERE status != 'completed' AND raw LIKE '%\"paths\"%'")
        found = {row["id"]: (json.loads(row["raw"]).get("metadata") or {}).get("paths") for row in rows}
        return {task: tuple(globs) for task, globs in found.items() if globs}

    def is_ready(self, task: str, ship: str) -> bool:
        """Whether ``ship`` could claim a task now."""
        row = self._db.execute(
            f"SELECT 1 FROM tasks WHERE id = ? AND {_READY}"  # noqa: S608 - likewise
            " AND (pin IS NULL OR pin = ?)",
            (task, ship),
        )
        return row.fetchone() is not None

    def preferred_ships(self, tasks: Sequence[str]) -> dict[str, str]:
        """Return, by task, the ship that the plan prefers, of tasks that have one."""
        rows = self._db.execute(
            "SELECT id, wish FROM tasks WHERE wish IS NOT NULL AND id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(tasks)),),
        )
        return {row["id"]: row["wish"] for row in rows}

    def has_claimable_task(self, ships: Sequence[str]) -> bool:
        """Whether one of ``ships`` could claim a task now."""
        marks = ",".join("?" * len(ships))
        return bool(
            ships
            and self._db.execute(
                f"SELECT 1 FROM tasks INDEXED BY ready WHERE {_READY}"  # noqa: S608 - only ?
                f" AND (pin IS NULL OR pin IN ({marks})) LIMIT 1",
                ships,
            ).fetchone()
        )


def _earlier_sessions(db: sqlite3.Connection, task: str, ship: str, token: int) -> tuple[tuple[str, ...], str | None]:
    """Return the sessions that an attempt may resume, and the commit of the last work left on the ship.

    Only sessions of this ship, since their transcripts are nowhere else. A session with :data:`MAX_CHANCES` failures
    or conflicts is not resumed. An attempt without a result (its service was busy, its ship was lost) does not
    count against the session before it.
    """
    rows = db.execute(
        "SELECT session, work, fresh, state FROM attempts"
        " WHERE task = ? AND ship = ? AND token < ? AND session IS NOT NULL ORDER BY token DESC",
        (task, ship, token),
    ).fetchall()
    failures = Counter(row["session"] for row in rows if row["state"] in {"failed", "conflict"})
    not_resumable = {row["session"] for row in rows if row["fresh"]}
    known = dict.fromkeys(row["session"] for row in rows)
    resumable = [one for one in known if failures[one] < MAX_CHANCES and one not in not_resumable]
    return tuple(resumable[:MAX_SESSIONS]), next((row["work"] for row in rows if row["work"]), None)


def _ready(
    db: sqlite3.Connection,
    ship: str,
    *,
    among: Collection[str] | None = None,
    without: Collection[str] = (),
    free: Collection[str] = (),
) -> sqlite3.Row | None:
    """Return the best task that ``ship`` could claim now. The query must follow an index's order, for large plans."""
    chosen = "" if among is None else " AND id IN (SELECT value FROM json_each(:among))"
    left = " AND id NOT IN (SELECT value FROM json_each(:without))" if without else ""
    left += " AND (wish IS NULL OR wish NOT IN (SELECT value FROM json_each(:free)))" if free else ""
    found: sqlite3.Row | None = db.execute(
        "SELECT id, raw, agent, attempts, reason FROM tasks INDEXED BY ready"  # noqa: S608 - our own words
        f" WHERE {_READY} AND (pin IS NULL OR pin = :ship){chosen}{left}"
        " ORDER BY priority DESC, position LIMIT 1",
        {
            "ship": ship,
            "among": json.dumps(list(among or ())),
            "without": json.dumps(list(without)),
            "free": json.dumps(list(free)),
        },
    ).fetchone()
    return found


def _ready_and_preferred(db: sqlite3.Connection, ship: str, *, without: Collection[str]) -> sqlite3.Row | None:
    """Return the best ready task that prefers ``ship``."""
    found: sqlite3.Row | None = db.execute(
        "SELECT id, raw, agent, attempts, reason FROM tasks INDEXED BY ready_wished"  # noqa: S608 - likewise
        f" WHERE wish = ? AND {_READY}"
        " AND (pin IS NULL OR pin = ?) AND id NOT IN (SELECT value FROM json_each(?))"
        " ORDER BY priority DESC, position LIMIT 1",
        (ship, ship, json.dumps(list(without))),
    ).fetchone()
    return found
