"""The command ``diff``."""

from __future__ import annotations

from typing import Annotated

import typer

from ocaptain.cli.arguments import VOYAGE_WORD_HELP, optional_name, parse_positional


def diff(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID] [SHIP]", help=f"Which ship; by default all that work. {VOYAGE_WORD_HELP}"),
    ] = None,
    stat: Annotated[  # noqa: FBT002 - typer's way
        bool, typer.Option("--stat", help="Only the names of the files, with counts of lines.")
    ] = False,
    json: Annotated[  # noqa: FBT002 - likewise
        bool, typer.Option("--json", help="Print JSON: commits, and files with counts of lines.")
    ] = False,
) -> None:
    """Show what the agents have changed so far, though nothing of it has landed: at most a minute old.

    A ship that is named and has no task shows what its last attempt left.
    """
    from ocaptain.cli.diff_show import show_diff  # noqa: PLC0415 - see the other commands

    named = parse_positional(words or [])
    show_diff(named.voyage, optional_name(named.names, "ship"), stat=stat, as_json=json)
