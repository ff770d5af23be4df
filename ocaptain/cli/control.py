"""``pause``: what is asked of a voyage while it sails."""

from __future__ import annotations

from ocaptain.cli import render
from ocaptain.cli.views import find
from ocaptain.control import Command, ask
from ocaptain.errors import UsageError


def run_pause(voyage: str | None, *, as_json: bool) -> None:
    """Pause a voyage; pausing it twice is done.

    Raises:
        UsageError: it has ended, or is about to.
    """
    directory = find(voyage)
    answer = ask(directory.path, Command(name="pause"))
    if not answer.done:
        raise UsageError(answer.said)
    if as_json:
        render.print_json("pause", {"voyage": directory.id, "said": answer.said})
    else:
        render.out().print(answer.said)
