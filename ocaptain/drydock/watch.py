"""Watch a ship's files for changes, with inotify.

Paths are resolved below the ship's root as everywhere (:mod:`ocaptain.drydock.files`), with the
rights of the ship's user; a watch is then put on the descriptor, so no link is followed twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.drydock.beneath import open_beneath
from ocaptain.drydock.errors import FsError
from ocaptain.drydock.files import Files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ocaptain.drydock.ids import Ids

_MODIFY, _ATTRIB = 0x2, 0x4
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
_IGNORED, _ISDIR = 0x8000, 0x40000000
_WATCHED_EVENTS = _MODIFY | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_KINDS = {
    _MODIFY: "write",
    _ATTRIB: "chmod",
    _MOVED_FROM: "rename",
    _MOVED_TO: "create",
    _CREATE: "create",
    _DELETE: "remove",
    _DELETE_SELF: "remove",
    _MOVE_SELF: "rename",
}
MAX_WATCHED_DIRECTORIES = 4096
_libc = ctypes.CDLL(None, use_errno=True)
_EVENT_HEADER = struct.Struct("iIII")


@dataclass(frozen=True)
class FileChange:
    """A change of a file.

    Attributes:
        path: inside the ship.
        kind: write, create, remove, rename or chmod.
        size: bytes; 0 if the file does not exist any more.
        is_directory: whether the path is a directory.
    """

    path: str
    kind: str
    size: int
    is_directory: bool


def parse_watch_events(data: bytes) -> list[tuple[int, int, str]]:
    """Parse the bytes of an inotify read; return watch, mask and name of each event."""
    found, at = [], 0
    while at + _EVENT_HEADER.size <= len(data):
        watch, mask, _, length = _EVENT_HEADER.unpack_from(data, at)
        name = data[at + _EVENT_HEADER.size : at + _EVENT_HEADER.size + length].rstrip(b"\0")
        found.append((watch, mask, name.decode(errors="backslashreplace")))
        at += _EVENT_HEADER.size + length
    return found


class FileWatch:
    """Watches paths of the ship whose root directory is ``root``; iterate for :class:`FileChange`."""

    def __init__(self, root: Path, ids: Ids, cwd: str) -> None:
        self._files = Files(root, ids, cwd)
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1 failed")
        self._watched: dict[int, tuple[str, bool]] = {}

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)

    async def add(self, path: str, *, recursive: bool) -> None:
        """Watch a file or a directory; if ``recursive``, also all directories below it.

        Raises:
            FsError: it does not exist, or there are too many directories.
        """
        full = self._files.absolute_path(path)
        await self._files.run_in_root(
            path, lambda root_fd: self._add(root_fd, os.path.normpath(full), recursive=recursive)
        )

    def _add(self, root_fd: int, full: str, *, recursive: bool) -> None:
        if len(self._watched) >= MAX_WATCHED_DIRECTORIES:
            raise FsError("EINVAL", full, f"more than {MAX_WATCHED_DIRECTORIES} directories cannot be watched")
        fd = open_beneath(root_fd, full, os.O_PATH)
        try:
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
            watch = _libc.inotify_add_watch(self._fd, f"/proc/self/fd/{fd}".encode(), _WATCHED_EVENTS)
            if watch < 0:
                raise OSError(code := ctypes.get_errno(), os.strerror(code))
            self._watched[watch] = full, recursive
            subdirectories = []
            if recursive and is_directory:
                directory_fd = open_beneath(root_fd, full, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    with os.scandir(directory_fd) as entries:
                        subdirectories = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
                finally:
                    os.close(directory_fd)
        finally:
            os.close(fd)
        for name in subdirectories:
            with contextlib.suppress(FileNotFoundError):  # it went while we looked
                self._add(root_fd, os.path.join(full, name), recursive=True)

    async def __aiter__(self) -> AsyncIterator[FileChange]:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            while True:
                await ready.wait()
                ready.clear()
                with contextlib.suppress(BlockingIOError):
                    for watch, mask, name in parse_watch_events(os.read(self._fd, 64 * 1024)):
                        if change := await self._read_change(watch, mask, name):
                            yield change
        finally:
            loop.remove_reader(self._fd)

    async def _read_change(self, watch: int, mask: int, name: str) -> FileChange | None:
        if mask & _IGNORED or watch not in self._watched:
            self._watched.pop(watch, None)
            return None
        watched_path, recursive = self._watched[watch]
        path = os.path.join(watched_path, name) if name else watched_path
        kind = next((kind for bit, kind in _KINDS.items() if mask & bit), None)
        is_directory = bool(mask & _ISDIR)
        if is_directory and recursive and mask & (_CREATE | _MOVED_TO):
            with contextlib.suppress(FsError):  # gone again, or too many
                await self.add(path, recursive=True)
        if kind is None:
            return None
        size = 0
        if not mask & (_DELETE | _DELETE_SELF | _MOVED_FROM):
            with contextlib.suppress(FsError):
                size = await self._files.file_size(path)
        return FileChange(path, kind, size, is_directory)
