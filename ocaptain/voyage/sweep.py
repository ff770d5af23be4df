"""Leftover ships: they belong to no active voyage of this machine, and cost money for nothing.

A leftover has our label, the label of its voyage, and a name of the full pattern
``voyage-<12 hex>-ship-<n>`` of that voyage; any other sprite is never touched.
The API does not tell whether another machine of the same account commands a ship: one with an open
channel is therefore left alone, and the user must confirm the others.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ocaptain.ledger import LedgerError
from ocaptain.names import LABEL, split_sprite
from ocaptain.provider import explaining_errors
from ocaptain.sprites import NotFound, SpritesError
from ocaptain.voyage.sprites import make_absent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.provider import Endpoint
    from ocaptain.sprites import Sprite, SpritesClient
    from ocaptain.voyage.home import Home

UNKNOWN_VOYAGE = "no voyage here knows it"
CHANNEL = re.compile(r"worker\.pyz channel\b")


@dataclass(frozen=True)
class Leftover:
    """A leftover ship.

    Attributes:
        sprite: name of its sprite.
        voyage: id of its voyage.
        created: when the sprite was created, RFC 3339; "" if the provider does not say.
        why: why it is a leftover.
        commanded: whether a captain has an open channel to it.
    """

    sprite: str
    voyage: str
    created: str
    why: str
    commanded: bool = False


def voyage_states(home: Home) -> dict[str, str]:
    """Return the state of each voyage of this home; one that cannot be read counts as active."""
    found = {}
    for directory in home.voyages():
        try:
            found[directory.id] = directory.voyage().state
        except LedgerError:
            found[directory.id] = "unreadable"
    return found


def select_leftovers(sprites: Sequence[Sprite], known: Mapping[str, str]) -> list[Leftover]:
    """Decide which sprites are leftovers.

    Args:
        sprites: all sprites of the account.
        known: state of each voyage of this home.
    """
    found = []
    for sprite in sprites:
        name = split_sprite(sprite.name)
        if name is None or not {LABEL, name[0]} <= set(sprite.labels):
            continue
        state = known.get(name[0])
        if state is None:
            found.append(Leftover(sprite.name, name[0], sprite.created_at, UNKNOWN_VOYAGE))
        elif state == "sunk":
            found.append(Leftover(sprite.name, name[0], sprite.created_at, "its voyage is sunk"))
    return found


def format_age(created: str, now: dt.datetime) -> str:
    """Format the age of something (``3 h``, ``12 days``)."""
    try:
        seconds = (now - dt.datetime.fromisoformat(created)).total_seconds()
    except (ValueError, TypeError):
        return "of unknown age"
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def find_leftovers(reached: Endpoint, home: Home) -> list[Leftover]:
    """Look for leftovers: first at the sprites, then at the voyages, which may be newer.

    Raises:
        SpritesError: the provider does not answer.
    """
    with explaining_errors(reached):
        return asyncio.run(_find_leftovers(reached, home))


async def _find_leftovers(reached: Endpoint, home: Home) -> list[Leftover]:
    async with reached.client() as client:
        sprites = await client.list("voyage-")
        found = select_leftovers(sprites, voyage_states(home))
        return list(await asyncio.gather(*(_check_channel(client, one) for one in found)))


async def _check_channel(client: SpritesClient, one: Leftover) -> Leftover:
    try:
        commands = await client.list_commands(one.sprite)
    except NotFound:
        return one
    except SpritesError:  # a ship that does not answer may be at work
        return replace(one, commanded=True)
    commanded = any(CHANNEL.search(command) for command in commands)
    return replace(one, commanded=commanded)


def destroy_sprites(reached: Endpoint, names: Sequence[str]) -> dict[str, str]:
    """Destroy sprites in parallel; return those that are left, with the reason."""
    return asyncio.run(make_absent(reached, names, check=False)).failed
