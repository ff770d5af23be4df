"""The command ``exec``."""

from __future__ import annotations

from typing import Annotated

import typer

from ocaptain.cli.exec_words import parse_exec

#: Options end at the first word: all others are the command's.
SETTINGS = {"ignore_unknown_options": False, "allow_interspersed_args": False}


def exec_(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID] SHIP [--] COMMAND...",
            help="The ship and the command; each word of it arrives as it is, no shell reads it.",
        ),
    ] = None,
    tty: Annotated[  # noqa: FBT002 - typer's way
        bool,
        typer.Option("-t", "--tty", help="Run it on a terminal, also where input or output is none. Before the ship."),
    ] = False,
) -> None:
    """Run a command on a ship, in the agent's directory (~/voyage/workspace; before there is one, the home).

    Its input, output and errors are ours, byte by byte, and its exit code is ours. It runs on a terminal if standard
    input and output are terminals. Ctrl-C interrupts it there, a second one gives it up. Exit code 255: the ship
    cannot be reached, or the connection was lost.
    """
    from ocaptain.cli.remote import run_exec  # noqa: PLC0415

    raise typer.Exit(run_exec(parse_exec(words or []), tty=tty))
