"""Migrate a ledger of an earlier format to this one.

A ledger of format 3 is migrated when a captain takes command of it, in one transaction; the old file
is kept beside it as ``ledger.db.3``. Readers migrate a copy in memory. Columns that format 4 got later
are added in place; readers do without them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from ocaptain.ledger.file import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 4  # of the schema: PRAGMA user_version
OLDER_VERSIONS = (3,)

#: For each table, columns of format 4 that had another name in format 3, or are computed from it.
_RENAMED_COLUMNS = {
    "tasks": {"tries": "failures"},
    # Format 3 had one numbering for all records: "all" is no class of records of today.
    "ships": {"cursors": "json_object('all', cursor)"},
}
#: Columns that format 4 got later: (table, column) and type. Whoever takes command of a ledger adds them.
_ADDED_COLUMNS = {
    ("tasks", "retried"): "INTEGER",
    ("voyage", "verify_stage"): "TEXT",
    ("ships", "telemetry"): "TEXT",
    ("attempts", "live"): "TEXT",
}
#: Tables that format 4 got later.
_ADDED_TABLES = ("local_landings",)
_TABLES = ("voyage", "tasks", "edges", "attempts", "intents", "ships", "proposals", "events")
_LANDINGS = """
INSERT INTO landings (kind, task, token, commit_id, at)
SELECT 'task', i.task, i.token, i.new, coalesce(a.ended, a.started) FROM intents i JOIN attempts a ON a.token = i.token
WHERE i.state = 'done' ORDER BY coalesce(a.ended, a.started), i.token
"""
_SPENDING = """
UPDATE spending SET (attempts, tokens_in, tokens_out, tokens_cached, cost_nano, api, subscription, unknown) = (
  SELECT count(tokens_in), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0), coalesce(sum(tokens_cached), 0),
    coalesce(sum(cost_nano), 0), count(CASE cost_mark WHEN 'api' THEN 1 END),
    count(CASE cost_mark WHEN 'subscription' THEN 1 END),
    count(CASE WHEN EXISTS (SELECT 1 FROM json_each(coalesce(usage, '[]'))
      WHERE json_extract(value, '$.cost_nano') IS NULL) THEN 1 END)
  FROM attempts)
"""
# What was paused by a sink is being sunk.
_STATES = "UPDATE voyage SET state = 'sinking' WHERE state = 'paused'"


def schema() -> Iterator[str]:
    """Yield the statements that make an empty ledger of this version."""
    from importlib.resources import files  # noqa: PLC0415 - no reader of a ledger of today needs it

    statement = ""
    for line in (files("ocaptain.ledger") / "schema.sql").read_text("utf-8").splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def migrate_schema(db: sqlite3.Connection) -> None:
    """Migrate a ledger of format 3 to this one, in one transaction.

    Args:
        db: in autocommit, without foreign keys.

    Raises:
        sqlite3.Error: it failed, and the ledger is unchanged.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        columns: dict[str, set[str]] = {}
        for table in _TABLES:
            columns[table] = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            db.execute(f"CREATE TEMP TABLE former_{table} AS SELECT * FROM main.{table}")  # noqa: S608 - our own names
        for table in reversed(_TABLES):
            db.execute(f"DROP TABLE main.{table}")
        for statement in schema():
            db.execute(statement)
        for table in _TABLES:
            now = [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]
            taken = {name: name for name in now if name in columns[table]} | _RENAMED_COLUMNS.get(table, {})
            db.execute(
                f"INSERT INTO main.{table} ({', '.join(taken)})"  # noqa: S608 - likewise
                f" SELECT {', '.join(taken.values())} FROM temp.former_{table} ORDER BY rowid"
            )
            db.execute(f"DROP TABLE temp.former_{table}")
        for statement in (_LANDINGS, _SPENDING, _STATES):
            db.execute(statement)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def migrate_file(path: Path) -> None:
    """Migrate the ledger at ``path``; the caller holds the captain's lock.

    Raises:
        sqlite3.Error, OSError: it failed, and the ledger is unchanged.
    """
    with contextlib.closing(connect(path, isolation_level=None)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in OLDER_VERSIONS:
            return
        kept = path.with_name(f"{path.name}.{version}")
        if not kept.exists():
            scratch = path.with_name(f"{path.name}.{version}.tmp")
            scratch.unlink(missing_ok=True)
            with contextlib.closing(connect(scratch)) as copy:
                db.backup(copy)
            with scratch.open("rb") as written:
                os.fsync(written.fileno())
            scratch.replace(kept)
        migrate_schema(db)


def add_columns(db: sqlite3.Connection) -> None:
    """Add the tables and columns that a ledger of this format lacks, since an earlier version made it.

    Raises:
        sqlite3.Error: the ledger cannot be written.
    """
    for (table, column), kind in _ADDED_COLUMNS.items():
        if column not in {row[1] for row in db.execute(f"PRAGMA table_info({table})")}:
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
    if lacking := set(_ADDED_TABLES) - {row[0] for row in db.execute("SELECT name FROM sqlite_master")}:
        for statement in schema():
            if any(f"CREATE TABLE {table} (" in statement for table in lacking):
                db.execute(statement)


def migrated_copy(db: sqlite3.Connection) -> sqlite3.Connection:
    """Return a migrated copy, in memory, of a ledger of an earlier format."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        db.backup(copy)
        migrate_schema(copy)
    except BaseException:
        copy.close()
        raise
    return copy
