"""The directory of all voyages, and finding one in it."""

from __future__ import annotations

import errno
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError, UsageError
from ocaptain.ledger import Ledger, LedgerError
from ocaptain.names import SUNK_FILE, VOYAGE_ID
from ocaptain.process import is_captain_running
from ocaptain.query import ENDED
from ocaptain.text import clean_line
from ocaptain.voyage.listing import lines, read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.ledger import Voyage
    from ocaptain.voyage.listing import Row


@dataclass(frozen=True)
class VoyageDirectory:
    """A voyage's directory."""

    path: Path

    @property
    def id(self) -> str:
        """The voyage's id."""
        return self.path.name

    def ledger(self) -> Ledger:
        """Open the ledger for reading."""
        return Ledger(self.path / "ledger.db")

    def voyage(self) -> Voyage:
        """Return the voyage's row."""
        try:
            with self.ledger() as ledger:
                return ledger.voyage()
        except sqlite3.Error as error:  # it could be opened, but a page of it is damaged
            raise LedgerError(f"{self.path / 'ledger.db'} cannot be read: {error}; restore it from a copy") from error


def _has_ledger(directory: Path) -> bool:
    try:
        return (directory / "ledger.db").is_file()
    except OSError:  # one directory that is closed to us must not hide the others
        return False


def _modified(directory: Path) -> float:
    try:
        return directory.stat().st_mtime
    except OSError:  # it is being removed
        return 0.0


def table_of(found: list[VoyageDirectory]) -> list[str]:
    """Return the list of some voyages as lines of text."""
    return lines(read_rows(one.path for one in found), time.time())


class Home:
    """The directory of all voyages."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def voyages(self) -> list[VoyageDirectory]:
        """Return every voyage with a ledger, oldest first; other files are skipped."""
        found = [one for one in self.directories() if _has_ledger(one)]
        return [VoyageDirectory(one) for one in sorted(found, key=_modified)]

    def directories(self) -> list[Path]:
        """Return every directory with the name of a voyage."""
        try:
            return [one for one in self.path.iterdir() if VOYAGE_ID.fullmatch(one.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            kind = UsageError if error.errno == errno.ENAMETOOLONG else OcaptainError
            raise kind(f"{self.path} cannot be read: {error.strerror}") from error

    def rows(self) -> list[Row]:
        """Return a row for each voyage, newest first, also for those that cannot be read."""
        return read_rows(self.directories())

    def active_voyages(self) -> list[VoyageDirectory]:
        """Return the voyages that are not sunk; a file marks the others, so that their ledgers stay closed."""
        active = []
        for directory in self.voyages():
            sunk_mark = directory.path / SUNK_FILE
            try:
                if sunk_mark.exists():
                    continue
                if directory.voyage().state != "sunk":
                    active.append(directory)
                else:
                    sunk_mark.touch()
            except (LedgerError, OSError):  # one broken voyage must not hide the others
                continue
        return active

    def describe_unreadable(self) -> list[str]:
        """Return a line for each voyage whose ledger cannot be read, with the reason."""
        found = []
        for directory in self.voyages():
            try:
                directory.voyage()
            except LedgerError as error:
                remedy = "if you do not need it, move its directory away and run `ocaptain sweep`"
                found.append(f"{directory.id}: {error.message}; {remedy}")
        return found

    def find(self, prefix: str | None) -> VoyageDirectory:
        """Return the voyage with a prefix of its id; for None see :meth:`only_active`.

        Raises:
            UsageError: no voyage or several match; lists them.
        """
        if prefix is None:
            return self.only_active()
        if not prefix:
            raise UsageError("the voyage id is empty; give an id, or leave it out for the only active voyage")
        shown = f"'{clean_line(prefix, 60)}'"
        full_prefix = prefix if prefix.startswith("voyage-") else f"voyage-{prefix}"
        found = [one for one in self.voyages() if one.id.startswith(full_prefix)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise UsageError(f"there is no voyage {shown} in {self.path}")
        raise UsageError(f"{shown} matches several voyages, give more of the id:", table_of(found))

    def only_active(self) -> VoyageDirectory:
        """Return the only active voyage; else the one that runs; else the only recorded one.

        It runs if it alone has a captain, or if none has one and it alone has not ended.

        Raises:
            UsageError: there is none, or several are active; lists them.
        """
        active = self.active_voyages()
        if len(active) == 1:
            return active[0]
        sailing = [one for one in active if is_captain_running(one.path)]
        if len(sailing) == 1:
            return sailing[0]
        if active:
            running = [] if sailing else [one for one in active if one.voyage().state not in ENDED]
            if len(running) == 1:
                return running[0]
            raise UsageError("several voyages are active, give the id of one:", table_of(active))
        recorded = self.voyages()
        if len(recorded) == 1:
            return recorded[0]
        raise UsageError(f"there is no active voyage in {self.path}; give an id, or start one: `ocaptain sail PLAN`")
