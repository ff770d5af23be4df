"""What becomes of the stops of a Claude Code with its own screen, where the repository's Stop hooks are let through.

::

    Stop hooks, at once: ours ──event──> Stops.begin ──┐
                         theirs, may refuse            ├──> the stop by which the CLI is done
    transcript: stop_hook_summary ──> Stops.decide ────┘

Stops and summaries come in the same order, though not at the same time. Measured with 2.1.330: ``hookErrors`` has what
refused, and the errors of hooks that failed, whose indexes are in ``failedHookErrorIndexes``; ``preventedContinuation``
is what `.stop_hook` asks for at the third refusal. Standard library only.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

#: What `.stop_hook` adds to a refusal.
_REFUSAL = "(ocaptain: refusal "


class Stops:
    """Counts the stops of a run.

    Attributes:
        is_prevented: whether such a hook ended the run, since it had refused too often.
    """

    def __init__(self) -> None:
        self.is_prevented = False
        self._begun = self._decided = 0
        self._refused: Set[int] = set()
        self._open: Dict[int, Mapping[str, Any]] = {}  # events by number

    def begin(self, event: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
        """Note a stop; return the event of the one that nobody refused, None if there is none yet."""
        self._begun += 1
        self._open[self._begun] = event
        return self._find_end()

    def decide(self, line: Mapping[str, Any]) -> Tuple[Optional[Mapping[str, Any]], List[str]]:
        """Note the summary of a stop; return as :meth:`begin` does, and what the repository's hooks refused with."""
        self._decided += 1
        errors, failed = [*map(str, line.get("hookErrors") or ())], line.get("failedHookErrorIndexes") or ()
        refusals = [one for number, one in enumerate(errors) if number not in failed]
        self.is_prevented = bool(line.get("preventedContinuation"))
        if (refusals or line.get("hookAdditionalContext")) and not self.is_prevented:
            self._refused.add(self._decided)
        said = [str(line.get("stopReason")), *refusals]
        return self._find_end(), [one for one in said if _REFUSAL in one]

    def interrupt(self) -> None:
        """Note that a person went on: of a stop that was interrupted no summary comes."""
        self._open.clear()
        self._begun = self._decided = max(self._begun, self._decided)

    def _find_end(self) -> Optional[Mapping[str, Any]]:
        found = None
        for number in [one for one in self._open if one <= self._decided]:
            event = self._open.pop(number)
            found = found if number in self._refused else event
        return found
