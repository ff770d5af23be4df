"""The ledger's writes, each one transaction, and its reads.

One writer: the process that holds the captain's lock. It takes an epoch once
(:meth:`Ledger.command`), and every write after that checks that the epoch is still its own, so
a captain that was thought dead and is not writes nothing.

A task's life::

    pending ──claim──> in_progress ──begin/finish_landing──> completed
       ^                    │
       └──lose, conflict────┤      (no failure is counted)
       └──fail──────────────┘      (the third one: failed, dependents held by it)
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from ocaptain.errors import OcaptainError
from ocaptain.ledger.migrate import OLDER, VERSION, bring_file_forward, copy_forward, schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

MOST_FAILURES = 3
MOST_CHANCES = 2  # of one session; then an attempt begins afresh
MOST_SESSIONS = 3
_BUSY_SECONDS = 30.0
#: A voyage in one of these has nothing more to do.
ENDED = ("complete", "failed", "sunk")
_SHIPS = "SELECT id, sprite, state, reason, head, journal, cursors, replaced_by, way, role FROM ships"
#: A ship in one of these is not part of the fleet any more.
NOT_SAILING = ("lost", "failed", "gone")


class LedgerError(OcaptainError):
    """The ledger cannot be read or written; the message says which file."""


class Fenced(LedgerError):
    """Another captain commands this voyage now."""


@dataclass(frozen=True)
class NewVoyage:
    """What a ledger is made from."""

    id: str
    name: str
    provider: str
    digest: str
    repo: str
    root: str
    agent_cmd: str | None
    spec: str
    verify_script: bytes
    verify_timeout: float
    setup: str | None
    prompt: str | None
    tasks: Sequence[Mapping[str, Any]]
    edges: Mapping[str, frozenset[str]]
    ships: Sequence[tuple[str, str]]
    replace_lost: bool = False
    place: str = ""
    model: str | None = None
    max_turns: int | None = None
    mesh: str = "none"
    ways: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Voyage:
    """The voyage's row."""

    id: str
    name: str
    state: str
    provider: str
    digest: str
    repo: str
    root: str
    agent_cmd: str | None
    spec: str
    verify_script: bytes
    verify_timeout: float
    setup: str | None
    prompt: str | None
    created: float
    epoch: int
    verify_ok: int | None
    verify_code: int | None
    verify_clean: int | None
    verify_commit: str | None
    verify_tail: str | None
    note: str | None
    replace_lost: int
    replacements: int
    place: str
    model: str | None
    max_turns: int | None
    mesh: str
    paused_reason: str | None
    options: str
    home: str
    ticket: str | None
    opening: str


@dataclass(frozen=True)
class Claim:
    """A task handed to a ship.

    Attributes:
        session: of the agent, for this attempt.
        sessions: of earlier attempts on this ship that may be gone on with, the last one first.
        work: what the last attempt on this ship left in its files, None if nothing.
    """

    token: int
    task: str
    number: int
    ship: str
    agent: str
    raw: Mapping[str, Any]
    base: str | None
    reason: str | None
    opening: str = ""
    session: str = ""
    sessions: tuple[str, ...] = ()
    work: str | None = None


@dataclass(frozen=True)
class Spent:
    """What an attempt used so far.

    Attributes:
        model: that worked most.
        tokens_in, tokens_out, tokens_cached: read (cached or not), written, and read from the cache.
        cost_nano: in nano-dollars, of what has a known price.
        mark: ``api`` or ``subscription``.
        usage: by model: ``model tokens cost_nano``; what has no known price is a row with a cost of None.
    """

    model: str | None
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    cost_nano: int
    mark: str | None
    usage: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Intent:
    """A landing that was begun."""

    token: int
    task: str
    ref: str
    old: str
    new: str


@dataclass(frozen=True)
class ShipRow:
    """A ship."""

    id: str
    sprite: str
    state: str
    reason: str | None
    head: str | None
    journal: str | None
    cursors: Mapping[str, int]
    replaced_by: str | None
    way: str | None
    role: str


class Ledger:
    """A connection to a voyage's ledger. Not for several threads at once.

    Args:
        path: of ``ledger.db``.
        epoch: the writer's epoch; None for a reader.
    """

    def __init__(self, path: Path, *, epoch: int | None = None) -> None:
        self.path = path
        self.epoch = epoch
        self._turn: int | None = None
        self._changed: dict[str, None] = {}
        if not path.is_file():
            raise LedgerError(f"there is no ledger at {path}")
        try:
            self._open()
        except sqlite3.Error as error:
            raise LedgerError(f"{path} is not a ledger that can be read: {error}") from error

    def _open(self) -> None:
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        db.execute("SELECT id FROM voyage").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        #: Whether this is a copy, in memory, of a ledger of an earlier format.
        self.is_copy = version in OLDER
        if self.is_copy:
            with contextlib.closing(db) as former:
                db = copy_forward(former)
        elif version != VERSION:
            db.close()
            which = "a newer" if version > VERSION else "an older"
            raise LedgerError(
                f"{self.path} was made by {which} version of ocaptain (format {version}, this one reads"
                f" {OLDER[0]} to {VERSION}); use that version"
            )
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        self._db = db

    def close(self) -> None:
        """Close the connection."""
        self._db.close()
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- making one -------------------------------------------------------------------------

    @staticmethod
    def create(path: Path, new: NewVoyage) -> None:
        """Make the ledger of a new voyage.

        ``new.tasks`` are rows with ``id position subject raw agent pin priority status``.
        """
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            for statement in schema():
                db.execute(statement)
            db.execute(
                "INSERT INTO voyage (one, id, name, state, provider, digest, repo, root, agent_cmd, spec,"
                " verify_script, verify_timeout, setup, prompt, created, replace_lost,"
                " place, model, max_turns, mesh, options)"
                " VALUES (1, ?, ?, 'preparing', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(new.id, new.name, new.provider, new.digest, new.repo, new.root, new.agent_cmd, new.spec),
                    *(new.verify_script, new.verify_timeout, new.setup, new.prompt, time.time()),
                    *(int(new.replace_lost), new.place, new.model, new.max_turns, new.mesh),
                    json.dumps(dict(new.options)),
                ),
            )
            done = {row["id"] for row in new.tasks if row["status"] == "completed"}
            db.executemany(
                "INSERT INTO tasks (id, position, subject, raw, agent, wish, pin, approved, priority, blockers, status)"
                " VALUES (:id, :position, :subject, :raw, :agent, :wish, :pin, :approved, :priority, :blockers,"
                " :status)",
                [
                    {"wish": None, "approved": 1, **row, "blockers": len(new.edges[row["id"]] - done)}
                    for row in new.tasks
                ],
            )
            db.executemany(
                "INSERT INTO edges (task, waits) VALUES (?, ?)",
                [(task, before) for task, waits in new.edges.items() for before in sorted(waits)],
            )
            db.executemany("INSERT INTO plan_files (path, data) VALUES (?, ?)", new.files.items())
            db.executemany(
                "INSERT INTO ships (id, position, sprite, state, way) VALUES (?, ?, ?, 'provisioning', ?)",
                [(ship, number, sprite, new.ways.get(ship)) for number, (ship, sprite) in enumerate(new.ships)],
            )
            db.execute("COMMIT")

    # -- writing ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _queue(self) -> Iterator[None]:
        """Wait for one's turn to write.

        SQLite lets writers poll, so that under contention some never come to it; the kernel has
        a queue. A file of its own: closing any descriptor of the database would drop SQLite's locks.
        """
        try:
            if self._turn is None:
                self._turn = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        except OSError as error:
            raise LedgerError(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, refused if another captain took over."""
        with self._queue(), self._transaction() as db:
            yield db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path} cannot be written: {error}") from error
        try:
            (epoch,) = self._db.execute("SELECT epoch FROM voyage").fetchone()
            if epoch != self.epoch:
                raise Fenced(f"{self.path}: epoch {epoch} commands, this is {self.epoch}")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise LedgerError(f"{self.path} cannot be written: {error}") from error
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def command(self) -> int:
        """Take command: a new epoch, which fences every earlier writer. The caller holds the lock.

        A ledger of an earlier format is brought forward first.
        """
        try:
            with self._queue():
                if self.is_copy:
                    bring_file_forward(self.path)
                    self._db.close()
                    self._open()
                (epoch,) = self._db.execute(
                    "UPDATE voyage SET epoch = epoch + 1, opening = ? RETURNING epoch", (secrets.token_hex(4),)
                ).fetchone()
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"{self.path} cannot be written: {error}") from error
        self.epoch = int(epoch)
        return self.epoch

    def take_changed(self) -> list[str]:
        """Return the tasks that this connection changed since it was asked last, in the order of the changes."""
        changed, self._changed = list(self._changed), {}
        return changed

    def _note_changed(self, *tasks: str) -> None:
        self._changed.update(dict.fromkeys(tasks))

    def next_generation(self) -> int:
        """Return a number for a new channel; it only grows."""
        with self._write() as db:
            return int(db.execute("UPDATE voyage SET generation = generation + 1 RETURNING generation").fetchone()[0])

    def set_state(self, state: str, note: str | None = None) -> None:
        """Set the voyage's state; a note says why, for people."""
        with self._write() as db:
            db.execute("UPDATE voyage SET state = ?, note = coalesce(?, note)", (state, note))
            _event(db, "voyage", None, None, f"{state}{f': {note}' if note else ''}")

    def pause(self, reason: str) -> None:
        """Note that nothing more is to be handed out, and why; the state changes when all has ended that runs."""
        with self._write() as db:
            db.execute("UPDATE voyage SET paused_reason = ?", (reason,))
            _event(db, "pause", None, None, reason)

    def go_on(self) -> None:
        """Hand out tasks again."""
        with self._write() as db:
            db.execute("UPDATE voyage SET paused_reason = NULL, note = NULL")

    def set_note(self, note: str | None) -> None:
        """Set what ``status`` says of the voyage."""
        with self._write() as db:
            db.execute("UPDATE voyage SET note = ?", (note,))

    def claim(
        self, ship: str, *, first: Collection[str] = (), others: Collection[str] = (), free: Collection[str] = ()
    ) -> Claim | None:
        """Hand the best ready task to ``ship``: longest remaining chain first, then lowest id.

        Args:
            ship: its id.
            first: tasks that this ship had and should have again, before all others.
            others: tasks that are kept for another ship for now.
            free: other ships that are free: what was wished for them is left to them.
        """
        with self._write() as db:
            row = _ready(db, ship, among=first) if first else None
            row = row or _wished(db, ship, without=others) or _ready(db, ship, without=others, free=free)
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
            _event(db, "claim", ship, row["id"], f"attempt {number}")
            self._note_changed(row["id"])
            raw = json.loads(row["raw"])
            sessions, work = _earlier(db, row["id"], ship, token)
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

    def started(self, token: int, base: str) -> None:
        """Note the commit that an attempt works from."""
        with self._write() as db:
            db.execute("UPDATE attempts SET base = ? WHERE token = ? AND state = 'claimed'", (base, token))

    def offered(self, token: int, *, work: str | None, code: int, seconds: float) -> bool:
        """Note what an attempt brought; return whether it still holds its task."""
        with self._write() as db:
            if not _holds(db, token):
                return False
            db.execute(
                "UPDATE attempts SET state = 'offered', work = ?, exit_code = ?, seconds = ? WHERE token = ?",
                (work, code, seconds, token),
            )
            return True

    def spent(self, token: int, spent: Spent, session: str | None) -> None:
        """Note what an attempt used so far, and the session that it works in; a smaller cost is older news."""
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

    def left(self, token: int, work: str | None, *, fresh: bool) -> None:
        """Note what an attempt left in its files, and whether its session is not to be gone on with."""
        with self._write() as db:
            db.execute(
                "UPDATE attempts SET work = coalesce(?, work), fresh = max(fresh, ?) WHERE token = ?",
                (work, int(fresh), token),
            )

    def log_skipped(self, token: int, skipped: int) -> None:
        """Note how many bytes of an attempt's log are missing, less the notes that say so."""
        with self._write() as db:
            db.execute("UPDATE attempts SET log_skipped = ? WHERE token = ?", (skipped, token))

    def begin_landing(self, token: int, ref: str, old: str, new: str, evidence: Mapping[str, Any]) -> bool:
        """Commit the intent to move ``ref`` from ``old`` to ``new``; False if the token lost its task.

        Raises:
            LedgerError: another landing of this token is under way.
        """
        with self._write() as db:
            row = _holds(db, token)
            if not row:
                return False
            begun = db.execute(
                "INSERT INTO intents (token, task, ref, old, new, state) VALUES (?, ?, ?, ?, ?, 'open')"
                " ON CONFLICT (token) DO UPDATE SET ref = excluded.ref, old = excluded.old, new = excluded.new,"
                " state = 'open' WHERE state = 'void'",
                (token, row["id"], ref, old, new),
            ).rowcount
            if not begun:
                raise LedgerError(f"{self.path}: token {token} has a landing under way")
            db.execute("UPDATE attempts SET evidence = ? WHERE token = ?", (json.dumps(evidence), token))
            return True

    def finish_landing(self, token: int) -> None:
        """Mark the task of an intent whose ref moved as completed, and free what waited for it."""
        with self._write() as db:
            intent = db.execute("SELECT * FROM intents WHERE token = ? AND state = 'open'", (token,)).fetchone()
            if intent is None:
                raise LedgerError(f"{self.path}: token {token} has no landing under way")
            attempt = db.execute("SELECT ship FROM attempts WHERE token = ?", (token,)).fetchone()
            db.execute("UPDATE intents SET state = 'done' WHERE token = ?", (token,))
            db.execute("UPDATE attempts SET state = 'landed', ended = ? WHERE token = ?", (time.time(), token))
            changed = db.execute(
                "UPDATE tasks SET status = 'completed', commit_id = ?, ship = ?, token = ?, reason = NULL,"
                " held_by = NULL WHERE id = ? AND status != 'completed'",
                (intent["new"], attempt["ship"], token, intent["task"]),
            ).rowcount
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
            _event(db, "landed", attempt["ship"], intent["task"], intent["new"])
            self._note_changed(intent["task"])

    def void_landing(self, token: int) -> None:
        """Take back an intent whose ref did not move."""
        with self._write() as db:
            db.execute("UPDATE intents SET state = 'void' WHERE token = ? AND state = 'open'", (token,))

    def open_intents(self) -> list[Intent]:
        """Return the landings that were begun and not finished."""
        rows = self._db.execute("SELECT token, task, ref, old, new FROM intents WHERE state = 'open'")
        return [Intent(**dict(row)) for row in rows]

    def give_back(self, token: int, state: str, reason: str, *, ship_state: str = "idle") -> bool:
        """Return a task to the pool without counting a failure.

        Args:
            token: the attempt.
            state: that the attempt ends in: ``lost``, ``conflict``, ``sunk``, ``waited`` or ``denied``.
            reason: why; the next attempt is told. That a service was ``waited`` for or ``denied`` the work
                says nothing of the work: a reason from before stays.
            ship_state: what the ship that held it is from now on.
        """
        with self._write() as db:
            row = _holds(db, token)
            if row:
                db.execute(
                    "UPDATE tasks SET status = 'pending', token = NULL, ship = NULL,"
                    " reason = CASE WHEN ?1 IN ('waited', 'denied') THEN coalesce(reason, ?2) ELSE ?2 END"
                    " WHERE id = ?3",
                    (state, reason, row["id"]),
                )
                _event(db, state, row["ship"], row["id"], reason)
                self._note_changed(row["id"])
                db.execute(
                    "UPDATE ships SET state = ?, reason = CASE ? WHEN 'idle' THEN reason ELSE ? END WHERE id = ?",
                    (ship_state, ship_state, reason, row["ship"]),
                )
            db.execute(
                "UPDATE attempts SET state = ?, reason = ?, ended = ?"
                " WHERE token = ? AND state NOT IN ('landed', 'failed')",
                (state, reason, time.time(), token),
            )
            return bool(row)

    def fail(
        self, token: int, reason: str, evidence: Mapping[str, Any] | None = None, *, final: bool = False
    ) -> str | None:
        """Count a failed attempt; return the task's new status, None if the token lost its task.

        The third failure fails the task (or a ``final`` one); every task that waits for it, however
        far, is held by it.
        """
        with self._write() as db:
            row = _holds(db, token)
            if not row:
                return None
            db.execute(
                "UPDATE attempts SET state = 'failed', reason = ?, ended = ?, evidence = coalesce(?, evidence)"
                " WHERE token = ?",
                (reason, time.time(), json.dumps(evidence) if evidence else None, token),
            )
            status = "failed" if final or row["tries"] + 1 >= MOST_FAILURES else "pending"
            db.execute(
                "UPDATE tasks SET status = ?, tries = tries + 1, token = NULL, reason = ?,"
                " ship = CASE ? WHEN 'failed' THEN ship END WHERE id = ?",
                (status, reason, status, row["id"]),
            )
            db.execute("UPDATE ships SET state = 'idle' WHERE id = ? AND state = 'working'", (row["ship"],))
            self._note_changed(row["id"])
            if status == "failed":
                self._note_changed(*_hold_dependents(db, row["id"]))
            _event(db, status if status == "failed" else "retry", row["ship"], row["id"], reason)
            return status

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
                _hold_dependents(db, row["id"])
            for task in back:
                _event(db, "again", None, task, "it is tried again, as was asked")
            self._note_changed(*back, *(row["id"] for row in free))
            return back

    def mark_late(self, token: int, reason: str) -> None:
        """Note that a lost attempt's result was kept after all."""
        with self._write() as db:
            row = db.execute("SELECT task, ship FROM attempts WHERE token = ?", (token,)).fetchone()
            if row:
                db.execute(
                    "UPDATE attempts SET state = 'late', reason = ? WHERE token = ? AND state = 'lost'", (reason, token)
                )
                _event(db, "late", row["ship"], row["task"], reason)

    def saved(self, ref: str, ship: str, token: int | None, commit: str) -> None:
        """Note where work of a ship is kept."""
        with self._write() as db:
            db.execute(
                "INSERT INTO saved_refs (ref, ship, token, commit_id, at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (ref) DO UPDATE SET commit_id = excluded.commit_id, at = excluded.at",
                (ref, ship, token, commit, time.time()),
            )

    def set_ship(self, ship: str, state: str, reason: str | None = None) -> None:
        """Set a ship's state."""
        with self._write() as db:
            before = db.execute("SELECT state, reason FROM ships WHERE id = ?", (ship,)).fetchone()
            if before is not None and (before["state"], before["reason"]) != (state, reason):
                db.execute("UPDATE ships SET state = ?, reason = ? WHERE id = ?", (state, reason, ship))
                _event(db, "ship", ship, None, f"{state}{f': {reason}' if reason else ''}")

    def set_replace(self) -> None:
        """Have ships that are lost replaced from now on."""
        with self._write() as db:
            db.execute("UPDATE voyage SET replace_lost = 1")

    def replace(self, again: Sequence[str], fresh: Sequence[str]) -> None:
        """Note replacements that begin.

        Args:
            again: ships whose sprite is gone and is made again under its name.
            fresh: ships that another one stands in for from now on.
        """
        with self._write() as db:
            (position,) = db.execute("SELECT max(position) FROM ships").fetchone()
            (voyage,) = db.execute("SELECT id FROM voyage").fetchone()
            for number, old in enumerate(fresh, position + 1):
                ship = f"ship-{number}"
                db.execute(
                    "INSERT INTO ships (id, position, sprite, state) VALUES (?, ?, ?, 'provisioning')",
                    (ship, number, f"{voyage}-{ship}"),
                )
                db.execute("UPDATE ships SET replaced_by = ? WHERE id = ?", (ship, old))
                _event(db, "replace", old, None, f"{ship} sails in its place")
            for ship in again:
                _event(db, "replace", ship, None, "it is made again")
            db.execute("UPDATE voyage SET replacements = replacements + ?", (len(again) + len(fresh),))

    def ship_has(self, ship: str, commit: str | None) -> None:
        """Note the newest commit that a ship has (None: nothing is known)."""
        with self._write() as db:
            db.execute("UPDATE ships SET head = ? WHERE id = ?", (commit, ship))

    def ship_cursors(self, ship: str, journal: str, cursors: Mapping[str, int]) -> None:
        """Note up to where a ship's journal is done with, by class of records."""
        with self._write() as db:
            db.execute(
                "UPDATE ships SET journal = ?, cursors = ? WHERE id = ?", (journal, json.dumps(dict(cursors)), ship)
            )

    def meters(self) -> dict[str, Mapping[str, Any]]:
        """Return up to where the time that ships were awake is counted, as :meth:`add_awake` was told."""
        rows = self._db.execute("SELECT id, meter FROM ships WHERE meter IS NOT NULL")
        return {row["id"]: json.loads(row["meter"]) for row in rows}

    def add_awake(self, found: Mapping[str, tuple[Mapping[str, Any] | None, float]]) -> None:
        """Add to the time that ships were awake.

        Args:
            found: by ship: up to where it is counted now (None: it has no meter), and the seconds to add.
        """
        with self._write() as db:
            db.executemany(
                "UPDATE ships SET awake_seconds = max(0.0, awake_seconds + ?), meter = coalesce(?, meter) WHERE id = ?",
                [(seconds, json.dumps(meter) if meter else None, ship) for ship, (meter, seconds) in found.items()],
            )

    def verified(self, *, ok: bool, code: int, clean: bool, commit: str, tail: str) -> None:
        """Note the final verify."""
        with self._write() as db:
            db.execute(
                "UPDATE voyage SET verify_ok = ?, verify_code = ?, verify_clean = ?,"
                " verify_commit = ?, verify_tail = ?",
                (int(ok), code, int(clean), commit, tail),
            )
            _event(db, "verify", None, None, f"{'passed' if ok else f'exit {code}'} at {commit}")

    def event(self, kind: str, text: str, *, ship: str | None = None, task: str | None = None) -> None:
        """Add an event, for people."""
        with self._write() as db:
            _event(db, kind, ship, task, text)

    # -- reading ----------------------------------------------------------------------------

    def voyage(self) -> Voyage:
        """Return the voyage's row."""
        columns = ", ".join(Voyage.__dataclass_fields__)
        return Voyage(**dict(self._db.execute(f"SELECT {columns} FROM voyage").fetchone()))  # noqa: S608 - our own names

    def ships(self) -> list[ShipRow]:
        """Return the ships in order."""
        return [_ship(row) for row in self._db.execute(f"{_SHIPS} ORDER BY position")]

    def ship(self, ship: str) -> ShipRow:
        """Return one ship."""
        return _ship(self._db.execute(f"{_SHIPS} WHERE id = ?", (ship,)).fetchone())

    def held(self, ship: str) -> Claim | None:
        """Return what ``ship`` holds, None if nothing."""
        row = self._db.execute(
            "SELECT a.token, a.task, a.number, a.ship, t.agent, t.raw, a.base, t.reason, a.opening, a.session"
            " FROM tasks t JOIN attempts a ON a.token = t.token WHERE t.status = 'in_progress' AND t.ship = ?",
            (ship,),
        ).fetchone()
        if row is None:
            return None
        sessions, work = _earlier(self._db, row["task"], ship, row["token"])
        more = {"raw": json.loads(row["raw"]), "session": row["session"] or "", "sessions": sessions, "work": work}
        return Claim(**{**dict(row), **more})

    def attempt(self, token: int) -> dict[str, Any] | None:
        """Return an attempt's row."""
        row = self._db.execute("SELECT * FROM attempts WHERE token = ?", (token,)).fetchone()
        return dict(row) if row else None

    def losses(self, task: str) -> int:
        """Return how many attempts at a task were lost (neither failed nor in conflict)."""
        row = self._db.execute("SELECT count(*) FROM attempts WHERE task = ? AND state IN ('lost', 'late')", (task,))
        return int(row.fetchone()[0])

    def waits(self, task: str) -> int:
        """Return how many attempts at a task in a row found the service busy, the last ones that ended."""
        waits = 0
        ended = self._db.execute(
            "SELECT a.state FROM attempts a JOIN tasks t ON t.id = a.task"
            " WHERE a.task = ? AND (t.token IS NULL OR a.token != t.token) ORDER BY a.token DESC",
            (task,),
        )
        for (state,) in ended:
            if state != "waited":
                break
            waits += 1
        return waits

    def worked(self, ship: str) -> bool:
        """Whether a ship was ever handed a task."""
        return bool(self._db.execute("SELECT 1 FROM attempts WHERE ship = ? LIMIT 1", (ship,)).fetchone())

    def counts(self) -> dict[str, int]:
        """Return how many tasks are in each state."""
        return {row[0]: row[1] for row in self._db.execute("SELECT status, n FROM task_counts ORDER BY status")}

    def failed(self) -> list[str]:
        """Return the tasks that failed for good, in the plan's order."""
        return [row["id"] for row in self._db.execute("SELECT id FROM tasks WHERE status = 'failed' ORDER BY position")]

    def claimable(self, ships: Sequence[str]) -> bool:
        """Whether one of ``ships`` could claim a task now."""
        marks = ",".join("?" * len(ships))
        return bool(
            ships
            and self._db.execute(
                "SELECT 1 FROM tasks INDEXED BY ready"  # noqa: S608 - only ?
                " WHERE status = 'pending' AND blockers = 0 AND held_by IS NULL"
                f" AND (pin IS NULL OR pin IN ({marks})) LIMIT 1",
                ships,
            ).fetchone()
        )

    def ready(self, ships: Sequence[str], others: Collection[str] = ()) -> list[tuple[str, str | None]]:
        """Return (task, pin) of what ``ships`` could claim now, at most one each; what any may take last.

        Args:
            ships: their ids.
            others: tasks that are kept for some ship, and do not count here.
        """
        without = json.dumps(list(others))
        found: list[tuple[str, str | None]] = []
        for ship in ships:
            row = self._db.execute(
                "SELECT id, pin FROM tasks INDEXED BY ready_pinned WHERE pin = ? AND status = 'pending'"
                " AND blockers = 0 AND held_by IS NULL AND id NOT IN (SELECT value FROM json_each(?)) LIMIT 1",
                (ship, without),
            ).fetchone()
            found += [(row["id"], row["pin"])] if row else []
        rows = self._db.execute(
            "SELECT id FROM tasks INDEXED BY ready WHERE status = 'pending' AND blockers = 0 AND held_by IS NULL"
            " AND pin IS NULL AND id NOT IN (SELECT value FROM json_each(?)) LIMIT ?",
            (without, len(ships)),
        )
        return [*found, *((row["id"], None) for row in rows)]

    def is_ready(self, task: str, ship: str) -> bool:
        """Whether ``ship`` could claim a task now."""
        row = self._db.execute(
            "SELECT 1 FROM tasks WHERE id = ? AND status = 'pending' AND blockers = 0 AND held_by IS NULL"
            " AND (pin IS NULL OR pin = ?)",
            (task, ship),
        )
        return row.fetchone() is not None

    def spending(self) -> dict[str, Any]:
        """Return what all attempts used together: sums that are kept, not made."""
        return dict(self._db.execute("SELECT * FROM spending").fetchone())

    def wish_of(self, tasks: Sequence[str]) -> dict[str, str]:
        """Return the ships that some tasks are wished for."""
        rows = self._db.execute(
            "SELECT id, wish FROM tasks WHERE wish IS NOT NULL AND id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(tasks)),),
        )
        return {row["id"]: row["wish"] for row in rows}

    def landed(self, limit: int) -> list[tuple[str, str]]:
        """Return (task, subject) of the last ``limit`` landings, oldest first."""
        rows = self._db.execute(
            "SELECT t.id, t.subject FROM landings l JOIN tasks t ON t.id = l.task ORDER BY l.n DESC LIMIT ?",
            (limit,),
        )
        return [(row["id"], row["subject"]) for row in rows][::-1]

    def task_rows(self, tasks: Sequence[str]) -> list[dict[str, Any]]:
        """Return the rows of some tasks, in the plan's order."""
        rows = self._db.execute(
            "SELECT * FROM tasks WHERE id IN (SELECT value FROM json_each(?)) ORDER BY position",
            (json.dumps(list(tasks)),),
        )
        return [dict(row) for row in rows]

    def edge_rows(self, tasks: Sequence[str]) -> list[dict[str, Any]]:
        """Return the edges that some tasks are at either end of."""
        rows = self._db.execute(
            "WITH some AS (SELECT value FROM json_each(?)) SELECT * FROM edges WHERE task IN some"
            " UNION SELECT * FROM edges WHERE waits IN some ORDER BY task, waits",
            (json.dumps(list(tasks)),),
        )
        return [dict(row) for row in rows]

    def rows(self, table: str, order: str) -> list[dict[str, Any]]:
        """Return a table's rows, for views."""
        return [dict(row) for row in self._db.execute(f"SELECT * FROM {table} ORDER BY {order}")]  # noqa: S608

    def working(self) -> dict[str, str]:
        """Return the task that each ship is at, by ship."""
        rows = self._db.execute("SELECT ship, id FROM tasks WHERE status = 'in_progress' AND ship IS NOT NULL")
        return {row["ship"]: row["id"] for row in rows}

    def last_event(self) -> int:
        """Return the number of the newest event, 0 if there is none."""
        return int(self._db.execute("SELECT coalesce(max(n), 0) FROM events").fetchone()[0])

    def events_after(self, number: int) -> list[dict[str, Any]]:
        """Return the events after ``number``."""
        rows = self._db.execute("SELECT * FROM events WHERE n > ? ORDER BY n LIMIT 1000", (number,))
        return [dict(row) for row in rows]


def _ship(row: sqlite3.Row) -> ShipRow:
    return ShipRow(**{**dict(row), "cursors": json.loads(row["cursors"])})


def _holds(db: sqlite3.Connection, token: int) -> sqlite3.Row | None:
    found: sqlite3.Row | None = db.execute(
        "SELECT id, ship, tries FROM tasks WHERE token = ? AND status = 'in_progress'", (token,)
    ).fetchone()
    return found


def _hold_dependents(db: sqlite3.Connection, task: str) -> list[str]:
    """Hold whatever waits for a task that failed, however far, and is not held yet; return it."""
    held = db.execute(
        "WITH RECURSIVE later (id) AS (SELECT task FROM edges WHERE waits = ?1"
        " UNION SELECT task FROM edges JOIN later ON waits = later.id)"
        " UPDATE tasks SET held_by = ?1 WHERE id IN later AND status = 'pending' AND held_by IS NULL"
        " RETURNING id",
        (task,),
    )
    return [row["id"] for row in held.fetchall()]


def _ready(
    db: sqlite3.Connection,
    ship: str,
    *,
    among: Collection[str] | None = None,
    without: Collection[str] = (),
    free: Collection[str] = (),
) -> sqlite3.Row | None:
    """Return the best task that ``ship`` could have now. The order is an index's: it must stay so for large plans."""
    chosen = "" if among is None else " AND id IN (SELECT value FROM json_each(:among))"
    left = " AND id NOT IN (SELECT value FROM json_each(:without))" if without else ""
    left += " AND (wish IS NULL OR wish NOT IN (SELECT value FROM json_each(:free)))" if free else ""
    found: sqlite3.Row | None = db.execute(
        "SELECT id, raw, agent, attempts, reason FROM tasks INDEXED BY ready"  # noqa: S608 - our own words
        f" WHERE status = 'pending' AND blockers = 0 AND held_by IS NULL AND (pin IS NULL OR pin = :ship){chosen}{left}"
        " ORDER BY priority DESC, position LIMIT 1",
        {
            "ship": ship,
            "among": json.dumps(list(among or ())),
            "without": json.dumps(list(without)),
            "free": json.dumps(list(free)),
        },
    ).fetchone()
    return found


def _wished(db: sqlite3.Connection, ship: str, *, without: Collection[str]) -> sqlite3.Row | None:
    """Return the best task that is ready and was wished for ``ship``."""
    found: sqlite3.Row | None = db.execute(
        "SELECT id, raw, agent, attempts, reason FROM tasks INDEXED BY ready_wished"
        " WHERE wish = ? AND status = 'pending' AND blockers = 0 AND held_by IS NULL"
        " AND (pin IS NULL OR pin = ?) AND id NOT IN (SELECT value FROM json_each(?))"
        " ORDER BY priority DESC, position LIMIT 1",
        (ship, ship, json.dumps(list(without))),
    ).fetchone()
    return found


def _earlier(db: sqlite3.Connection, task: str, ship: str, token: int) -> tuple[tuple[str, ...], str | None]:
    """Return the sessions that an attempt may go on with, and what the last attempt there that did anything left.

    Only those of the ship: a session's transcript is nowhere else. One in which so much failed, or that
    conflicted, has had its chances. An attempt that came to nothing (its service was busy, its ship was
    lost) takes nothing away from what there was before it.
    """
    rows = db.execute(
        "SELECT session, work, fresh, state FROM attempts"
        " WHERE task = ? AND ship = ? AND token < ? AND session IS NOT NULL ORDER BY token DESC",
        (task, ship, token),
    ).fetchall()
    failures = Counter(row["session"] for row in rows if row["state"] in {"failed", "conflict"})
    spoilt = {row["session"] for row in rows if row["fresh"]}
    known = dict.fromkeys(row["session"] for row in rows)
    good = [one for one in known if failures[one] < MOST_CHANCES and one not in spoilt]
    return tuple(good[:MOST_SESSIONS]), next((row["work"] for row in rows if row["work"]), None)


def _event(db: sqlite3.Connection, kind: str, ship: str | None, task: str | None, text: str) -> None:
    db.execute(
        "INSERT INTO events (at, kind, ship, task, text) VALUES (?, ?, ?, ?, ?)",
        (time.time(), kind, ship, task, text),
    )
