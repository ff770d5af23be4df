"""The ledger's file: opening it, one writer at a time, and the voyage's own row.

There is one writer: the process that holds the captain's lock. It takes an epoch once
(:meth:`Store.take_command`), and every later write checks that the epoch is still its own, so that
a captain that was wrongly believed dead cannot write.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Self

from ocaptain.ledger.file import connect, remedy
from ocaptain.ledger.migrate import OLDER_VERSIONS, VERSION, add_columns, migrate_file, migrated_copy, schema
from ocaptain.ledger.records import ENDED, LedgerError, LedgerUnwritable, NewVoyage, TakenOver, Voyage
from ocaptain.names import VERIFY_SHIP, VOYAGE_ID
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY_SECONDS = 30.0
#: SQLite's own codes for what a machine may have too little of: locked, memory, io, full, cannot open.
_PASSING = frozenset({5, 6, 7, 10, 13, 14})

#: A task that holds all that depend on it: one that failed for good, or that people gave back too often.
HOLDING = "(status = 'failed' OR (status = 'pending' AND held_by = id))"


class Store:
    """A connection to a voyage's ledger. Not for several threads at once.

    Args:
        path: of ``ledger.db``.
        epoch: the writer's epoch; None for a reader.
        patience: seconds that it waits for others who have locked the file.
    """

    def __init__(self, path: Path, *, epoch: int | None = None, patience: float = _BUSY_SECONDS) -> None:
        self.path = path
        self._patience = patience
        self.epoch = epoch
        self._turn: int | None = None
        self._changed: dict[str, None] = {}
        if not path.is_file():
            raise LedgerError(f"there is no ledger at {path}")
        try:
            self._open()
        except sqlite3.Error as error:
            raise unread(path, error, "cannot be read as a ledger") from error
        except OSError as error:  # no descriptor for its directory, say
            raise LedgerUnwritable(f"{path} cannot be read now: {error.strerror}; {remedy(path)}") from error

    def _open(self) -> None:
        db = connect(self.path, timeout=self._patience, isolation_level=None, check_same_thread=False)
        try:
            self._db = self._checked(db)
        except BaseException:
            db.close()
            raise
        if self._db is not db:
            db.close()

    def _checked(self, db: sqlite3.Connection) -> sqlite3.Connection:
        """Return the connection ready for use, or one to a copy of a ledger of an earlier format; the caller closes."""
        self._require_own(db)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        #: Whether this is a copy, in memory, of a ledger of an earlier format.
        self.is_copy = version in OLDER_VERSIONS
        if self.is_copy:
            db = migrated_copy(db)
        elif version != VERSION:
            which = "a newer" if version > VERSION else "an older"
            raise LedgerError(
                f"{self.path} was made by {which} version of ocaptain (format {version}, this one reads"
                f" {OLDER_VERSIONS[0]} to {VERSION}); use that version"
            )
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        return db

    def _require_own(self, db: sqlite3.Connection) -> None:
        """Refuse a ledger without a voyage, or of another voyage than its directory's.

        Raises:
            LedgerError: it is refused.
        """
        row = db.execute("SELECT id FROM voyage").fetchone()
        directory = self.path.resolve().parent.name
        if row is not None and (row[0] == directory or not VOYAGE_ID.fullmatch(directory)):
            return
        what = "is empty" if row is None else f"is the ledger of {escape_control(str(row[0]))[:60]}, not of {directory}"
        raise LedgerError(f"{self.path} {what}; restore the right one from a copy")

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Have all that is read in the meantime be of one moment."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):  # it ended by an error already
                self._db.execute("ROLLBACK")

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

    @staticmethod
    def create(path: Path, new: NewVoyage) -> None:
        """Make the ledger of a new voyage.

        ``new.tasks`` are rows with ``id position subject raw agent pin priority status``.
        """
        with contextlib.closing(connect(path, isolation_level=None)) as db:
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
                "INSERT INTO ships (id, position, sprite, role, state, way) VALUES (?, ?, ?, ?, 'provisioning', ?)",
                [
                    (ship, number, sprite, "verify" if ship == VERIFY_SHIP else "work", new.targets.get(ship))
                    for number, (ship, sprite) in enumerate(new.ships)
                ],
            )
            db.execute("COMMIT")

    @contextlib.contextmanager
    def _queue(self) -> Iterator[None]:
        """Wait for this writer's turn.

        SQLite lets writers poll, so that under contention some may wait without end; the kernel has
        a queue. It is a separate file, since closing any descriptor of the database would drop SQLite's locks.
        """
        lock = self.path.with_suffix(".lock")
        try:
            if self._turn is None:
                self._turn = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        except OSError as error:
            remedy = "check its permissions, and that neither disk space nor open files have run out"
            raise LedgerUnwritable(f"{lock} cannot be locked: {error.strerror}; {remedy}") from error
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction.

        Raises:
            TakenOver: another captain has taken over.
            LedgerError: the ledger cannot be written.
        """
        with self._queue(), self._transaction() as db:
            yield db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _unwritten(self.path, error) from error
        try:
            (epoch,) = self._db.execute("SELECT epoch FROM voyage").fetchone()
            if epoch != self.epoch:
                raise TakenOver(
                    f"{self.path}: a newer captain (epoch {epoch}) has taken over; this one ({self.epoch}) ends"
                )
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise _unwritten(self.path, error) from error
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def take_command(self) -> int:
        """Take a new epoch, which fences every earlier writer, and return it. The caller holds the captain's lock.

        A ledger of an earlier format is migrated first. From now on only its user can read the voyage's directory.
        """
        import secrets  # noqa: PLC0415 - who only reads needs none

        with contextlib.suppress(OSError):  # for example it belongs to another user, who has to restrict it
            self.path.parent.chmod(0o700)
        try:
            with self._queue():
                if self.is_copy:
                    migrate_file(self.path)
                    self._db.close()
                    self._open()
                add_columns(self._db)
                (epoch,) = self._db.execute(
                    "UPDATE voyage SET epoch = epoch + 1, opening = ? RETURNING epoch", (secrets.token_hex(4),)
                ).fetchone()
        except (sqlite3.Error, OSError) as error:
            raise _unwritten(self.path, error) from error
        self.epoch = int(epoch)
        return self.epoch

    def pop_changed_tasks(self) -> list[str]:
        """Return the tasks that this connection changed since the last call, in the order of the changes."""
        changed, self._changed = list(self._changed), {}
        return changed

    def _note_changed(self, *tasks: str) -> None:
        self._changed.update(dict.fromkeys(tasks))

    def next_generation(self) -> int:
        """Return a number for a new channel; it only grows."""
        with self._write() as db:
            return int(db.execute("UPDATE voyage SET generation = generation + 1 RETURNING generation").fetchone()[0])

    def set_state(self, state: str, note: str | None = None) -> None:
        """Set the voyage's state, and a note that says why, for people.

        When it ends, a ship that was built and not reached yet is idle: nothing reaches it any more.
        """
        with self._write() as db:
            db.execute("UPDATE voyage SET state = ?, note = coalesce(?, note)", (state, note))
            if state in ENDED:
                db.execute("UPDATE ships SET state = 'idle' WHERE state = 'bootstrapping'")
            add_event(db, "voyage", None, None, f"{state}{f': {note}' if note else ''}")

    def pause(self, reason: str, note: str | None = None) -> None:
        """Set the reason of a pause: no tasks are handed out; the state changes when running attempts have ended.

        Args:
            reason: one of those that the schema names.
            note: for people; None leaves the note as it is.
        """
        with self._write() as db:
            db.execute("UPDATE voyage SET paused_reason = ?, note = coalesce(?, note)", (reason, note))
            add_event(db, "pause", None, None, reason)

    def clear_pause(self) -> None:
        """Clear the reason of a pause, so that tasks are handed out again."""
        with self._write() as db:
            db.execute("UPDATE voyage SET paused_reason = NULL, note = NULL")

    def set_note(self, note: str | None) -> None:
        """Set the note that ``status`` shows for the voyage."""
        with self._write() as db:
            db.execute("UPDATE voyage SET note = ?", (note,))

    def set_option(self, name: str, value: str) -> None:
        """Set one of the voyage's options."""
        with self._write() as db:
            db.execute("UPDATE voyage SET options = json_set(options, ?, ?)", (f'$."{name}"', value))

    def add_event(self, kind: str, text: str, *, ship: str | None = None, task: str | None = None) -> None:
        """Add an event, for people."""
        with self._write() as db:
            add_event(db, kind, ship, task, text)

    def voyage(self) -> Voyage:
        """Return the voyage's row."""
        columns = ", ".join(Voyage.__dataclass_fields__)
        return Voyage(**dict(self._db.execute(f"SELECT {columns} FROM voyage").fetchone()))  # noqa: S608 - our own names

    def rows(self, table: str, order: str) -> list[dict[str, Any]]:
        """Return all rows of a table, sorted by the columns ``order``."""
        return [dict(row) for row in self._db.execute(f"SELECT * FROM {table} ORDER BY {order}")]  # noqa: S608


def unread(path: Path, error: sqlite3.Error, what: str = "cannot be read") -> LedgerError:
    """Return the error for a read that failed: LedgerUnwritable if that may pass.

    Args:
        path: of the ledger.
        error: SQLite's.
        what: the ledger cannot do, if it may not pass.
    """
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING:
        return LedgerUnwritable(f"{path} cannot be read now: {error}; {remedy(path)}")
    return LedgerError(f"{path} {what}: {error}; restore it from a copy")


def _unwritten(path: Path, error: sqlite3.Error | OSError) -> LedgerError:
    """Return the error for a write that failed: LedgerUnwritable if this machine is the cause, which may pass."""
    code = getattr(error, "sqlite_errorcode", None)
    passing = isinstance(error, OSError) or (code is not None and code & 0xFF in _PASSING)
    if passing:
        return LedgerUnwritable(f"{path} cannot be written: {error}; {remedy(path)}")
    return LedgerError(f"{path} cannot be written: {error}")


def held_task(db: sqlite3.Connection, token: int) -> sqlite3.Row | None:
    """Return the task that an attempt holds (its ``id``, ``ship`` and ``tries``), None if it holds none any more."""
    found: sqlite3.Row | None = db.execute(
        "SELECT id, ship, tries FROM tasks WHERE token = ? AND status = 'in_progress'", (token,)
    ).fetchone()
    return found


def hold_dependents(db: sqlite3.Connection, task: str) -> list[str]:
    """Hold all tasks that depend on a failed task, directly or not, and are not held yet; return their ids."""
    held = db.execute(
        "WITH RECURSIVE later (id) AS (SELECT task FROM edges WHERE waits = ?1"
        " UNION SELECT task FROM edges JOIN later ON waits = later.id)"
        " UPDATE tasks SET held_by = ?1 WHERE id IN later AND status = 'pending' AND held_by IS NULL"
        " RETURNING id",
        (task,),
    )
    return [row["id"] for row in held.fetchall()]


def hold_anew(db: sqlite3.Connection, task: str) -> None:
    """Hold by other failed tasks what a task held that is not failed any more, if it depends on these, too."""
    if db.execute("UPDATE tasks SET held_by = NULL WHERE held_by = ?", (task,)).rowcount:
        for row in db.execute(f"SELECT id FROM tasks WHERE {HOLDING} ORDER BY position").fetchall():  # noqa: S608
            hold_dependents(db, row["id"])


def add_event(db: sqlite3.Connection, kind: str, ship: str | None, task: str | None, text: str) -> None:
    """Add a line to the voyage's events, in the caller's transaction."""
    db.execute(
        "INSERT INTO events (at, kind, ship, task, text) VALUES (?, ?, ?, ?, ?)",
        (time.time(), kind, ship, task, text),
    )
