"""``why``: each attempt at a task, or what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli import render
from ocaptain.cli.next_step import after_task
from ocaptain.cli.views import find_voyage, standing
from ocaptain.errors import UsageError
from ocaptain.process import is_captain_running
from ocaptain.query import Query
from ocaptain.text import clean_line, escape_control

if TYPE_CHECKING:
    from ocaptain.query import AttemptView, TaskStory

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
    for line in story_lines(story, directory.id):
        console.print(line)
    render.print_next(after_task(standing(directory), story.id))


def story_lines(story: TaskStory, voyage: str) -> list[Text]:
    """Return the lines that tell of a task.

    Args:
        story: what is known of it.
        voyage: id of its voyage.
    """
    lines = [*_head(story), *(Text(line) for one in story.attempts for line in _attempt_lines(one))]
    if story.attempts:
        lines.append(Text(f"  the agents' output: ocaptain logs {voyage} {story.id}"))
    return lines


def _head(story: TaskStory) -> list[Text]:
    landed = f" as {story.commit[:10]}" if story.commit else ""
    head = Text.assemble(
        f"task {story.id}  ", render.coloured_state(story.status), f"{landed}  {clean_line(story.subject, 100)}"
    )
    return [head, *(Text(f"  {clean_line(one)}") for one in story.waits)]


def _attempt_lines(attempt: AttemptView) -> list[str]:
    """Return the lines of one attempt: its verdict, its reason in full, its check and what is kept of it."""
    code = "" if attempt.exit_code is None else f", exit code {attempt.exit_code}"
    took = "" if attempt.seconds is None else f" after {attempt.seconds:.1f} s"
    lines = [f"  attempt {attempt.attempt} on {attempt.ship} {attempt.verdict}"]
    if code or took:
        lines.append(f"    its agent ended{took}{code}")
    lines += [f"    {line}" for line in escape_control(attempt.reason or "").splitlines()]
    if check := attempt.check:
        lines.append(f"    check: {clean_line(str(check.get('command')), 200)}: exit code {check.get('exit_code')}")
        tail = escape_control(str(check.get("tail") or "")).strip()
        if tail not in (attempt.reason or ""):  # a check that failed is in the reason
            lines += [f"      {line}" for line in tail.splitlines()[-CHECK_LINES:]]
    if attempt.conflicts:
        lines.append(f"    files that others had changed, too: {', '.join(map(clean_line, attempt.conflicts))}")
    if landing := attempt.landing:
        lines.append(f"    it landed as {landing.commit[:10]}: {landing.command}")
        lines += [f"    it landed settings: {clean_line(line)}" for line in landing.settings]
        for new, old in landing.collisions:
            lines.append(f"    macOS and Windows take {clean_line(new)} and {clean_line(old)} for one file")
    if attempt.log_skipped:
        lines.append(f"    {attempt.log_skipped} bytes of its output are lost: its ship had no room for them")
    lines += [f"    its work is kept: {ref.command}" for ref in attempt.refs]
    return lines
