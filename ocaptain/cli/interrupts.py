"""Ctrl-C: one interrupt ends a command, however often the key is hit."""

from __future__ import annotations

import signal
import time
from typing import Any

#: Seconds in which further interrupts are the same one: who hammers on the key means it once. Each would raise
#: an error in whatever cleans up after the first.
HAMMERING = 0.5


class _Interrupts:
    """Raises KeyboardInterrupt, but not while the former one is still on its way."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def __call__(self, number: int, frame: Any) -> None:
        del number, frame
        now = time.monotonic()
        if now - self._last >= HAMMERING:
            self._last = now
            raise KeyboardInterrupt


def take_interrupts_once() -> None:
    """Take interrupts that come close together for one; those that our caller has us ignore stay ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Interrupts())


def ignore_interrupts() -> None:
    """Ignore interrupts from now on: the process ends anyway, and Python's own end has no answer to one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
