"""The trial of the gate on one ship, beside whatever else the ship does."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import TYPE_CHECKING

from ocaptain.captain.transport.base import TransportError
from ocaptain.protocol.codec import Malformed, from_dict
from ocaptain.protocol.messages import Trial, TrialResult, command_name

if TYPE_CHECKING:
    from ocaptain.captain.ship.context import Context, Dispatcher
    from ocaptain.captain.ship.link import Link

TRIAL_SECONDS = 120.0
ANSWER_SECONDS = 60.0  # how long after that the ship may take to clear up and report


class TrialRun:
    """Runs the trial on a ship if the captain wants it there."""

    def __init__(self, ship: str, context: Context, dispatcher: Dispatcher) -> None:
        self._ship = ship
        self._context = context
        self._dispatcher = dispatcher
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the ship runs it now."""
        return self._task is not None and not self._task.done()

    def begin(self, link: Link) -> None:
        """Begin it in the background, unless another ship has it, or this ship's worker does not know it."""
        if "trial" in link.channel.commands and not self.is_running and self._dispatcher.take_gate_trial():
            self._task = asyncio.create_task(self._run(link))

    def cancel(self) -> None:
        """Wait for it no more; it may be begun again."""
        if self._task:
            self._task.cancel()

    async def _run(self, link: Link) -> None:
        voyage = self._context.voyage
        script = base64.b64encode(voyage.verify_script).decode()
        command = Trial(voyage.root, voyage.id, script, TRIAL_SECONDS, "trial", voyage.setup)
        name = f"{command_name(command)}:{self._context.ledger.epoch}:{os.urandom(4).hex()}"
        try:
            answer = await link.call(name, command, TRIAL_SECONDS + ANSWER_SECONDS)
            result = from_dict(TrialResult, answer.data) if answer.ok else None
            if result:
                self._dispatcher.on_gate_trial(self._ship, result, TRIAL_SECONDS)
            else:
                self._dispatcher.release_gate_trial(answer.failure().reason[:200])
            await link.settle(answer.number)
        except (TransportError, Malformed) as error:
            self._dispatcher.release_gate_trial(str(error))
        except asyncio.CancelledError:
            self._dispatcher.release_gate_trial("it was cut off")
            raise
