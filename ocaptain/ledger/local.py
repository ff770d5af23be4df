"""Landings of the user's own commits: chains that land as a whole, or not at all.

::

    begin_local: what the user made, what lands of it, old and new head ──> the branch moves ──> finish_local
        └── the captain dies between: open_local tells the next one, which finishes or voids it

The ledger remembers of each of the user's commits what landed of it, so that none lands twice where ``workspace/``
could not follow the branch yet.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.ledger.store import Store, add_event

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class LocalIntent:
    """A landing of the user's commits that was begun.

    Attributes:
        n: its number, as in ``refs/ocaptain/local/<n>``.
        ref: the branch.
        old, new: the branch's commit before and after it.
        commits: (the user's commit, the commit that lands of it), oldest first.
    """

    n: int
    ref: str
    old: str
    new: str
    commits: tuple[tuple[str, str], ...]


class LocalLandings(Store):
    """Landings of the user's own commits."""

    def begin_local(self, intent: LocalIntent) -> None:
        """Store the intent to land a chain."""
        with self._write() as db:
            db.execute(
                "INSERT INTO local_landings (n, ref, old, new, commits, state) VALUES (?, ?, ?, ?, ?, 'open')",
                (intent.n, intent.ref, intent.old, intent.new, json.dumps(intent.commits)),
            )

    def finish_local(self, n: int) -> None:
        """Record that a chain is on the branch."""
        with self._write() as db:
            row = db.execute(
                "UPDATE local_landings SET state = 'done' WHERE n = ? AND state = 'open' RETURNING commits", (n,)
            ).fetchone()
            if row is None:
                return
            landed = [new for _, new in json.loads(row["commits"])]
            db.executemany(
                "INSERT INTO landings (kind, commit_id, at) VALUES ('local', ?, ?)",
                [(commit, time.time()) for commit in landed],
            )
            count = "1 commit" if len(landed) == 1 else f"{len(landed)} commits"
            add_event(db, "local", None, None, f"{count} of yours landed, the last one as {landed[-1]}")

    def adopt_local(self, commit: str, theirs: str | None, ref: str, *, after: int) -> None:
        """Add a landing of one of the user's commits that is on the branch and that this ledger lacks.

        Args:
            commit: that landed.
            theirs: the user's commit that it was made of, None if it is not known: then that one may land again.
            ref: the branch.
            after: the highest number that a chain's ref has.
        """
        with self._write() as db:
            if theirs:
                number = max(after + 1, self.next_local_number())
                db.execute(
                    "INSERT INTO local_landings (n, ref, old, new, commits, state) VALUES (?, ?, ?, ?, ?, 'done')",
                    (number, ref, commit, commit, json.dumps([(theirs, commit)])),
                )
            db.execute("INSERT INTO landings (kind, commit_id, at) VALUES ('local', ?, ?)", (commit, time.time()))
            text = f"{commit}, a commit of yours, is on the branch, and this ledger lacked its landing"
            add_event(db, "adopted", None, None, text)

    def void_local(self, n: int) -> None:
        """Void an intent whose branch did not move."""
        with self._write() as db:
            db.execute("UPDATE local_landings SET state = 'void' WHERE n = ? AND state = 'open'", (n,))

    def open_local(self) -> list[LocalIntent]:
        """Return the landings of the user's commits that were begun and not finished."""
        rows = self._db.execute("SELECT n, ref, old, new, commits FROM local_landings WHERE state = 'open'")
        return [
            LocalIntent(
                row["n"], row["ref"], row["old"], row["new"], tuple((a, b) for a, b in json.loads(row["commits"]))
            )
            for row in rows
        ]

    def landed_of(self, commits: Iterable[str]) -> dict[str, str]:
        """Return those of some commits of the user that have landed, with the commit that landed of each."""
        rows = self._db.execute(
            "SELECT json_extract(one.value, '$[0]') AS theirs, json_extract(one.value, '$[1]') AS landed"
            " FROM local_landings, json_each(commits) AS one WHERE state = 'done'"
            " AND theirs IN (SELECT value FROM json_each(?))",
            (json.dumps(list(commits)),),
        )
        return {row["theirs"]: row["landed"] for row in rows}

    def next_local_number(self) -> int:
        """Return the lowest number that no landing of the user's commits has."""
        return int(self._db.execute("SELECT coalesce(max(n), 0) + 1 FROM local_landings").fetchone()[0])
