"""Keys that a plan may have, and those that were most likely meant.

A foreign key is kept without a word, since plans come from many tools; one that is all but one of
ours is a fault, since ours would be missing without a word. A key of ours that this version does
not carry out is a fault, too: silence would be a promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: ``true``: this version carries it out.
MANIFEST = {
    "name": True,
    "repo": True,
    "branch": False,
    "recommended_ships": True,
    "setup": True,
    "verify_timeout": True,
    "egress": False,
    "models": False,
    "live_ignore": False,
    "limits": True,
}
LIMITS = dict.fromkeys(("name", "path", "depth", "files", "file_mib", "total_mib"), True)
TASK = dict.fromkeys(
    ("id", "subject", "title", "description", "activeForm", "status", "owner", "blocks", "blockedBy", "metadata"), True
)
METADATA = {
    **dict.fromkeys(("run", "verify", "verify_timeout", "timeout", "stall", "agent", "model", "max_turns"), True),
    **dict.fromkeys(("ship", "pin", "estimate", "paths"), True),
    **dict.fromkeys(("budget", "hold"), False),
}
SHORT = 4  # letters: so short a key is likely to be another tool's
LONG = 6  # letters: of which two may be wrong


@dataclass(frozen=True)
class Doubt:
    """A key that may be wrong.

    Attributes:
        key: as it is written.
        meant: the key of ours that it resembles, None = it is one of ours, not carried out.
        is_fault: else a warning.
    """

    key: str
    meant: str | None
    is_fault: bool = True


def doubts(keys: Iterable[str], known: dict[str, bool]) -> list[Doubt]:
    """Return the keys of an object that are likely to be wrong, in their order."""
    found = []
    for key in keys:
        if known.get(key) is False:
            found.append(Doubt(key, None))
        elif key not in known and not key.startswith("x_"):
            near = min(known, key=lambda ours, key=key: distance(key, ours))  # type: ignore[misc]
            edits = distance(key, near)
            if edits == 1:
                found.append(Doubt(key, near, is_fault=len(key) > SHORT))
            elif edits == 2 and len(key) >= LONG:
                found.append(Doubt(key, near))
    return found


def distance(one: str, other: str) -> int:
    """Return by how many edits two words differ: a letter added, left out or replaced, or two neighbours swapped.

    The optimal string alignment distance; 3 stands for more, too.
    """
    if abs(len(one) - len(other)) > 2:
        return 3
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, there in enumerate(other, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != there))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == there:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return min(3, rows[-1][-1])
