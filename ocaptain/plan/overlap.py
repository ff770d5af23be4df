"""Which tasks write the same files: the globs of ``metadata.paths``, compared by the files that are tracked.

A glob is a path below the repository's root: ``*`` and ``?`` stay within a name, ``**`` goes across
folders, a plain path means that file or everything below that folder.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Globs = tuple[str, ...]
MAX_PASSED_OVER = 5  # so often a task is left to others; then it takes its turn
_WILD = re.compile(r"[*?\[]")


def literal_prefix(glob: str) -> str:
    """Return what a glob begins with before its first wildcard."""
    return _WILD.split(glob, maxsplit=1)[0]


@lru_cache(maxsize=4096)
def pattern(glob: str) -> re.Pattern[str]:
    """Return the expression that matches the paths of a glob."""
    words = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob.removeprefix("./").rstrip("/"))
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = [wild.get(word) or (word.replace("[!", "[^") if _is_class(word) else re.escape(word)) for word in words]
    return re.compile("".join(parts) + "(?:/.*)?")


def _is_class(word: str) -> bool:
    return len(word) > 2 and word[0] == "[" and word[-1] == "]"


def prefixes_meet(one: str, other: str) -> bool:
    """Whether the literal beginning of one glob contains the other's."""
    return _contains(one, other) or _contains(other, one)


def _contains(outer: str, inner: str) -> bool:
    begin, inside = literal_prefix(outer), literal_prefix(inner)
    if begin == outer:  # a plain path: itself, or a folder
        whole = begin.rstrip("/")
        return inside.rstrip("/") == whole or inside.startswith(f"{whole}/")
    return inside.startswith(begin)


@dataclass(frozen=True)
class Overlaps:
    """Answers whether lists of globs overlap, as long as the tracked files stay the same.

    Attributes:
        files: that are tracked, sorted.
    """

    files: Sequence[str] = ()
    _matched: dict[Globs, frozenset[int]] = field(default_factory=dict)
    _known: dict[tuple[Globs, Globs], bool] = field(default_factory=dict)

    def between(self, one: Globs, other: Globs) -> bool:
        """Whether a tracked file matches both, or the literal beginning of one contains the other's."""
        key = (one, other) if one <= other else (other, one)
        if key not in self._known:
            self._known[key] = any(
                prefixes_meet(mine, theirs) for mine in one for theirs in other
            ) or not self._files_of(one).isdisjoint(self._files_of(other))
        return self._known[key]

    def _files_of(self, globs: Globs) -> frozenset[int]:
        if globs not in self._matched:
            self._matched[globs] = frozenset(number for glob in globs for number in self._matching(glob))
        return self._matched[globs]

    def _matching(self, glob: str) -> list[int]:
        begin = literal_prefix(glob.removeprefix("./")).rstrip("/")
        matches = pattern(glob).fullmatch
        found = []
        for number in range(bisect_left(self.files, begin), len(self.files)):
            if not self.files[number].startswith(begin):
                break
            if matches(self.files[number]):
                found.append(number)
        return found


def comes_last(
    ready: Sequence[str],
    at_work: Collection[str],
    paths: Mapping[str, Globs],
    passed_over: Mapping[str, int],
    overlaps: Overlaps,
) -> frozenset[str]:
    """Return the tasks that are left until nothing else is ready.

    Args:
        ready: tasks that could be claimed.
        at_work: tasks that ships have.
        paths: the globs of tasks that have any.
        passed_over: how often each was left until then already.
        overlaps: of the files that are tracked now.
    """
    taken = {paths[task] for task in at_work if task in paths}
    return frozenset(
        task
        for task in ready
        if task in paths
        and passed_over.get(task, 0) < MAX_PASSED_OVER
        and any(overlaps.between(paths[task], globs) for globs in taken)
    )


def count_passed_over(
    passed_over: Mapping[str, int], ready: Sequence[str], last: Collection[str], claimed: str
) -> dict[str, int]:
    """Return the counts after a claim: one more for what was before it in line and came last.

    Args:
        passed_over: until now.
        ready: tasks that could be claimed, the best first.
        last: see :func:`comes_last`.
        claimed: what was claimed of them.
    """
    before = ready[: ready.index(claimed)] if claimed in ready else ()
    counts = {task: count for task, count in passed_over.items() if task != claimed}
    return counts | {task: counts.get(task, 0) + 1 for task in before if task in last}
