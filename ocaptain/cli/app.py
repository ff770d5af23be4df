"""The commands, their arguments and help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ocaptain import __version__
from ocaptain.cli.options import with_sail_options
from ocaptain.cli.words import one_of, port, split
from ocaptain.durations import parse_seconds
from ocaptain.options import SailOptions  # noqa: TC001 - typer reads annotations

app = typer.Typer(
    name="ocaptain",
    help="Sail fleets of autonomous coding agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
#: What wrong options and arguments raise; versions of typer keep it in different places.
wrong_input: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
plan_app = typer.Typer(help="Look at plans.", no_args_is_help=True)
drydock_app = typer.Typer(help="The local, Sprites-compatible provider.", no_args_is_help=True)
app.add_typer(plan_app, name="plan")
app.add_typer(drydock_app, name="drydock")
base_app = typer.Typer(help="What drydock's ships stand on.", no_args_is_help=True)
drydock_app.add_typer(base_app, name="base")


class Provider(StrEnum):
    """Where ships come from."""

    sprites = "sprites"
    drydock = "drydock"


class Status(StrEnum):
    """State of a task."""

    pending = "pending"
    in_progress = "in_progress"
    completed = "completed"
    failed = "failed"


VoyageId = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="Voyage id or any unique prefix; optional if exactly one voyage is active."),
]
NAMES = "A first word that begins with `voyage-` is the voyage's ID; by default the one that is active."
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"ocaptain {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Sail fleets of autonomous coding agents."""
    del version


@app.command()
@with_sail_options
def sail(
    options: SailOptions,
    plan: Annotated[Path | None, typer.Argument(help="The plan's directory.")] = None,
    hosts: Annotated[
        str | None,
        typer.Option("-i", "--hosts", metavar="INVENTORY[:GROUP]", help="Hosts of an inventory as ships, over ssh."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the voyage's end.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Sail anew, even if this plan sails already.")] = False,
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Go on with a voyage.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep ships that could not be built, to look at them.")] = False,
    json: Json = False,
) -> None:
    """Create a fleet, build it, and set it to work on a plan."""
    from ocaptain.cli.sail import Asked, run_sail  # noqa: PLC0415

    asked = Asked(plan=plan, hosts=hosts, wait=wait, new=new, resume=resume, keep=keep)
    raise typer.Exit(run_sail(options, asked, as_json=json))


@app.command()
def status(voyage: VoyageId = None, json: Json = False) -> None:
    """Show how a voyage stands."""
    from ocaptain.cli.views import show_status  # noqa: PLC0415

    show_status(voyage, as_json=json)


@app.command()
def tasks(
    voyage: VoyageId = None,
    status: Annotated[Status | None, typer.Option("-s", "--status", help="Only tasks in this state.")] = None,
    json: Json = False,
) -> None:
    """List a voyage's tasks."""
    from ocaptain.cli.views import show_tasks  # noqa: PLC0415

    show_tasks(voyage, status.value if status else None, as_json=json)


class CostBy(StrEnum):
    """How costs are split."""

    ship = "ship"
    task = "task"
    model = "model"


@app.command()
def cost(
    voyage: VoyageId = None,
    by: Annotated[CostBy, typer.Option("--by", help="How it is split.")] = CostBy.ship,
    json: Json = False,
) -> None:
    """Show what a voyage's agents and machines cost so far."""
    from ocaptain.cli.cost import show_cost  # noqa: PLC0415

    show_cost(voyage, by=by.value, as_json=json)


@app.command()
def logs(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[ID] [SHIP|TASK]...", help=f"Only these ships and tasks. {NAMES}")
    ] = None,
    ship: Annotated[list[str] | None, typer.Option("-s", "--ship", help="Only this ship.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the voyage ends.")] = False,
    grep: Annotated[
        str | None, typer.Option("-g", "--grep", help="Only lines that match (regular expression).")
    ] = None,
    tail: Annotated[int | None, typer.Option("-n", "--tail", min=0, help="Only the last N lines.")] = None,
) -> None:
    """Show what the agents said."""
    from ocaptain.cli.logs import show_logs  # noqa: PLC0415

    meant = split(words or [])
    show_logs(meant.voyage, names=(*meant.names, *(ship or ())), follow=follow, grep=grep, tail=tail)


@app.command()
def clone(
    voyage: VoyageId = None,
    dest: Annotated[Path | None, typer.Option("-d", "--dest", help="Where to; by default ./ID.")] = None,
) -> None:
    """Clone what landed."""
    from ocaptain.cli.views import clone_voyage  # noqa: PLC0415

    clone_voyage(voyage, dest)


@app.command()
def pause(voyage: VoyageId = None, json: Json = False) -> None:
    """Hand out nothing more: what is under way is finished, checked and lands; then the ships sleep."""
    from ocaptain.cli.control import run_pause  # noqa: PLC0415

    run_pause(voyage, as_json=json)


@app.command()
def sink(
    voyage: VoyageId = None,
    all_: Annotated[bool, typer.Option("--all", help="Every active voyage, and what is left over.")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask.")] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Destroy ships even if their work cannot be fetched (it is lost).")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch every ship's work, then destroy the fleet."""
    from ocaptain.cli.sink import run_sink  # noqa: PLC0415

    raise typer.Exit(run_sink(voyage, every=all_, force=force, abandon=abandon, as_json=json))


@app.command()
def shell(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[ID] [SHIP]", help=f"Which ship; by default the only one. {NAMES}")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="A login shell, not the agents' tmux.")] = False,
) -> None:
    """Attach to a ship's tmux, where its agent runs (Ctrl-b d leaves it)."""
    from ocaptain.cli.shell import run_shell  # noqa: PLC0415

    meant = split(words or [])
    raise typer.Exit(run_shell(meant.voyage, one_of(meant.names, "ship"), raw=raw))


@app.command()
def proxy(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[ID] SHIP PORT", help=f"A ship (ship-0) or a sprite's name, and a TCP port. {NAMES}"),
    ],
    provider: Annotated[
        Provider | None, typer.Option(help="Where the ship is; by default where its voyage sails.")
    ] = None,
) -> None:
    """Join standard input and output to a port of a ship (ssh -o ProxyCommand='ocaptain proxy %h %p')."""
    from ocaptain.cli.proxy import run_proxy  # noqa: PLC0415

    meant = split(words[:-1])
    run_proxy(meant.voyage, one_of(meant.names, "ship"), port(words[-1]), provider=provider.value if provider else None)


@app.command()
def doctor(
    provider: Annotated[Provider | None, typer.Option(help="Where ships would come from.")] = None,
    json: Json = False,
) -> None:
    """Say whether a voyage could sail from here, and what to do if not (exit 1)."""
    from ocaptain.cli.doctor import run_doctor  # noqa: PLC0415

    raise typer.Exit(run_doctor(provider.value if provider else None, as_json=json))


@app.command()
def sweep(
    provider: Annotated[Provider | None, typer.Option(help="Where to look; by default as configured.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what is left over.")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Also ships that a captain elsewhere commands.")] = False,
    json: Json = False,
) -> None:
    """Find ships that no voyage here answers for, and destroy them."""
    from ocaptain.cli.sweep import run_sweep  # noqa: PLC0415

    name = provider.value if provider else None
    raise typer.Exit(run_sweep(provider=name, dry_run=dry_run, force=force, abandon=abandon, as_json=json))


@plan_app.command("check")
def plan_check(
    directory: Annotated[Path, typer.Argument(help="The plan's directory.")],
    json: Json = False,
) -> None:
    """Check a plan: exit 0 if it can be sailed, 2 with every fault if not."""
    from ocaptain.cli.plan import check  # noqa: PLC0415

    raise typer.Exit(check(directory, as_json=json))


@plan_app.command("simulate")
def plan_simulate(
    directory: Annotated[Path, typer.Argument(help="The plan's directory.")],
    ships: Annotated[str, typer.Option("-n", "--ships", help="Fleets to play: 8 (one to eight), or 4..12.")] = "8",
    overhead: Annotated[
        float, typer.Option("--overhead", min=0, max=86400, help="Seconds that are added to each attempt.")
    ] = 0.0,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.001, max=604800, help="What a task without an estimate takes."),
    ] = None,
    json: Json = False,
) -> None:
    """Say how long fleets of several sizes would sail, by the plan's estimates and the captain's own policy."""
    from ocaptain.cli.plan import show_simulation  # noqa: PLC0415

    raise typer.Exit(show_simulation(directory, ships, overhead, seconds, as_json=json))


def _duration(text: str) -> float:
    """Parse an option that is a duration (``30s``, ``250ms``, or seconds)."""
    try:
        return parse_seconds(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


class Network(StrEnum):
    """What network drydock's ships have."""

    host = "host"
    isolated = "isolated"


@drydock_app.command("start")
def drydock_start(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 = any.")] = 0,
    idle_exit: Annotated[
        float | None, typer.Option(parser=_duration, help="End after so long without a sprite and a client.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="Most sprites that run at once, as an account has one.")
    ] = None,
    idle: Annotated[
        float, typer.Option(parser=_duration, help="When a sprite that does nothing is frozen; 0 = never.")
    ] = "30s",  # type: ignore[assignment]
    cold: Annotated[float, typer.Option(parser=_duration, help="How much later its processes end; 0 = never.")] = "10m",  # type: ignore[assignment]
    network: Annotated[Network, typer.Option(help="This machine's network for all, or one for each.")] = Network.host,
    allow_host_port: Annotated[
        list[int] | None, typer.Option(min=1, max=65535, help="Port of this machine that isolated ships reach.")
    ] = None,
    layer: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Directory (usr, opt …) that every ship has over its base, installed once."),
    ] = None,
    latency: Annotated[float, typer.Option(parser=_duration, help="Time that each call is late.")] = 0.0,
    jitter: Annotated[float, typer.Option(parser=_duration, help="Time that lateness varies by, at most.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of everything random about faults.")] = 0,
    faults: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is to go wrong: a fault plan as JSON (docs/faults.md).")
    ] = None,
) -> None:
    """Start it in the background; return once it serves."""
    from ocaptain.cli.drydock import fault_plan, start  # noqa: PLC0415
    from ocaptain.drydock.server import Options  # noqa: PLC0415

    ports = tuple(allow_host_port or ())
    plan = fault_plan(latency, jitter, seed, faults)
    layers = tuple(str(one.absolute()) for one in layer or ())
    start(Options(port, idle_exit, limit, idle, cold, network.value, ports, plan, layers))


@drydock_app.command("status")
def drydock_status() -> None:
    """Say whether it serves, and where (exit 1 if not)."""
    from ocaptain.cli.drydock import status as show  # noqa: PLC0415

    raise typer.Exit(show())


@drydock_app.command("stop")
def drydock_stop(
    force: Annotated[bool, typer.Option("-f", "--force", help="Even if a voyage's ships are on it.")] = False,
    json: Json = False,
) -> None:
    """Stop it, and with it every sprite on it."""
    from ocaptain.cli.drydock import stop  # noqa: PLC0415

    raise typer.Exit(stop(force=force, as_json=json))


@base_app.command("build")
def drydock_base_build() -> None:
    """Make the ships' base layer now, rather than at drydock's first start."""
    from ocaptain.cli.drydock import build_base  # noqa: PLC0415

    build_base()
