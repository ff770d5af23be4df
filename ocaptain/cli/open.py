"""The command ``open``."""

from __future__ import annotations

from typing import Annotated

import typer

from ocaptain.cli.arguments import VOYAGE_WORD_HELP, optional_name, parse_port, parse_positional


def open_(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[ID] SHIP PORT", help=f"A ship, and a TCP port that a program there serves. {VOYAGE_WORD_HELP}"
        ),
    ],
) -> None:
    """Serve a ship's port on this machine, until Ctrl-C, and print its address for a browser; opens nothing by itself.

    Only this machine reaches it, at a free port. What is shown there is an agent's, not ours: give it no password and
    no token. It keeps no ship awake: it ends when the ship goes to sleep.
    """
    from ocaptain.cli.preview import run_open  # noqa: PLC0415 - see the other commands

    named = parse_positional(words[:-1])
    run_open(named.voyage, optional_name(named.names, "ship"), parse_port(words[-1]))
