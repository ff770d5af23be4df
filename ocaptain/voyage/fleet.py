"""The state of a voyage and of its ships."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.captain.transport.ssh import find_held_hosts
from ocaptain.errors import OcaptainError
from ocaptain.ledger import Ledger, overview
from ocaptain.ledger.records import NOT_SAILING
from ocaptain.names import HOSTS
from ocaptain.presence import Presence, find_existing
from ocaptain.provider import require_endpoint_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ocaptain.config import Settings
    from ocaptain.locks import Lock
    from ocaptain.provider import Endpoint
    from ocaptain.voyage.home import VoyageDirectory


@dataclass(frozen=True)
class Outcome:
    """The state of a voyage after a step.

    Attributes:
        state: state of the voyage.
        sailing: ids of the ships that sail and take tasks.
        left_out: ids of the ships that should sail and do not, with the reason.
        verify_ok: whether the final verify passed, None if it was not run.
        note: the voyage's note for people.
        is_less_proven: whether the final verify passed, but on a ship that agents had used instead of a clean one.
        is_gate_unusable: whether the voyage ended because verify.sh could never run.
    """

    voyage: str
    state: str
    sailing: tuple[str, ...]
    left_out: Mapping[str, str]
    verify_ok: bool | None
    note: str | None
    is_less_proven: bool = False
    is_gate_unusable: bool = False


def read_outcome(directory: VoyageDirectory) -> Outcome:
    """Read the state of a voyage from its ledger."""
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
        is_gate_unusable=seen.is_gate_unusable,
    )


def open_for_writing(directory: VoyageDirectory, lock: Lock) -> Ledger:
    """Open the ledger for writing under ``lock``, which is held."""
    assert lock.path.parent == directory.path
    ledger = Ledger(directory.path / "ledger.db")
    ledger.take_command()
    return ledger


def find_existing_ships(
    directory: VoyageDirectory, ledger: Ledger, settings: Settings, destruction_confirmed: Collection[str] = ()
) -> Presence:
    """Find out which ships of a voyage exist; starts a drydock that does not run.

    For a voyage on hosts: which hosts it still holds, and which do not answer.

    Args:
        directory: the voyage's directory.
        ledger: its ledger.
        settings: the configuration of the provider.
        destruction_confirmed: sprites that the provider confirmed to be destroyed.
    """
    voyage = ledger.voyage()
    names = frozenset(ship.sprite for ship in ledger.ships())
    if voyage.provider == HOSTS:
        return _existing_hosts(names, held_hosts(directory, ledger))
    try:
        reached = require_endpoint_of(voyage, settings)
        return asyncio.run(_find_sprites(voyage.id, names, reached, destruction_confirmed))
    except OcaptainError as error:
        return Presence(unknown=names, why=error.message)


def _existing_hosts(names: frozenset[str], answers: Mapping[str, str | None]) -> Presence:
    present = frozenset(name for name, why in answers.items() if why is None)
    unknown = frozenset(answers) - present
    return Presence(present, names - present - unknown, unknown, "; ".join(why for why in answers.values() if why))


async def _find_sprites(
    voyage: str, names: frozenset[str], reached: Endpoint, destruction_confirmed: Collection[str]
) -> Presence:
    async with reached.client() as client:
        return await find_existing(client, f"{voyage}-ship-", names, destruction_confirmed)


def held_hosts(directory: VoyageDirectory, ledger: Ledger) -> dict[str, str | None]:
    """Return the hosts that the voyage holds (None) or that do not answer (why)."""
    return asyncio.run(find_held_hosts(directory.path, directory.id, ledger.ships()))


async def list_sprites(voyage: str, reached: Endpoint) -> list[str]:
    """Return the names of a voyage's sprites, as the provider lists them.

    Raises:
        SpritesError: the provider does not answer.
    """
    async with reached.client() as client:
        return [sprite.name for sprite in await client.list(f"{voyage}-ship-")]
