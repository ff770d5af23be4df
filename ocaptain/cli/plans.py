"""The commands that make and show plans: ``plan new``, ``plan show`` and ``plan graph``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Directory = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan's directory.")]


class Format(StrEnum):
    """How a graph is printed."""

    text = "text"
    mermaid = "mermaid"


def new(
    directory: Annotated[Path, typer.Argument(metavar="PLAN", help="Where; it must not exist, or be empty.")],
) -> None:
    """Make a small plan that can be sailed, to be changed into your own."""
    from ocaptain.cli.plan_show import make_new  # noqa: PLC0415

    make_new(directory)


def show(
    directory: Directory,
    json: Annotated[  # noqa: FBT002 - typer's way
        bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")
    ] = False,
) -> None:
    """Show what a plan is: its tasks by waves, the critical path, checks and settings."""
    from ocaptain.cli.plan_show import show_plan  # noqa: PLC0415

    show_plan(directory, as_json=json)


def graph(
    directory: Directory,
    form: Annotated[
        Format, typer.Option("--format", help="Words for a terminal, or a Mermaid flowchart.")
    ] = Format.text,
) -> None:
    """Draw a plan's tasks and what each waits for."""
    from ocaptain.cli.plan_show import draw_plan  # noqa: PLC0415

    draw_plan(directory, form.value)
