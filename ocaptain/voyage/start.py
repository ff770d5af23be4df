"""Which commit of a source a voyage starts from: a pure decision on the source's refs.

::

    refs, HEAD ──branch asked for──> that branch
               ──HEAD names a branch──> that one        ──HEAD is a commit──> that commit
               ──HEAD names none──> the only branch     ──several, or only tags──> refused, with their names
               ──no ref at all──> a new repository
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain.errors import UsageError
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEADS, TAGS, REMOTES = "refs/heads/", "refs/tags/", "refs/remotes/"
MAX_NAMED = 10
_LINE = re.compile(r"^(ref: )?([^\t\n]+)\t([^\n]+)$", re.MULTILINE)


class SourceRefused(UsageError):
    """A source that a voyage cannot start from.

    Args:
        field: ``repo`` or ``branch``, as in voyage.json.
        problem: what is wrong, and where.
        action: what to do.
    """

    def __init__(self, field: str, problem: str, action: str) -> None:
        super().__init__(f"{field}: {problem}; {action}")
        self.field = field
        self.problem = problem
        self.action = action

    @property
    def remedy(self) -> str | None:
        """What to do."""
        return self.action


class SourceUnreadable(SourceRefused):
    """A source that cannot be read from here, or now; it may be there all the same."""


@dataclass(frozen=True)
class RefList:
    """The refs of a repository.

    Attributes:
        refs: full names, with the ids of their objects.
        head: id of HEAD's commit, None if it has none.
        head_branch: the branch that HEAD names, None if it names none or that is not known.
    """

    refs: Mapping[str, str] = field(default_factory=dict)
    head: str | None = None
    head_branch: str | None = None

    def below(self, prefix: str) -> dict[str, str]:
        """Return the refs below a prefix, by the rest of their names."""
        return {name.removeprefix(prefix): oid for name, oid in self.refs.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Start:
    """Where a voyage starts.

    Attributes:
        branch: name of the branch, "" for none.
        commit: id of the commit; None = there is none yet, and the voyage makes the first one.
        note: what the user should know about the choice, "" for nothing.
    """

    branch: str = ""
    commit: str | None = None
    note: str = ""


def parse_ref_list(text: str) -> RefList:
    """Parse the output of ``git ls-remote --symref``; names of peeled tags (``^{}``) are left out."""
    refs: dict[str, str] = {}
    branch = None
    for symbolic, value, name in _LINE.findall(text):
        if symbolic and name == "HEAD":
            branch = value.removeprefix(HEADS) if value.startswith(HEADS) else None
        elif not symbolic and not name.endswith("^{}"):
            refs[name] = value
    head = refs.pop("HEAD", None)
    return RefList(refs, head, branch)


def choose_start(found: RefList, wanted: str | None, where: str) -> Start:
    """Choose where a voyage starts.

    Args:
        found: the refs of the source.
        wanted: name of the branch that the user asked for, None for the one that HEAD names.
        where: the source's URL or path, for messages.

    Raises:
        SourceRefused: that branch does not exist, or it is not clear which one is meant.
    """
    branches = found.below(HEADS)
    if wanted is not None:
        if wanted not in branches:
            raise _refuse_branch(found, wanted, where)
        return Start(wanted, branches[wanted])
    if found.head_branch is not None and found.head_branch in branches:
        return Start(found.head_branch, branches[found.head_branch])
    if found.head is not None:
        return _start_detached(branches, found.head, where)
    if not found.refs:
        return Start(note=f"{where} has no commit: the voyage makes the first one")
    named = "names no branch that exists"
    if found.head_branch:
        named = f"names {escape_control(found.head_branch)}, which does not exist"
    if len(branches) == 1:
        ((name, commit),) = branches.items()
        return Start(name, commit, f"HEAD of {where} {named}: the voyage starts from its only branch, {_names([name])}")
    if branches:
        raise SourceRefused(
            "branch", f"HEAD of {where} {named}; its branches are {_names(branches)}", "choose one with --branch NAME"
        )
    raise SourceRefused("repo", f"{where} has no branch, only {_names(found.refs)}", "make one: git branch main COMMIT")


def _start_detached(branches: Mapping[str, str], head: str, where: str) -> Start:
    names = [name for name, commit in branches.items() if commit == head]
    branch = names[0] if len(names) == 1 else ""
    place = f" ({_names(names)})" if names else ""
    return Start(branch, head, f"HEAD of {where} is detached: the voyage starts from its commit {head[:10]}{place}")


def _refuse_branch(found: RefList, wanted: str, where: str) -> SourceRefused:
    branches = found.below(HEADS)
    shown = escape_control(wanted)
    if not found.refs and found.head is None:
        return SourceRefused("branch", f"{where} has no commit, so no branch {shown!r}", "leave --branch out")
    if wanted in found.below(TAGS):
        problem = f"{shown} is a tag of {where}, and a voyage starts from a branch"
        return SourceRefused("branch", problem, f"make one there: git branch NAME {shown}")
    for name in found.below(REMOTES):
        if name.partition("/")[2] == wanted or name == wanted:
            short = name.partition("/")[2]
            if short in branches:
                break
            own, seen = escape_control(short), escape_control(name)
            problem = f"{where} has no branch {own} of its own, only what it last saw of {seen}"
            return SourceRefused("branch", problem, f"make one there: git branch {own} {seen}")
    short = wanted.removeprefix("refs/").removeprefix("heads/").removeprefix("origin/")
    near = [short] if short in branches else difflib.get_close_matches(wanted, branches, 3, 0.6)
    problem = f"{where} has no branch {shown!r}"
    if near:
        return SourceRefused("branch", problem, f"did you mean {' or '.join(map(escape_control, near))}?")
    action = f"choose one of its branches: {_names(branches)}" if branches else "it has none: git branch NAME COMMIT"
    return SourceRefused("branch", problem, action)


def _names(refs: Iterable[str]) -> str:
    names = sorted(refs)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(escape_control(name) for name in names[:MAX_NAMED]) + more
