"""The files of attempts while they run, and what of them is kept when an attempt is lost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.ledger.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The refs that :func:`ocaptain.captain.refs.lost_ref` names, for GLOB.
_LOST = "refs/ocaptain/saved/*/lost-*"
#: A ship is asked at least each minute, and answers in some seconds.
WATCHING_SECONDS = 75.0


@dataclass(frozen=True)
class LiveAttempt:
    """An attempt of which files were fetched while it ran.

    Attributes:
        token, task, ship, state, base: as in its row.
        live: what :meth:`Live.note_live` stored.
        has_work: whether its files, as it left them, are saved.
    """

    token: int
    task: str
    ship: str
    state: str
    base: str | None
    live: Mapping[str, Any]
    has_work: bool


class Live(Store):
    """The files of attempts while they run."""

    def note_live(self, token: int, live: Mapping[str, Any] | None) -> None:
        """Store what is known of an attempt's files while it runs; None = nothing is to be known any more."""
        with self._write() as db:
            db.execute("UPDATE attempts SET live = ? WHERE token = ?", (json.dumps(live) if live else None, token))

    def live_attempts(self, *, over: bool) -> list[LiveAttempt]:
        """Return the attempts of which files were fetched while they ran, oldest first.

        Args:
            over: those that hold their task no more; else those that hold it.
        """
        if "live" not in {row[1] for row in self._db.execute("PRAGMA table_info(attempts)")}:
            return []  # an earlier version made this ledger, and nobody has taken command of it since
        rows = self._db.execute(
            "SELECT a.token, a.task, a.ship, a.state, a.base, a.live, EXISTS (SELECT 1 FROM saved_refs s"
            " WHERE s.token = a.token AND s.name IS NULL AND s.ref NOT GLOB ?) AS has_work"
            " FROM attempts a JOIN tasks t ON t.id = a.task"
            " WHERE a.live IS NOT NULL AND (t.token IS a.token AND t.status = 'in_progress') = ? ORDER BY a.token",
            (_LOST, int(not over)),
        )
        return [
            LiveAttempt(**{**dict(row), "live": json.loads(row["live"]), "has_work": bool(row["has_work"])})
            for row in rows
        ]

    def lost_work(self, task: str, before: int) -> tuple[str, str] | None:
        """Return ref and commit of what a lost attempt at a task had done, if no later one left anything; else None.

        Args:
            task: its id.
            before: token of the attempt that is to have it.
        """
        row = self._db.execute(
            "SELECT s.ref, s.commit_id FROM saved_refs s JOIN attempts a ON a.token = s.token"
            " WHERE a.task = ? AND a.token < ? AND s.name IS NULL ORDER BY a.token DESC, s.ref GLOB ? LIMIT 1",
            (task, before, _LOST),
        ).fetchone()
        return (row["ref"], row["commit_id"]) if row and "/lost-" in row["ref"] else None

    def last_saved_work(self, ship: str) -> tuple[str, str, str] | None:
        """Return task, base and commit of the last attempt on a ship whose files are saved, None if there is none."""
        row = self._db.execute(
            "SELECT a.task, a.base, s.commit_id FROM saved_refs s JOIN attempts a ON a.token = s.token"
            " WHERE a.ship = ? AND s.name IS NULL AND a.base IS NOT NULL ORDER BY a.token DESC LIMIT 1",
            (ship,),
        ).fetchone()
        return tuple(row) if row else None


def live_as_dict(live: Mapping[str, Any] | None, now: float, mirror: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the documented JSON shape of how live the files of a ship are here.

    A mirror counts where there is one: people look at its files. Else it is what live refs have.

    Args:
        live: what :meth:`Live.note_live` stored; {} while nothing is known yet, None if no attempt runs.
        now: in seconds since 1970.
        mirror: the same shape of its mirror, None if there is none.
    """
    if mirror is not None:
        behind = mirror["behind_seconds"]
        first = mirror["first_problem"] or None
        return {**mirror, "behind_seconds": None if behind is None else round(behind, 1), "first_problem": first}
    if live is None:
        none = {"behind_seconds": None, "files": None, "bytes": None, "problems": 0, "first_problem": None}
        return {"by": "none", "state": "off", **none}
    at, problem = live.get("at"), live.get("problem") or None
    behind = None if not at else round(max(0.0, now - float(at)), 1)
    state = "catching_up" if behind is None else "watching" if behind <= WATCHING_SECONDS and not problem else "stale"
    return {
        "by": "git",
        "state": state,
        "behind_seconds": behind,
        "files": live.get("files"),
        "bytes": live.get("size"),
        "problems": int(problem is not None),
        "first_problem": problem,
    }
