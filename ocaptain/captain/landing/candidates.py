"""Candidates: an offer merged onto the head that it would land on, as a tree and as a commit to check.

Everything here runs git and blocks. Candidates' commits are reproducible (they have their parent's date),
so that a check can be identified by its candidate's id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.git import BadTree, BareRepository, Conflict, compare_trees, merge
from ocaptain.protocol.limits import printable_path
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from ocaptain.protocol.limits import Limits

MAX_PATHS = 10  # of a conflict that a message names


@dataclass(frozen=True)
class Tip:
    """The head or a candidate: what the next candidate is stacked on.

    Attributes:
        commit, tree: ids.
        collisions: new paths that macOS or Windows take for another path, each with that one.
    """

    commit: str
    tree: str
    collisions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class OfferedTree:
    """An offer: its tree, and the commit that it started from according to the ledger.

    Attributes:
        base: that commit (not what the ship says).
        base_tree: the tree of that commit.
        tree: the offered tree.
        task: its id.
        ship: that made it.
    """

    base: str
    base_tree: str
    tree: str
    task: str
    ship: str


def read_offer(git: BareRepository, base: str, commit: str, task: str, ship: str) -> OfferedTree:
    """Return an offer whose objects are in the repository.

    Raises:
        GitError: they are not, or cannot be read.
    """
    return OfferedTree(base, git.tree(base), git.tree(commit), task, ship)


def stack_on(git: BareRepository, tip: Tip, offered: OfferedTree, limits: Limits) -> Tip | Conflict:
    """Return the candidate of an offer on ``tip``; a conflict if they do not merge, or not into a valid tree."""
    tree = _merge(git, tip, offered)
    if isinstance(tree, Conflict):
        return tree
    try:  # the offer was checked when it came, the merged tree was not
        changes = compare_trees(git, tree, tip.tree, limits)
    except BadTree as error:
        return Conflict((), f"the merged tree is refused: {error}")
    collisions = tuple((printable_path(new), printable_path(old)) for new, old in changes.collisions[:MAX_PATHS])
    message = f"candidate of task {offered.task}"
    return Tip(git.commit(tree, tip.commit, message, author=offered.ship, dated=False), tree, collisions)


def _merge(git: BareRepository, tip: Tip, offered: OfferedTree) -> str | Conflict:
    if tip.tree == offered.base_tree:  # nothing landed meanwhile, or it was undone
        return offered.tree
    if offered.tree == offered.base_tree:  # it changes nothing
        return tip.tree
    work = git.commit(offered.tree, offered.base, "work", author=offered.ship, dated=False)
    merged = merge(git, tip.commit, work)
    return merged if isinstance(merged, Conflict) else merged.tree


def describe_conflict(git: BareRepository, conflict: Conflict, base: str, tip: str) -> str:
    """Return why an offer does not merge, with the paths and the landings that changed them."""
    if conflict.note:
        return f"it does not merge: {conflict.note}"
    named = conflict.paths[:MAX_PATHS]
    paths = ", ".join(escape_control(path) for path in named)
    arguments = ("log", "--format=%s (%(trailers:key=Task,separator=%x2C))", f"{base}..{tip}", "--", *named)
    done = git.run(*arguments, extra={"GIT_LITERAL_PATHSPECS": "1"})
    told = escape_control(done.stdout.decode(errors="replace").strip()).replace(" ()", " (Ship: local)")
    landed = told.replace("\n", "; ") or "work that landed meanwhile"
    return f"it does not merge: {paths} was also changed by: {landed}"
