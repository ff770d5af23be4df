"""The plan of a ``sail``: a directory that the user names, or one made of the tasks that were typed."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.cli import render
from ocaptain.config import load_settings
from ocaptain.errors import UsageError
from ocaptain.git import Git, GitError
from ocaptain.paths import expand_home
from ocaptain.plan.from_tasks import Verify, guess_verify, plan_of_tasks, write_plan
from ocaptain.scratch import scratch_directory
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocaptain.options import SailOptions


@dataclass(frozen=True)
class TypedTasks:
    """What was typed instead of a plan.

    Attributes:
        texts: of the tasks.
        verify: the command that proves them, None if none was given.
    """

    texts: tuple[str, ...]
    verify: str | None


@contextlib.contextmanager
def plan_of_typed_tasks(typed: TypedTasks, options: SailOptions) -> Iterator[tuple[Path, SailOptions]]:
    """Make a plan of what was typed; yield its directory, which goes at the end, and the options to sail it with.

    The voyage keeps a copy of the plan in its own directory.

    Raises:
        UsageError: there is no repository here, no command proves the work, or a text is empty.
    """
    repository = _find_repository(options.repo)
    if typed.verify is not None:
        verify = Verify(typed.verify)
        if not typed.verify.strip():
            raise UsageError("--verify is empty: give the command that proves the work, such as --verify 'make test'")
    else:
        found = guess_verify(Path(repository))
        if found is None:
            shown = clean_line(repository, 200)
            raise UsageError(f"nothing in {shown} names a command that proves the work; give one: --verify 'make test'")
        verify = found
        setup = f"{verify.setup} && " if verify.setup else ""
        render.err().print(f"verify: {setup}{verify.command} (by {verify.source}; another one: --verify CMD)")
    with scratch_directory("tasks") as scratch:
        directory = scratch / "plan"
        write_plan(directory, plan_of_tasks(typed.texts, verify, load_settings().default_ships))
        yield directory, replace(options, repo=repository)


def _find_repository(given: str | None) -> str:
    """Return the repository that the tasks are about: the one that was named, else the one that we are in."""
    if given is not None:
        path = expand_home(given)
        is_here = os.path.exists(path)  # noqa: PTH110 - Path.exists() raises OSError for a name that is too long
        return str(path.absolute()) if "://" not in given and is_here else given
    here = Path.cwd()
    try:
        return Git(here).run("rev-parse", "--show-toplevel").stdout.decode(errors="surrogateescape").rstrip("\n")
    except GitError:
        raise UsageError(f"{here} is not in a git repository: go into one, or name one with --repo") from None
