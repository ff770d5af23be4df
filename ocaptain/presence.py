"""Find out which sprites of a fleet exist: there, gone for certain, or unknown.

::

    the provider's list, and a GET of each sprite that is not in it ──> Observation
        ──two looks, at least CONFIRM_SECONDS apart──judge (pure)──> there | gone | unknown

A missing answer does not mean gone: a provider that does not answer, answers with an error or contradicts
itself proves nothing about a sprite. Code that destroys, ends or replaces a ship asks here, and leaves
unknown ones as they are.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ocaptain.sprites import NotFound, SpritesError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ocaptain.sprites import Sprite

CLOCK_SECONDS = 0.02  # by which a timer may be early
CONFIRM_SECONDS = 2.0  # between the two observations that together prove that a sprite is gone


class Provider(Protocol):
    """The calls that are needed; :class:`ocaptain.sprites.SpritesClient` has them."""

    async def list(self, prefix: str = "") -> list[Sprite]:
        """Return the sprites whose names start with ``prefix``."""

    async def get(self, name: str) -> Sprite:
        """Return a sprite."""


@dataclass(frozen=True)
class Observation:
    """What the provider answered once.

    Attributes:
        at: when, seconds of a monotonic clock.
        listed: names in its list; None if it did not give the list.
        missing: names not in its list, and whose own GET it answered with a 404.
        found: names not in its list, but whose own GET it answered.
        why: why something is unknown, "" if nothing is.
    """

    at: float
    listed: frozenset[str] | None = None
    missing: frozenset[str] = frozenset()
    found: frozenset[str] = frozenset()
    why: str = ""


@dataclass(frozen=True)
class Presence:
    """Which sprites exist.

    Attributes:
        there: names that exist, also some that were not asked for.
        gone: names that are gone for certain.
        unknown: the other names that were asked for.
        why: why something is unknown, "" if nothing is.
    """

    there: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    why: str = field(default="", compare=False)

    @property
    def possible(self) -> frozenset[str]:
        """The names that exist or may exist."""
        return self.there | self.unknown


def decide_presence(
    names: Collection[str], looks: Sequence[Observation], destruction_confirmed: Collection[str] = ()
) -> Presence:
    """Decide which sprites exist, by the last observation and those before it.

    Args:
        names: that are asked for.
        looks: observations, oldest first.
        destruction_confirmed: names that the provider confirmed to be destroyed: one observation is enough for them.
    """
    if not looks:
        return Presence(unknown=frozenset(names), why="the provider was not asked")
    last = looks[-1]
    there = (last.listed or frozenset()) | last.found
    certain = [one for one in looks if one.listed is not None and last.at - one.at >= CONFIRM_SECONDS]
    gone = frozenset(
        name
        for name in set(names) - there
        if last.listed is not None
        and name in last.missing
        and (name in destruction_confirmed or any(name in one.missing for one in certain))
    )
    unknown = frozenset(names) - there - gone
    why = last.why or "only one answer of the provider says that it does not exist"
    return Presence(frozenset(there), gone, unknown, why if unknown else "")


async def ask_once(provider: Provider, prefix: str, names: Collection[str]) -> Observation:
    """Ask the provider once; errors become part of the observation."""
    at = asyncio.get_running_loop().time()
    try:
        listed = frozenset(sprite.name for sprite in await provider.list(prefix))
    except SpritesError as error:
        return Observation(at, why=f"the provider does not answer: {error.message}")
    rest = sorted(set(names) - listed)
    answers = await asyncio.gather(*(_ask_for_sprite(provider, name) for name in rest))
    by_name = dict(zip(rest, answers, strict=True))
    return Observation(
        at,
        listed,
        missing=frozenset(name for name, answer in by_name.items() if answer is False),
        found=frozenset(name for name, answer in by_name.items() if answer is True),
        why=next((answer for answer in answers if isinstance(answer, str)), ""),
    )


async def find_existing(
    provider: Provider, prefix: str, names: Collection[str], destruction_confirmed: Collection[str] = ()
) -> Presence:
    """Return which sprites exist; one that seems to be gone is asked for twice, :data:`CONFIRM_SECONDS` apart.

    Args:
        provider: that is asked.
        prefix: of the names of all sprites that belong together.
        names: that are asked for.
        destruction_confirmed: names that the provider confirmed to be destroyed.
    """
    first = await ask_once(provider, prefix, names)
    if first.missing <= set(destruction_confirmed):
        return decide_presence(names, [first], destruction_confirmed)
    passed = asyncio.get_running_loop().time() - first.at
    await asyncio.sleep(max(0.0, CONFIRM_SECONDS - passed) + CLOCK_SECONDS)
    return decide_presence(names, [first, await ask_once(provider, prefix, names)], destruction_confirmed)


async def _ask_for_sprite(provider: Provider, name: str) -> bool | str:
    """Return whether a sprite exists, or as a string why that is not known."""
    try:
        await provider.get(name)
    except NotFound:
        return False
    except SpritesError as error:
        return f"{name}: {error.message}"
    return True
