"""Threads by how long their work takes: what is long for one ship must not keep the others waiting.

asyncio's own threads (``asyncio.to_thread``, a handful on a small machine) stay for what takes milliseconds: a command
waits for one. What may take minutes has threads of its own, and so has what stops or continues a whole ship.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
#: Copies of disks at once: more of them only share the same disk, and leave less of the machine to the others.
COPIES = 2
#: Who copies waits here first: a ship is stopped for its own copy, not while others copy.
COPY_TURNS = asyncio.Semaphore(COPIES)
_COPY_POOL = ThreadPoolExecutor(COPIES, "copy")
_REMOVAL_POOL = ThreadPoolExecutor(8, "remove")
#: A ship with very many processes may take long to stop; the others do not wait for it.
_FREEZE_POOL = ThreadPoolExecutor(16, "freeze")


async def copying(work: Callable[[], _Result]) -> _Result:
    """Return what ``work``, which copies a disk, returns in a thread for copies."""
    return await asyncio.get_running_loop().run_in_executor(_COPY_POOL, work)


async def removing(work: Callable[[], _Result]) -> _Result:
    """Return what ``work``, which removes a tree, returns in a thread for removals."""
    return await asyncio.get_running_loop().run_in_executor(_REMOVAL_POOL, work)


async def freezing(work: Callable[[], _Result]) -> _Result:
    """Return what ``work``, which stops or continues a ship's processes, returns in a thread for that."""
    return await asyncio.get_running_loop().run_in_executor(_FREEZE_POOL, work)
