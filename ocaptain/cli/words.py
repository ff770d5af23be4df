"""The words after a verb: ``[ID] [TASK|SHIP…]``, told apart by how they begin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.errors import UsageError
from ocaptain.names import split_sprite

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Words:
    """What a command is about.

    Attributes:
        voyage: its id or the beginning of it, None = the one that sails.
        names: of ships or tasks.
    """

    voyage: str | None
    names: tuple[str, ...] = ()


def split(words: Sequence[str]) -> Words:
    """Return what words mean: a first one that begins with ``voyage-`` is the ID.

    A sprite's whole name (``voyage-4f59…-ship-0``) means its voyage and its ship.
    """
    first, rest = (words[0], tuple(words[1:])) if words else ("", ())
    if sprite := split_sprite(first):
        return Words(sprite[0], (sprite[1], *rest))
    if first.startswith("voyage-"):
        return Words(first, rest)
    return Words(None, tuple(words))


def one_of(names: Sequence[str], noun: str) -> str | None:
    """Return the one name, None if there is none.

    Raises:
        UsageError: there are several.
    """
    if len(names) > 1:
        raise UsageError(f"name one {noun}, not {len(names)} ({', '.join(map(repr, names))})")
    return next(iter(names), None)


def port(text: str) -> int:
    """Return a TCP port.

    Raises:
        UsageError: it is none.
    """
    number = int(text) if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) else 0
    if not 1 <= number <= 65535:
        raise UsageError(f"{text!r} is no TCP port; name one from 1 to 65535 as the last word")
    return number
