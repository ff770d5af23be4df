"""Collect what an agent left in ``~/voyage/artifacts``, and empty that directory for the next one.

::

    the attempt begins ──empty_artifacts──> spec.md, verify.sh
    it ends ──names, kinds, sizes──> a tar archive, in parts below .ocaptain/out ──> its result names them

Only regular files travel, without owner, time and permissions, in the order of their names: the same files give the
same archive. What is left out is named. Nothing that goes wrong here may cost the attempt its result.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
from pathlib import Path
from typing import BinaryIO, Iterator, List, NamedTuple, Optional, Tuple

from ocaptain.protocol import PART_BYTES
from ocaptain.protocol.artifacts import BLOCK, END, MAX_BYTES, MAX_FILES, PLAN_FILES, Names
from ocaptain.protocol.limits import MEBIBYTE, printable_path
from ocaptain.protocol.messages import Artifacts, Bundle, Part
from ocaptain.worker.places import Places, open_regular_file, remove_path

MAX_ENTRIES = 20_000  # that are looked at
PACK_SECONDS = 30.0
MAX_LEFT_OUT = 20  # that are named
MAX_NAME = 200
CHUNK_BYTES = MEBIBYTE


class _Found(NamedTuple):
    """What is in the directory: the paths of its files, what is no file, and whether there is more."""

    files: List[str]
    others: List[str]
    is_cut: bool


def empty_artifacts(places: Places) -> None:
    """Remove what an earlier attempt left; the plan's documents stay, if they are files still."""
    for entry in _entries(str(places.artifacts)):
        if entry.name not in PLAN_FILES or not entry.is_file(follow_symlinks=False):
            remove_path(Path(entry.path))


def pack_artifacts(places: Places, name: str, token: int) -> Optional[Artifacts]:
    """Pack what is in the directory; None if there is nothing.

    Args:
        places: of the ship.
        name: file name of the archive, without suffix.
        token: of the attempt.
    """
    parts = _Parts(places, name)
    left_out: List[str] = []
    if places.artifacts.is_symlink():
        return Artifacts(token, left_out=("all of it: the directory is a link",))
    try:
        found = _find_files(str(places.artifacts))
        left_out += [f"{_short(path)}: it is neither a file nor a folder" for path in found.others]
        if found.is_cut:
            left_out.append(f"all after the first {MAX_ENTRIES} names")
        if _pack_files(places.artifacts, found.files, parts, left_out):
            parts.write(END)
        parts.close()
    except OSError as error:  # the disk is full, say
        parts.discard()
        left_out = [f"all of it: {error.strerror or error}"]
    if not parts.done and not left_out:
        return None
    return Artifacts(token, Bundle(tuple(parts.done)), _shorten(left_out))


def last_token(places: Places) -> Optional[int]:
    """Return the token of the attempt that ran last, whose artifacts these are; None if it is not known."""
    tokens = [int(entry.name) for entry in _entries(str(places.attempts)) if entry.name.isdecimal()]
    return max(tokens, default=None)


def _find_files(top: str) -> _Found:
    """Return the paths of all files below a directory, sorted; links are never followed."""
    found: List[str] = []
    others: List[str] = []
    seen, remaining = 0, [""]
    while remaining:
        folder = remaining.pop()
        for entry in _entries(os.path.join(top, folder) if folder else top):
            path = f"{folder}/{entry.name}" if folder else entry.name
            seen += 1
            if seen > MAX_ENTRIES:
                return _Found(sorted(found), sorted(others), is_cut=True)
            if path in PLAN_FILES:
                continue
            if entry.is_dir(follow_symlinks=False):
                remaining.append(path)
            elif entry.is_file(follow_symlinks=False):
                found.append(path)
            else:
                others.append(path)
    return _Found(sorted(found), sorted(others), is_cut=False)


def _entries(folder: str) -> "Iterator[os.DirEntry[str]]":
    """Yield the entries of a directory in the order of their names; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return


def _pack_files(top: Path, paths: List[str], parts: "_Parts", left_out: List[str]) -> int:
    """Write the files into the archive; return how many it has.

    Raises:
        OSError: the archive cannot be written.
    """
    names, room, count = Names(), MAX_BYTES, 0
    until = time.monotonic() + PACK_SECONDS
    for path in paths:
        problem = names.take(path)
        if not problem and count >= MAX_FILES:
            problem = f"there are more than {MAX_FILES} files"
        if not problem and time.monotonic() > until:
            problem = f"packing took more than {PACK_SECONDS:g} s"
        file = None if problem else _open(top / path)
        if isinstance(file, str):
            problem = file
        elif file:
            with file:
                size = os.fstat(file.fileno()).st_size
                header = _header(path, size)
                if size > room:
                    problem = f"{size} bytes, more than what is left of {MAX_BYTES // MEBIBYTE} MiB for all"
                elif header is None:
                    problem = "its name is too long for an archive"
                else:
                    parts.write(header)
                    problem = "" if _copy(file, size, parts) else "it changed while it was read"
                    room -= size
                    count += 1
        if problem:
            left_out.append(f"{_short(path)}: {problem}")
    return count


def _open(path: Path) -> "BinaryIO | str":
    """Open a file; return why it cannot be read."""
    try:
        return open_regular_file(path)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _header(path: str, size: int) -> Optional[bytes]:
    """Return the header of a file in the archive, None if its name does not fit."""
    header = tarfile.TarInfo(path)
    header.size = size
    try:
        return header.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError:
        return None


def _copy(file: BinaryIO, size: int, parts: "_Parts") -> bool:
    """Copy ``size`` bytes; of a file that has fewer the rest is zeros. Return whether it had them."""
    left = size
    while left:
        data = _read(file, min(left, CHUNK_BYTES))
        if not data:
            break
        parts.write(data)
        left -= len(data)
    for begin in range(0, left, CHUNK_BYTES):
        parts.write(bytes(min(CHUNK_BYTES, left - begin)))
    parts.write(bytes(-size % BLOCK))
    return not left


def _read(file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError:  # the disk below is damaged
        return b""


class _Parts:
    """Writes an archive as parts in the outbox.

    Args:
        places: of the ship.
        name: of the files, without suffix.

    Attributes:
        done: the parts that are written.
    """

    def __init__(self, places: Places, name: str) -> None:
        self._places = places
        self._name = name
        self._waiting = bytearray()
        self.done: List[Part] = []

    def write(self, data: bytes) -> None:
        """Append data. Raises OSError."""
        self._waiting += data
        while len(self._waiting) >= PART_BYTES:
            self._write_part(bytes(self._waiting[:PART_BYTES]))
            del self._waiting[:PART_BYTES]

    def close(self) -> None:
        """Write what is left. Raises OSError."""
        if self._waiting:
            self._write_part(bytes(self._waiting))
            self._waiting.clear()

    def discard(self) -> None:
        """Remove the parts: what cannot be whole is not sent, and the disk may need the room."""
        for number in range(len(self.done) + 1):
            remove_path(self._path(number))
        self.done.clear()

    def _write_part(self, data: bytes) -> None:
        path = self._path(len(self.done))
        path.write_bytes(data)
        relative_path = str(path.relative_to(self._places.home))
        self.done.append(Part(relative_path, len(data), hashlib.sha256(data).hexdigest()))

    def _path(self, number: int) -> Path:
        return self._places.outbox / f"{self._name}.{number}"


def _short(path: str) -> str:
    return printable_path(os.fsencode(path), MAX_NAME)


def _shorten(left_out: List[str]) -> Tuple[str, ...]:
    """Return what is left out, only the first ones of many."""
    more = [f"and {len(left_out) - MAX_LEFT_OUT} more"] if len(left_out) > MAX_LEFT_OUT else []
    return (*left_out[:MAX_LEFT_OUT], *more)
