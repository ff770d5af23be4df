"""Keep the task list of the agent as the captain sent it, while an attempt runs.

::

    channel ──TaskList──> TaskListKeeper.take ──> .ocaptain/task_list.json     (for a worker that is started again)
                                 │ once before the agent starts, then once a second until it ends
                                 v
    the agent's module: which files, and what of its own task it may change ──> look_after (here) ──> the agent's folder

The agent may do anything to the folder; each look makes it right again: missing, changed and foreign task files, a link
in place of the folder. A file is looked into only if it is not the one that was written. Nothing that an agent
writes here goes to the captain.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import threading
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, AsyncIterator, Dict, List, Mapping, Optional, Tuple

from ocaptain.protocol.envelope import TaskList
from ocaptain.protocol.files import read_json, write_atomic
from ocaptain.worker.places import Places, remove_path

LOOK_SECONDS = 1.0
MAX_FILE = 1024 * 1024
SCRATCH = ".ocaptain"  # how the name of a file ends that is being written
#: What tells a file from every other one: times in nanoseconds, size, inode.
Signature = Tuple[int, int, int, int]


class TaskListKeeper:
    """Keeps the list of one ship.

    Args:
        places: directories of the ship.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        saved = read_json(places.task_list)
        #: Entries by id; None before the first list.
        self._tasks: Optional[Dict[str, Mapping[str, Any]]] = saved if isinstance(saved, dict) else None
        self._coming: Dict[str, Mapping[str, Any]] = {}
        self._is_whole = False
        self._saved = self._tasks
        self._changed: Optional[asyncio.Event] = None
        self._known: Dict[str, Tuple[Signature, bytes]] = {}
        #: The files of these tasks.
        self._files: Tuple[Any, Dict[str, bytes]] = (None, {})
        self._has_failed = False
        self._looking = threading.Lock()  # a look that was cancelled may still go on

    def take(self, message: TaskList) -> None:
        """Take over a message of the captain."""
        if message.whole:
            self._coming, self._is_whole = {}, True
        self._coming.update({str(task["id"]): task for task in message.tasks if "id" in task})
        if message.more:
            return
        self._tasks = {**({} if self._is_whole else self._tasks or {}), **self._coming}
        self._coming, self._is_whole = {}, False
        if self._changed:
            self._changed.set()

    def begin(self, module: Optional[str], voyage: str) -> None:
        """Make the list for an attempt that is about to start, without what an agent noted before (blocking)."""
        self._known = {}
        if module:
            agent = import_module(module)
            self._look(agent, agent.list_folder(self._places.home, voyage), own=None)

    @contextlib.asynccontextmanager
    async def kept(self, directory: Path, voyage: str) -> AsyncIterator[None]:
        """Keep the list right in the meantime.

        Args:
            directory: of the attempt that runs.
            voyage: id of the voyage.
        """
        module = (read_json(directory / "job.json") or {}).get("task_list")
        if not isinstance(module, str):
            yield
            return
        own = str((read_json(directory / "task.json") or {}).get("id"))
        looking = asyncio.ensure_future(self._look_regularly(import_module(module), voyage, own))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look_regularly(self, agent: Any, voyage: str, own: str) -> None:
        self._changed = asyncio.Event()
        folder = agent.list_folder(self._places.home, voyage)
        while True:
            self._changed.clear()
            await asyncio.to_thread(self._look, agent, folder, own)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_SECONDS)

    def _look(self, agent: Any, folder: Path, own: Optional[str]) -> None:
        """Look once; what cannot be mended now is tried again at the next look."""
        tasks = self._tasks
        if tasks is None:
            return
        try:
            with self._looking:
                if self._saved is not tasks:
                    write_atomic(self._places.task_list, json.dumps(tasks).encode(), durable=False)
                    self._saved = tasks
                if self._files[0] is not tasks:
                    self._files = (tasks, agent.list_files(tasks.values()))
                look_after(folder, agent, self._files[1], agent.file_name(own) if own else None, self._known)
            self._has_failed = False
        except (OSError, ValueError, RecursionError):  # whatever an agent leaves there, the next look is made
            if not self._has_failed:  # a full disk, for one: said once
                traceback.print_exc()
            self._has_failed = True


def look_after(
    folder: Path, agent: Any, wanted: Mapping[str, bytes], own: Optional[str], known: Dict[str, Tuple[Signature, bytes]]
) -> List[str]:
    """Make the folder of a task list right; return the names of the files that were not.

    Args:
        folder: of the list.
        agent: the agent's module: ``is_task_file`` and ``judge_own``.
        wanted: the files as the captain would have them.
        own: name of the file of the agent's own task, which the agent may change in part; None = there is none.
        known: the files as they were at the last look, with their contents; is brought up to date.

    Raises:
        OSError: a file cannot be written or removed.
    """
    mended: List[str] = []
    fd = _open_folder(folder)
    try:
        with os.scandir(fd) as entries:
            found = {entry.name: _signature(entry.stat(follow_symlinks=False)) for entry in entries}
        for name in found:
            if (agent.is_task_file(name) and name not in wanted) or name.endswith(SCRATCH):
                remove_path(Path(f"/proc/self/fd/{fd}/{name}"))
                known.pop(name, None)
                mended.append(name)
        for name, data in wanted.items():
            signature, content = known.get(name, (None, b""))
            if name not in found or found[name] != signature:
                read = _read(fd, name) if name in found else None
                signature, content = (None, b"") if read is None else read
            right = agent.judge_own(data, content) if name == own and signature else data
            if signature is None or content != right:
                signature = _write(fd, name, right)
                mended.append(name)
            known[name] = (signature, right)
    finally:
        os.close(fd)
    return mended


def _open_folder(folder: Path) -> int:
    """Open the folder, and make it anew where something else is in its place; no link is followed."""
    for place in (folder.parent, folder):
        if os.path.lexists(place) and (not place.is_dir() or (place == folder and place.is_symlink())):
            remove_path(place)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
    except OSError:
        os.close(fd)
        raise
    return fd


def _signature(state: os.stat_result) -> Signature:
    return state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino


def _read(fd: int, name: str) -> Optional[Tuple[Signature, bytes]]:
    """Return a file as it is; None if it is no plain file, or is too large."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return None
    state = os.fstat(file)
    if not stat.S_ISREG(state.st_mode):
        os.close(file)
        return None
    with open(file, "rb") as opened:
        data = opened.read(MAX_FILE + 1)
    return (_signature(state), data) if len(data) <= MAX_FILE else None


def _write(fd: int, name: str, data: bytes) -> Signature:
    """Replace a file: whoever reads, or a worker that is killed, has the old content or the new one."""
    scratch = f".{name}{SCRATCH}"
    file = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
    with open(file, "wb") as opened:
        opened.write(data)
    try:
        os.rename(scratch, name, src_dir_fd=fd, dst_dir_fd=fd)
    except IsADirectoryError:
        remove_path(Path(f"/proc/self/fd/{fd}/{name}"))
        os.rename(scratch, name, src_dir_fd=fd, dst_dir_fd=fd)
    return _signature(os.stat(name, dir_fd=fd, follow_symlinks=False))
