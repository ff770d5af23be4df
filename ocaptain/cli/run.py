"""Running a playbook from a command: events drawn as they come, signals turned into an orderly end."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocaptain.ansible import invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocaptain.ansible.runner import Event, RunResult


class Signals:
    """Counts the interrupts; the first is obeyed in order, the second at once.

    The third breaks off whatever still holds this process.
    """

    def __init__(self) -> None:
        self.count = 0

    def _take(self, number: int, frame: Any) -> None:
        del number, frame
        self.count += 1
        if self.count > 2:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def caught(self) -> Iterator[Signals]:
        """Catch INT, TERM and HUP inside the block."""
        before = {
            number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_playbook(
    name: str,
    extravars: dict[str, Any],
    on_event: Callable[[Event], None],
    on_pause: Callable[[], None],
    urgency: Callable[[], int],
    pause: float = 0.25,
    inventory: str | None = None,
) -> RunResult:
    """Run a playbook in a thread; call ``on_event`` and, when nothing happens, ``on_pause`` in this one.

    ``inventory`` is a path; without one the plays make all of their hosts.
    """
    from ocaptain.ansible.runner import execute  # noqa: PLC0415 - a third of a second

    what = invocation.build(name, extravars, os.environ, Path.cwd(), inventory=inventory)
    events: queue.Queue[Event | None] = queue.Queue()  # None: that was all
    results: list[RunResult | BaseException] = []

    def work() -> None:
        try:
            results.append(execute(what, events.put, urgency))
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            results.append(error)
        finally:
            events.put(None)

    thread = threading.Thread(target=work, name="ansible", daemon=True)
    thread.start()
    while True:
        try:
            event = events.get(timeout=pause)
        except queue.Empty:
            on_pause()
            continue
        if event is None:
            break
        on_event(event)
    thread.join()
    result = results[0]
    if isinstance(result, BaseException):
        raise result
    return result
