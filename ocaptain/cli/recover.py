"""The commands that help when a task does not land: ``why``, ``retry`` and ``approve``; and ``land``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import Annotated

import typer

from ocaptain.cli.arguments import VOYAGE_WORD_HELP, parse_positional
from ocaptain.errors import UsageError

_Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


def why(
    words: Annotated[list[str], typer.Argument(metavar="[ID] TASK", help=f"The task's id. {VOYAGE_WORD_HELP}")],
    json: _Json = False,  # noqa: FBT002 - typer's way
) -> None:
    """Show why a task is where it is: every attempt, its reason and what is kept of it, or what the task waits for."""
    from ocaptain.cli.why import show_why  # noqa: PLC0415

    named = parse_positional(words)
    if len(named.names) != 1:
        raise UsageError("name one task: ocaptain why [ID] TASK")
    show_why(named.voyage, named.names[0], as_json=json)


def retry(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID] [TASK]...", help=f"By default all tasks that failed for good. {VOYAGE_WORD_HELP}"),
    ] = None,
    any_ship: Annotated[  # noqa: FBT002 - likewise
        bool, typer.Option("--any", help="Let any ship have them, also those that are pinned to one.")
    ] = False,
    agent_cmd: Annotated[
        str | None, typer.Option("--agent-cmd", metavar="CMD", help="Run them by this shell line from now on.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model of their agents from now on.")] = None,
    task_file: Annotated[
        Path | None,
        typer.Option("--task-file", metavar="FILE", help="Replace one task by this corrected tasks/N.json."),
    ] = None,
    json: _Json = False,  # noqa: FBT002 - likewise
) -> None:
    """Try failed tasks again, with fresh tries, in the same voyage; what landed stays."""
    from ocaptain.cli.control import RetryArguments, run_retry  # noqa: PLC0415

    named = parse_positional(words or [])
    arguments = RetryArguments(named.names, any_ship, agent_cmd, model, task_file)
    raise typer.Exit(run_retry(named.voyage, arguments, as_json=json))


def approve(
    words: Annotated[
        list[str], typer.Argument(metavar="[ID] TASK...", help=f"Tasks with metadata.hold. {VOYAGE_WORD_HELP}")
    ],
    json: _Json = False,  # noqa: FBT002 - likewise
) -> None:
    """Approve tasks that the plan holds (`metadata.hold`), so that ships may have them."""
    from ocaptain.cli.control import run_approve  # noqa: PLC0415

    named = parse_positional(words)
    if not named.names:
        raise UsageError("name the tasks to approve: ocaptain approve [ID] TASK…")
    run_approve(named.voyage, named.names, as_json=json)


def land(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID] [PATH]...",
            help=f"With -m: only these files; by default what is staged, else all tracked ones. {VOYAGE_WORD_HELP}",
        ),
    ] = None,
    message: Annotated[
        str | None, typer.Option("-m", "--message", metavar="TEXT", help="Commit first, with this message.")
    ] = None,
    json: _Json = False,  # noqa: FBT002 - likewise
) -> None:
    """Land your own commits in `workspace/`: all of them, or none; what is not committed stays where it is."""
    from ocaptain.cli.land import run_land  # noqa: PLC0415

    named = parse_positional(words or [])
    raise typer.Exit(run_land(named.voyage, named.names, message, as_json=json))
