"""Compare the voyage branch with the ledger when a captain starts. A ledger can go back in time.

If its write-ahead log was lost, its directory restored from a copy, or the machine's image rolled back, the ledger
does not know of work that landed, and the work would be done again, or undone. The trailers of the branch's commits
show what landed. The ledger adopts the landings that it lacks; if the branch lacks a landing that the ledger has, a
person must decide which of them is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LOCAL = "local"  #: the trailer ``Ship:`` of the user's own commits
_TASK = re.compile(r"refs/ocaptain/tasks/(.+)/([0-9]{1,9})/[^/]+")
_STALE = re.compile(r"refs/ocaptain/stale/([0-9]{1,15})(?:-.*)?")
_LOST = re.compile(r"refs/ocaptain/saved/[^/]+/lost-([0-9]{1,15})")
_SAVED = re.compile(r"refs/ocaptain/saved/[^/]+/([0-9]{1,15})")
_CHAIN = re.compile(r"refs/ocaptain/local/([0-9]{1,15})")


@dataclass(frozen=True)
class BranchLanding:
    """A landing, read from the trailers of its commit.

    Attributes:
        commit: that landed.
        task: that it is of, "" for one of the user's own commits.
        ship: that made it, :data:`LOCAL` for the user.
        number: of the attempt, 0 for the user's.
    """

    commit: str
    task: str
    ship: str
    number: int


@dataclass(frozen=True)
class Comparison:
    """How branch and ledger differ.

    Attributes:
        adopt: landings that the ledger lacks and should adopt, oldest first.
        contradiction: the two facts that contradict each other, None if none do.
    """

    adopt: tuple[BranchLanding, ...] = ()
    contradiction: str | None = None


def compare_branch_and_ledger(
    commits: Sequence[str], trailers: Sequence[BranchLanding], landings: Sequence[str], tasks: Mapping[str, str]
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
        return Comparison(
            contradiction=f"the ledger says that {lost[-1]} landed, but the branch, at {head}, does not contain it"
        )
    known = set(landings)
    fresh = [one for one in trailers if one.commit not in known]
    if foreign := [one for one in fresh if one.task and one.task not in tasks]:
        one = foreign[0]
        return Comparison(
            contradiction=f"the branch has a landing of task {one.task} ({one.commit}), but the ledger has no such task"
        )
    return Comparison(tuple(one for one in fresh if not one.task or tasks[one.task] != "completed"))


@dataclass(frozen=True)
class HighestNumbers:
    """The highest numbers used in our refs: new numbers must be higher, or new refs would overwrite old ones.

    Attributes:
        attempts: highest attempt number, by task.
        token: highest token of an attempt.
        epoch: highest epoch of a captain that saved something.
        local: highest number of a chain of the user's own commits.
    """

    attempts: Mapping[str, int] = field(default_factory=dict)
    token: int = 0
    epoch: int = 0
    local: int = 0


def highest_numbers(refs: Iterable[str]) -> HighestNumbers:
    """Return the highest numbers that occur in the names of refs."""
    attempts: dict[str, int] = {}
    token = epoch = local = 0
    for ref in refs:
        if found := _TASK.fullmatch(ref):
            attempts[found[1]] = max(attempts.get(found[1], 0), int(found[2]))
        elif found := _STALE.fullmatch(ref) or _LOST.fullmatch(ref):
            token = max(token, int(found[1]))
        elif found := _SAVED.fullmatch(ref):
            epoch = max(epoch, int(found[1]))
        elif found := _CHAIN.fullmatch(ref):
            local = max(local, int(found[1]))
    return HighestNumbers(attempts, token, epoch, local)


def parse_trailers(lines: Iterable[str]) -> tuple[list[str], list[BranchLanding]]:
    """Parse a log; return all of its commits, and the landings among them (commits with our trailers).

    Args:
        lines: ``commit NUL task NUL ship NUL attempt`` each, oldest first.
    """
    commits: list[str] = []
    found: list[BranchLanding] = []
    for line in lines:
        commit, _, rest = line.partition("\0")
        commits.append(commit)
        task, ship, number = (*rest.split("\0"), "", "", "")[:3]
        if task and ship and re.fullmatch(r"[0-9]{1,9}", number):
            found.append(BranchLanding(commit, task, ship, int(number)))
        elif ship == LOCAL and not task and not number:
            found.append(BranchLanding(commit, "", LOCAL, 0))
    return commits, found
