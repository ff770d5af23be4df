"""What ships' agents have changed, before anything of it lands.

ledger ──attempt at work: base, last commit that was fetched──> Change ──git diff──> a file with the patch
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from ocaptain.git import Git

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.ledger import Ledger

DIFF_SECONDS = 120.0
#: Nothing of a repository's is run: no driver for a diff, no conversion to text.
_DIFF = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")


@dataclass(frozen=True)
class Change:
    """What an attempt has changed.

    Attributes:
        ship, task: ids.
        base: the commit that the attempt began with.
        commit: of its files; "" while none were fetched.
        at: when the ship answered last, in seconds since 1970; None if the attempt is over.
        problem: why not all is here, "" if it is.
    """

    ship: str
    task: str
    base: str
    commit: str
    at: float | None = None
    problem: str = ""


def read_changes(ledger: Ledger, ship: str | None) -> list[Change]:
    """Return what running attempts have changed, by ship.

    Args:
        ledger: the voyage's.
        ship: only this one's; of one without a task, what its last attempt left, if that is saved. None = all.
    """
    live = {one.ship: one for one in ledger.live_attempts(over=False)}
    found = []
    for name, task in sorted(ledger.tasks_by_ship().items()):
        if ship not in {None, name}:
            continue
        one = live.get(name)
        known = one.live if one else {}
        base, commit = (one.base or "", str(known.get("commit") or "")) if one else ("", "")
        found.append(Change(name, task, base, commit, float(known.get("at") or 0), str(known.get("problem") or "")))
    last = ledger.last_saved_work(ship) if ship and not found else None
    return [Change(str(ship), *last)] if last else found


@dataclass(frozen=True)
class ChangedFile:
    """A file that an attempt has changed: its path, and lines that were added and removed; None = it is no text."""

    path: str
    added: int | None
    removed: int | None


def read_changed_files(repository: Path, change: Change) -> list[ChangedFile]:
    """Return the files that an attempt has changed, in the order of their paths.

    Args:
        repository: ``repo.git``.
        change: any; without a commit there are none.

    Raises:
        GitError: git failed, or took longer than :data:`DIFF_SECONDS`.
    """
    if not change.commit:
        return []
    command = (*_DIFF, "--numstat", "-z", change.base, change.commit, "--")
    told = Git(repository).run(*command, seconds=DIFF_SECONDS).stdout.decode(errors="replace")
    found = []
    for line in told.split("\0"):
        if line:
            added, removed, path = line.split("\t", 2)
            found.append(ChangedFile(path, *(int(one) if one.isdecimal() else None for one in (added, removed))))
    return found


def write_diff(repository: Path, change: Change, output: BinaryIO, *, stat: bool) -> None:
    """Write what an attempt has changed: as a patch, or as a line a file.

    Args:
        repository: ``repo.git``.
        change: with a commit.
        output: a file.
        stat: whether only counts are written.

    Raises:
        GitError: git failed, or took longer than :data:`DIFF_SECONDS`.
    """
    form = ("--stat=100",) if stat else ()
    Git(repository).run(*_DIFF, *form, change.base, change.commit, "--", output=output, seconds=DIFF_SECONDS)
