"""The operations of the fs API, confined to one sandbox.

Every path is resolved by the kernel with ``openat2(RESOLVE_IN_ROOT)`` below the sandbox's
root, so neither ``..`` nor a symlink (even one that changes meanwhile) leads out of it. The work is done
in threads whose file-system uid is the ship's user (``setfsuid`` is per thread), so the
kernel also applies that user's permissions; with ``asRoot`` it is the ship's root. The threads of a
root-run drydock have given up every other capability and every group of the machine's root.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import fnmatch
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ocaptain.drydock.beneath import open_beneath
from ocaptain.drydock.errors import FsError
from ocaptain.drydock.file_rights import become
from ocaptain.drydock.upload import Target, open_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from ocaptain.drydock.ids import Ids

CHUNK = 256 * 1024
#: By whether the work is done as root, and whether it is a whole tree's, which may take long.
_POOLS = {
    (False, False): ThreadPoolExecutor(4, "fs-sprite"),
    (False, True): ThreadPoolExecutor(4, "fs-sprite-tree"),
    (True, False): ThreadPoolExecutor(2, "fs-root"),
    (True, True): ThreadPoolExecutor(2, "fs-root-tree"),
}


class Files:
    """The file system of the sandbox whose root directory is ``root``, for its user or its root.

    Paths are absolute or relative to ``cwd``. Every method raises :class:`FsError`.
    """

    def __init__(self, root: Path, ids: Ids, cwd: str = "/", *, as_root: bool = False) -> None:
        self._root = root
        self._ids = ids
        self._cwd = cwd
        self._as_root = as_root

    async def run_in_root(self, client_path: str, work: Callable[[int], Any], *, is_tree: bool = False) -> Any:
        """Call ``work(root_fd)`` in a thread with the user's permissions; ``client_path`` is named in errors.

        Work on a whole tree has threads of its own: it may take long, and the others do not wait for it.
        """

        def run() -> Any:
            become(self._ids, as_root=self._as_root)
            return work(root_fd)

        try:
            # Here: the ship's user may not follow the link of another process.
            root_fd = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            job = _POOLS[self._as_root, is_tree].submit(run)
            job.add_done_callback(lambda _: os.close(root_fd))
            return await asyncio.wrap_future(job)
        except OSError as error:
            raise FsError.from_os(error, client_path) from error

    def absolute_path(self, path: str) -> str:
        """Return a client's path joined to the working directory."""
        if not path:
            raise FsError("EINVAL", path, "path is missing")
        return os.path.join(self._cwd or "/", path)

    async def open_read(self, path: str) -> int:
        """Open a file for reading; return its descriptor."""

        def work(root_fd: int) -> int:
            # Non-blocking: a FIFO in the ship must not block the thread.
            fd = open_beneath(root_fd, self.absolute_path(path), os.O_RDONLY | os.O_NONBLOCK)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                os.close(fd)
                raise (
                    IsADirectoryError(21, "Is a directory")
                    if stat.S_ISDIR(status.st_mode)
                    else OSError(22, "Not a regular file")
                )
            return fd

        return int(await self.run_in_root(path, work))

    async def file_size(self, path: str) -> int:
        """Return a file's size in bytes."""

        def work(root_fd: int) -> int:
            fd = open_beneath(root_fd, self.absolute_path(path), os.O_PATH | os.O_NOFOLLOW)
            try:
                return os.fstat(fd).st_size
            finally:
                os.close(fd)

        return int(await self.run_in_root(path, work))

    async def open_append(self, path: str) -> int:
        """Open a file for appending, create it if missing; return its descriptor."""

        def work(root_fd: int) -> int:
            full = self.absolute_path(path)
            _make_dirs(root_fd, os.path.dirname(full))
            return open_beneath(root_fd, full, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o644)

        return int(await self.run_in_root(path, work))

    async def write(
        self,
        path: str,
        body: AsyncIterator[bytes],
        mode: int | None,
        *,
        size: int | None = None,
        make_parents: bool = True,
    ) -> dict[str, object]:
        """Write a whole file from ``body``; set ``mode`` also if the file exists.

        Args:
            path: of the file.
            body: its content.
            mode: permission bits; None = 0644, or as they are.
            size: bytes that will come, if that is known: a file for which there is no room is not touched.
            make_parents: make the directories that are missing; False = the file is not written then.
        """
        full = self.absolute_path(path)

        def begin(root_fd: int) -> Target:
            def open_file(flags: int) -> int:
                bits = 0o644 if mode is None else mode
                return open_beneath(root_fd, full, flags, bits if flags & os.O_CREAT else 0)

            if make_parents:
                _make_dirs(root_fd, os.path.dirname(full))
            return open_target(open_file, lambda target: discard(root_fd, target), mode, size)

        def discard(root_fd: int, target: Target) -> None:
            parent, name = _open_parent(root_fd, full)
            try:
                target.discard(parent, name)
            finally:
                os.close(parent)

        target: Target = await self.run_in_root(path, begin)
        written = 0
        try:
            async for chunk in body:
                await asyncio.to_thread(_write_all, target.fd, chunk)
                written += len(chunk)
            final = stat.S_IMODE(os.fstat(target.fd).st_mode)
        except OSError as error:
            with contextlib.suppress(FsError):
                await self.run_in_root(path, lambda root_fd: discard(root_fd, target))
            raise FsError.from_os(error, path) from error
        finally:
            os.close(target.fd)
        return {"path": path, "size": written, "mode": f"{final:04o}"}

    async def list_directory(self, path: str, *, recursive: bool = False, pattern: str = "") -> dict[str, object]:
        """List a directory, or a file as its only entry."""

        def work(root_fd: int) -> list[dict[str, object]]:
            full = self.absolute_path(path)
            fd = open_beneath(root_fd, full, os.O_PATH)
            status = os.fstat(fd)
            os.close(fd)
            if not stat.S_ISDIR(status.st_mode):
                return [_entry(os.path.basename(full), full, status)]
            return list(_list_entries(root_fd, full, recursive=recursive))

        entries = await self.run_in_root(path, work, is_tree=recursive)
        if pattern:
            entries = [entry for entry in entries if fnmatch.fnmatch(str(entry["name"]), pattern)]
        return {"path": path, "entries": entries, "count": len(entries)}

    async def delete(self, path: str, *, recursive: bool = False) -> dict[str, object]:
        """Delete a file or an empty directory, or a whole tree."""

        def work(root_fd: int) -> list[str]:
            parent, name = _open_parent(root_fd, self.absolute_path(path))
            try:
                return _remove(parent, name, path, recursive=recursive)
            finally:
                os.close(parent)

        deleted = await self.run_in_root(path, work, is_tree=recursive)
        return {"deleted": deleted, "count": len(deleted)}

    async def rename(self, source: str, dest: str) -> dict[str, object]:
        """Rename, replacing an existing target (atomic)."""

        def work(root_fd: int) -> None:
            from_fd, from_name = _open_parent(root_fd, self.absolute_path(source))
            try:
                to_fd, to_name = _open_parent(root_fd, self.absolute_path(dest))
                try:
                    os.rename(from_name, to_name, src_dir_fd=from_fd, dst_dir_fd=to_fd)
                finally:
                    os.close(to_fd)
            finally:
                os.close(from_fd)

        await self.run_in_root(source, work)
        return {"source": source, "dest": dest}

    async def copy(
        self, source: str, dest: str, *, recursive: bool = False, preserve: bool = False
    ) -> dict[str, object]:
        """Copy a file, or a tree if ``recursive``; symlinks are copied as such."""

        def work(root_fd: int) -> list[tuple[str, str, int]]:
            done: list[tuple[str, str, int]] = []
            _copy_path(
                root_fd,
                (self.absolute_path(source), self.absolute_path(dest)),
                done,
                recursive=recursive,
                preserve=preserve,
            )
            return done

        done = await self.run_in_root(source, work, is_tree=True)
        copied = [{"source": one, "dest": other} for one, other, _ in done]
        return {"copied": copied, "count": len(copied), "totalBytes": sum(size for *_, size in done)}

    async def apply_to_files(
        self, path: str, apply: Callable[[int], None], *, recursive: bool = False
    ) -> list[tuple[str, os.stat_result]]:
        """Call ``apply(fd)`` for a path and, if ``recursive``, everything below; return each path's new status."""

        def work(root_fd: int) -> list[tuple[str, os.stat_result]]:
            full = self.absolute_path(path)
            paths = [full]
            top = open_beneath(root_fd, full, os.O_RDONLY | os.O_NONBLOCK)
            is_dir = stat.S_ISDIR(os.fstat(top).st_mode)
            os.close(top)
            if recursive and is_dir:
                paths += [
                    str(entry["path"])
                    for entry in _list_entries(root_fd, full, recursive=True)
                    if entry["type"] != "symlink"
                ]
            result = []
            for each in paths:
                fd = open_beneath(root_fd, each, os.O_RDONLY | os.O_NONBLOCK)
                try:
                    apply(fd)
                    result.append((each, os.fstat(fd)))
                finally:
                    os.close(fd)
            return result

        found: list[tuple[str, os.stat_result]] = await self.run_in_root(path, work, is_tree=recursive)
        return found


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _make_dirs(root_fd: int, path: str) -> None:
    try:
        os.close(open_beneath(root_fd, path, os.O_PATH | os.O_DIRECTORY))
    except FileNotFoundError:
        _make_dirs(root_fd, os.path.dirname(path.rstrip("/")))
        parent, name = _open_parent(root_fd, path.rstrip("/"))
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=parent)
        finally:
            os.close(parent)


def _open_parent(root_fd: int, full: str) -> tuple[int, str]:
    full = full.rstrip("/")
    name = os.path.basename(full)
    if name in {"", ".", ".."} or "\0" in name:
        raise OSError(22, "Invalid argument")
    return open_beneath(root_fd, os.path.dirname(full), os.O_PATH | os.O_DIRECTORY), name


def _entry(name: str, path: str, status: os.stat_result) -> dict[str, object]:
    kinds = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
    modified = dt.datetime.fromtimestamp(status.st_mtime, dt.UTC)
    return {
        "name": name,
        "path": path,
        "type": kinds.get(stat.S_IFMT(status.st_mode), "file"),
        "size": status.st_size,
        "mode": f"{stat.S_IMODE(status.st_mode):o}",
        "modTime": modified.isoformat().replace("+00:00", "Z"),
        "isDir": stat.S_ISDIR(status.st_mode),
    }


def _list_entries(root_fd: int, full: str, *, recursive: bool) -> list[dict[str, object]]:
    fd = open_beneath(root_fd, full, os.O_RDONLY | os.O_DIRECTORY)
    try:
        entries = []
        for name in sorted(os.listdir(fd)):
            # It may be deleted meanwhile. A name that is not UTF-8 is shown escaped.
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                shown = os.fsencode(name).decode(errors="backslashreplace")
                entries.append(_entry(shown, os.path.join(full, shown), status))
                if recursive and stat.S_ISDIR(status.st_mode):
                    entries += _list_entries(root_fd, os.path.join(full, name), recursive=True)
        return entries
    finally:
        os.close(fd)


def _remove(parent: int, name: str, client_path: str, *, recursive: bool) -> list[str]:
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=parent)
        return [client_path]
    deleted = []
    if recursive:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            for child in os.listdir(fd):
                deleted += _remove(fd, child, os.path.join(client_path, child), recursive=True)
        finally:
            os.close(fd)
    os.rmdir(name, dir_fd=parent)
    return [*deleted, client_path]


def _copy_path(
    root_fd: int, pair: tuple[str, str], done: list[tuple[str, str, int]], *, recursive: bool, preserve: bool
) -> None:
    source, dest = pair
    source_fd = open_beneath(root_fd, source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(source_fd)
        if stat.S_ISDIR(status.st_mode):
            if not recursive:
                raise IsADirectoryError(21, "Is a directory")
            if dest == source or dest.startswith(source.rstrip("/") + "/"):
                raise OSError(22, "Cannot copy a directory into itself")
            _make_dirs(root_fd, dest)
            for name in os.listdir(source_fd):
                below = (os.path.join(source, name), os.path.join(dest, name))
                _copy_path(root_fd, below, done, recursive=True, preserve=preserve)
            return
        if not stat.S_ISREG(status.st_mode):
            raise OSError(22, "Not a regular file")
        _make_dirs(root_fd, os.path.dirname(dest))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
        dest_fd = open_beneath(root_fd, dest, flags, stat.S_IMODE(status.st_mode))
        try:
            while chunk := os.read(source_fd, CHUNK):
                _write_all(dest_fd, chunk)
            if preserve:
                os.fchmod(dest_fd, stat.S_IMODE(status.st_mode))
                os.utime(dest_fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(dest_fd)
        done.append((source, dest, status.st_size))
    finally:
        os.close(source_fd)
