"""Tables, status and JSON for the terminal. Text of others goes through :func:`ocaptain.text.clean_line`."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.console import Console, Group
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ocaptain.errors import Interrupted, OcaptainError
from ocaptain.names import stage_name
from ocaptain.protocol.usage import format_dollars
from ocaptain.text import clean_line, escape_control

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import ConsoleOptions, RenderableType, RenderResult

    from ocaptain.query import Overview, TaskView

#: Version of the JSON that ``--json`` prints; additions keep it (``docs/json/`` has a schema for each kind).
SCHEMA = 1

COLOURS = {
    "completed": "green",
    "complete": "green",
    "failed": "red",
    "lost": "red",
    "unreadable": "red",
    "in_progress": "yellow",
    "working": "yellow",
    "verifying": "yellow",
    "running": "yellow",
    "gone": "dim",
    "sunk": "dim",
    "asleep": "dim",
}


#: Width of what is no terminal, or too narrow for a table: nothing is wrapped or cut there.
UNBOUNDED = 100_000
MIN_TABLE_WIDTH = 50
MIN_WRAPPED_WIDTH = 8


class Screen(Console):
    """A console on a stream.

    On a terminal it is as wide as that. Everywhere else a record is one line with its full text.

    Args:
        stderr: whether the stream is standard error.
        is_live: whether it is for what is drawn again and again; then a narrow terminal stays narrow.
    """

    def __init__(self, *, stderr: bool = False, is_live: bool = False) -> None:
        colours: Literal["auto"] | None = None if is_live and os.environ.get("NO_COLOR") else "auto"
        super().__init__(stderr=stderr, markup=False, highlight=False, soft_wrap=True, color_system=colours)
        self.is_piped = not self.file.isatty()
        #: Whether lines can be drawn over others.
        self.can_redraw = is_live and self.is_terminal and not self.is_piped and not self.is_dumb_terminal
        if self.can_redraw:
            return  # what is drawn is made for its width
        if self.is_piped or self.width < MIN_TABLE_WIDTH:
            self.width = UNBOUNDED

    @property
    def is_plain(self) -> bool:
        """Whether each record is to be one line with its full text."""
        return self.width == UNBOUNDED

    def print(self, *objects: Any, **more: Any) -> None:
        """Print; in strings, everything that a terminal could act upon is shown as an escape."""
        super().print(*(escape_control(one) if isinstance(one, str) else one for one in objects), **more)

    def show(self, renderable: RenderableType) -> None:
        """Print tables: as wide as need be where a terminal is too narrow, so that no name is cut.

        Without a terminal no line ends with the spaces that fill up the last column.
        """
        if self.is_terminal:
            if isinstance(renderable, Table) and self._least_width(renderable) > self.width:
                self.width = UNBOUNDED
            self.print(renderable)
            return
        with self.capture() as captured:
            self.print(renderable)
        for line in captured.get().splitlines():
            self.file.write(f"{line.rstrip()}\n")

    def _least_width(self, table: Table) -> int:
        """Return the width in which no column is cut, and none that may be wrapped gets unreadable."""
        wide = self.options.update(width=UNBOUNDED)
        total = 0
        for column in table.columns:
            cells = [column.header, *column.cells] if table.show_header else [*column.cells]
            width = max((Measurement.get(self, wide, cell).maximum for cell in cells), default=0)
            total += (width if column.no_wrap else min(width, MIN_WRAPPED_WIDTH)) + 1
        return total


def out() -> Screen:
    """Return the console for results (standard output)."""
    return Screen()


def err() -> Screen:
    """Return the console for progress and errors (standard error)."""
    return Screen(stderr=True)


def live() -> Screen:
    """Return the console for what is drawn again and again (standard error)."""
    return Screen(stderr=True, is_live=True)


def print_next(line: str) -> None:
    """Print what to type next, on standard error: it is for people, and no part of a result."""
    err().print(Text(line, style="bold"))


def print_json(kind: str, content: Mapping[str, Any]) -> None:
    """Print the one JSON object of a command on standard output."""
    global _json_printed  # noqa: PLW0603 - standard output is one, too
    _json_printed = True
    sys.stdout.write(json.dumps({"schema": SCHEMA, "kind": kind, **content}, indent=2) + "\n")


def error_as_dict(error: OcaptainError | None) -> dict[str, Any] | None:
    """Return an error in its JSON form, None for no error."""
    if error is None:
        return None
    return {
        "exit_code": error.exit_code,
        "message": escape_control(str(error)),
        "remedy": error.remedy and escape_control(error.remedy),
    }


def print_json_error(error: OcaptainError) -> None:
    """Print an error as JSON, unless the command has printed its object: there is never more than one."""
    if not _json_printed:
        print_json("error", error_as_dict(error) or {})


_json_printed = False  # whether this process has printed its one JSON object


def confirm(question: str, *, kept: str = "nothing was changed") -> None:
    """Ask the user to confirm, on standard error.

    Args:
        question: what the user confirms.
        kept: what stays as it is without a yes; the end of the error's message.

    Raises:
        OcaptainError: the answer is no.
        Interrupted: the user gave no answer: Ctrl-C, or the end of the input.
    """
    try:
        confirmed = typer.confirm(question, err=True)
    except typer.Abort as error:  # its context is the real cause
        cause = "the input ended without an answer" if isinstance(error.__context__, EOFError) else "interrupted"
        sys.stderr.write("\n")  # the cursor is behind the question
        raise Interrupted(f"{cause}; {kept}") from None
    if not confirmed:
        raise OcaptainError(f"you answered no; {kept}")


def coloured_state(state: str) -> Text:
    """Return a state as text in its colour."""
    return Text(state, style=COLOURS.get(state, ""))


class _Progress:
    """The tasks that are done: a bar on a terminal, and words."""

    def __init__(self, seen: Overview) -> None:
        counts = seen.tasks
        self._bar = ProgressBar(
            max(1, counts["total"]),
            counts["completed"],
            width=30,
            complete_style="red" if seen.state == "failed" else "green",
            finished_style="green",
        )
        rest = ", ".join(
            f"{counts[name]} {name.replace('_', ' ')}" for name in ("in_progress", "pending", "failed") if counts[name]
        )
        self._words = f"{counts['completed']} of {counts['total']} tasks done{f' ({rest})' if rest else ''}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not console.is_terminal or options.max_width == UNBOUNDED:
            yield Text(f"  {self._words}")
            return
        row = Table.grid(padding=(0, 1))
        row.add_column(no_wrap=True)
        row.add_column(overflow="fold")
        row.add_row(self._bar, self._words)
        yield row


def render_status(seen: Overview, *, note: bool = True, plain: bool = False) -> Group:
    """Return the status of a voyage: its state, progress, ships and costs.

    Args:
        seen: the voyage.
        note: whether its note is shown, too.
        plain: whether long texts are shown in full.
    """
    head = Text.assemble(seen.voyage, "  ", coloured_state(seen.state), f"  {clean_line(seen.name)} on {seen.provider}")
    ships = Table.grid(padding=(0, 2))
    for ship in seen.ships:
        doing = f"task {ship['task']}" if ship["task"] else clean_line(ship["reason"] or "", 0 if plain else 70)
        if ship["role"] == "verify":
            doing = f"for the final verify{f'; {doing}' if doing else ''}"
        if ship["replaced_by"]:
            doing = f"{ship['replaced_by']} sails in its place; {doing}"
        ships.add_row(f"  {ship['id']}", coloured_state(ship["state"]), doing)
    lines: list[Any] = [head, _Progress(seen), ships]
    if seen.verify:
        failed = (
            f"{stage_name(seen.verify['stage'])} failed with exit code {seen.verify['exit_code']} on the merged head"
        )
        lines.append(Text(f"  {seen.proves or failed} ({(seen.verify['commit'] or '')[:10]})"))
    if seen.spent.attempts:
        spent = seen.spent
        known = f"{format_dollars(spent.cost_nano)}{'+' if spent.unknown else ''}"
        mark = f" ({'/'.join(spent.marks)})" if spent.marks else ""
        lines.append(Text(f"  agents: {known}{mark}, {spent.tokens_in:,} tokens in, {spent.tokens_out:,} out"))
    if seen.paused_reason in {"ours", "provider"} and seen.state != "paused":
        lines.append(Text(f"  paused: {seen.paused_reason}; it goes on by itself"))
    elif seen.paused_reason and seen.state != "paused":
        lines.append(Text(f"  pausing ({seen.paused_reason}): what is under way is finished first"))
    lines += [
        Text(f"  held: task {one} waits for approval: ocaptain approve {seen.voyage} {one}") for one in seen.held_tasks
    ]
    if seen.gate and seen.gate["outcome"] not in {"expected", "interpreter"}:  # the latter is the voyage's note
        lines.append(Text(f"  {clean_line(seen.gate['text'], 0 if plain else 200)}"))
    lines += [
        Text(f"  task {one['task']} landed settings: {clean_line(one['text'], 0 if plain else 200)}")
        for one in seen.notices
    ]
    if note and seen.note:
        lines.append(Text(f"  {clean_line(seen.note)}"))
    return Group(*lines)


def task_table(views: list[TaskView], *, plain: bool = False, header: bool = True) -> Table:
    """Return the tasks as a table; ``plain``: one line a task, with its full texts."""
    width = 0 if plain else 100
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=header)
    paid = any(view.spent.attempts for view in views)
    for name in ("task", "state", "ship", "try", "commit", *(("cost",) if paid else ()), "subject"):
        table.add_column(
            name,
            no_wrap=name != "subject",
            overflow="fold",
            justify="right" if name == "cost" else "left",
        )
    for view in views:
        waits = (
            f"held by {clean_line(view.held_by)}"
            if view.held_by
            else "held: it waits for approval"
            if view.hold
            else ""
        )
        subject = Text(clean_line(view.subject, width))
        detail = waits or (clean_line(view.reason or "", width) if view.status != "completed" else "")
        if detail:
            subject.append(f"  ({detail})" if plain else f"\n{detail}", style="dim")
        tries = str(view.attempt or "")
        cost = (
            f"{format_dollars(view.spent.cost_nano)}{'+' if view.spent.unknown else ''}" if view.spent.attempts else ""
        )
        cells: list[str | Text] = [
            view.id,
            coloured_state(view.status),
            view.owner or "",
            tries,
            (view.commit or "")[:10],
        ]
        table.add_row(*cells, *((cost,) if paid else ()), subject)
    return table
