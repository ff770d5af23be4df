"""The commands of drydock, their arguments and help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ocaptain.cli.command import Commands

drydock_app = Commands(help="The local, Sprites-compatible provider.", no_args_is_help=True)
base_app = Commands(help="The base layer: the files that all drydock ships share.", no_args_is_help=True)
drydock_app.add_typer(base_app, name="base")
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


def _duration(text: str) -> float:
    """Parse an option that is a duration (``30s``, ``250ms``, or seconds)."""
    from ocaptain.durations import parse_seconds  # noqa: PLC0415 - one command needs it

    try:
        return parse_seconds(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _size(text: str) -> int:
    """Parse an option that is a size (``512M``, ``2G``)."""
    from ocaptain.drydock.cgroups import parse_size  # noqa: PLC0415 - one command needs it

    try:
        return parse_size(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


class Network(StrEnum):
    """Network of drydock's ships."""

    proxy = "proxy"
    isolated = "isolated"
    host = "host"


NetworkOption = Annotated[
    Network,
    typer.Option(
        help="What ships can reach: the internet by drydock's proxy; only what is allowed here; "
        "or all that this machine can, its own services among it."
    ),
]
HostsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[:PORT]", help="Host that ships may reach though its address is private."),
]
PortsOption = Annotated[
    list[int] | None, typer.Option(min=1, max=65535, help="Port of this machine that is the ships' as well.")
]
LayersOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="DIR", help="Directory (usr, opt …) that is laid over the base of every ship."),
]
MemoryOption = Annotated[
    int | None,
    typer.Option(parser=_size, metavar="SIZE", help="Memory of each ship (512M, 2G); needs control groups."),
]
PidsOption = Annotated[
    int | None, typer.Option(min=16, help="Processes and threads of each ship; needs control groups.")
]


@drydock_app.command("start")
def drydock_start(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 = any.")] = 0,
    idle_exit: Annotated[
        float | None,
        typer.Option(parser=_duration, metavar="TIME", help="Exit after this long without any sprite or client."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="Maximum number of sprites running at once, like an account's limit.")
    ] = None,
    idle: Annotated[
        float, typer.Option(parser=_duration, metavar="TIME", help="Freeze an idle sprite after this long; 0 = never.")
    ] = "30s",  # type: ignore[assignment]
    cold: Annotated[
        float,
        typer.Option(
            parser=_duration,
            metavar="TIME",
            help="End the processes of a frozen sprite after this much longer; 0 = never.",
        ),
    ] = "10m",  # type: ignore[assignment]
    network: NetworkOption = Network.proxy,
    allow_host: HostsOption = None,
    allow_host_port: PortsOption = None,
    layer: LayersOption = None,
    latency: Annotated[float, typer.Option(parser=_duration, metavar="TIME", help="Delay of each API call.")] = 0.0,
    jitter: Annotated[
        float, typer.Option(parser=_duration, metavar="TIME", help="Maximum random change of that delay.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of all random faults.")] = 0,
    faults: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Fault plan (JSON): which calls fail, and how (docs/faults.md).")
    ] = None,
    ship_memory: MemoryOption = None,
    ship_pids: PidsOption = None,
    json: Json = False,
) -> None:
    """Start drydock in the background; return when it accepts calls. On a pipe it prints JSON."""
    from ocaptain.cli.drydock import build_fault_plan, start  # noqa: PLC0415
    from ocaptain.drydock.server import Options  # noqa: PLC0415

    ports = tuple(allow_host_port or ())
    plan = build_fault_plan(latency, jitter, seed, faults)
    layers = tuple(str(directory.absolute()) for directory in layer or ())
    hosts = tuple(allow_host or ())
    given = Options(
        port,
        idle_exit,
        limit,
        idle,
        cold,
        network=network.value,
        ports=ports,
        faults=plan,
        layers=layers,
        hosts=hosts,
        ship_memory=ship_memory,
        ship_pids=ship_pids,
    )
    start(given, as_json=json)


@drydock_app.command("status")
def drydock_status(json: Json = False) -> None:
    """Show whether drydock is running, and where (exit 1 if not). On a pipe it prints JSON."""
    from ocaptain.cli.drydock import status as show  # noqa: PLC0415

    raise typer.Exit(show(as_json=json))


@drydock_app.command("stop")
def drydock_stop(
    force: Annotated[bool, typer.Option("-f", "--force", help="Stop even if it has ships of a voyage.")] = False,
    json: Json = False,
) -> None:
    """Stop drydock and every sprite on it. On a pipe it prints JSON."""
    from ocaptain.cli.drydock import stop  # noqa: PLC0415

    raise typer.Exit(stop(force=force, as_json=json))


@base_app.command("build")
def drydock_base_build() -> None:
    """Build the base layer now instead of at drydock's first start."""
    from ocaptain.cli.drydock import build_base  # noqa: PLC0415

    build_base()
