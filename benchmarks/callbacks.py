"""What one callback kept an event loop's thread computing: others wait meanwhile."""

from __future__ import annotations

import asyncio
import time


class LongestCallback:
    """The longest time that one callback kept the loop's thread computing."""

    def __init__(self) -> None:
        self.seconds, self.what = 0.0, ""
        run = asyncio.events.Handle._run  # noqa: SLF001 - there is no other place to stand

        def timed(handle: asyncio.Handle) -> None:
            before = time.thread_time()
            run(handle)
            took = time.thread_time() - before
            if took > self.seconds:
                self.seconds, self.what = took, repr(handle)[:300]

        asyncio.events.Handle._run = timed  # type: ignore[method-assign]  # noqa: SLF001
