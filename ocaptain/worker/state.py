"""The worker's state, on disk so that a restarted worker has it."""

from __future__ import annotations

import threading

from ocaptain.protocol import Fence
from ocaptain.protocol.codec import from_dict, to_dict
from ocaptain.protocol.files import read_json, write_json
from ocaptain.protocol.messages import Result
from ocaptain.worker.job import Job
from ocaptain.worker.places import Places

MAX_RESULTS = 40


class State:
    """The worker's state.

    Attributes:
        places: where everything is on this ship.
        fence: decides which captain may send commands.
        ship: this ship's id.
        results: the latest results, by command id.
        job: the running attempt.
        workspace_commit: the commit that the workspace was last set to.
    """

    def __init__(self, places: Places) -> None:
        saved = read_json(places.state) or {}
        self.places = places
        self.fence = Fence(saved.get("voyage", ""), saved.get("epoch", 0), saved.get("generation", 0))
        self.ship: str = saved.get("ship", "ship")
        self.results: dict[str, Result] = {name: from_dict(Result, one) for name, one in saved.get("done", {}).items()}
        self.job: Job | None = from_dict(Job, saved["job"]) if saved.get("job") else None
        self.workspace_commit: str | None = saved.get("at")
        self._saving = threading.Lock()

    def save(self) -> None:
        """Write the state to disk. Raises OSError."""
        with self._saving:  # the last one to come writes the last state
            for old in list(self.results)[:-MAX_RESULTS]:
                self.results.pop(old, None)
            write_json(
                self.places.state,
                {
                    "voyage": self.fence.voyage,
                    "epoch": self.fence.epoch,
                    "generation": self.fence.generation,
                    "ship": self.ship,
                    "done": to_dict(dict(self.results)),
                    "job": to_dict(self.job),
                    "at": self.workspace_commit,
                },
            )
