"""The end of a sink: prove that nothing is left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.config import HOSTS
from ocaptain.errors import OcaptainError
from ocaptain.locks import Lock
from ocaptain.mesh import Records, remove_devices, tailnet_of
from ocaptain.provider import choose_provider, require_endpoint_if_used, require_same_provider
from ocaptain.voyage.fleet import existing, open_for_writing, sprites_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.config import Settings
    from ocaptain.ledger import Ledger
    from ocaptain.voyage.home import VoyageDirectory


def finish_sink(
    directory: VoyageDirectory,
    settings: Settings,
    kept: Mapping[str, str],
    destroyed: Sequence[str] = (),
    *,
    abandon: bool = False,
) -> dict[str, str]:
    """Prove what is gone, by the provider's own list; return the sprites that are left, with the reason.

    Args:
        directory: the voyage's.
        settings: for the provider.
        kept: sprites that were not destroyed on purpose, with the reason.
        destroyed: sprites whose destruction the provider has confirmed.
        abandon: a host that cannot be asked counts as given back; it keeps its lock until a person removes it.
    """
    with Lock(process.lock_path(directory.path)) as lock:
        if not lock.acquire_within(process.STOP_SECONDS):
            raise OcaptainError(
                f"another ocaptain command or captain works on {directory.id}; try again when it has ended"
            )
        with open_for_writing(directory, lock) as ledger:
            left = _left(directory, ledger, settings, destroyed, abandon=abandon)
            if ledger.voyage().provider == HOSTS and not abandon:
                left = {**kept, **left}  # a host that is free may still have something of ours
            for ship in ledger.ships():
                if ship.sprite not in left:
                    ledger.set_ship(ship.id, "gone")
                elif ship.sprite in kept:
                    left[ship.sprite] = kept[ship.sprite]
                    ledger.set_ship(ship.id, "lost", kept[ship.sprite])
            if not left:
                ledger.set_note(None)
                ledger.set_state("sunk")
            return left


def leave_mesh(directory: VoyageDirectory, settings: Settings, sprites: Sequence[str]) -> list[str]:
    """Take the devices and keys of ships that are gone out of the tailnet; return what is left, a line each.

    Args:
        directory: the voyage's.
        settings: for the tailnet.
        sprites: that are left, and stay on the tailnet.
    """
    if not has_mesh(directory):
        return []
    try:
        return asyncio.run(remove_devices(tailnet_of(settings), directory.path, keep=frozenset(sprites)))
    except OcaptainError as error:
        return [error.message]


def has_mesh(directory: VoyageDirectory) -> bool:
    """Whether something of a voyage may be left on a tailnet."""
    return bool(Records(directory.path).files())


def _left(
    directory: VoyageDirectory, ledger: Ledger, settings: Settings, destroyed: Sequence[str], *, abandon: bool
) -> dict[str, str]:
    """Return what is left of a fleet, and what tells it."""
    exist = existing(directory, ledger, settings, destroyed)
    if ledger.voyage().provider == HOSTS:
        left = dict.fromkeys(exist.there, "it is still this voyage's")
        return left if abandon else {**left, **dict.fromkeys(exist.unknown, exist.why)}
    why = f"whether it is gone is not known ({exist.why})"
    return {**dict.fromkeys(exist.there, "the provider still lists it"), **dict.fromkeys(exist.unknown, why)}


def left_of(directory: VoyageDirectory, settings: Settings) -> list[str]:
    """Return the sprites of a voyage that exist; a host is left while it is not known to be given back.

    Raises:
        OcaptainError: the provider cannot be asked.
    """
    voyage = directory.voyage()
    if voyage.provider == HOSTS:
        with directory.ledger() as ledger:
            sailed = [ship for ship in ledger.ships() if ship.state != "gone"]
        return [ship.sprite for ship in sailed]
    reached = require_endpoint_if_used(choose_provider(settings, voyage.provider)[0], settings)
    require_same_provider(voyage, reached)
    return asyncio.run(sprites_of(directory.id, reached)) if reached else []
