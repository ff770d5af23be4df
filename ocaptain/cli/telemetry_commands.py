"""The commands of telemetry, their arguments and help."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ocaptain.cli.command import Commands

telemetry_app = Commands(help="What agents report by OpenTelemetry (OTLP).", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 = any; by default 4318, where exporters look."),
]


class Format(StrEnum):
    """How telemetry is exported."""

    jsonl = "jsonl"


@telemetry_app.command("start")
def telemetry_start(port: Port = None, json: Json = False) -> None:
    """Start a receiver for agents that run on this machine, in the background; voyages need none."""
    from ocaptain.cli.telemetry import start  # noqa: PLC0415

    start(port, as_json=json)


@telemetry_app.command("stop")
def telemetry_stop(json: Json = False) -> None:
    """Stop that receiver; what it has stored stays."""
    from ocaptain.cli.telemetry import stop  # noqa: PLC0415

    stop(as_json=json)


@telemetry_app.command("export")
def telemetry_export(
    voyage: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Voyage id or any unique prefix; optional if exactly one voyage is active."),
    ] = None,
    receiver: Annotated[
        bool, typer.Option("--receiver", help="What the receiver stored, instead of a voyage.")
    ] = False,
    format_: Annotated[
        Format, typer.Option("--format", help="How: jsonl = OTLP's JSON, a call a line.")
    ] = Format.jsonl,
) -> None:
    """Print all that was stored of a voyage, and the voyage's own trace, on standard output."""
    from ocaptain.cli.telemetry import export  # noqa: PLC0415

    export(voyage, of_receiver=receiver, form=format_.value)
