"""The grammar of ``exec``: all behind the ship is another command's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.cli.arguments import parse_positional
from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

FORM = "ocaptain exec [ID] SHIP -- COMMAND…"


@dataclass(frozen=True)
class ExecArguments:
    """What a command line asks for.

    Attributes:
        voyage: id or a prefix of it; None = the only active voyage.
        ship: None = the only one.
        argv: the command, word by word as it was given.
    """

    voyage: str | None
    ship: str | None
    argv: tuple[str, ...]


def parse_exec(words: Sequence[str]) -> ExecArguments:
    """Parse ``[ID] SHIP [--] COMMAND…``; without the SHIP, ``--`` is needed.

    Raises:
        UsageError: there is no command, or a word is empty that names something.
    """
    end = list(words).index("--") if "--" in words else len(words)
    named = parse_positional(words[: min(end, 1)])
    count = min(end, 1)
    if not named.names and end > 1:  # the first word is the voyage's
        named = parse_positional(words[:2])
        count = 2
    argv = tuple(words[count + 1 :] if words[count : count + 1] == ["--"] else words[count:])
    if not argv or (not named.names and end == len(words)):
        raise UsageError(f"there is no command to run; the form is: {FORM}")
    if not argv[0]:
        raise UsageError(f"the command's name is empty; the form is: {FORM}")
    return ExecArguments(named.voyage, next(iter(named.names), None), argv)
