"""The command ``logs``."""

from __future__ import annotations

from typing import Annotated

import typer

from ocaptain.cli.arguments import SINCE_HELP, VOYAGE_WORD_HELP, parse_positional


def logs(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID] [SHIP|TASK]...", help=f"Only these ships and tasks. {VOYAGE_WORD_HELP}"),
    ] = None,
    ship: Annotated[list[str] | None, typer.Option("-s", "--ship", help="Only of this ship.")] = None,
    task: Annotated[list[str] | None, typer.Option("-t", "--task", help="Only of this task.")] = None,
    follow: Annotated[  # noqa: FBT002 - typer's way
        bool, typer.Option("-f", "--follow", help="Print new lines until the voyage ends.")
    ] = False,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help=SINCE_HELP)] = None,
    grep: Annotated[
        str | None, typer.Option("-g", "--grep", help="Only lines with this in their text (regular expression).")
    ] = None,
    tail: Annotated[int | None, typer.Option("-n", "--tail", min=0, max=10**9, help="Only the last N lines.")] = None,
) -> None:
    r"""Show what the agents print, in the order of time, and between it what became of their tasks.

    Piped, a line is four fields between tabs: time (UTC), ship, task#attempt, text (escapes: \t \n \\). Where the
    third field is a task alone, the text says what happened to that task.
    """
    from ocaptain.cli.log_lines import LogChoice, show_logs  # noqa: PLC0415

    named = parse_positional(words or [])
    choice = LogChoice(named.names, tuple(ship or ()), tuple(task or ()), since=since, grep=grep, tail=tail)
    show_logs(named.voyage, choice, follow=follow)
