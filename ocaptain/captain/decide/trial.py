"""Decide what the trial of the gate means: setup and verify.sh, run on the start commit before there is any work.

That they fail there is what is expected. Only what no work can mend stops the voyage.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ocaptain.captain.decide.outcome import CANNOT_EXECUTE, NOT_FOUND
from ocaptain.names import stage_name
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Collection

    from ocaptain.protocol.messages import TrialResult

MAX_TRIES = 2  # of a captain: a ship may die of it
MAX_NAME = 200
MAX_TAIL = 2000  # characters that are looked through
#: What shells and env say of a program that is not there.
_NOT_FOUND = re.compile(
    r"([^\s:'\u2018\u2019]+)['\u2019]?: (?:command not found|not found|No such file or directory)$", re.MULTILINE
)

Outcome = Literal["interpreter", "missing", "passes", "late", "expected"]


@dataclass(frozen=True)
class GateTrial:
    """What a trial showed.

    Attributes:
        outcome: ``interpreter``: verify.sh can never run; ``missing``: a program is not there yet; ``passes``;
            ``late``: it was killed; ``expected``: it failed.
        text: for people.
    """

    outcome: Outcome
    text: str

    @property
    def stops(self) -> bool:
        """Whether the voyage stops, since no task could mend it."""
        return self.outcome == "interpreter"


def judge_gate_trial(result: TrialResult, programs: Collection[str], seconds: float) -> GateTrial:
    """Judge a trial.

    Args:
        result: of the ship, which may be hostile.
        programs: that verify.sh's first line names; only one of these can stop the voyage.
        seconds: the time limit of the trial.
    """
    script = stage_name(result.stage)
    missing = result.missing if result.missing in programs else ""
    if missing and not result.code:
        hint = " (it ends with a carriage return: the file has Windows line ends)" if missing.endswith("\r") else ""
        return GateTrial("interpreter", f"not on the ship: {_quote(missing)}, which verify.sh's first line names{hint}")
    if result.timed_out:
        return GateTrial("late", f"{script} had not ended on the start commit after {seconds:g} s and was killed")
    if missing:
        return GateTrial("missing", f"{_quote(missing)} is not on the ship yet: a task or `setup` must bring it")
    if result.code == NOT_FOUND:
        named = _NOT_FOUND.findall(result.tail[-MAX_TAIL:])
        what = _quote(named[-1]) if named else f"a program that {script} needs"
        return GateTrial("missing", f"{what} is not on the ship yet: a task or `setup` must bring it")
    if result.code == CANNOT_EXECUTE:
        return GateTrial(
            "missing", f"{script} needs what cannot be run yet: a task or `setup` must bring it (exit 126)"
        )
    if result.code == 0:
        return GateTrial("passes", "verify.sh passes before any work: it proves nothing")
    return GateTrial("expected", f"{script} fails before any work, as expected (exit code {result.code})")


def _quote(program: str) -> str:
    return f"`{clean_line(program.replace(chr(13), '^M'), MAX_NAME)}`"
