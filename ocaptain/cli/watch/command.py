"""The command line of ``watch``."""

from __future__ import annotations

from typing import Annotated

import typer


def watch(
    voyage: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Voyage id or any unique prefix; optional if exactly one voyage is active."),
    ] = None,
) -> None:
    """Watch a voyage on the full screen: ships, tasks and logs, with keys to look closer and to act (? shows them)."""
    from ocaptain.cli.watch.run import run_watch  # noqa: PLC0415 - loads Textual

    run_watch(voyage)
