"""Send the list of the voyage's tasks to a ship whose agent shows it: while an attempt runs, and when it changed.

::

    views (what changed in the ledger) ──> TaskBoard ──wakes──> TaskListSender of each ship at work ──> channel

The first message on a channel has the whole list, each later one what changed since. A ship that sleeps or has nothing
to do gets none; its next attempt brings what it missed. No answer is awaited: what is lost with a channel is sent again
on the next one. So a list never waits for a ship, and no ship's result waits for a list.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ocaptain.captain.decide.task_list import changed_entries, list_entry, split_list
from ocaptain.captain.transport.base import TransportError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ocaptain.captain.channel import Channel
    from ocaptain.captain.decide.task_list import Entry

#: Seconds between two messages to a ship: what changes together goes together.
GATHER_SECONDS = 0.5


class TaskBoard:
    """The list of the voyage's tasks as it is now.

    Attributes:
        entries: by task, in the plan's order.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._changed = asyncio.Event()

    def update(self, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over tasks that changed, as ``ocaptain.ledger.task_files`` returns them."""
        self.entries.update({task: list_entry(content) for task, content in tasks.items()})
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self) -> None:
        """Wait until a task changes."""
        await self._changed.wait()


class TaskListSender:
    """Keeps the list of one ship up to date while an attempt runs there."""

    def __init__(self, board: TaskBoard) -> None:
        self._board = board
        self._task: asyncio.Task[None] | None = None
        self._channel: Channel | None = None
        self._sent: dict[str, Entry] = {}

    def begin(self, channel: Channel) -> None:
        """Begin to send on a channel."""
        self.end()
        if channel is not self._channel:
            self._channel, self._sent = channel, {}
        self._task = asyncio.create_task(self._send(channel))

    def end(self) -> None:
        """Send no more."""
        if self._task:
            self._task.cancel()
            self._task = None

    async def _send(self, channel: Channel) -> None:
        with contextlib.suppress(TransportError):  # whoever waits for the attempt's result is told
            while True:
                now = dict(self._board.entries)
                entries = changed_entries(self._sent, now) if self._sent else None
                whole = entries is None
                for message in split_list(list(now.values()) if entries is None else entries, whole=whole):
                    await channel.send(message)
                self._sent = now
                if now == self._board.entries:  # else it changed while it was being sent
                    await self._board.wait_for_change()
                await asyncio.sleep(GATHER_SECONDS)
