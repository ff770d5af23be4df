"""``why``: each attempt at a task, or what it waits for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli import render
from ocaptain.cli.fold import fold
from ocaptain.cli.next_step import after_task
from ocaptain.cli.style import BAD, format_seconds, format_time, symbol, with_symbol, wrap
from ocaptain.cli.tables import UNBOUNDED, paragraph
from ocaptain.cli.views import find_voyage, standing
from ocaptain.errors import UsageError
from ocaptain.process import is_captain_running
from ocaptain.query import Query
from ocaptain.text import clean_line, escape_control

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.query import AttemptView, TaskStory

#: State whose symbol an attempt has, by its own; ``○`` for others.
_STATES = {"landed": "landed", "failed": "failed", "claimed": "working", "running": "working", "offered": "working"}
MAX_LINES = 3  # of a subject
CHECK_LINES = 20  # of a check's output; the log and --json have more


def show_why(voyage: str | None, task: str, *, as_json: bool) -> None:
    """Show why a task is where it is.

    Raises:
        UsageError: the voyage has no such task.
    """
    directory = find_voyage(voyage)
    story = Query(directory.path).why(task, has_captain=is_captain_running(directory.path))
    if story is None:
        raise UsageError(f"{directory.id} has no task {clean_line(task, 70)!r}; see: ocaptain tasks {directory.id}")
    if as_json:
        render.print_json("why", {"voyage": directory.id, **story.as_dict()})
        return
    console = render.out()
    render.print_lines(console, story_lines(story, directory.id, console.width, time.time()))
    held_by = next((one.held_by for one in Query(directory.path).snapshot(0.0).tasks if one.id == story.id), None)
    render.print_next(after_task(standing(directory), story.id, held_by))


def story_lines(story: TaskStory, voyage: str, width: int = UNBOUNDED, now: float | None = None) -> list[Text]:
    """Return a task's story: reasons in full, and commands as they are to be typed.

    Args:
        story: the task's.
        voyage: the voyage's id.
        width: of the terminal, in cells.
        now: in seconds since 1970; times of another day have their date. None = no time has one.
    """
    landed = f" as {story.commit[:10]}" if story.commit else ""
    head = Text.assemble(with_symbol(story.status), f" task {story.id}{landed}  ")
    lines = paragraph(head, story.subject, width, most=MAX_LINES)
    for one in story.waits:
        lines += paragraph(Text("  "), one, width)
    for same in _alike(story.attempts):
        lines += _attempt_lines(same, width, now)
    if story.attempts:
        lines.append(Text(f"  the agents' output: ocaptain logs {voyage} {story.id}"))
    return lines


def _alike(attempts: Sequence[AttemptView]) -> list[list[AttemptView]]:
    """Return the attempts in groups: those in a row that ended alike on the same ship are one."""
    groups: list[list[AttemptView]] = []
    for one in attempts:
        if groups and one.reason and _ending(groups[-1][-1]) == _ending(one):
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _ending(one: AttemptView) -> tuple[object, ...]:
    known = one.check and (one.check.get("command"), one.check.get("exit_code"), one.check.get("tail"))
    return (one.ship, one.state, one.verdict, one.reason, one.exit_code, known, one.conflicts, one.landing)


def _attempt_lines(same: Sequence[AttemptView], width: int, now: float | None) -> list[Text]:
    """Return the lines of attempts that ended alike, by the last: verdict, whole reason, check, what is kept."""
    attempt = same[-1]
    number = str(attempt.attempt) if len(same) == 1 else f"{same[0].attempt}-{attempt.attempt}"
    noun = "attempt" if len(same) == 1 else "attempts"
    began = f"{'at' if len(same) == 1 else 'the last at'} {format_time(attempt.started, now=now)}"
    took = "" if attempt.ended is None else f", for {format_seconds(attempt.ended - attempt.started)}"
    lead = Text.assemble("  ", symbol(_STATES.get(attempt.state, "pending")), " ")
    lines = paragraph(lead, f"{noun} {number} on {attempt.ship} {attempt.verdict} ({began}{took})", width)
    code = "" if attempt.exit_code is None else f", exit code {attempt.exit_code}"
    ended = "" if attempt.seconds is None else f" after {format_seconds(attempt.seconds)}"
    if code or ended:
        lines.append(Text(f"    its agent ended{ended}{code}"))
    lines += _reason_lines(attempt.reason or "", width, BAD if attempt.state == "failed" else "")
    if (check := attempt.check) and not (attempt.reason or "").startswith("the check "):  # it is told already
        lines += paragraph(Text("    check: "), f"{check.get('command')}: exit code {check.get('exit_code')}", width)
        if tail := escape_control(str(check.get("tail") or "")).strip():
            lines += _block("\n".join(tail.splitlines()[-CHECK_LINES:]), 6, width)
    if attempt.conflicts:
        files = ", ".join(map(clean_line, attempt.conflicts))
        lines += paragraph(Text("    files that others had changed, too: "), files, width)
    told = []
    if landing := attempt.landing:
        told.append(f"it landed as {landing.commit[:10]}: {landing.command}")
        told += [f"it landed settings: {clean_line(line)}" for line in landing.settings]
        told += [
            f"macOS and Windows take {clean_line(new)} and {clean_line(old)} for one file"
            for new, old in landing.collisions
        ]
    if attempt.log_skipped:
        told.append(f"{attempt.log_skipped} bytes of its output are lost: its ship had no room for them")
    told += [f"its work is kept: {ref.command}" for one in same for ref in one.refs]
    return [*lines, *(Text(f"    {line}") for line in told)]


def _reason_lines(reason: str, width: int, style: str) -> list[Text]:
    """Return a reason: its first line is a sentence, broken between words; others are the output of a program."""
    sentence, _, output = reason.partition("\n")
    lines = wrap(sentence, max(2, width - 4)) if sentence else []
    return [*(Text.assemble("    ", (line, style)) for line in lines), *_block(output, 4, width, style)]


def _block(text: str, indent: int, width: int, style: str = "") -> list[Text]:
    """Return text of several lines, indented; its spaces stay, for it may be the output of a program."""
    before = " " * indent
    lines = [line.expandtabs() for line in escape_control(text).splitlines()]
    room = max(2, width - indent)
    parts = [part for line in lines for part in fold(Text(line), room, indent=0).plain.split("\n")]
    return [Text.assemble(before, (part, style)) for part in parts]
