"""What keys do to a voyage, and what they ask of it. Each may block: in a thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli.cost import cost_lines, cost_notes, read_costs
from ocaptain.cli.diff_show import change_lines
from ocaptain.cli.reported import reported_lines
from ocaptain.cli.why import story_lines
from ocaptain.config import load_settings
from ocaptain.control import Command, ask
from ocaptain.errors import OcaptainError
from ocaptain.process import is_captain_running, start_captain
from ocaptain.query import Query
from ocaptain.voyage.resume import decide_start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocaptain.query import Log
    from ocaptain.voyage.home import VoyageDirectory


def tell_why(directory: VoyageDirectory, task: str) -> Callable[[int], Sequence[Text]]:
    """Return what ``ocaptain why`` shows of a task, by the width that there is."""
    story = Query(directory.path).why(task, has_captain=is_captain_running(directory.path))
    if story is None:
        return lambda _: [Text("the voyage has no such task any more")]
    return lambda width: story_lines(story, directory.id, width, time.time())


def tell_diff(directory: VoyageDirectory, ship: str) -> Callable[[int], Sequence[Text]]:
    """Return what ``ocaptain diff`` shows of a ship.

    Raises:
        OcaptainError: git failed.
    """
    changes = Query(directory.path).changes(ship)
    repository = directory.path / "repo.git"
    lines = [line for change in changes for line in change_lines(repository, change, time.time())]
    return lambda _: lines or [Text(f"{ship} has no task, and left nothing")]


def tell_costs(directory: VoyageDirectory) -> Callable[[int], Sequence[Text]]:
    """Return what ``ocaptain cost`` shows, by the width that there is."""
    _, costs = read_costs(directory, "ship")
    notes = [Text(f"  {note}") for note in cost_notes(costs)]
    reported = [Text(f"  {line}") for line in reported_lines(Query(directory.path).reported())]
    return lambda width: [*cost_lines(costs, width), Text(), *notes, *reported]


def find_logs(directory: VoyageDirectory, task: str) -> list[Log]:
    """Return the logs of a task's attempts, oldest first; none while the ledger cannot be read."""
    try:
        return [log for log in Query(directory.path).logs() if log.task == task]
    except OcaptainError:
        return []


def pause(directory: VoyageDirectory) -> str:
    """Pause the voyage; return what its captain said.

    Raises:
        OcaptainError: it cannot be paused.
    """
    return _ask(directory, Command(name="pause"))


def approve(directory: VoyageDirectory, task: str) -> str:
    """Approve a task; return what the captain said.

    Raises:
        OcaptainError: it cannot be approved.
    """
    return _ask(directory, Command(name="approve", tasks=(task,)))


def retry(directory: VoyageDirectory, tasks: Sequence[str]) -> tuple[str, bool]:
    """Try tasks again, and start the captain if that is all it needs.

    Returns:
        What the captain said, and whether ``sail --resume`` is needed, which makes missing ships again.

    Raises:
        OcaptainError: they cannot be tried again.
    """
    said = _ask(directory, Command(name="retry", tasks=tuple(tasks)))
    start = decide_start(directory, load_settings())
    if start == "captain":
        start_captain(directory.path)
    return said, start == "fleet"


def _ask(directory: VoyageDirectory, command: Command) -> str:
    answer = ask(directory.path, command)
    if not answer.done:
        raise OcaptainError(answer.said)
    return answer.said
