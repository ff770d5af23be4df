"""When a ship is asked for its files as they are now, and what becomes of the last answer when the attempt is over.

Pure: :mod:`ocaptain.captain.ship.live` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST_SECONDS = 15.0
LONGEST_SECONDS = 60.0
IDLE_SECONDS = 120.0  # without a change, after which it is asked less often


@dataclass(frozen=True)
class Pace:
    """How often a ship is asked.

    Attributes:
        seconds: until it is asked next.
        still: seconds for which nothing has changed.
    """

    seconds: float = FIRST_SECONDS
    still: float = 0.0


def next_pace(pace: Pace, *, changed: bool, took: float = 0.0) -> Pace:
    """Return the pace after an answer.

    Each 15 s; after two minutes without a change the time between doubles, up to a minute; the first change sets it
    back. A ship that takes long to answer (a large workspace) is busy with that for at most a tenth of its time, as
    far as a minute allows.

    Args:
        pace: until now.
        changed: whether the answer had anything new.
        took: seconds that the answer took.
    """
    least = min(LONGEST_SECONDS, max(FIRST_SECONDS, 10 * took))
    if changed:
        return Pace(least)
    still = pace.still + pace.seconds
    seconds = min(LONGEST_SECONDS, 2 * pace.seconds) if still >= IDLE_SECONDS else pace.seconds
    return replace(pace, seconds=max(least, seconds), still=still)


@dataclass(frozen=True)
class LiveWork:
    """What is known of the files of an attempt while it runs.

    Attributes:
        commit: of the files on top of the attempt's base; "" while there is none.
        at: when the ship answered last, in seconds since 1970.
        files, size: files that differ from the base, and their bytes, as the ship says.
        problem: why there is nothing newer, "" if nothing is wrong.
    """

    commit: str = ""
    at: float = 0.0
    files: int = 0
    size: int = 0
    problem: str = ""


def is_lost(*, state: str, has_work: bool, has_changes: bool) -> bool:
    """Return whether the last answer is all that is left of an attempt that is over.

    Args:
        state: of the attempt in the ledger.
        has_work: whether its files, as it left them, are saved.
        has_changes: whether the last answer differs from what the attempt began with.
    """
    return has_changes and not has_work and state != "landed"
