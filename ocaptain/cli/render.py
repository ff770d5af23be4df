"""Tables, status and JSON for the terminal. Text of others goes through :func:`ocaptain.text.clean_line`."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from ocaptain.cli.next_step import fold_steps
from ocaptain.cli.style import tsv_line
from ocaptain.cli.tables import UNBOUNDED
from ocaptain.errors import Interrupted, OcaptainError
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: Version of the JSON that ``--json`` prints; additions keep it (``docs/json/`` has a schema for each kind).
SCHEMA = 1

#: Narrower than that lines are not cut at all.
MIN_TABLE_WIDTH = 30


class Screen(Console):
    """A console on a stream.

    On a terminal it is as wide as that. Everywhere else a record is one line with its full text.

    Args:
        stderr: whether the stream is standard error.
        is_live: whether it is for what is drawn again and again; then a narrow terminal stays narrow.
    """

    def __init__(self, *, stderr: bool = False, is_live: bool = False) -> None:
        # Without colours there is nothing bold or dim either: no escape at all.
        colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
        super().__init__(stderr=stderr, color_system=colours, markup=False, highlight=False, soft_wrap=True)
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


def print_lines(console: Screen, lines: Iterable[Text]) -> None:
    """Print the lines of a screen, as they are."""
    for line in lines:
        console.print(line)


def print_records(records: Iterable[Sequence[object]]) -> None:
    """Print records for a pipe on standard output: a line each, fields between tabs, nothing cut.

    In a field a tab, a line end, a backslash and what a terminal could act upon are escapes.
    """
    for record in records:
        sys.stdout.write(f"{tsv_line(*record)}\n")


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
    console = err()
    print_lines(console, (Text(one, style="bold") for one in fold_steps(line, console.width)))


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


def print_no_other_json() -> None:
    """Note that a command prints JSON line by line: an error that comes later is told in words alone."""
    global _json_printed  # noqa: PLW0603 - likewise
    _json_printed = True


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
