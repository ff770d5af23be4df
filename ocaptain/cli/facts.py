"""What several screens say of a voyage, in the same words and numbers: pure functions of a snapshot."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ocaptain.cli.task_table import group_of
from ocaptain.names import stage_name

if TYPE_CHECKING:
    from ocaptain.query import Overview, Snapshot

#: Reasons of a pause that ends by itself; after the others somebody has to resume.
ENDS_BY_ITSELF = frozenset({"ours", "provider"})


def counted(number: int, word: str) -> str:
    """Return a number with its word: ``1 ship``, ``2 ships``."""
    return f"{number} {word if number == 1 else f'{word}s'}"


def count_groups(seen: Snapshot) -> dict[str, int]:
    """Return how many tasks there are of each kind that a person tells apart; all of them together are all tasks."""
    found = Counter(group_of(one) for one in seen.tasks)
    waiting = found["waiting"] + found["ready"] + found["held"]
    return {
        "landed": found["landed"],
        "working": found["working"],
        "retrying": found["retrying"],
        "failed": found["failed"],
        "waiting": waiting,
    }


def hour_nano(seen: Snapshot, machine_hour: int) -> int:
    """Return what an hour costs at the present pace, in nano-dollars.

    Agents: what an hour of their work has cost, times the ships at work; so a pause does not count.

    Args:
        seen: the voyage.
        machine_hour: what one machine costs in an hour awake, in nano-dollars.
    """
    at_work = sum(ship.task is not None for ship in seen.ships)
    spent = seen.about.spent.cost_nano
    agents = spent / seen.work_seconds * 3600 * at_work if seen.work_seconds >= 1 else 0.0
    return round(agents) + machine_hour * ships_awake(seen)


def ships_awake(seen: Snapshot) -> int:
    """Return how many ships exist and are not asleep: their machines cost."""
    return sum(ship.is_up and ship.state != "asleep" for ship in seen.ships)


def verify_text(about: Overview) -> str:
    """Return what the final verify has shown, "" before its end."""
    verify = about.verify
    if not verify:
        return ""
    failed = f"{stage_name(verify['stage'])} failed with exit code {verify['exit_code']} on the merged head"
    return f"{about.proves or failed} ({(verify['commit'] or '')[:10]})"


def gate_text(about: Overview) -> str:
    """Return what the trial of verify.sh before any work has shown, "" if it is as it should be, or is the note."""
    return about.gate["text"] if about.gate and about.gate["outcome"] not in {"expected", "interpreter"} else ""


def pause_word(reason: str) -> str:
    """Return what a voyage is that has a reason to pause and is not paused."""
    return "paused" if reason in ENDS_BY_ITSELF else "pausing"


def no_captain_text(voyage: str) -> str:
    """Return what to do about a voyage whose captain is gone."""
    return f"no captain is running; resume with: ocaptain sail --resume {voyage}"
