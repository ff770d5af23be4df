"""Ships that no voyage here answers for any more, and which therefore bill for nothing.

A leftover has our label, the label of its voyage, and a name of the full pattern
``voyage-<12 hex>-ship-<n>`` of that voyage; anything else is somebody else's and never touched.
What the API cannot tell is whether another machine of the same account commands it: a ship with
an open channel is therefore left alone, and a person is asked about the others.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ocaptain.ledger import LedgerError
from ocaptain.names import LABEL, split_sprite
from ocaptain.sprites import NotFound, SpritesError
from ocaptain.voyage.sprites import make_absent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.provider import Endpoint
    from ocaptain.sprites import Sprite, SpritesClient
    from ocaptain.voyage.home import Home

UNKNOWN = "no voyage here knows it"
CHANNEL = re.compile(r"worker\.pyz channel\b")


@dataclass(frozen=True)
class Leftover:
    """A ship that is left.

    Attributes:
        sprite: its name.
        voyage: that it was of.
        created: as the provider says, RFC 3339; "" if it does not.
        why: it is a leftover.
        commanded: whether a captain's channel to it is open.
    """

    sprite: str
    voyage: str
    created: str
    why: str
    commanded: bool = False


def known_voyages(home: Home) -> dict[str, str]:
    """Return the state of each voyage of this home; one that cannot be read is taken for active."""
    found = {}
    for directory in home.voyages():
        try:
            found[directory.id] = directory.voyage().state
        except LedgerError:
            found[directory.id] = "unreadable"
    return found


def leftovers(sprites: Sequence[Sprite], known: Mapping[str, str]) -> list[Leftover]:
    """Decide which sprites are leftovers.

    Args:
        sprites: everything that the account has.
        known: state of each voyage of this home.
    """
    found = []
    for sprite in sprites:
        name = split_sprite(sprite.name)
        if name is None or not {LABEL, name[0]} <= set(sprite.labels):
            continue
        state = known.get(name[0])
        if state is None:
            found.append(Leftover(sprite.name, name[0], sprite.created_at, UNKNOWN))
        elif state == "sunk":
            found.append(Leftover(sprite.name, name[0], sprite.created_at, "its voyage is sunk"))
    return found


def age(created: str, now: dt.datetime) -> str:
    """Return how old something is, as people say it (``3 h``, ``12 days``)."""
    try:
        seconds = (now - dt.datetime.fromisoformat(created)).total_seconds()
    except (ValueError, TypeError):
        return "of unknown age"
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def find(reached: Endpoint, home: Home) -> list[Leftover]:
    """Look for leftovers: first at the sprites, then at the voyages, which may be newer.

    Raises:
        SpritesError: the provider cannot be asked.
    """
    return asyncio.run(_find(reached, home))


async def _find(reached: Endpoint, home: Home) -> list[Leftover]:
    async with reached.client() as client:
        sprites = await client.list("voyage-")
        found = leftovers(sprites, known_voyages(home))
        return list(await asyncio.gather(*(_look(client, one) for one in found)))


async def _look(client: SpritesClient, one: Leftover) -> Leftover:
    try:
        commands = await client.list_commands(one.sprite)
    except NotFound:
        return one
    except SpritesError:  # whoever cannot be asked may be at work
        return replace(one, commanded=True)
    commanded = any(CHANNEL.search(command) for command in commands)
    return replace(one, commanded=commanded)


def destroy(reached: Endpoint, names: Sequence[str]) -> dict[str, str]:
    """Destroy sprites, all at once; return those that are left, with the reason."""
    return asyncio.run(make_absent(reached, names, check=False)).failed
