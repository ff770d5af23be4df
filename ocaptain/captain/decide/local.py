"""Decide what becomes of the commits that the user made in ``workspace/``, and of the voyage when they have landed.

::

    where workspace/ stands ──plan_local──> LandChain: these commits, oldest first, all of them or none
                                        ├─> MoveOn: all of them landed, only workspace/ has not followed yet
                                        ├─> Nothing: workspace/ has no commit of the user's
                                        └─> Refuse: why, and the command to go on
    the voyage's state ──refuse_state──> why nothing can land any more, None if it can
                       ──state_after──> the state after a landing: one that had ended runs again and is verified anew

A commit that landed before is left out of the chain: it stands in the ledger with what landed of it, and
``workspace/`` still has it where it could not follow the branch.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_COMMITS = 200  # of one chain
MAX_NAMES = 5
#: States in which the ships are gone, or are being destroyed.
_SUNK = frozenset({"sinking", "sunk"})


@dataclass(frozen=True)
class UserCommit:
    """A commit that is not on the branch: its id, its parents' ids, and the first line of its message."""

    id: str
    parents: tuple[str, ...]
    subject: str = ""

    @property
    def shown(self) -> str:
        """The commit as messages name it."""
        return f'{self.id[:10]} "{clean_line(self.subject, 60)}"'


@dataclass(frozen=True)
class Standing:
    """Where ``workspace/`` stands.

    Attributes:
        workspace: its path.
        branch: the voyage's branch.
        on: the branch that it is on, None if it is on none.
        tip: its commit.
        is_behind: whether that commit is on the voyage's branch.
        commits: those below the tip that are not on the branch, oldest first, at most :data:`MAX_COMMITS` + 1.
        unfinished: what the user is in the middle of (``merge``, ``rebase``, …), "" for nothing.
    """

    workspace: str
    branch: str
    on: str | None
    tip: str
    is_behind: bool = False
    commits: tuple[UserCommit, ...] = ()
    unfinished: str = ""

    @property
    def git(self) -> str:
        """How a git command for it begins."""
        return f"git -C {shlex.quote(self.workspace)}"


@dataclass(frozen=True)
class LandChain:
    """Land ``commits``, oldest first, whose first one was made on ``base``."""

    commits: tuple[UserCommit, ...]
    base: str

    @property
    def tip(self) -> str:
        """The newest commit."""
        return self.commits[-1].id


@dataclass(frozen=True)
class MoveOn:
    """Move ``workspace/`` from ``tip``, of which all has landed, to the branch's head."""

    tip: str


@dataclass(frozen=True)
class Nothing:
    """There is nothing to land."""


@dataclass(frozen=True)
class Refuse:
    """Nothing lands, for this reason; it ends with what to do."""

    reason: str


Plan = LandChain | MoveOn | Nothing | Refuse


def rebase_command(at: Standing) -> str:
    """Return the command that puts the user's commits onto the branch's head."""
    return f"{at.git} pull --rebase --autostash"


def plan_local(at: Standing, landed: Collection[str]) -> Plan:
    """Decide which of the user's commits form the chain that lands.

    Args:
        at: where ``workspace/`` stands.
        landed: those of its commits that landed before.
    """
    if refused := _refuse_place(at):
        return refused
    if at.is_behind:
        return Nothing()
    if refused := next((found for one in at.commits if (found := _refuse_commit(at, one))), None):
        return refused
    last = max((number for number, one in enumerate(at.commits, 1) if one.id in landed), default=0)
    fresh = at.commits[last:]
    if not fresh:
        return MoveOn(at.tip)
    if len(fresh) > MAX_COMMITS:
        squash = f"{at.git} rebase -i {at.branch}@{{upstream}}"
        return Refuse(f"more than {MAX_COMMITS} commits of yours wait to land; make fewer of them: {squash}")
    return LandChain(fresh, fresh[0].parents[0])


def _refuse_place(at: Standing) -> Refuse | None:
    if at.unfinished:
        ends = f"{at.git} {at.unfinished} --continue (or --abort)"
        return Refuse(f"a {at.unfinished} is under way in workspace/; finish it: {ends}")
    if at.on != at.branch:
        where = f"on branch {clean_line(at.on, 60)}" if at.on else "on no branch"
        return Refuse(
            f"workspace/ is {where}, and only commits on {at.branch} land; go there: {at.git} switch {at.branch}"
        )
    return None


def _refuse_commit(at: Standing, one: UserCommit) -> Refuse | None:
    if len(one.parents) > 1:
        return Refuse(f"{one.shown} is a merge, which cannot land; rebase first: {rebase_command(at)}")
    if not one.parents:
        return Refuse(
            f"{one.shown} has no parent, so it changes nothing of {at.branch}; rebase first: {rebase_command(at)}"
        )
    return None


def describe_conflict(at: Standing, commit: str, subject: str, why: str) -> str:
    """Return why a chain does not land: the commit, what git says of it, and the command to go on."""
    shown = UserCommit(commit, (), subject).shown
    return f"none of your commits landed: {shown}: {why}; go on with: {rebase_command(at)}"


def refuse_state(voyage: str, state: str, directory: str) -> str | None:
    """Return why nothing can land on a voyage in this state, and how the commits are saved; None if they can land.

    Args:
        voyage: its id.
        state: its state.
        directory: of the voyage.
    """
    if state == "preparing":
        return f"{voyage} is being prepared; commits in workspace/ land by themselves when it sails"
    if state in _SUNK:
        workspace = shlex.quote(f"{directory}/workspace")
        fetch = f"git fetch {workspace} {voyage}:my-commits"
        return f"nothing lands on {voyage} any more: it is {state}; save your commits, in a clone of yours, by: {fetch}"
    return None


def state_after(state: str, *, has_failed_tasks: bool) -> str:
    """Return a voyage's state after a landing of the user's commits.

    A voyage that had ended is verified again; one whose tasks failed for good needs ``retry`` for that.
    """
    if state == "complete" or (state == "failed" and not has_failed_tasks):
        return "running"
    return state


def describe_uncommitted(paths: Collection[str]) -> str:
    """Return which uncommitted files stay in ``workspace/``; "" if there are none."""
    if not paths:
        return ""
    named = ", ".join(clean_line(path, 80) for path in list(paths)[:MAX_NAMES])
    more = f" and {len(paths) - MAX_NAMES} more" if len(paths) > MAX_NAMES else ""
    return f"not committed, so not landed: {named}{more}"
