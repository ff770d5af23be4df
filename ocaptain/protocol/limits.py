"""The limits for an attempt's work; the worker checks them first, then the captain. Standard library only.

Every other ship must be able to check out the work, at a reasonable cost. Only what is new against the commit
that the attempt started from is checked.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Iterable, Iterator, Mapping, NamedTuple

MEBIBYTE = 2**20
#: Largest delta result and delta base: git holds both in memory. Our workers send larger files without deltas.
MAX_DELTA = 50 * MEBIBYTE
MAX_COMMIT = MEBIBYTE
MAX_LINK = 4095  # bytes; the kernel makes no longer symbolic link
#: Bytes of trees, commits and the agent's history, in addition to the files.
MAX_OVERHEAD = 64 * MEBIBYTE
#: Objects per new file: its folders and commits, and changed files.
OBJECTS_PER_FILE = 20
#: New folders per new file.
FOLDERS_PER_FILE = 4
#: Of what an agent committed elsewhere than in its files: saved commits and their unpacked bytes, for an attempt.
MAX_OTHER_TIPS = 50
MAX_OTHER_BYTES = 200 * MEBIBYTE
_RESERVED_NAMES = frozenset({b"", b".", b".."})
#: Code points that HFS+ ignores in names (git's utf8.c).
_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


@dataclass(frozen=True)
class Limits:
    """``limits`` of voyage.json.

    Attributes:
        name: bytes of a file's name.
        path: bytes of its path.
        depth: names in its path.
        files: new files.
        file_mib: MiB of one file.
        total_mib: MiB of all new and changed files.
    """

    name: int = 255
    path: int = 4095
    depth: int = 100
    files: int = 5000
    file_mib: int = 50
    total_mib: int = 500

    @property
    def max_objects(self) -> int:
        """Maximum number of objects in a pack."""
        return OBJECTS_PER_FILE * self.files

    @property
    def max_folders(self) -> int:
        """Maximum number of new folders."""
        return FOLDERS_PER_FILE * self.files

    @property
    def file_bytes(self) -> int:
        """Maximum bytes of one file."""
        return self.file_mib * MEBIBYTE

    @property
    def total_bytes(self) -> int:
        """Maximum bytes of all new and changed files."""
        return self.total_mib * MEBIBYTE

    @property
    def pack_bytes(self) -> int:
        """Maximum unpacked bytes of all objects of a pack."""
        return self.total_bytes + MAX_OVERHEAD

    def for_rescue(self) -> Limits:
        """Return the wider limits for a rescue, whose files are only saved and never land."""
        return replace(self, files=max(self.files, 100_000), file_mib=1024, total_mib=1024)

    @classmethod
    def for_other_work(cls) -> Limits:
        """Return the limits for commits that are only saved."""
        return cls(files=100_000, file_mib=MAX_OTHER_BYTES // MEBIBYTE, total_mib=MAX_OTHER_BYTES // MEBIBYTE)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Limits:
        """Return the limits in a message; a missing or invalid one has its default."""
        known = {name: value for name, value in mapping.items() if name in cls.__dataclass_fields__}
        return cls(**{name: value for name, value in known.items() if type(value) is int and value > 0})


class NewFile(NamedTuple):
    """A new or changed file.

    Attributes:
        path: as git writes it.
        size: bytes.
        is_new: whether the base has no file at that path.
    """

    path: bytes
    size: int
    is_new: bool


class Excess(NamedTuple):
    """An exceeded limit.

    Attributes:
        reason: text that names the limit.
        paths: the files concerned.
    """

    reason: str
    paths: Iterable[bytes]


def find_excesses(files: Iterable[NewFile], limits: Limits) -> Iterator[Excess]:
    """Yield the exceeded limits, each with its files."""
    files = list(files)
    by_size = sorted(files, key=lambda one: -one.size)
    large = [one.path for one in by_size if one.size > limits.file_bytes]
    if large:
        yield Excess(f"files of more than {limits.file_mib} MB (file_mib)", large)
    if sum(one.size for one in by_size) > limits.total_bytes:
        yield Excess(
            f"more than {limits.total_mib} MB of new and changed files (total_mib)", [one.path for one in by_size]
        )
    new = [one.path for one in files if one.is_new]
    if len(new) > limits.files:
        tops = sorted({path.partition(b"/")[0] for path in new})
        yield Excess(f"more than {limits.files} new files ({len(new)}) (files)", tops)
    if len(new) <= limits.files:  # else there are too many of them to look at
        folders = _folders(new)
        if len(folders) > limits.max_folders:
            tops = sorted({path.partition(b"/")[0] for path in new})
            yield Excess(f"more than {limits.max_folders} folders of new files ({len(folders)}) (files)", tops)
    by_reason: dict[str, list[bytes]] = {}
    for one in files:
        reason = path_problem(one.path.rstrip(b"/"), limits)
        if reason:
            by_reason.setdefault(reason, []).append(one.path)
    for reason, paths in by_reason.items():
        yield Excess(reason, paths)


def _folders(paths: Iterable[bytes]) -> set[bytes]:
    """Return all parent folders of paths."""
    found: set[bytes] = set()
    for path in paths:
        folder = path.rpartition(b"/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition(b"/")[0]
    return found


def path_problem(path: bytes, limits: Limits) -> str:
    """Return why some ship could not check out a path, "" if all ships can."""
    names = path.split(b"/")
    if len(path) > limits.path:
        return f"paths of more than {limits.path} bytes (path)"
    if len(names) > limits.depth:
        return f"paths of more than {limits.depth} names (depth)"
    for name in names:
        problem = name_problem(name, limits)
        if problem:
            return problem
    return ""


def name_problem(name: bytes, limits: Limits) -> str:
    """Return why some ship could not check out a file name, "" if all ships can."""
    if len(name) > limits.name:
        return f"names of more than {limits.name} bytes (name)"
    if name in _RESERVED_NAMES or b"/" in name or b"\0" in name:
        return "names that no file can have"
    if is_dot_git(name):
        return "names that some system takes for .git"
    return ""


def fold_name(name: bytes) -> str:
    """Return a name as macOS and Windows compare it: without case and in one normal form of Unicode."""
    if name.isascii():
        return name.decode().lower()
    text = name.decode(errors="surrogateescape")
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def is_dot_git(name: bytes) -> bool:
    """Return whether a file system may treat a name as ``.git``, also HFS+ and NTFS (git's ``verify_dotfile``)."""
    lower = name.lower()
    if b"git" not in lower and lower.isascii():
        return False
    if _hfs_name(name) == ".git":
        return True
    for piece in (lower, *lower.split(b"\\")[1:]):
        start = re.match(rb"(\.git|git~1)[. ]*", piece)
        if start and piece[start.end() : start.end() + 1] in {b"", b"\\", b":"}:
            return True
    return False


def may_be_special(path: bytes) -> bool:
    """Return whether git itself may read a file of this name (``.gitmodules`` and similar), in any spelling."""
    seen = _hfs_name(path.rpartition(b"/")[2])
    return seen.startswith((".gitm", ".gita", ".giti", ".mail")) or "~" in seen or "\\" in seen


def _hfs_name(name: bytes) -> str:
    """Return a name as HFS+ compares it, up to the first byte that is not UTF-8."""
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        text = name[: error.start].decode()
    return _HFS_IGNORED.sub("", text).lower()


def printable_path(path: bytes, max_length: int = 300) -> str:
    """Return a path as text of limited length; bytes that are not UTF-8 are replaced."""
    text = path.decode(errors="replace")
    return text if len(text) <= max_length else f"{text[:max_length]}…"
