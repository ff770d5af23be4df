"""The directories of a ship, and safe operations on its files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, List, Optional, Tuple

TAIL_BYTES = 8 * 1024
MAX_GIT_FILE = 8 * 1024  # bytes of a .git file that are read


class Places:
    """The directories below the ship user's home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.voyage = home / "voyage"
        self.workspace = self.voyage / "workspace"
        self.artifacts = self.voyage / "artifacts"
        self.logs = self.voyage / "logs"
        self.own = home / ".ocaptain"
        self.git = self.own / "git"
        self.attempts = self.own / "attempts"
        self.inbox = self.own / "in"
        self.outbox = self.own / "out"
        self.journal = self.own / "journal"
        self.old_journal = self.own / "journal.jsonl"  # of workers of protocol 1
        self.state = self.own / "state.json"
        self.socket = self.own / "worker.sock"
        self.news = self.own / "news.sock"
        self.task_list = self.own / "task_list.json"
        self.launcher = self.own / "launcher.sock"
        self.tmux_conf = self.own / "tmux.conf"

    def make(self) -> None:
        """Make missing directories; the worker's own directory is private."""
        self.own.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self.voyage, self.workspace, self.artifacts, self.logs, self.attempts, self.inbox, self.outbox):
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                remove_path(path)  # an agent put something else there
            path.mkdir(parents=True, exist_ok=True)


def remove_path(path: Path) -> None:
    """Remove a file, link or tree, even read-only directories and files of root."""
    if path.is_dir() and not path.is_symlink():
        _remove_tree(str(path))
    with contextlib.suppress(OSError):
        if not path.is_dir() or path.is_symlink():
            path.unlink()
    if os.path.lexists(path):
        subprocess.run(["sudo", "-n", "rm", "-rf", "--", str(path)], capture_output=True, timeout=60, check=False)


def _remove_tree(top: str) -> None:
    """Remove a directory tree of any depth: each directory is moved to the top before it is emptied.

    So no path gets too long for the kernel, and there is no recursion. What cannot be removed stays.
    """
    remaining, count = [top], 0
    while remaining:
        folder = remaining.pop()
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)
            with os.scandir(folder) as found:
                entries = list(found)
            for entry in entries:
                with contextlib.suppress(OSError):
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.path)
                    elif folder == top:
                        remaining.append(entry.path)
                    else:
                        moved_up = os.path.join(top, f".ocaptain-{os.getpid()}-{count}")
                        os.chmod(entry.path, 0o700)
                        os.rename(entry.path, moved_up)
                        remaining.append(moved_up)
                        count += 1
            if folder != top:
                os.rmdir(folder)
    with contextlib.suppress(OSError):
        os.rmdir(top)


def walk(top: str, onerror: Optional[Callable[[OSError], None]] = None) -> Iterator[Tuple[str, List[str], List[str]]]:
    """Work like ``os.walk``, but without recursion, which ``os.walk`` uses before Python 3.12."""
    remaining = [top]
    while remaining:
        path = remaining.pop()
        directories: List[str] = []
        files: List[str] = []
        try:
            with os.scandir(path) as found:
                for entry in found:
                    (directories if _is_folder(entry) else files).append(entry.name)
        except OSError as error:
            if onerror:
                onerror(error)
            continue
        yield path, directories, files
        below = [os.path.join(path, name) for name in reversed(directories)]
        remaining += [one for one in below if not os.path.islink(one)]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def open_regular_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; never block on a pipe or device that an agent put in its place.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(fd, "rb")


def is_regular_file(path: Path) -> bool:
    """Return whether it is a regular file: git would block on a pipe in its place."""
    try:
        open_regular_file(path).close()
    except OSError:
        return False
    return True


def find_git_directory(folder: Path) -> Optional[Path]:
    """Return the git directory that a folder's ``.git`` is or names, None if there is none."""
    own = folder / ".git"
    with contextlib.suppress(OSError, ValueError):
        if own.is_dir():
            return own
        with open_regular_file(own) as file:
            named = os.fsdecode(file.read(MAX_GIT_FILE)).partition("gitdir: ")[2].rstrip("\n")
        return folder / named if named and (folder / named).is_dir() else None
    return None


def read_tail(path: Path) -> str:
    """Return the last :data:`TAIL_BYTES` bytes of a file, "" if it cannot be read."""
    with contextlib.suppress(OSError), open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - TAIL_BYTES))
        return file.read().decode(errors="replace")
    return ""
