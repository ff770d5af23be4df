"""The commands, their arguments and help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ocaptain.cli import plans
from ocaptain.cli.about import HELP_FLAGS, help_, root, version
from ocaptain.cli.arguments import VOYAGE_WORD_HELP, optional_name, parse_port, parse_positional
from ocaptain.cli.command import CommandOfWords, Commands
from ocaptain.cli.diff import diff
from ocaptain.cli.drydock_commands import drydock_app
from ocaptain.cli.events import events
from ocaptain.cli.exec import SETTINGS, exec_
from ocaptain.cli.logs import logs
from ocaptain.cli.open import open_
from ocaptain.cli.options import with_sail_options
from ocaptain.cli.recover import approve, land, retry, why
from ocaptain.cli.telemetry_commands import telemetry_app, telemetry_start, telemetry_stop
from ocaptain.cli.watch.command import watch
from ocaptain.options import FLEET, VOYAGE, SailOptions

app = Commands(
    name="ocaptain",
    help="Sail fleets of autonomous coding agents.",
    no_args_is_help=True,
    context_settings={"help_option_names": list(HELP_FLAGS)},
)
#: The base class of errors in options and arguments; versions of typer define it in different modules.
click_exception: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
plan_app = Commands(help="Make, show, check and simulate plans.", no_args_is_help=True)
app.add_typer(plan_app, name="plan")
app.add_typer(drydock_app, name="drydock")
app.add_typer(telemetry_app, name="telemetry")


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
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


app.callback()(root)
app.command("help")(help_)
app.command("version")(version)


Wait = Annotated[bool, typer.Option("--wait", help="Wait until the voyage has ended.", rich_help_panel=VOYAGE)]
New = Annotated[
    bool,
    typer.Option("--new", help="Start a new voyage even if this plan has an active one.", rich_help_panel=VOYAGE),
]
Hosts = Annotated[
    str | None,
    typer.Option(
        *("-i", "--hosts"),
        metavar="INVENTORY[:GROUP]",
        help="Hosts of an inventory as ships, over ssh.",
        rich_help_panel=FLEET,
    ),
]
Typed = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="TEXT",
        help="Instead of a plan: a task for the repository that you are in.",
        rich_help_panel=VOYAGE,
    ),
]
Verify = Annotated[
    str | None,
    typer.Option(
        "--verify",
        metavar="CMD",
        help="What proves these tasks; by default the repository's own tests.",
        rich_help_panel=VOYAGE,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only show what would be made, and how long it would take.", rich_help_panel=VOYAGE),
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Keep ships that could not be built, for inspection.", rich_help_panel=FLEET)
]


@app.command()
@with_sail_options
def sail(
    options: SailOptions,
    plan: Annotated[Path | None, typer.Argument(metavar="PLAN", help="The plan's directory.")] = None,
    wait: Wait = False,
    new: New = False,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Resume this voyage.", rich_help_panel=VOYAGE)
    ] = None,
    hosts: Hosts = None,
    task: Typed = None,
    verify: Verify = None,
    dry_run: DryRun = False,
    keep: Keep = False,
    json: Json = False,
) -> None:
    """Create a fleet, build its ships and start work on a plan."""
    from ocaptain.cli.sail import SailArguments, run_sail  # noqa: PLC0415

    arguments = SailArguments(
        plan=plan,
        hosts=hosts,
        wait=wait,
        new=new,
        resume=resume,
        keep=keep,
        tasks=tuple(task or ()),
        verify=verify,
        dry_run=dry_run,
    )
    raise typer.Exit(run_sail(options, arguments, as_json=json))


@app.command("list", hidden=True)
@app.command()
def ls(json: Json = False) -> None:
    """List all voyages, newest first."""
    from ocaptain.cli.ls import show_voyages  # noqa: PLC0415

    show_voyages(as_json=json)


@app.command()
def status(
    voyage: VoyageId = None,
    all_: Annotated[bool, typer.Option("-a", "--all", help="Show every ship, however many there are.")] = False,
    json: Json = False,
) -> None:
    """Show the status of a voyage; on a pipe a fact a line, its key first."""
    from ocaptain.cli.views import show_status  # noqa: PLC0415

    show_status(voyage, as_json=json, show_all=all_)


@app.command()
def tasks(
    voyage: VoyageId = None,
    status: Annotated[Status | None, typer.Option("-s", "--status", help="Only tasks in this state.")] = None,
    all_: Annotated[bool, typer.Option("-a", "--all", help="Show also what landed, and each that waits.")] = False,
    json: Json = False,
) -> None:
    """List a voyage's tasks, worst first; on a pipe ID STATE SHIP TRY TIME AFTER COMMIT SUBJECT REASON."""
    from ocaptain.cli.views import show_tasks  # noqa: PLC0415

    show_tasks(voyage, status.value if status else None, as_json=json, show_all=all_)


class CostBy(StrEnum):
    """What one line of the costs is about."""

    ship = "ship"
    task = "task"
    model = "model"


@app.command()
def cost(
    voyage: VoyageId = None,
    by: Annotated[CostBy, typer.Option("--by", help="Show one line for each of these.")] = CostBy.ship,
    json: Json = False,
) -> None:
    """Show what a voyage's agents and machines cost so far."""
    from ocaptain.cli.cost import show_cost  # noqa: PLC0415

    show_cost(voyage, by=by.value, as_json=json)


app.command(cls=CommandOfWords)(logs)
app.command(cls=CommandOfWords)(diff)


@app.command()
def clone(
    voyage: VoyageId = None,
    dest: Annotated[Path | None, typer.Option("-d", "--dest", help="Target directory; by default ./ID.")] = None,
) -> None:
    """Clone the voyage's branch: all work that has landed."""
    from ocaptain.cli.views import clone_voyage  # noqa: PLC0415

    clone_voyage(voyage, dest)


@app.command(cls=CommandOfWords)
def artifacts(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID] [TASK]", help=f"Only those of this task. {VOYAGE_WORD_HELP}"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Copy them to DIR/TASK/…, which must not exist yet.")
    ] = None,
    json: Json = False,
) -> None:
    """List the files that agents left in ~/voyage/artifacts, or copy them; on a pipe TASK TRY SHIP BYTES FILE."""
    from ocaptain.cli.artifacts import show_artifacts  # noqa: PLC0415

    named = parse_positional(words or [])
    show_artifacts(named.voyage, optional_name(named.names, "task"), to=to, as_json=json)


@app.command()
def pause(voyage: VoyageId = None, json: Json = False) -> None:
    """Pause a voyage: start no new task; finish, check and land the running ones, then let the ships sleep."""
    from ocaptain.cli.control import run_pause  # noqa: PLC0415

    run_pause(voyage, as_json=json)


app.command()(events)
for recover in (why, retry, approve, land):
    app.command()(recover)
app.command()(watch)


@app.command()
def sink(
    voyage: VoyageId = None,
    all_: Annotated[bool, typer.Option("--all", help="All active voyages, and leftover ships.")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask for confirmation.")] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Destroy ships even if their work cannot be fetched (it is lost).")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch the work of every ship, then destroy the fleet."""
    from ocaptain.cli.sink import run_sink  # noqa: PLC0415

    raise typer.Exit(run_sink(voyage, all_active=all_, confirmed=force, abandon=abandon, as_json=json))


@app.command(cls=CommandOfWords)
def shell(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID] [SHIP]", help=f"Which ship; by default the only one. {VOYAGE_WORD_HELP}"),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Open a login shell instead of the agents' tmux.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Let what you type reach the agent.")] = False,
) -> None:
    """Look at a ship's agent in its tmux, at the window that is at work (Ctrl-b d leaves it)."""
    from ocaptain.cli.shell import run_shell  # noqa: PLC0415

    named = parse_positional(words or [])
    raise typer.Exit(run_shell(named.voyage, optional_name(named.names, "ship"), raw=raw, write=write))


app.command("telemetry-start", hidden=True)(telemetry_start)  # as they were called in ocaptain 0.0.x
app.command("telemetry-stop", hidden=True)(telemetry_stop)
app.command("exec", cls=CommandOfWords, context_settings=SETTINGS)(exec_)
app.command("open", cls=CommandOfWords)(open_)


@app.command(cls=CommandOfWords)
def proxy(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[ID] SHIP PORT", help=f"A ship (ship-0) or a sprite's name, and a TCP port. {VOYAGE_WORD_HELP}"
        ),
    ],
    provider: Annotated[
        Provider | None, typer.Option(help="Where the ship is; by default where its voyage sails.")
    ] = None,
) -> None:
    """Join standard input and output to a port of a ship (ssh -o ProxyCommand='ocaptain proxy %h %p')."""
    from ocaptain.cli.proxy import run_proxy  # noqa: PLC0415

    named = parse_positional(words[:-1])
    run_proxy(
        named.voyage,
        optional_name(named.names, "ship"),
        parse_port(words[-1]),
        provider=provider.value if provider else None,
    )


@app.command()
def doctor(
    provider: Annotated[Provider | None, typer.Option(help="Where ships would come from.")] = None,
    json: Json = False,
) -> None:
    """Check whether a voyage could sail from this machine; print what to fix if not (exit 1)."""
    from ocaptain.cli.doctor import run_doctor  # noqa: PLC0415

    raise typer.Exit(run_doctor(provider.value if provider else None, as_json=json))


@app.command()
def sweep(
    provider: Annotated[Provider | None, typer.Option(help="Where to look; by default as configured.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list leftover ships; destroy nothing.")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask for confirmation.")] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Destroy also ships that a captain elsewhere commands.")
    ] = False,
    json: Json = False,
) -> None:
    """Find and destroy leftover ships: those that belong to no active voyage of this machine."""
    from ocaptain.cli.sweep import run_sweep  # noqa: PLC0415

    name = provider.value if provider else None
    raise typer.Exit(run_sweep(provider=name, dry_run=dry_run, force=force, abandon=abandon, as_json=json))


for one in (plans.new, plans.show, plans.graph):
    plan_app.command()(one)


@plan_app.command("check")
def plan_check(
    directory: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan's directory.")],
    json: Json = False,
) -> None:
    """Check a plan: exit 0 if it is valid, else list every error and exit 2."""
    from ocaptain.cli.plan import check_plan  # noqa: PLC0415

    raise typer.Exit(check_plan(directory, as_json=json))


@plan_app.command("simulate")
def plan_simulate(
    directory: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan's directory.")],
    ships: Annotated[str, typer.Option("-n", "--ships", help="Fleet sizes to simulate: 8 (1 to 8), or 4..12.")] = "8",
    overhead: Annotated[
        float, typer.Option("--overhead", min=0, max=86400, help="Seconds added to each attempt.")
    ] = 0.0,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.001, max=604800, help="Seconds that a task without an estimate takes."),
    ] = None,
    json: Json = False,
) -> None:
    """Predict how long fleets of several sizes need, by the plan's estimates and the captain's scheduling rules."""
    from ocaptain.cli.plan import show_simulation  # noqa: PLC0415

    raise typer.Exit(show_simulation(directory, ships, overhead, seconds, as_json=json))
