"""Bundles that are sent to ships: one file for each (commit, have), made and hashed once, read in parts.

::

    open_bundle(commit, have) ──the first caller has git make it, in a thread──> sending/<n>.bundle, its parts' sums
                              ──the others wait for the same file──> each reads it part by part
    no user left ──> the oldest files beyond MAX_IDLE are removed

Only the part that is being sent is in memory, and nothing is hashed on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.git import GitError, StartRefs, pack_start_refs, write_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ocaptain.git import Git, Part

MAX_IDLE = 4  # bundles kept after use, for ships that ask for the same a moment later
SEND_REFS = "refs/ocaptain/send"


@dataclass(frozen=True)
class SendableBundle:
    """A bundle on this machine's disk.

    Attributes:
        path: of the file.
        ref: name of its commit in it.
        name: of its parts on a ship; the same for the same content.
        parts: offset, size and sum of each.
        refs: id of the blob in it with the refs of the voyage's start, "" for none.
    """

    path: Path
    ref: str
    name: str
    parts: tuple[Part, ...]
    refs: str = ""

    async def read(self, part: Part) -> bytes:
        """Return a part's bytes.

        Raises:
            GitError: the file cannot be read.
        """
        try:
            return await asyncio.to_thread(self._read, part)
        except OSError as error:
            raise GitError(f"{self.path} cannot be read: {error.strerror}") from error

    def _read(self, part: Part) -> bytes:
        with self.path.open("rb") as file:
            file.seek(part.offset)
            return file.read(part.size)


@dataclass
class _Entry:
    """A bundle that is made or being made, and how many send it now."""

    making: asyncio.Task[SendableBundle]
    users: int = 0


class BundleStore:
    """The bundles of one voyage.

    Args:
        git: the repository.
        directory: for the files; :meth:`clear` removes what an earlier captain left there.
        start: the commit that the voyage started from, and the name of its branch, "" for none; a whole bundle
            brings them, and the tags of then, to the ship.
    """

    def __init__(self, git: Git, directory: Path, start: tuple[str, str] | None = None) -> None:
        self._git = git
        self._directory = directory
        self._start = start
        self._entries: dict[tuple[str, str | None], _Entry] = {}
        self._numbers = itertools.count()

    def clear(self) -> None:
        """Remove every file, and refs that an earlier version made; to be called while no bundle is in use."""
        self._entries.clear()
        shutil.rmtree(self._directory, ignore_errors=True)
        refs = self._git.refs(SEND_REFS)
        if refs:
            with contextlib.suppress(GitError):  # a full disk: the next captain removes them
                self._git.run("update-ref", "--stdin", stdin="".join(f"delete {ref}\n" for ref in refs).encode())

    @contextlib.asynccontextmanager
    async def open_bundle(self, commit: str, have: str | None) -> AsyncIterator[SendableBundle]:
        """Yield the bundle of ``commit`` for a ship that has ``have`` (None: nothing).

        Raises:
            GitError: it cannot be made; the next call tries again.
        """
        entry = self._entries.get((commit, have))
        if entry is None:
            making = asyncio.create_task(asyncio.to_thread(self._make, next(self._numbers), commit, have))
            entry = self._entries[commit, have] = _Entry(making)
        entry.users += 1
        try:
            yield await asyncio.shield(entry.making)
        except BaseException:
            if entry.making.done() and (entry.making.cancelled() or entry.making.exception()):
                self._entries.pop((commit, have), None)
            raise
        finally:
            entry.users -= 1
            await self._remove_unused_bundles()

    def _make(self, number: int, commit: str, have: str | None) -> SendableBundle:
        # What the ship has may be a candidate that never landed: its parent did.
        base = self._git.merge_base(have, commit) if have else None
        ref = f"{SEND_REFS}/{commit}"
        path = self._directory / f"{number}.bundle"
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            found = pack_start_refs(self._git, *self._start) if self._start and base is None else StartRefs()
            parts = tuple(write_bundle(self._git, commit, ref, base, path, found.objects))
        except (GitError, OSError) as error:  # ours, and no ship's
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            reason = error.message if isinstance(error, GitError) else str(error.strerror)
            raise GitError(f"the bundle of {commit} cannot be written to {path}: {reason}") from error
        name = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()[:24]
        return SendableBundle(path, ref, name, parts, found.blob)

    async def _remove_unused_bundles(self) -> None:
        idle = [key for key, entry in self._entries.items() if not entry.users and entry.making.done()]
        for key in idle[: max(0, len(idle) - MAX_IDLE)]:
            entry = self._entries.pop(key)
            if not entry.making.cancelled() and entry.making.exception() is None:
                await asyncio.to_thread(entry.making.result().path.unlink, missing_ok=True)
