"""Positional arguments ``[ID] [TASK|SHIP…]``: an id is recognised by its beginning ``voyage-``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.errors import UsageError
from ocaptain.names import split_sprite

if TYPE_CHECKING:
    from collections.abc import Sequence

SINCE_HELP = "Only what is of that time or later: 10m (ago), 2h, 3d, 14:05, 2026-11-29T14:00."
VOYAGE_WORD_HELP = "A first argument that begins with `voyage-` is the voyage's ID; by default the active voyage."


@dataclass(frozen=True)
class PositionalArguments:
    """The voyage, ships and tasks that a command line names.

    Attributes:
        voyage: id or a prefix of it; None = the only active voyage.
        names: names of ships or tasks.
    """

    voyage: str | None
    names: tuple[str, ...] = ()


def parse_positional(arguments: Sequence[str]) -> PositionalArguments:
    """Parse positional arguments: a first one that begins with ``voyage-`` is the ID.

    A sprite's full name (``voyage-4f59…-ship-0``) means its voyage and its ship.

    Raises:
        UsageError: an argument is empty, as of a shell variable that is not set; it must not mean "all" or "any".
    """
    if "" in arguments:
        raise UsageError("an argument is empty; leave it out, or give the id of a voyage, a ship or a task")
    first, rest = (arguments[0], tuple(arguments[1:])) if arguments else ("", ())
    if sprite := split_sprite(first):
        return PositionalArguments(sprite[0], (sprite[1], *rest))
    if first.startswith("voyage-"):
        return PositionalArguments(first, rest)
    return PositionalArguments(None, tuple(arguments))


def optional_name(names: Sequence[str], noun: str) -> str | None:
    """Return the only name, None if none was given.

    Raises:
        UsageError: several were given.
    """
    if len(names) > 1:
        raise UsageError(f"name one {noun}, not {len(names)} ({', '.join(map(repr, names))})")
    return next(iter(names), None)


def parse_port(text: str) -> int:
    """Parse a TCP port.

    Raises:
        UsageError: ``text`` is not a port.
    """
    number = int(text) if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) else 0
    if not 1 <= number <= 65535:
        raise UsageError(f"{text!r} is not a TCP port; give one from 1 to 65535 as the last argument")
    return number
