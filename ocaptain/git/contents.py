"""What a commit has that ships do not get, by what git itself says of its paths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ocaptain.git.run import Git

#: One file with all paths, whatever the user has set for the work tree.
_WHOLE_INDEX = ("-c", "core.splitIndex=false", "-c", "core.sparseCheckout=false", "-c", "index.sparse=false")
_NO_FILTER = frozenset({"unspecified", "unset", "set", ""})


@dataclass(frozen=True)
class Incomplete:
    """What a clone without submodules and without filters lacks.

    Attributes:
        submodules: paths whose entry is a commit of another repository (mode 160000).
        filtered: paths that have the attribute ``filter``, by its value (``lfs``, ``git-crypt``).
    """

    submodules: tuple[str, ...] = ()
    filtered: Mapping[str, Sequence[str]] = field(default_factory=dict)


def find_incomplete(git: Git, commit: str, index: Path) -> Incomplete:
    """Find what a commit has that a plain clone does not bring.

    Args:
        git: a repository that has the commit; it is not changed.
        commit: its id.
        index: an absolute path for a temporary index, from which git reads the commit's own ``.gitattributes``.

    Raises:
        GitError: the commit cannot be read.
    """
    entries = [entry for entry in git.run("ls-tree", "-r", "-z", commit).stdout.split(b"\0") if entry]
    paths = [(entry.startswith(b"160000 "), entry.partition(b"\t")[2]) for entry in entries]
    submodules = tuple(path.decode(errors="replace") for is_submodule, path in paths if is_submodule)
    if not any(path.rpartition(b"/")[2] == b".gitattributes" for _, path in paths):
        return Incomplete(submodules)
    extra = {"GIT_INDEX_FILE": str(index), "GIT_ATTR_NOSYSTEM": "1"}
    try:
        git.run(*_WHOLE_INDEX, "read-tree", commit, extra=extra)
        listed = b"".join(path + b"\0" for is_submodule, path in paths if not is_submodule)
        told = git.run("check-attr", "--cached", "--stdin", "-z", "filter", stdin=listed, extra=extra).stdout
    finally:
        index.unlink(missing_ok=True)
    words = told.decode(errors="replace").split("\0")
    filtered: dict[str, list[str]] = {}
    for path, value in zip(words[0::3], words[2::3], strict=False):
        if value not in _NO_FILTER:
            filtered.setdefault(value, []).append(path)
    return Incomplete(submodules, filtered)
