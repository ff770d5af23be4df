"""The known keys of a plan, and the search for misspelt ones.

An unknown key is kept silently, since plans come from many tools; but one that is almost a known key is
an error, since the known key would silently be missing. A known key that this version does not implement
is an error, too: accepting it silently would promise its effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: ``True``: implemented by this version.
MANIFEST_KEYS = {
    "name": True,
    "repo": True,
    "branch": True,
    "recommended_ships": True,
    "setup": True,
    "verify_timeout": True,
    "egress": False,
    "models": False,
    "live_ignore": False,
    "limits": True,
}
LIMIT_KEYS = dict.fromkeys(("name", "path", "depth", "files", "file_mib", "total_mib"), True)
TASK_KEYS = dict.fromkeys(
    ("id", "subject", "title", "description", "activeForm", "status", "owner", "blocks", "blockedBy", "metadata"), True
)
METADATA_KEYS = {
    **dict.fromkeys(("run", "verify", "verify_timeout", "timeout", "stall", "agent", "model", "max_turns"), True),
    **dict.fromkeys(("ship", "pin", "estimate", "paths", "hold"), True),
    "budget": False,
}
#: How other tools name the order of tasks, in lower case, without ``_`` and ``-``; by the field that they mean.
ORDER_KEYS = {
    **dict.fromkeys(("dependson", "dependency", "dependencies", "dependencyids", "deps", "depends"), "blockedBy"),
    **dict.fromkeys(("requires", "require", "needs", "need", "after", "runafter", "startafter"), "blockedBy"),
    **dict.fromkeys(("blockedby", "blockers", "waitsfor", "waitfor", "waitingfor", "waitson"), "blockedBy"),
    **dict.fromkeys(("parents", "prerequisite", "prerequisites", "prereq", "prereqs"), "blockedBy"),
    **dict.fromkeys(("predecessor", "predecessors", "upstream", "upstreams"), "blockedBy"),
    **dict.fromkeys(("blocks", "blocking", "unblocks", "before", "runbefore", "dependents"), "blocks"),
    **dict.fromkeys(("successor", "successors", "downstream", "downstreams"), "blocks"),
}
#: How other tools name what ocaptain reads, in lower case, without ``_`` and ``-``. A voyage without the repository
#: or the branch that is meant starts from the wrong files, so that these are faults.
OTHER_NAMES = {
    **dict.fromkeys(("repository", "repositoryurl", "repourl", "gitrepo", "giturl", "gitrepository"), "repo"),
    **dict.fromkeys(("basebranch", "startbranch", "gitbranch", "repobranch"), "branch"),
    **dict.fromkeys(("ships", "fleetsize"), "recommended_ships"),
    **dict.fromkeys(("command", "cmd", "script"), "run"),
    **dict.fromkeys(("prompt", "desc", "details", "instructions"), "description"),
}
_MEANT_FOR_SURE = frozenset({"repo", "branch"})
MAX_SHORT_KEY = 4  # letters: a key this short is probably another tool's
MIN_LONG_KEY = 6  # letters: from this length on two may be wrong


@dataclass(frozen=True)
class SuspectKey:
    """A key that is probably wrong.

    Attributes:
        key: the key as written.
        closest: the known key that it resembles, None = it is known, but not implemented.
        is_fault: whether it is an error; else a warning.
        how: how it resembles that key.
    """

    key: str
    closest: str | None
    is_fault: bool = True
    how: str = "is almost"


def find_order_keys(found: Mapping[str, object], known: Mapping[str, bool]) -> list[tuple[str, str]]:
    """Return the keys of an object that order tasks in other tools, each with the field that ocaptain reads.

    One without a value orders nothing.
    """
    return [
        (key, field)
        for key, value in found.items()
        if key not in known and value not in (None, "", [], {}, False) and (field := ORDER_KEYS.get(_plain(key)))
    ]


def _plain(key: str) -> str:
    return key.replace("_", "").replace("-", "").lower()


def find_suspect_keys(keys: Iterable[str], known: dict[str, bool]) -> list[SuspectKey]:
    """Return the keys of an object that are probably wrong, in their order."""
    found = []
    for key in keys:
        if known.get(key) is False:
            found.append(SuspectKey(key, None))
        elif key not in known and (meant := OTHER_NAMES.get(_plain(key))) in known:
            found.append(SuspectKey(key, meant, meant in _MEANT_FOR_SURE, "means what here is"))
        elif key not in known and not key.startswith("x_"):
            near = min(known, key=lambda ours, key=key: edit_distance(key, ours))  # type: ignore[misc]
            edits = edit_distance(key, near)
            if edits == 1:
                found.append(SuspectKey(key, near, is_fault=len(key) > MAX_SHORT_KEY))
            elif edits == 2 and len(key) >= MIN_LONG_KEY:
                found.append(SuspectKey(key, near))
    return found


def edit_distance(one: str, other: str) -> int:
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
