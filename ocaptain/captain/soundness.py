"""Check whether this machine and the voyage's repository work.

::

    something failed here ──> no ship claims, no ship or task is blamed (``paused: ours``)
        ──examine: write, open files, fsck──> sound: all is tried again │ not: examined again in LOOK_SECONDS
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from typing import TYPE_CHECKING

from ocaptain.git import Git, GitError, fsck

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOK_SECONDS = 30.0
PROBE_BYTES = 1 << 20
DESCRIPTORS = 32  # that a landing may need at once
log = logging.getLogger("ocaptain.captain")


def examine(git: Git) -> str | None:
    """Examine this machine and the repository; runs git and blocks.

    Returns:
        What is wrong and what to do about it, for people; None if all is sound.
    """
    try:
        _probe(git.directory)
        fsck(git)
    except GitError as error:
        return f"{error.message}; restore {git.directory} from a copy, or repair it"
    except OSError as error:
        return f"{git.directory}: {error.strerror}; free some disk space, or raise the limit on open files"
    return None


def _probe(directory: Path) -> None:
    """Write, and open descriptors, as a landing does.

    Raises:
        OSError: that cannot be done.
    """
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())
        opened: list[int] = []
        try:
            opened.extend(os.dup(file.fileno()) for _ in range(DESCRIPTORS))
        finally:
            for number in opened:
                os.close(number)


class Soundness:
    """Checks on demand, and then periodically until all is sound; shared by the captain and the ships' actors.

    Args:
        git: the repository.
        look: returns what is wrong, None if all is sound.

    Attributes:
        problem: what is wrong; None while all is sound, as far as is known.
        on_checked: called after each check.
    """

    def __init__(self, git: Git, look: Callable[[Git], str | None] = examine) -> None:
        self.problem: str | None = None
        self.on_checked: Callable[[], None] = lambda: None
        self._git = git
        self._look = look
        self._sound = asyncio.Event()
        self._sound.set()
        self._watching: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def check(self) -> str | None:
        """Examine now, before a ship is blamed for what may be our own fault; return what is wrong, None if nothing."""
        if self.problem is None:
            if self._looking is None or self._looking.done():  # callers meanwhile wait for the same examination
                self._looking = asyncio.create_task(self._look_once(), name="look")
            await asyncio.shield(self._looking)
            if self.problem is not None and (self._watching is None or self._watching.done()):
                self._watch()
        return self.problem

    async def wait(self) -> None:
        """Wait until all is sound."""
        await self._sound.wait()

    async def close(self) -> None:
        """Stop checking."""
        for task in (self._watching, self._looking):
            if task:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _watch(self) -> None:
        self._watching = asyncio.create_task(self._look_until_sound(), name="soundness")

    async def _look_until_sound(self) -> None:
        while self.problem is not None:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look_once()

    async def _look_once(self) -> None:
        began = time.monotonic()
        try:
            found = await asyncio.to_thread(self._look, self._git)
        except RuntimeError as error:  # no thread can be started
            found = f"{error}; end other programs, or raise the limit"
        if found != self.problem:
            log.log(
                logging.ERROR if found else logging.INFO, "%s", found or "this machine and the repository are sound"
            )
        log.debug("looked in %.1f s", time.monotonic() - began)
        self.problem = found
        if found is None:
            self._sound.set()
        else:
            self._sound.clear()
        self.on_checked()
