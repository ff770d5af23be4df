"""The final verify as a job that ships take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from ocaptain.protocol.messages import VerifyResult


@dataclass
class VerifyJob:
    """The final verify of a commit, to be taken by one ship at a time.

    Attributes:
        commit: what is verified.
        result: how it ended.
        ship: that is to run it; None = any that takes tasks.
        fresh: whether its workspace is made anew for it.
        taken, taken_by: whether a ship is at it, and which was last.
        tries, problem: how often it could not be run, and why.
    """

    commit: str
    result: asyncio.Future[VerifyResult]
    ship: str | None = None
    fresh: bool = False
    taken: bool = False
    taken_by: str = ""
    tries: int = 0
    problem: str = ""

    def answer(self, result: VerifyResult) -> None:
        """Report how it ended."""
        if not self.result.done():
            self.result.set_result(result)

    def give_back(self, problem: str) -> None:
        """Let another ship (or the same one) try."""
        self.taken, self.tries, self.problem = False, self.tries + 1, problem
