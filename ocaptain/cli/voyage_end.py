"""What is said of a voyage that has ended: how much landed, in what time; what failed; what it proves. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli.board import money_of
from ocaptain.cli.facts import counted, gate_text, verify_text
from ocaptain.cli.reason import brief_reason
from ocaptain.cli.style import (
    BAD,
    QUIET,
    fit,
    format_clock,
    format_money,
    format_seconds,
    symbol,
    with_symbol,
)
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ocaptain.query import Snapshot, TaskLine

MAX_FAILURES = 10
_MAX_SUBJECT = 60


def end_lines(
    seen: Snapshot, kept: Mapping[str, Sequence[str]], machine: Callable[[float], int], place: Path, now: float
) -> list[Text]:
    """Return the lines about a voyage that has ended.

    Args:
        seen: the voyage.
        kept: refs of what is kept of the work of failed tasks, by task.
        machine: cost of a number of seconds of one machine awake, in nano-dollars.
        place: the voyage's directory.
        now: in seconds since 1970.
    """
    about = seen.about
    lines = [_first_line(seen, machine, now)]
    failed = seen.failed
    shown = failed if len(failed) <= MAX_FAILURES else failed[: MAX_FAILURES - 1]
    for task in shown:
        lines += _failure(task, kept.get(task.id, ()))
    if len(shown) < len(failed):
        names = ", ".join(fit(one.id, 16) for one in failed[len(shown) :][:20])
        lines.append(Text(f"✗ {len(failed) - len(shown)} more failed for good: {names}", style=BAD))
    lines += _not_done(seen)
    if about.verify:
        sign = symbol("done" if about.verify["ok"] else "failed")
        lines.append(Text.assemble(sign, f" {clean_line(verify_text(about))}"))
    elif about.state == "failed":
        lines.append(Text.assemble(symbol("next"), f" {_not_run(seen)}"))
    if gate := gate_text(about):
        lines.append(Text(f"  {clean_line(gate)}"))
    lines += [Text(f"  #{fit(one['task'], 16)} landed settings: {clean_line(one['text'])}") for one in about.notices]
    lines.append(Text(f"  {place / 'workspace'}", style=QUIET))
    return lines


def _first_line(seen: Snapshot, machine: Callable[[float], int], now: float) -> Text:
    """Return ``✗ failed: 48 of 50 landed in 5:40 on 5 ships (12 min of work, 2.1x) · $2.10``."""
    about = seen.about
    crew = sum(ship.is_crew for ship in seen.ships)
    line = Text.assemble(with_symbol(about.state))  # in its colour, and what follows in none
    line.append(f": {about.tasks['completed']} of {about.tasks['total']} landed in {format_clock(seen.elapsed(now))}")
    line.append(f" on {counted(crew, 'ship')}")
    if seen.work_seconds >= 1:
        faster = f", {seen.speed_up:.1f}x" if seen.speed_up is not None else ""
        line.append(f" ({format_seconds(seen.work_seconds)} of work{faster})")
    money = money_of(seen, machine)
    return line.append(f" · {format_money(money.nano, unknown=money.is_more)}")


def _failure(task: TaskLine, refs: Sequence[str]) -> list[Text]:
    """Return why a task failed, and where its work is kept."""
    reason = next(iter(brief_reason(task.reason or "").splitlines()), "") or "no reason is known"
    begin = Text.assemble(("✗", BAD), f" #{fit(task.id, 16)} {fit(task.subject, _MAX_SUBJECT)}: {clean_line(reason)}")
    if not refs:
        return [begin]
    return [begin, Text(f"  its work is kept: {clean_line(refs[-1])}", style=QUIET)]


def _not_run(seen: Snapshot) -> str:
    """Return why the final verify was not run."""
    left = seen.about.tasks["total"] - seen.about.tasks["completed"]
    tasks = f"{left} {'task' if left == 1 else 'tasks'}"
    return f"verify.sh was not run, since {tasks} did not land" if left else "verify.sh was not run"


def _not_done(seen: Snapshot) -> list[Text]:
    """Return how many tasks were held by those that failed, and how many are open for other reasons."""
    rest = [one for one in seen.tasks if one.status in {"pending", "in_progress"}]
    held = sum(one.held_by is not None for one in rest)
    other = len(rest) - held
    words = []
    if held:
        words.append(
            f"{held} {'task was' if held == 1 else 'tasks were'} held by {'it' if len(seen.failed) == 1 else 'them'}"
        )
    if other:
        words.append(f"{other} {'task is' if other == 1 else 'tasks are'} still open")
    return [Text.assemble(symbol("pending"), f" {one}") for one in words]
