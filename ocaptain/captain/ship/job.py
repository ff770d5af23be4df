"""The final verify as a job for a ship."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from ocaptain.protocol.messages import VerifyResult


@dataclass
class VerifyJob:
    """The final verify of a commit, run by one ship at a time.

    Attributes:
        commit: that is verified.
        result: set when it has ended.
        ship: that must run it; None = any that takes tasks.
        fresh: whether the workspace is made anew for it.
        taken, taken_by: whether a ship runs it now, and which ship took it last.
        tries, problem: how often it could not be run, and why the last time.
    """

    commit: str
    result: asyncio.Future[VerifyResult]
    ship: str | None = None
    fresh: bool = False
    taken: bool = False
    taken_by: str = ""
    tries: int = 0
    problem: str = ""

    def set_result(self, result: VerifyResult) -> None:
        """Report the result; later ones are ignored."""
        if not self.result.done():
            self.result.set_result(result)

    def release(self, problem: str) -> None:
        """Let another ship (or the same one) take it, since it could not be run."""
        self.taken, self.tries, self.problem = False, self.tries + 1, problem
