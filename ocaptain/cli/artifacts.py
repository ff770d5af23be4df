"""``artifacts``: what the agents left for people in ``~/voyage/artifacts``; list it, or copy it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli import render
from ocaptain.cli.style import HEAD
from ocaptain.cli.tables import lay_out
from ocaptain.cli.views import find_voyage, print_next_of
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.paths import expand_home
from ocaptain.query import Query
from ocaptain.query.artifacts import Shelf
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocaptain.query.artifacts import TaskArtifacts
    from ocaptain.voyage.home import VoyageDirectory

HEADER = ("TASK", "TRY", "SHIP", "SIZE", "FILE")
SIZE, FILE = HEADER.index("SIZE"), HEADER.index("FILE")
UNKNOWN = "-"


def show_artifacts(voyage: str | None, task: str | None, *, to: Path | None, as_json: bool) -> None:
    """List a voyage's artifacts, after they were copied if that is asked for.

    Args:
        voyage: its id or a prefix; None = the only active one.
        task: only those of this task.
        to: where to copy them.
        as_json: print JSON instead of text.

    Raises:
        UsageError: the voyage has no such task, or what is to be copied exists there.
        OcaptainError: they cannot be copied.
    """
    directory = find_voyage(voyage)
    if task is not None and task not in {one.id for one in Query(directory.path).tasks()}:
        raise UsageError(f"{directory.id} has no task {clean_line(task, 70)!r}; see: ocaptain tasks {directory.id}")
    found = Shelf(directory.path).read(None if task is None else [task])
    copied = copy_artifacts(found, to) if to else None
    if as_json:
        tasks = [one.as_dict() for one in found]
        place = str(copied) if copied else None
        render.print_json("artifacts", {"voyage": directory.id, "copied_to": place, "tasks": tasks})
        return
    console = render.out()
    if not found:
        render.err().print(f"no attempt of {_subject(directory, task)} has left anything in ~/voyage/artifacts")
    elif console.is_piped:
        render.print_records(artifact_records(found))
    else:
        render.print_lines(console, artifact_lines(found, console.width))
    for one in found:
        for line in one.record.left_out if one.record else ():
            render.err().print(f"task {one.task}: left out: {clean_line(line)}")
    if copied and found:
        render.err().print(f"copied to {', '.join(str(copied / one.task) for one in found)}")
    print_next_of(directory)


def copy_artifacts(found: Sequence[TaskArtifacts], to: Path) -> Path:
    """Copy the files of each task to a folder of its name; none of these folders exists before all of it is there.

    Args:
        found: the artifacts.
        to: the directory for the folders; made if it does not exist.

    Returns:
        The directory.

    Raises:
        UsageError: it cannot be made, or one of the folders exists.
        OcaptainError: the files cannot be copied.
    """
    target = expand_home(to).absolute()
    for one in found:
        if (target / one.task).exists() or (target / one.task).is_symlink():
            raise UsageError(f"{target / one.task} exists; choose another directory with --to")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{target} cannot be made ({error.strerror}); choose another one with --to") from error
    try:
        with tempfile.TemporaryDirectory(prefix=".ocaptain-", dir=target) as scratch:
            for one in found:
                shutil.copytree(one.folder, Path(scratch) / one.task, symlinks=True)
            for one in found:
                (Path(scratch) / one.task).rename(target / one.task)
    except (OSError, shutil.Error) as error:
        raise OcaptainError(f"the artifacts cannot be copied to {target}: {error}") from error
    return target


def artifact_records(found: Iterable[TaskArtifacts]) -> list[tuple[str, ...]]:
    """Return the files as fields: task, try, ship, bytes, path below the task's folder."""
    return [(*_about(one), str(file.size), file.path) for one in found for file in one.files]


def artifact_lines(found: Sequence[TaskArtifacts], width: int) -> list[Text]:
    """Return the files as a table, and below it where they are.

    Args:
        found: the artifacts, at least of one task.
        width: of the terminal, in cells.
    """
    rows = [(*_about(one), format_bytes(file.size), file.path) for one in found for file in one.files]
    lines = lay_out([HEADER, *rows], width, flexible=[FILE], right=[SIZE])
    lines[0].stylize(HEAD)
    total = format_bytes(sum(one.size for one in found))
    place = found[0].folder if len(found) == 1 else found[0].folder.parent
    return [*lines, Text(f"{total} in {place}")]


def _about(one: TaskArtifacts) -> tuple[str, str, str]:
    return (one.task, str(one.record.attempt), one.record.ship) if one.record else (one.task, UNKNOWN, UNKNOWN)


def _subject(directory: VoyageDirectory, task: str | None) -> str:
    return directory.id if task is None else f"task {task} of {directory.id}"


def format_bytes(size: int) -> str:
    """Return a number of bytes for people: ``512 B``, ``1.5 KiB``, ``100 MiB``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024 or unit == "MiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
