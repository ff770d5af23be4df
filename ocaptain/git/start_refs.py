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
_FORMAT = "--format=%(objectname) %(objecttype) %(refname)"
_TAGS_SECONDS = 120.0


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
    done = git.run("for-each-ref", f"--merged={root}", _FORMAT, "refs/tags/", seconds=_TAGS_SECONDS)
    lines = done.stdout.decode("utf-8", "surrogateescape").split("\n")
    found = {name: (oid, kind) for oid, kind, name in (line.split(" ") for line in lines if line)}
    annotated = tuple(oid for oid, kind in found.values() if kind == "tag")
    if branch:
        found |= dict.fromkeys((f"refs/heads/{branch}", f"refs/remotes/origin/{branch}"), (root, "commit"))
    if not found:
        return StartRefs()
    listed = sorted((name.encode("utf-8", "surrogateescape"), oid) for name, (oid, _) in found.items())
    text = _HEADER.encode() + b"".join(b"%s %s\n" % (oid.encode(), name) for name, oid in listed)
    blob = git.text("hash-object", "-w", "--stdin", stdin=text)
    return StartRefs(blob, (blob, *annotated))
