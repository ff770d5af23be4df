"""An offer in the queue, and the verdicts on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ocaptain.captain.landing.candidates import OfferedTree, Tip
    from ocaptain.git import Conflict
    from ocaptain.ledger import Claim
    from ocaptain.protocol.messages import CheckResult, Snapshot


@dataclass(frozen=True)
class Landed:
    """It is on the branch."""

    commit: str


@dataclass(frozen=True)
class Conflicted:
    """It does not merge with what landed meanwhile, in the files ``paths``."""

    reason: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckFailed:
    """The check did not pass on the merged candidate."""

    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class TokenLost:
    """The attempt does not hold its task any more."""


Verdict = Landed | Conflicted | CheckFailed | TokenLost
Check = Callable[[str], "Awaitable[CheckResult]"]
_Result = TypeVar("_Result")


def settle(settled: asyncio.Future[_Result], result: _Result | BaseException) -> None:
    """Give a result, or the error, to whoever waits for it, if somebody still does."""
    if settled.done():
        return
    if isinstance(result, asyncio.CancelledError):
        settled.cancel()
    elif isinstance(result, BaseException):
        settled.set_exception(result)
    else:
        settled.set_result(result)


@dataclass
class Entry:
    """An offer in the queue.

    Attributes:
        settled: the verdict, or the error if there is none.
        evidence: of the attempt, and of its last check.
        offered: its trees, None before they were read.
        candidate: None before it has one.
        refusal: why its candidate cannot land.
        checking: its check, while that runs.
        checks: number of checks started.
    """

    claim: Claim
    base: str
    offer: Snapshot
    check: Check | None
    settled: asyncio.Future[Verdict]
    evidence: dict[str, Any]
    offered: OfferedTree | None = None
    candidate: Tip | None = None
    refusal: Conflict | CheckFailed | None = None
    checking: asyncio.Task[None] | None = None
    checks: int = 0

    def set_verdict(self, verdict: Verdict | BaseException) -> None:
        """Give the verdict, or the error, to the caller of :meth:`Lander.land`, if it still waits."""
        settle(self.settled, verdict)

    def stop_check(self) -> None:
        """End its check, if one runs."""
        if self.checking:
            self.checking.cancel()
            self.checking = None
