"""The captain's views of a voyage in its directory: ``tasks/N.json`` and ``workspace/``. They are never read back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from ocaptain.captain.local import Synced
from ocaptain.git import GitError, pack
from ocaptain.ledger import TakenOver, task_files
from ocaptain.protocol.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from ocaptain.captain.local import LocalWork
    from ocaptain.captain.ship.task_list import TaskBoard
    from ocaptain.git import BareRepository
    from ocaptain.ledger import Ledger

_Result = TypeVar("_Result")
CHECKOUT_SECONDS = 2.0  # between two updates of the checkout; it is updated once more at the end
log = logging.getLogger("ocaptain.captain")


class Views:
    """The views of one voyage; this is their only writer."""

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        git: BareRepository,
        voyage: str,
        local: LocalWork | None = None,
        board: TaskBoard | None = None,
    ) -> None:
        self._board = board
        self._directory = directory
        self._ledger = ledger
        self._git = git
        self._voyage = voyage
        self._local = local
        self._unwritten: dict[str, None] = {}
        self._checkout = asyncio.Lock()
        self._jobs: set[asyncio.Task[Any]] = set()
        self._following: asyncio.Task[None] | None = None
        self._is_behind = False
        self._ending = asyncio.Event()
        self._packing: asyncio.Task[None] | None = None
        #: Whether the voyage's note is final, so that a note about the checkout must not replace it.
        self.is_final = False

    def write_tasks(self, *, whole: bool = False) -> None:
        """Write ``tasks/N.json`` of what changed.

        Args:
            whole: whether to write all tasks, as at the start, when the files may be outdated.
        """
        changed = self._ledger.pop_changed_tasks()
        tasks = [row["id"] for row in self._ledger.rows("tasks", "position")] if whole else [*self._unwritten, *changed]
        if not tasks:
            return
        self._unwritten.clear()
        folder = self._directory / "tasks"
        files = task_files(self._ledger, tasks)
        if self._board:
            self._board.update(files)
        for task, shown in files.items():
            try:
                folder.mkdir(exist_ok=True)
                text = json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
                write_atomic(folder / f"{task}.json", text.encode(), 0o644, durable=False, one_writer=True)
            except OSError:  # a full disk must not stop the voyage: tried again with the next change
                self._unwritten[task] = None

    def on_landed(self) -> None:
        """Update the checkout, and pack the repository, in the background."""
        self.follow()
        self.pack_repository()

    def follow(self) -> None:
        """Update the checkout in the background: something landed, or its user has committed."""
        self._is_behind = True
        if self._following is None or self._following.done():
            self._following = self._spawn(self._follow())

    def pack_repository(self) -> None:
        """Pack the repository in the background if it has many small packs: each fetch from a ship makes one."""
        if self._packing is None or self._packing.done():
            self._packing = self._spawn(self._pack())

    async def land(self) -> Synced:
        """Land what the user has committed in ``workspace/``; waited for at the end, too."""
        task = asyncio.create_task(self.update_checkout())
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        return await asyncio.shield(task)

    async def while_settled(self, decide: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """Return what ``decide`` returns; no update of the checkout is under way meanwhile."""
        async with self._checkout:
            return await decide()

    async def finish_workspace_update(self) -> None:
        """Wait until ``workspace/`` is up to date: users look at it when the voyage has ended."""
        self._ending.set()
        if self._following:
            await asyncio.gather(self._following, return_exceptions=True)

    async def finish(self) -> None:
        """Wait until all background work is done."""
        await self.finish_workspace_update()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    async def _follow(self) -> None:
        """Update the checkout, once for all landings since the last update."""
        while self._is_behind:
            self._is_behind = False
            await self.update_checkout()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), CHECKOUT_SECONDS)

    async def update_checkout(self) -> Synced:
        """Land the user's commits and have ``workspace/`` follow the branch; note why it could not."""
        async with self._checkout:
            synced = await self._local.sync() if self._local else Synced()
        with contextlib.suppress(TakenOver):
            if not self.is_final and synced.note != self._ledger.voyage().note:
                self._ledger.set_note(synced.note)
        return synced

    async def _pack(self) -> None:
        try:
            if await asyncio.to_thread(pack, self._git):
                self._git.reopen()
        except GitError as error:  # for example a full disk: what is not packed stays as it is
            log.warning("the repository could not be packed: %s", error.message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        return task
