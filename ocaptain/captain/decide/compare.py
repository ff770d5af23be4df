"""At a captain's start: what ledger and branch say of each other. A ledger can go back in time.

Its write-ahead log was lost, its directory restored from a copy, the machine's image rolled back: then it
does not know of work that landed, and would have it done again, or undone. The branch's own trailers
tell. What the ledger lacks it adopts; where the branch lacks what the ledger has, a person must say
which of them is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_TASK = re.compile(r"refs/ocaptain/tasks/(.+)/([0-9]{1,9})/[^/]+")
_STALE = re.compile(r"refs/ocaptain/stale/([0-9]{1,15})(?:-.*)?")
_SAVED = re.compile(r"refs/ocaptain/saved/[^/]+/([0-9]{1,15})")


@dataclass(frozen=True)
class OnBranch:
    """A landing, as the trailers of its commit tell it."""

    commit: str
    task: str
    ship: str
    number: int


@dataclass(frozen=True)
class Comparison:
    """What is to be done.

    Attributes:
        adopt: landings that the ledger lacks, oldest first.
        refusal: the two facts that contradict each other, None if none do.
    """

    adopt: tuple[OnBranch, ...] = ()
    refusal: str | None = None


def compare(
    commits: Sequence[str], trailers: Sequence[OnBranch], landings: Sequence[str], tasks: Mapping[str, str]
) -> Comparison:
    """Compare the branch with the ledger.

    Args:
        commits: on the branch since the voyage's root, oldest first.
        trailers: of those that have ours, in that order.
        landings: commits that the ledger says landed, oldest first.
        tasks: status of each task, by id.
    """
    on_branch = set(commits)
    if lost := [commit for commit in landings if commit not in on_branch]:
        head = commits[-1] if commits else "the voyage's first commit"
        return Comparison(refusal=f"the ledger says that {lost[-1]} landed; the branch, at {head}, does not contain it")
    known = set(landings)
    fresh = [one for one in trailers if one.commit not in known]
    if foreign := [one for one in fresh if one.task not in tasks]:
        one = foreign[0]
        return Comparison(
            refusal=f"the branch has a landing of task {one.task} ({one.commit}); the ledger has no such task"
        )
    return Comparison(tuple(one for one in fresh if tasks[one.task] != "completed"))


@dataclass(frozen=True)
class Counters:
    """The highest numbers that refs tell of: what is made next must not be written over them.

    Attributes:
        attempts: by task.
        token: of an attempt.
        epoch: of a captain that saved something.
    """

    attempts: Mapping[str, int] = field(default_factory=dict)
    token: int = 0
    epoch: int = 0


def counters(refs: Iterable[str]) -> Counters:
    """Return the numbers that refs tell of."""
    attempts: dict[str, int] = {}
    token = epoch = 0
    for ref in refs:
        if found := _TASK.fullmatch(ref):
            attempts[found[1]] = max(attempts.get(found[1], 0), int(found[2]))
        elif found := _STALE.fullmatch(ref):
            token = max(token, int(found[1]))
        elif found := _SAVED.fullmatch(ref):
            epoch = max(epoch, int(found[1]))
    return Counters(attempts, token, epoch)


def parse_trailers(lines: Iterable[str]) -> tuple[list[str], list[OnBranch]]:
    """Return the commits of a log, and those with our trailers.

    Args:
        lines: ``commit NUL task NUL ship NUL attempt`` each, oldest first.
    """
    commits: list[str] = []
    found: list[OnBranch] = []
    for line in lines:
        commit, _, rest = line.partition("\0")
        commits.append(commit)
        task, ship, number = (*rest.split("\0"), "", "", "")[:3]
        if task and ship and re.fullmatch(r"[0-9]{1,9}", number):
            found.append(OnBranch(commit, task, ship, int(number)))
    return commits, found
