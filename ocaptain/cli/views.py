"""``status``, ``tasks`` and ``clone``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ocaptain.cli import render
from ocaptain.cli.next_step import Standing, after_command, after_voyage, standing_of
from ocaptain.cli.status_view import Beside, status_lines, status_records
from ocaptain.cli.tables import UNBOUNDED, unique_prefix
from ocaptain.cli.task_table import task_lines, task_records
from ocaptain.errors import UsageError
from ocaptain.paths import expand_home
from ocaptain.process import is_captain_running
from ocaptain.query import Query
from ocaptain.sources import read_variables, voyages_directory
from ocaptain.voyage.home import Home, VoyageDirectory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocaptain.query import Snapshot

#: Machines of these cost nothing, unless the user's prices say so; ``ocaptain.config.HOSTS`` is one.
_FREE = frozenset({"drydock", "hosts"})
_PRICES = "OCAPTAIN_PRICES"
#: As ``ocaptain.prices.DEFAULT_FILE``.
_PRICES_FILE = "~/.config/ocaptain/prices.toml"


def find_voyage(voyage: str | None) -> VoyageDirectory:
    """Return the directory of the voyage with this id or prefix, of the only active one for None."""
    return Home(voyages_directory()).find(voyage)


def standing(directory: VoyageDirectory) -> Standing:
    """Return what the next step of a voyage depends on."""
    query = Query(directory.path)
    return standing_of(query.overview(), tuple(query.failed_tasks()), has_captain=is_captain_running(directory.path))


def print_next_of(directory: VoyageDirectory) -> None:
    """Print what to type next about a voyage."""
    render.print_next(after_voyage(standing(directory)))


def show_status(voyage: str | None, *, as_json: bool, show_all: bool = False) -> None:
    """Show the status of a voyage.

    Args:
        voyage: its id or a prefix; None = the only active one.
        as_json: print JSON instead of text.
        show_all: on a terminal, leave nothing out.
    """
    directory = find_voyage(voyage)
    if as_json:
        query = Query(directory.path)
        about, reported = query.overview(), query.reported()
        content = {
            **about.as_dict(),
            "telemetry": reported and reported.as_dict(),
            "captain": is_captain_running(directory.path),
            "directory": str(directory.path),
        }
        render.print_json("status", content)
        return
    print_status(directory, show_all=show_all)


def print_status(directory: VoyageDirectory, *, show_all: bool = False, with_next: bool = True) -> None:
    """Print the status of a voyage: for people, or on a pipe as records.

    Args:
        directory: the voyage's.
        show_all: on a terminal, leave nothing out.
        with_next: whether to say what to type next.
    """
    has_captain = is_captain_running(directory.path)
    now = time.time()
    seen = Query(directory.path).snapshot(now)
    beside = read_beside(directory, seen, has_captain=has_captain)
    console = render.out()
    if console.is_piped:
        render.print_records(status_records(seen, beside, now))
    else:
        height = UNBOUNDED if console.is_plain else console.height
        render.print_lines(console, status_lines(seen, beside, now, console.width, height, show_all=show_all))
    if not with_next:
        return
    failed = tuple(one.id for one in seen.failed)
    render.print_next(after_voyage(standing_of(seen.about, failed, has_captain=has_captain)))


def read_beside(directory: VoyageDirectory, seen: Snapshot, *, has_captain: bool) -> Beside:
    """Return what a screen shows beside a snapshot."""
    cost = machine_cost(seen.about.provider)
    return Beside(
        has_captain=has_captain,
        directory=str(directory.path),
        home=os.environ.get("HOME", "").rstrip("/"),
        named=shortest_name(directory),
        machine_nano=cost(seen.about.awake_seconds),
        hour_nano=cost(3600),
        reported=Query(directory.path).reported(),
    )


def machine_cost(provider: str) -> Callable[[float], int]:
    """Return what tells the cost of a machine's seconds awake, in nano-dollars; prices are read only if needed.

    Raises:
        UsageError: the user's prices cannot be read.
    """
    if provider in _FREE and not read_variables([_PRICES]) and not expand_home(_PRICES_FILE).exists():
        return lambda _: 0
    from ocaptain.config import load_settings  # noqa: PLC0415 - these two take longer than all else
    from ocaptain.prices import load_prices  # noqa: PLC0415

    price = load_prices(load_settings().prices).machines.get(provider)
    return price.cost if price else lambda _: 0


def shortest_name(directory: VoyageDirectory) -> str:
    """Return how commands name this voyage, with a space; "" if there is no other."""
    names = [one.name for one in Home(directory.path.parent).directories()]
    return f"{unique_prefix(directory.id, names)} " if len(names) > 1 else ""


def show_tasks(voyage: str | None, status: str | None, *, as_json: bool, show_all: bool = False) -> None:
    """List tasks.

    Args:
        voyage: its id or a prefix; None = the only active one.
        status: only tasks in this state.
        as_json: print JSON instead of text.
        show_all: on a terminal, show also those that landed, and each one that waits.
    """
    directory = find_voyage(voyage)
    if as_json:
        views = Query(directory.path).tasks(status)
        render.print_json("tasks", {"voyage": directory.id, "tasks": [view.as_dict() for view in views]})
        return
    now = time.time()
    seen = Query(directory.path).snapshot(now)
    console = render.out()
    if console.is_piped:
        render.print_records(task_records(seen, now, status))
    else:
        render.print_lines(console, task_lines(seen, now, console.width, show_all=show_all, status=status))
    print_next_of(directory)


def clone_voyage(voyage: str | None, dest: Path | None) -> None:
    """Clone the voyage branch."""
    directory = find_voyage(voyage)
    from ocaptain.git import Git  # noqa: PLC0415 - no other command of this module needs it

    target = expand_home(dest or directory.id).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not an empty directory; choose another one with --dest")
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is not a directory; choose another place with --dest")
    repo = directory.path / "repo.git"
    Git(target.parent).run("clone", "--quiet", "--template=", "--branch", directory.id, "--", str(repo), str(target))
    render.out().print(str(target))
    render.print_next(after_command("clone", place=target))
