"""Find what a tree has that another one lacks, reading folder by folder without recursion.

Folders that both have are not opened, so the cost depends only on what changed. A hostile tree may have a
million folders that lead to one file: therefore all limits are checked while it is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ocaptain.protocol.limits import (
    MAX_LINK,
    NewFile,
    find_excesses,
    fold_name,
    name_problem,
    path_problem,
    printable_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ocaptain.protocol.limits import Limits

FOLDER, LINK, SUBMODULE = 0o040000, 0o120000, 0o160000
MODES = frozenset({FOLDER, LINK, SUBMODULE, 0o100644, 0o100755})
MAX_NAMED = 10
_ENTRY = re.compile(rb"([0-7]{5,6}) ([^\0]+)\0(.{20})", re.DOTALL)


class BadTree(ValueError):
    """A tree cannot be checked out on every ship, or is beyond a limit; the message names the path."""


class Entry(NamedTuple):
    """An entry of a tree: git's mode, and the object's id."""

    mode: int
    oid: str


class Objects(Protocol):
    """A store from which trees are read."""

    def tree_bytes(self, oid: str) -> bytes:
        """Return a tree's bytes."""

    def file_size(self, oid: str) -> int:
        """Return a file's size in bytes."""


@dataclass
class Changes:
    """The changes between two trees.

    Attributes:
        files: that are new or changed.
        collisions: new paths that macOS or Windows take for another path, each with that one.
    """

    files: list[NewFile] = field(default_factory=list)
    collisions: list[tuple[bytes, bytes]] = field(default_factory=list)


class _Folder(NamedTuple):
    path: bytes
    depth: int
    new: str
    old: str | None


def parse_tree(data: bytes) -> dict[bytes, Entry]:
    """Return a tree's entries by name.

    Raises:
        BadTree: it is not a tree, or has a name twice.
    """
    found: dict[bytes, Entry] = {}
    at = 0
    for entry in _ENTRY.finditer(data):
        if entry.start() != at or entry[2] in found:
            break
        found[entry[2]] = Entry(int(entry[1], 8), entry[3].hex())
        at = entry.end()
    if at != len(data):
        raise BadTree("it has a folder that cannot be read")
    return found


def compare_trees(objects: Objects, new: str, old: str | None, limits: Limits) -> Changes:
    """Return what one tree has that another lacks, within limits.

    Args:
        objects: that hold both trees.
        new: id of the tree.
        old: id of the other tree, None for an empty one.
        limits: for what is new.

    Raises:
        BadTree: it is beyond a limit, or cannot be checked out on every ship.
    """
    found, folders, new_files, total = Changes(), 0, 0, 0
    left = [_Folder(b"", 0, new, old)] if new != old else []
    while left and new_files <= limits.files and total <= limits.total_bytes:
        folder = left.pop()
        entries = parse_tree(objects.tree_bytes(folder.new))
        if not entries and folder.path:
            raise BadTree(f"{_shown(folder.path)} is an empty folder, which git does not allow")
        before = parse_tree(objects.tree_bytes(folder.old)) if folder.old else {}
        folders += folder.old is None
        if folders > limits.max_folders:
            raise BadTree(f"it has more than {limits.max_folders} new folders")
        fresh = {name: entry for name, entry in entries.items() if before.get(name) != entry}
        for name, entry in fresh.items():
            path = folder.path + name
            _check(path, folder.depth, name, entry, limits)
            was = before.get(name)
            if entry.mode == FOLDER:
                beneath = was.oid if was and was.mode == FOLDER else None
                left.append(_Folder(path + b"/", folder.depth + 1, entry.oid, beneath))
                continue
            file = NewFile(path, _size(objects, path, entry, was), was is None or was.mode == FOLDER)
            found.files.append(file)
            new_files, total = new_files + file.is_new, total + file.size
        found.collisions += _collisions(folder.path, entries, fresh.keys() - before.keys())
    for reason, paths in find_excesses(found.files, limits):
        raise BadTree(f"{reason}: {', '.join(_shown(path) for path in list(paths)[:MAX_NAMED])}")
    return found


def _check(path: bytes, depth: int, name: bytes, entry: Entry, limits: Limits) -> None:
    problem = name_problem(name, limits)
    if not problem and (len(path) > limits.path or depth >= limits.depth):
        problem = path_problem(path, limits)
    if problem:
        raise BadTree(f"{problem}: {_shown(path)}")
    if entry.mode not in MODES:
        raise BadTree(f"{_shown(path)} is neither a file, a link nor a folder (mode {entry.mode:o})")


def _size(objects: Objects, path: bytes, entry: Entry, was: Entry | None) -> int:
    """Return the new bytes of an entry: 0 for a file that only became executable."""
    if entry.mode == SUBMODULE:
        raise BadTree(f"{_shown(path)} is a submodule, which is not supported")
    if was and was.oid == entry.oid and LINK not in {was.mode, entry.mode}:
        return 0
    size = objects.file_size(entry.oid)
    if entry.mode == LINK and not 0 < size <= MAX_LINK:
        raise BadTree(f"{_shown(path)} is a link to a path of {size} bytes")
    return size


def _collisions(folder: bytes, entries: Mapping[bytes, Entry], added: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the added names that macOS or Windows take for another name in the folder, each with that one."""
    added = set(added)
    if not added:
        return
    seen: dict[str, bytes] = {}
    for name in sorted(entries, key=lambda name: (name in added, name)):
        other = seen.setdefault(fold_name(name), name)
        if other != name and name in added:
            yield folder + name, folder + other


def _shown(path: bytes) -> str:
    return printable_path(path.rstrip(b"/"))
