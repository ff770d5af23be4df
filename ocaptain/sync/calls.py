"""What Mutagen runs as ``ssh`` and ``scp``, as data: four shapes, and nothing else is carried out.

Source: the calls of Mutagen 0.18.1, in their order (``docs/adr/0032-mirrors.md``)::

    ssh -oConnectTimeout=5 -oServerAliveInterval=10 -oServerAliveCountMax=1 HOST \
        .mutagen/agents/0.18.1/mutagen-agent synchronizer --log-level=info
    ssh … HOST uname -s -m
    scp -C … mutagen-agent.NNN HOST:.mutagen-agent<uuid>            (in the folder of that file)
    ssh … HOST ./.mutagen-agent<uuid> install
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

_UPLOAD = r"\.mutagen-agent[0-9A-Za-z_-]{1,80}"
_AGENT = r"\.mutagen/agents/0\.18\.[0-9]{1,4}/mutagen-agent synchronizer( --log-level=[a-z]{1,12})?"
_COMMAND = re.compile(rf"{_AGENT}|uname -s -m|\./{_UPLOAD} install")
_PLACE = re.compile(rf"(?P<host>[^:@]+):(?P<path>{_UPLOAD})")
_OPTION = re.compile(r"-o[A-Za-z]+=[A-Za-z0-9]+|-C")


@dataclass(frozen=True)
class Command:
    """A command for a ship, in its user's home."""

    host: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Upload:
    """A program of this machine that is put into a ship's home.

    Attributes:
        host: the ship's.
        source: a path, from the folder of the caller.
        path: below the home.
    """

    host: str
    source: str
    path: str


Call: TypeAlias = Command | Upload


def read_call(tool: str, argv: Sequence[str]) -> Call | None:
    """Return what a call of ``ssh`` or ``scp`` asks for; None if it is none of Mutagen's.

    Args:
        tool: ``ssh`` or ``scp``.
        argv: the arguments. A command may be in one or in several; no shell reads it.
    """
    words = list(argv)
    while words and _OPTION.fullmatch(words[0]):
        del words[0]
    if len(words) < 2 or words[0].startswith("-"):
        return None
    if tool == "ssh":
        line = " ".join(words[1:])
        return Command(words[0], tuple(line.split(" "))) if _COMMAND.fullmatch(line) else None
    place = _PLACE.fullmatch(words[1]) if tool == "scp" and len(words) == 2 else None
    return Upload(place["host"], words[0], place["path"]) if place else None
