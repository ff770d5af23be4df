"""The refs of a voyage's start that every ship has: tags for ``git describe``, the branch for ``git diff main``.

::

    refs/tags/* (those of commits in the start) + the branch ──packed-refs──> a blob ──in a whole bundle──> ship
        ──each reset──> packed-refs of the workspace's own repository, which an agent may change as it likes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocaptain.git.run import Git

#: Without "peeled": git looks itself at what a tag points to, in the end.
_HEADER = "# pack-refs with: sorted \n"
_WALK_SECONDS = 600.0


@dataclass(frozen=True)
class StartRefs:
    """The refs of a voyage's start as objects.

    Attributes:
        blob: id of their list, "" for no refs.
        objects: what a pack must hold for them beside the commits: the list and the tags' own objects.
    """

    blob: str = ""
    objects: tuple[str, ...] = ()


def pack_start_refs(git: Git, root: str, branch: str) -> StartRefs:
    """Store the refs of a voyage's start as a list in the format of git's ``packed-refs``.

    Args:
        git: the voyage's repository.
        root: the commit that the voyage started from.
        branch: the branch that this was on, "" for none.

    Raises:
        GitError: git failed.
    """
    found, annotated = _tags_in(git, root)
    if branch:
        found |= dict.fromkeys((f"refs/heads/{branch}", f"refs/remotes/origin/{branch}"), root)
    if not found:
        return StartRefs()
    listed = sorted((name.encode("utf-8", "surrogateescape"), oid) for name, oid in found.items())
    text = _HEADER.encode() + b"".join(b"%s %s\n" % (oid.encode(), name) for name, oid in listed)
    blob = git.text("hash-object", "-w", "--stdin", stdin=text)
    return StartRefs(blob, (blob, *annotated))


def _tags_in(git: Git, root: str) -> tuple[dict[str, str], list[str]]:
    """Return the tags of commits in the history of ``root``, with their ids, and the ids of annotated ones.

    Every commit is walked: ``for-each-ref --merged`` trusts their dates, and misses tags behind a wrong one.
    """
    done = git.run("show-ref", "--tags", "--dereference", ok=(0, 1))  # 1 = there is none
    lines = done.stdout.decode("utf-8", "surrogateescape").split("\n")
    ids = {name: oid for oid, _, name in (line.partition(" ") for line in lines if line)}
    tags = {name: oid for name, oid in ids.items() if not name.endswith("^{}")}
    if not tags:
        return {}, []
    history = set(git.run("rev-list", root, seconds=_WALK_SECONDS).stdout.decode().split())
    found = {name: oid for name, oid in tags.items() if ids.get(f"{name}^{{}}", oid) in history}
    return found, [oid for name, oid in found.items() if f"{name}^{{}}" in ids]
