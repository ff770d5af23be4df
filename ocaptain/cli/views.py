"""``status``, ``tasks`` and ``clone``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.cli import render
from ocaptain.cli.next_step import Standing, after_command, after_voyage, standing_of
from ocaptain.errors import UsageError
from ocaptain.git import Git
from ocaptain.paths import expand_home
from ocaptain.process import is_captain_running
from ocaptain.query import Query
from ocaptain.sources import voyages_directory
from ocaptain.voyage.home import Home, VoyageDirectory

if TYPE_CHECKING:
    from pathlib import Path


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


def show_status(voyage: str | None, *, as_json: bool) -> None:
    """Show the status of a voyage."""
    directory = find_voyage(voyage)
    seen = Query(directory.path).overview()
    has_captain = is_captain_running(directory.path)
    if as_json:
        render.print_json("status", {**seen.as_dict(), "captain": has_captain, "directory": str(directory.path)})
        return
    console = render.out()
    console.show(render.render_status(seen, plain=console.is_plain))
    if not has_captain and seen.state in {"running", "verifying"}:
        console.print(f"  no captain is running; resume with: ocaptain sail --resume {seen.voyage}")
    console.print(f"  {directory.path}")
    print_next_of(directory)


def show_tasks(voyage: str | None, status: str | None, *, as_json: bool) -> None:
    """List tasks."""
    directory = find_voyage(voyage)
    views = Query(directory.path).tasks(status)
    if as_json:
        render.print_json("tasks", {"voyage": directory.id, "tasks": [view.as_dict() for view in views]})
    else:
        console = render.out()
        console.show(render.task_table(views, plain=console.is_plain, header=not console.is_piped))
        print_next_of(directory)


def clone_voyage(voyage: str | None, dest: Path | None) -> None:
    """Clone the voyage branch."""
    directory = find_voyage(voyage)
    target = expand_home(dest or directory.id).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not an empty directory; choose another one with --dest")
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is not a directory")
    repo = directory.path / "repo.git"
    Git(target.parent).run("clone", "--quiet", "--template=", "--branch", directory.id, "--", str(repo), str(target))
    render.out().print(str(target))
    render.print_next(after_command("clone", place=target))
