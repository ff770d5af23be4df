"""``pause``: commands to a sailing voyage."""

from __future__ import annotations

from ocaptain.cli import render
from ocaptain.cli.views import find_voyage, print_next_of
from ocaptain.control import Command, ask
from ocaptain.errors import UsageError


def run_pause(voyage: str | None, *, as_json: bool) -> None:
    """Pause a voyage; pausing it again succeeds, too.

    Raises:
        UsageError: it has ended, or its final verify is running.
    """
    directory = find_voyage(voyage)
    answer = ask(directory.path, Command(name="pause"))
    if not answer.done:
        raise UsageError(answer.said)
    if as_json:
        render.print_json("pause", {"voyage": directory.id, "said": answer.said})
    else:
        render.out().print(answer.said)
        print_next_of(directory)
