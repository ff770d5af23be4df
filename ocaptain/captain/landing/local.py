"""The user's own commits: a chain that is stacked on the head, commit by commit, and lands as a whole or not at all.

::

    commits in repo.git, oldest first ──each merged onto the one before, its own parent as the base──> a tree each
        ──all merged──> a commit each: its author and message, `Ship: local`, parent = the one before
        ──any conflicts──> LocalConflict, and nothing has changed

Everything here runs git and blocks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.captain.landing.candidates import Tip, describe_conflict
from ocaptain.captain.landing.entry import settle
from ocaptain.git import BadTree, BareRepository, Conflict, GitError, compare_trees, merge
from ocaptain.git.local import BadCommit, RawCommit, landed_commit, parse_commit

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from ocaptain.protocol.limits import Limits

AUTHOR = "local"  # of the commits that only help a merge


@dataclass(frozen=True)
class StackedChain:
    """A chain on the head.

    Attributes:
        tip: its newest commit.
        commits: (the user's commit, the commit that lands of it), oldest first.
    """

    tip: Tip
    commits: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class LocalConflict:
    """A chain does not land: the commit that is the reason, the first line of its message, and why."""

    commit: str
    subject: str
    why: str


@dataclass(frozen=True)
class LocalLanded:
    """A chain is on the branch, as ``commit``: (the user's commit, what landed of it) each, oldest first."""

    commit: str
    commits: tuple[tuple[str, str], ...]


LocalVerdict = LocalLanded | LocalConflict


@dataclass
class LocalEntry:
    """A chain at the front of the queue: the user's commits, oldest first, and the verdict or the error."""

    commits: tuple[str, ...]
    settled: asyncio.Future[LocalVerdict]

    def set_verdict(self, verdict: LocalVerdict | BaseException) -> None:
        """Give the verdict, or the error, to the caller of ``land_local``, if it still waits."""
        settle(self.settled, verdict)


def stack_chain(git: BareRepository, head: Tip, commits: Sequence[str], limits: Limits) -> StackedChain | LocalConflict:
    """Stack commits of the user's on the head; no ref is changed.

    Args:
        git: the repository, which has the commits and their parents.
        head: of the branch.
        commits: each with one parent, oldest first.
        limits: for what each of them changes.

    Raises:
        GitError: our own repository failed.
    """
    tip, made = head, []
    for commit in commits:
        raw = _read(git, commit)
        (parent,) = raw.parents
        tree = _merge(git, tip, commit, raw, parent)
        if isinstance(tree, Conflict):
            return LocalConflict(commit, raw.subject, describe_conflict(git, tree, parent, head.commit))
        try:  # the chain was checked when it came; its single commits and the merged trees were not
            compare_trees(git, tree, tip.tree, limits)
        except BadTree as error:
            return LocalConflict(commit, raw.subject, f"it is refused: {error}")
        new = git.write_commit(landed_commit(raw, tree, tip.commit, int(time.time())))
        made.append((commit, new))
        tip = Tip(new, tree)
    return StackedChain(tip, tuple(made))


def _read(git: BareRepository, commit: str) -> RawCommit:
    try:
        return parse_commit(git.read_commit(commit))
    except BadCommit as error:
        raise GitError(f"{git.directory}: {commit}: {error}") from error


def _merge(git: BareRepository, tip: Tip, commit: str, raw: RawCommit, parent: str) -> str | Conflict:
    before = git.tree(parent)
    if tip.tree == before:  # nothing else landed meanwhile
        return raw.tree
    if raw.tree == before:  # it changes nothing
        return tip.tree
    # A commit of the head's files on the same parent: so git takes that parent as the base, whatever history says.
    ours = git.commit(tip.tree, parent, "head", author=AUTHOR, dated=False)
    merged = merge(git, ours, commit)
    return merged if isinstance(merged, Conflict) else merged.tree
