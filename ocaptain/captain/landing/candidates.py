"""Candidates: an offer merged onto what would be the head by then, as a tree and as a commit to check.

Everything here runs git and blocks. Commits that are not to land are the same each time (their date is
their parent's), so that a check is known by its candidate's id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.git import BadTree, Conflict, Store, compare, merge
from ocaptain.protocol.limits import printable_path
from ocaptain.text import clean

if TYPE_CHECKING:
    from ocaptain.protocol.limits import Limits

MAX_PATHS = 10  # of a conflict that are named


@dataclass(frozen=True)
class Tip:
    """What a candidate is made upon: the head, or the candidate below.

    Attributes:
        commit, tree: ids.
        collisions: of its new paths, those that macOS or Windows take for another one, each with that.
    """

    commit: str
    tree: str
    collisions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Offered:
    """An offer as the captain takes it: a tree, and the commit that the ledger says it started from.

    Attributes:
        base: that commit (not what the ship says).
        base_tree: the files of that.
        tree: the files now.
        task: its id.
        ship: that made it.
    """

    base: str
    base_tree: str
    tree: str
    task: str
    ship: str


def take_offer(git: Store, base: str, commit: str, task: str, ship: str) -> Offered:
    """Return an offer whose objects are in the repository.

    Raises:
        GitError: they are not, or cannot be read.
    """
    return Offered(base, git.tree(base), git.tree(commit), task, ship)


def stack_on(git: Store, tip: Tip, offered: Offered, limits: Limits) -> Tip | Conflict:
    """Return the candidate of an offer on ``tip``, if it is one that every ship can check out."""
    tree = _merge(git, tip, offered)
    if isinstance(tree, Conflict):
        return tree
    try:  # what the offer has was looked at, what both together make was not
        changes = compare(git, tree, tip.tree, limits)
    except BadTree as error:
        return Conflict((), f"what they make together is refused: {error}")
    collisions = tuple((printable_path(new), printable_path(there)) for new, there in changes.collisions[:MAX_PATHS])
    message = f"candidate of task {offered.task}"
    return Tip(git.commit(tree, tip.commit, message, author=offered.ship, dated=False), tree, collisions)


def _merge(git: Store, tip: Tip, offered: Offered) -> str | Conflict:
    if tip.tree == offered.base_tree:  # nothing landed meanwhile, or nothing that is left
        return offered.tree
    if offered.tree == offered.base_tree:  # it changes nothing
        return tip.tree
    work = git.commit(offered.tree, offered.base, "work", author=offered.ship, dated=False)
    merged = merge(git, tip.commit, work)
    return merged if isinstance(merged, Conflict) else merged.tree


def describe(git: Store, conflict: Conflict, base: str, tip: str) -> str:
    """Return why an offer does not merge, with both sides named."""
    if conflict.note:
        return f"it does not merge: {conflict.note}"
    named = conflict.paths[:MAX_PATHS]
    paths = ", ".join(clean(path) for path in named)
    arguments = ("log", "--format=%s (%(trailers:key=Task,separator=%x2C))", f"{base}..{tip}", "--", *named)
    done = git.run(*arguments, extra={"GIT_LITERAL_PATHSPECS": "1"})
    landed = clean(done.stdout.decode(errors="replace").strip()).replace("\n", "; ") or "work that landed meanwhile"
    return f"it does not merge: {paths} was also changed by: {landed}"
