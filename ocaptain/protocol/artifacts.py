"""What an agent may leave in ``~/voyage/artifacts``: names, numbers and bytes. Standard library only.

The worker checks them when it packs, the captain once more when it unpacks: whatever arrives may have been made by
an agent. A collection travels as a tar archive of regular files, each with a plain ustar header and nothing else
(POSIX.1-1988; a path has at most 255 bytes there), so that whoever reads it needs no more than 512 bytes for a file.
"""

from __future__ import annotations

from typing import Dict, Set

from ocaptain.protocol.limits import MEBIBYTE, fold_name, is_dot_git

MAX_BYTES = 100 * MEBIBYTE  # of all files of an attempt
MAX_FILES = 5000
BLOCK = 512  # bytes; what a tar archive consists of
END = bytes(2 * BLOCK)  # of an archive
MAX_ARCHIVE = MAX_BYTES + MAX_FILES * 2 * BLOCK + len(END)  # a header, and what fills a file's last block
#: The plan's own documents, at the top of the directory: they are no artifacts.
PLAN_FILES = frozenset({"spec.md", "verify.sh"})
MAX_PATH = 255  # bytes
#: git takes a folder with this file and the folders ``objects`` and ``refs`` for a repository, and runs what its
#: configuration says as soon as somebody's prompt asks for the branch.
_GIT_HEAD = "head"


class Names:
    """The names of one collection: each is judged by itself, and beside those before it."""

    def __init__(self) -> None:
        self._files: Set[str] = set()  # as macOS compares them
        self._folders: Dict[str, str] = {}  # likewise, each with its path

    def take(self, path: str) -> str:
        """Take a path into the collection; return why it cannot be in it, "" if it is.

        Args:
            path: relative, with ``/`` between names.
        """
        problem = _name_problem(path) or self._clash(path)
        if not problem:
            self._files.add(_fold(path))
            self._folders.update((_fold(folder), folder) for folder in _folders(path))
        return problem

    def _clash(self, path: str) -> str:
        folded = _fold(path)
        if folded in self._files or folded in self._folders:
            return "macOS takes its name for another one"
        for folder in _folders(path):
            if _fold(folder) in self._files or self._folders.get(_fold(folder), folder) != folder:
                return "macOS takes its folder's name for another one"
        return ""


def _name_problem(path: str) -> str:
    if not path.isprintable():  # also what is no UTF-8, ends a line, or turns text around
        return "its name has characters that cannot be shown"
    names = path.split("/")
    if not {"", ".", ".."}.isdisjoint(names):
        return "its name leads elsewhere"
    if any(name.casefold() == _GIT_HEAD or is_dot_git(name.encode()) for name in names):
        return "its name is one of git's own"
    if len(names) == 1 and path in PLAN_FILES:
        return "its name is that of the plan's own document"
    return f"its path has more than {MAX_PATH} bytes" if len(path.encode()) > MAX_PATH else ""


def _folders(path: str) -> list[str]:
    """Return all folders that a path is in, the outermost first."""
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(1, len(names))]


def _fold(path: str) -> str:
    return fold_name(path.encode())
