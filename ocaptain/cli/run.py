"""Run a playbook from a command: report its events, turn signals into an orderly stop."""

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


class InterruptCounter:
    """Counts interrupts: the first stops the run in order, the second at once, the third ends this process."""

    def __init__(self) -> None:
        self.count = 0

    def _handle(self, number: int, frame: Any) -> None:
        del number, frame
        self.count += 1
        if self.count > 2:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def catching(self) -> Iterator[InterruptCounter]:
        """Count INT, TERM and HUP inside the block instead of dying of them."""
        before = {
            number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
    on_idle: Callable[[], None],
    stop_urgency: Callable[[], int],
    poll_seconds: float = 0.25,
    inventory: str | None = None,
) -> RunResult:
    """Run a playbook in a thread; call the callbacks in the calling thread.

    Args:
        name: the playbook's, without suffix.
        extravars: its variables.
        on_event: called for each event of Ansible's.
        on_idle: called when no event came for ``poll_seconds``.
        stop_urgency: asked now and then: 0 = go on, 1 = stop in order, 2 = stop now.
        poll_seconds: how long to wait for an event.
        inventory: path; None = the plays make their own hosts.
    """
    from ocaptain.ansible.runner import run_invocation  # noqa: PLC0415 - a third of a second

    planned = invocation.build_invocation(name, extravars, os.environ, Path.cwd(), inventory=inventory)
    events: queue.Queue[Event | None] = queue.Queue()  # None: the run has ended
    results: list[RunResult | BaseException] = []

    def work() -> None:
        try:
            results.append(run_invocation(planned, events.put, stop_urgency))
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            results.append(error)
        finally:
            events.put(None)

    thread = threading.Thread(target=work, name="ansible", daemon=True)
    thread.start()
    while True:
        try:
            event = events.get(timeout=poll_seconds)
        except queue.Empty:
            on_idle()
            continue
        if event is None:
            break
        on_event(event)
    thread.join()
    result = results[0]
    if isinstance(result, BaseException):
        raise result
    return result
