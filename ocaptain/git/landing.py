"""Merge commits in a bare repository, and make the message of a landing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.git.attributes import write_merge_attributes
from ocaptain.git.run import Bounds, GitError, GitLimitExceeded, GitTimeout
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from ocaptain.git.run import Git

OWN_TRAILERS = ("Task", "Ship", "Attempt")
MAX_SUBJECT = 200
MAX_BODY = 8000
MERGE_SECONDS = 120.0
#: All other offers wait during a merge. If it exceeds these limits, it is tried once more without detecting renames.
MERGE_BOUNDS = Bounds(memory=208 * 2**20, file=2**30, seconds=1)
RENAMES = ("merge.renames=true", "merge.renames=false")


@dataclass(frozen=True)
class Merged:
    """A merge without conflict: the resulting tree."""

    tree: str


@dataclass(frozen=True)
class Conflict:
    """A merge that failed.

    Attributes:
        paths: that both sides changed.
        note: another reason why there was no merge, "" if none.
    """

    paths: tuple[str, ...]
    note: str = ""


def merge(git: Git, head: str, theirs: str) -> Merged | Conflict:
    """Merge two commits without a work tree (``git merge-tree --write-tree``).

    What ``head`` says of ``merge=union`` and ``-merge`` is heeded (:mod:`ocaptain.git.attributes`).

    Raises:
        GitError: our own repository or disk failed.
    """
    write_merge_attributes(git, head)
    arguments = ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", head, theirs)
    for renames in RENAMES:
        try:
            done = git.run(*arguments, ok=(0, 1), seconds=MERGE_SECONDS, bounds=MERGE_BOUNDS, setting=renames)
            break
        except (GitTimeout, GitLimitExceeded):
            continue
    else:
        limit = f"{MERGE_BOUNDS.seconds} s of CPU time or {MERGE_BOUNDS.memory // 2**20} MB of memory"
        return Conflict((), f"the merge needs more than {limit}")
    tree, *paths = [word.decode(errors="replace") for word in done.stdout.split(b"\0") if word]
    if not re.fullmatch(r"[0-9a-f]{40}", tree):
        raise GitError(f"git merge-tree in {git.directory} printed {tree[:80]!r} instead of a tree's id")
    return Conflict(tuple(dict.fromkeys(paths))) if done.returncode else Merged(tree)


def commit_message(subject: str, body: str, *, task: str, ship: str, attempt: int) -> str:
    """Return the commit message of a landing.

    It has a one-line subject, the agent's own message, then our trailers. Lines of the agent that look
    like our trailers are dropped, and control characters are escaped.
    """
    head = " ".join(escape_control(subject).split())[:MAX_SUBJECT] or f"Task {task}"
    forged = re.compile(rf"\s*({'|'.join(OWN_TRAILERS)})\s*:", re.IGNORECASE)
    lines = [escape_control(line).rstrip() for line in body[:MAX_BODY].splitlines()]
    kept = "\n".join(line for line in lines if not forged.match(line)).strip()
    trailers = f"Task: {task}\nShip: {ship}\nAttempt: {attempt}\n"
    return "\n\n".join(part for part in (head, kept, trailers) if part)
