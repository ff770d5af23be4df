"""Which tasks write the same files, as far as the globs of ``metadata.paths`` tell.

A glob is a path below the repository's root; ``*``, ``?`` and ``[`` begin what is not literal, a plain path
means that file or everything below that folder. Two globs overlap if the literal beginning of one contains
the other's. Any file that matches both begins with both, so no list of files could find more.
"""

from __future__ import annotations

import re
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


@lru_cache(maxsize=65536)
def overlap(one: Globs, other: Globs) -> bool:
    """Whether a file may match both lists of globs."""
    return any(_contains(mine, theirs) or _contains(theirs, mine) for mine in one for theirs in other)


def _contains(outer: str, inner: str) -> bool:
    outer, inner = outer.removeprefix("./"), inner.removeprefix("./")
    begin, inside = literal_prefix(outer), literal_prefix(inner)
    if begin == outer:  # a plain path: itself, or a folder
        whole = begin.rstrip("/")
        return inside.rstrip("/") == whole or inside.startswith(f"{whole}/")
    return inside.startswith(begin)


def comes_last(
    ready: Sequence[str], at_work: Collection[str], paths: Mapping[str, Globs], passed_over: Mapping[str, int]
) -> frozenset[str]:
    """Return the tasks that are left until nothing else is ready.

    Args:
        ready: tasks that could be claimed.
        at_work: tasks that ships have.
        paths: the globs of tasks that have any.
        passed_over: how often each was left until then already.
    """
    taken = {paths[task] for task in at_work if task in paths}
    return frozenset(
        task
        for task in ready
        if task in paths
        and passed_over.get(task, 0) < MAX_PASSED_OVER
        and any(overlap(paths[task], globs) for globs in taken)
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
