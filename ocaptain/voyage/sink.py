"""Second half of a sink: prove that nothing is left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.errors import OcaptainError
from ocaptain.locks import Lock
from ocaptain.mesh import MeshRecords, remove_devices, tailnet_of
from ocaptain.names import HOSTS
from ocaptain.provider import choose_provider, require_endpoint_if_used, require_same_provider
from ocaptain.sync.mutagen import clear as clear_mirrors
from ocaptain.voyage.fleet import find_existing_ships, list_sprites, open_for_writing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.config import Settings
    from ocaptain.ledger import Ledger
    from ocaptain.voyage.home import VoyageDirectory


def finish_sink(
    directory: VoyageDirectory,
    settings: Settings,
    kept: Mapping[str, str],
    destruction_confirmed: Sequence[str] = (),
    *,
    abandon: bool = False,
) -> dict[str, str]:
    """Record which ships are gone, by the provider's own list; return the sprites that are left, with the reason.

    Args:
        directory: the voyage's directory.
        settings: the configuration.
        kept: sprites that were not destroyed on purpose, with the reason.
        destruction_confirmed: sprites that the provider confirmed to be destroyed.
        abandon: count a host that does not answer as released; its lock file stays until a person removes it.
    """
    with Lock(process.captain_lock_path(directory.path)) as lock:
        if not lock.acquire_within(process.STOP_SECONDS):
            raise OcaptainError(
                f"another ocaptain command or captain works on {directory.id}; try again when it has ended"
            )
        with open_for_writing(directory, lock) as ledger:
            left = _find_remaining(directory, ledger, settings, destruction_confirmed, abandon=abandon)
            if ledger.voyage().provider == HOSTS and not abandon:
                left = {**kept, **left}  # a released host may still have files of ours
            for ship in ledger.ships():
                if ship.sprite not in left:
                    ledger.set_ship(ship.id, "gone")
                elif ship.sprite in kept:
                    left[ship.sprite] = kept[ship.sprite]
                    ledger.set_ship(ship.id, "lost", kept[ship.sprite])
            if not left:
                clear_mirrors(directory.path)
                ledger.set_note(None)
                ledger.set_state("sunk")
            return left


def leave_mesh(directory: VoyageDirectory, settings: Settings, remaining: Sequence[str]) -> list[str]:
    """Remove the devices and keys of gone ships from the tailnet; return a line for each that is left.

    Args:
        directory: the voyage's directory.
        settings: the configuration.
        remaining: sprites that are left and stay on the tailnet.
    """
    if not has_mesh(directory):
        return []
    try:
        return asyncio.run(remove_devices(tailnet_of(settings), directory.path, keep=frozenset(remaining)))
    except OcaptainError as error:
        return [error.message]


def has_mesh(directory: VoyageDirectory) -> bool:
    """Whether devices or keys of a voyage may be left on a tailnet."""
    return bool(MeshRecords(directory.path).files())


def _find_remaining(
    directory: VoyageDirectory,
    ledger: Ledger,
    settings: Settings,
    destruction_confirmed: Sequence[str],
    *,
    abandon: bool,
) -> dict[str, str]:
    """Return the ships of a fleet that are left, with the evidence."""
    exist = find_existing_ships(directory, ledger, settings, destruction_confirmed)
    if ledger.voyage().provider == HOSTS:
        left = dict.fromkeys(exist.there, "it is still this voyage's")
        return left if abandon else {**left, **dict.fromkeys(exist.unknown, exist.why)}
    why = f"it is not known whether it is gone ({exist.why})"
    return {**dict.fromkeys(exist.there, "the provider still lists it"), **dict.fromkeys(exist.unknown, why)}


def list_remaining(directory: VoyageDirectory, settings: Settings) -> list[str]:
    """Return the sprites of a voyage that exist, or its hosts that were not released.

    Raises:
        OcaptainError: the provider does not answer.
    """
    voyage = directory.voyage()
    if voyage.provider == HOSTS:
        with directory.ledger() as ledger:
            sailed = [ship for ship in ledger.ships() if ship.state != "gone"]
        return [ship.sprite for ship in sailed]
    reached = require_endpoint_if_used(choose_provider(settings, voyage.provider)[0], settings)
    require_same_provider(voyage, reached)
    return asyncio.run(list_sprites(directory.id, reached)) if reached else []
