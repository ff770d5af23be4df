"""Which tasks may write the same files, by the globs of ``metadata.paths``.

A glob is a path below the repository's root; its literal part ends before ``*``, ``?`` or ``[``; a plain
path means that file or everything below that folder. Two globs overlap if the literal beginning of one contains
the other's. Any file that matches both begins with both, so no list of files could find more.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Globs = tuple[str, ...]
MAX_DEFERRALS = 5  # a task is deferred at most so often; then it takes its turn
_WILD = re.compile(r"[*?\[]")


def literal_prefix(glob: str) -> str:
    """Return the part of a glob before its first wildcard."""
    return _WILD.split(glob, maxsplit=1)[0]


@lru_cache(maxsize=65536)
def may_overlap(one: Globs, other: Globs) -> bool:
    """Whether a file may match both lists of globs."""
    return any(_contains(mine, theirs) or _contains(theirs, mine) for mine in one for theirs in other)


def _contains(outer: str, inner: str) -> bool:
    outer, inner = outer.removeprefix("./"), inner.removeprefix("./")
    begin, inside = literal_prefix(outer), literal_prefix(inner)
    if begin == outer:  # a plain path: itself, or a folder
        whole = begin.rstrip("/")
        return inside.rstrip("/") == whole or inside.startswith(f"{whole}/")
    return inside.startswith(begin)


def deferred_tasks(
    ready: Sequence[str], at_work: Collection[str], paths: Mapping[str, Globs], passed_over: Mapping[str, int]
) -> frozenset[str]:
    """Return the ready tasks that wait until no other task is ready, since they overlap with running ones.

    Args:
        ready: tasks that could be claimed.
        at_work: tasks that ships are working on.
        paths: the globs of tasks that have any.
        passed_over: how often each was deferred before.
    """
    taken = {paths[task] for task in at_work if task in paths}
    return frozenset(
        task
        for task in ready
        if task in paths
        and passed_over.get(task, 0) < MAX_DEFERRALS
        and any(may_overlap(paths[task], globs) for globs in taken)
    )


def count_deferrals(
    passed_over: Mapping[str, int], ready: Sequence[str], last: Collection[str], claimed: str
) -> dict[str, int]:
    """Return the counts of deferrals after a claim: one more for each deferred task before it in line.

    Args:
        passed_over: the counts before the claim.
        ready: tasks that could be claimed, the best first.
        last: the deferred ones, see :func:`deferred_tasks`.
        claimed: the task that was claimed.
    """
    before = ready[: ready.index(claimed)] if claimed in ready else ()
    counts = {task: count for task, count in passed_over.items() if task != claimed}
    return counts | {task: counts.get(task, 0) + 1 for task in before if task in last}
