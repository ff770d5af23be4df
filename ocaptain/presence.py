"""What exists of a fleet: there, gone for certain, or unknown.

::

    the provider's list, and a GET of each sprite that is not in it ──> Look
        ──two looks, at least SECONDS apart──judge (pure)──> there | gone | unknown

Absent is not gone: a provider that does not answer, answers with an error or contradicts itself says
nothing about a sprite. Whoever destroys, ends or replaces something asks here, and leaves what is
unknown as it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from ocaptain.sprites import NotFound, SpritesError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ocaptain.sprites import Sprite

Presence = Literal["there", "gone", "unknown"]
CLOCK_SECONDS = 0.02  # by which a timer may be early
SECONDS = 2.0  # between the two looks that together say that a sprite is gone


class Provider(Protocol):
    """What is asked; :class:`ocaptain.sprites.SpritesClient` is one."""

    async def list(self, prefix: str = "") -> list[Sprite]:
        """Return the sprites whose names start so."""

    async def get(self, name: str) -> Sprite:
        """Return a sprite."""


@dataclass(frozen=True)
class Look:
    """What the provider said once.

    Attributes:
        at: when, seconds of a monotonic clock.
        listed: names that it lists; None if the list could not be had.
        missing: names that it does not list, and whose own GET it answered with a 404.
        found: names that it does not list, and whose own GET it answered.
        why: why something is unknown, "" if nothing is.
    """

    at: float
    listed: frozenset[str] | None = None
    missing: frozenset[str] = frozenset()
    found: frozenset[str] = frozenset()
    why: str = ""


@dataclass(frozen=True)
class Existing:
    """What exists.

    Attributes:
        there: names, also such as nobody asked for.
        gone: names that are gone for certain.
        unknown: the other names that were asked for.
        why: why something is unknown, "" if nothing is.
    """

    there: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    why: str = field(default="", compare=False)

    @property
    def left(self) -> frozenset[str]:
        """What may be there."""
        return self.there | self.unknown


def judge(names: Collection[str], looks: Sequence[Look], destroyed: Collection[str] = ()) -> Existing:
    """Decide what exists, by what the provider said last and before.

    Args:
        names: that are asked for.
        looks: in the order of their time.
        destroyed: names whose destruction the provider has confirmed: of these one answer is enough.
    """
    if not looks:
        return Existing(unknown=frozenset(names), why="nobody asked the provider")
    last = looks[-1]
    there = (last.listed or frozenset()) | last.found
    certain = [one for one in looks if one.listed is not None and last.at - one.at >= SECONDS]
    gone = frozenset(
        name
        for name in set(names) - there
        if last.listed is not None
        and name in last.missing
        and (name in destroyed or any(name in one.missing for one in certain))
    )
    unknown = frozenset(names) - there - gone
    why = last.why or "the provider said only once that it is not there"
    return Existing(frozenset(there), gone, unknown, why if unknown else "")


async def look(provider: Provider, prefix: str, names: Collection[str]) -> Look:
    """Ask once. Whatever goes wrong is part of the answer."""
    at = asyncio.get_running_loop().time()
    try:
        listed = frozenset(sprite.name for sprite in await provider.list(prefix))
    except SpritesError as error:
        return Look(at, why=f"the provider does not answer: {error.message}")
    rest = sorted(set(names) - listed)
    answers = await asyncio.gather(*(_is_there(provider, name) for name in rest))
    told = dict(zip(rest, answers, strict=True))
    return Look(
        at,
        listed,
        missing=frozenset(name for name, answer in told.items() if answer is False),
        found=frozenset(name for name, answer in told.items() if answer is True),
        why=next((answer for answer in answers if isinstance(answer, str)), ""),
    )


async def what_exists(
    provider: Provider, prefix: str, names: Collection[str], destroyed: Collection[str] = ()
) -> Existing:
    """Return what exists; what seems to be gone is looked for twice, :data:`SECONDS` apart.

    Args:
        provider: that is asked.
        prefix: of the names of all that belongs together.
        names: that are asked for.
        destroyed: names whose destruction the provider has confirmed.
    """
    first = await look(provider, prefix, names)
    if first.missing <= set(destroyed):
        return judge(names, [first], destroyed)
    passed = asyncio.get_running_loop().time() - first.at
    await asyncio.sleep(max(0.0, SECONDS - passed) + CLOCK_SECONDS)
    return judge(names, [first, await look(provider, prefix, names)], destroyed)


async def _is_there(provider: Provider, name: str) -> bool | str:
    """Whether a sprite is there, or why that is not known."""
    try:
        await provider.get(name)
    except NotFound:
        return False
    except SpritesError as error:
        return f"{name}: {error.message}"
    return True
