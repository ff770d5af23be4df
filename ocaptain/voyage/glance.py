"""Names of voyages, ships and tasks for completion: read at each TAB, so that nothing heavy may be loaded.

What cannot be read does not exist here: no error, no line. Names that a shell might act upon are left out.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError, UsageError
from ocaptain.names import SUNK_FILE, VOYAGE_ID
from ocaptain.sources import voyages_directory
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_VOYAGES = 200
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SAFE_PATH = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]*")
_ENDED = frozenset({"complete", "failed", "sunk"})
_MAX_TEXT = 60
#: Bytes of a path that SQLite takes without help.
_MAX_PATH = 480
#: Seconds that a writer is waited for.
_PATIENCE = 0.5
#: Seconds that git may take: longer than that nobody waits for a TAB.
_PATIENCE_WITH_GIT = 2.0


@dataclass(frozen=True)
class Name:
    """What can be typed.

    Attributes:
        value: of safe characters alone.
        text: what it is, one clean line.
        state: of the voyage, ship or task.
    """

    value: str
    text: str
    state: str


def voyages() -> list[Name]:
    """Return the voyages whose ledger can be read, newest first."""
    try:
        found = [one for one in voyages_directory().iterdir() if VOYAGE_ID.fullmatch(one.name)]
    except (OSError, UsageError):
        return []
    found.sort(key=_modified, reverse=True)
    rows = []
    for directory in found[:MAX_VOYAGES]:
        for name, state, created in _rows(directory, "SELECT name, state, created FROM voyage"):
            with contextlib.suppress(TypeError, ValueError):
                rows.append(
                    (float(str(created)), Name(directory.name, clean_line(f"{name} {state}", _MAX_TEXT), str(state)))
                )
    return [name for _, name in sorted(rows, key=lambda row: row[0], reverse=True)]


def chosen(prefix: str | None) -> Path | None:
    """Return the directory of the voyage with a prefix of its id; of the only active one for None.

    None if there is none, or several.
    """
    root = voyages_directory()
    if prefix is not None:
        full = prefix if prefix.startswith("voyage-") else f"voyage-{prefix}"
        found = [one.value for one in voyages() if one.value.startswith(full)]
        return root / found[0] if len(found) == 1 else None
    active = [one for one in voyages() if one.state != "sunk" and not (root / one.value / SUNK_FILE).exists()]
    if len(active) > 1:
        from ocaptain.process import is_captain_running  # noqa: PLC0415 - with one voyage it is not needed

        sailing = [one for one in active if is_captain_running(root / one.value)]
        active = sailing or [one for one in active if one.state not in _ENDED]
    return root / active[0].value if len(active) == 1 else None


def ships(directory: Path) -> list[Name]:
    """Return the ships of a voyage, in its order; those that are gone come last."""
    rows = _rows(directory, "SELECT id, state, state FROM ships ORDER BY state IN ('lost', 'failed', 'gone'), position")
    return list(_names(rows))


def tasks(directory: Path) -> list[Name]:
    """Return the tasks of a voyage, in the plan's order."""
    return list(_names(_rows(directory, "SELECT id, subject, status FROM tasks ORDER BY position")))


def held(directory: Path) -> list[Name]:
    """Return the tasks of a voyage that wait for approval."""
    return list(_names(_rows(directory, "SELECT id, subject, status FROM tasks WHERE NOT approved ORDER BY position")))


def uncommitted(workspace: Path, here: Path) -> list[str]:
    """Return the files of a clone that are changed or new and not committed.

    Args:
        workspace: the clone.
        here: where the user is; in the clone, names are relative to it.
    """
    from ocaptain.captain.workspace import Workspace  # noqa: PLC0415 - it loads what runs git

    root = workspace.resolve()
    base = here.resolve() if here.resolve().is_relative_to(root) else root
    try:
        found = Workspace(root, root, "").uncommitted(_PATIENCE_WITH_GIT)
    except (OcaptainError, OSError):
        return []
    names = [os.path.relpath(root / path, base) for path in found]
    return [name for name in names if _SAFE_PATH.fullmatch(name)]


def _names(rows: list[tuple[object, ...]]) -> Iterator[Name]:
    for value, text, state in rows:
        if _SAFE.fullmatch(str(value)):
            words = str(state) if text == state else f"{str(state).replace('_', ' ')}: {text}"
            yield Name(str(value), clean_line(words, _MAX_TEXT), str(state))


def _rows(directory: Path, query: str) -> list[tuple[object, ...]]:
    """Return the rows of a question to a voyage's ledger; [] if it cannot be read."""
    ledger = directory / "ledger.db"
    try:
        if not ledger.is_file():
            return []
        with contextlib.closing(_connect(ledger)) as database:
            database.execute("PRAGMA query_only = 1")
            return database.execute(query).fetchall()
    except (sqlite3.Error, OSError, UnicodeError):
        return []


def _connect(ledger: Path) -> sqlite3.Connection:
    if len(os.fsencode(ledger)) <= _MAX_PATH:
        return sqlite3.connect(ledger, timeout=_PATIENCE)
    from ocaptain.ledger.file import connect  # noqa: PLC0415 - it loads all of the ledger, for paths that hardly exist

    return connect(ledger, timeout=_PATIENCE)


def _modified(directory: Path) -> float:
    try:
        return directory.stat().st_mtime
    except OSError:
        return 0.0
