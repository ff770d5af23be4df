"""The command ``events``."""

from __future__ import annotations

from typing import Annotated

import typer

from ocaptain.cli.arguments import SINCE_HELP


def events(
    voyage: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Voyage id or any unique prefix; optional if exactly one voyage is active."),
    ] = None,
    follow: Annotated[  # noqa: FBT002 - typer's way
        bool, typer.Option("-f", "--follow", help="Print new events until the voyage ends.")
    ] = False,
    json: Annotated[  # noqa: FBT002 - likewise
        bool, typer.Option("--json", help="Print a JSON object a line (docs/json/events.json).")
    ] = False,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help=SINCE_HELP)] = None,
    after: Annotated[
        int, typer.Option("--after", metavar="N", min=0, help="Only events after event N: goes on where you stopped.")
    ] = 0,
    task: Annotated[list[str] | None, typer.Option("-t", "--task", help="Only of this task.")] = None,
    ship: Annotated[list[str] | None, typer.Option("-s", "--ship", help="Only of this ship.")] = None,
) -> None:
    """Show all that happened on a voyage, oldest first; piped: number, time, kind, ship, task, text between tabs."""
    from ocaptain.cli.event_lines import EventChoice, show_events  # noqa: PLC0415

    choice = EventChoice(after=after, since=since, tasks=tuple(task or ()), ships=tuple(ship or ()))
    show_events(voyage, choice, follow=follow, as_json=json)
