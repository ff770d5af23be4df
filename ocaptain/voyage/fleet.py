"""Where a voyage and its ships stand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.captain.transport.ssh import find_held_hosts
from ocaptain.config import HOSTS
from ocaptain.errors import OcaptainError
from ocaptain.ledger import Ledger, overview
from ocaptain.ledger.records import NOT_SAILING
from ocaptain.presence import Existing, find_existing
from ocaptain.provider import choose_provider, require_endpoint, require_same_provider

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ocaptain.config import Settings
    from ocaptain.locks import Lock
    from ocaptain.provider import Endpoint
    from ocaptain.voyage.home import VoyageDirectory


@dataclass(frozen=True)
class Outcome:
    """Where a voyage stands after a step.

    Attributes:
        state: of the voyage.
        sailing: ships that sail and take tasks.
        left_out: ships that were to, and do not, and why.
        verify_ok: the final verify, None if it was not run.
        note: what the voyage says of itself.
        is_less_proven: whether the final verify passed, but not where no agent was, as it was to.
    """

    voyage: str
    state: str
    sailing: tuple[str, ...]
    left_out: Mapping[str, str]
    verify_ok: bool | None
    note: str | None
    is_less_proven: bool = False


def outcome(directory: VoyageDirectory) -> Outcome:
    """Return where the voyage stands."""
    with directory.ledger() as ledger:
        seen = overview(ledger)
    fleet = [ship for ship in seen.ships if ship["role"] == "work"]  # ship-verify is made again when it is needed
    return Outcome(
        voyage=seen.voyage,
        state=seen.state,
        sailing=tuple(ship["id"] for ship in fleet if ship["state"] not in NOT_SAILING),
        left_out={
            ship["id"]: ship["reason"] or ""
            for ship in fleet
            if ship["state"] in NOT_SAILING and not ship["replaced_by"]
        },
        verify_ok=seen.verify["ok"] if seen.verify else None,
        note=seen.note,
        is_less_proven=seen.is_less_proven,
    )


def open_for_writing(directory: VoyageDirectory, lock: Lock) -> Ledger:
    """Open the ledger for writing under ``lock``, which is held."""
    assert lock.path.parent == directory.path
    ledger = Ledger(directory.path / "ledger.db")
    ledger.take_command()
    return ledger


def existing(
    directory: VoyageDirectory, ledger: Ledger, settings: Settings, destroyed: Collection[str] = ()
) -> Existing:
    """Return which ships of a voyage exist. A drydock that does not run is started for it.

    Of a voyage on hosts: which hosts it has, and which cannot be asked.

    Args:
        directory: the voyage's.
        ledger: its ledger.
        settings: for the provider.
        destroyed: sprites whose destruction the provider has confirmed.
    """
    voyage = ledger.voyage()
    names = frozenset(ship.sprite for ship in ledger.ships())
    if voyage.provider == HOSTS:
        return _existing_hosts(names, held(directory, ledger))
    try:
        reached = require_endpoint(choose_provider(settings, voyage.provider)[0], settings)
        require_same_provider(voyage, reached)
        return asyncio.run(_look_for(voyage.id, names, reached, destroyed))
    except OcaptainError as error:
        return Existing(unknown=names, why=error.message)


def _existing_hosts(names: frozenset[str], found: Mapping[str, str | None]) -> Existing:
    there = frozenset(name for name, why in found.items() if why is None)
    unknown = frozenset(found) - there
    return Existing(there, names - there - unknown, unknown, "; ".join(why for why in found.values() if why))


async def _look_for(voyage: str, names: frozenset[str], reached: Endpoint, destroyed: Collection[str]) -> Existing:
    async with reached.client() as client:
        return await find_existing(client, f"{voyage}-ship-", names, destroyed)


def held(directory: VoyageDirectory, ledger: Ledger) -> dict[str, str | None]:
    """Return the hosts that the voyage has (None), or that cannot be asked (why)."""
    return asyncio.run(find_held_hosts(directory.path, directory.id, ledger.ships()))


async def sprites_of(voyage: str, reached: Endpoint) -> list[str]:
    """Return the sprites of a voyage that the provider lists.

    Raises:
        SpritesError: it cannot be asked.
    """
    async with reached.client() as client:
        return [sprite.name for sprite in await client.list(f"{voyage}-ship-")]
