"""The effects on a ledger of what Ansible built: ships that join their voyage, and those that could not be built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.ledger.records import ENDED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ocaptain.ledger import Ledger


def record_built(
    ledger: Ledger,
    ready: Collection[str] = (),
    created: Collection[str] = (),
    failed: Mapping[str, str] | None = None,
    gone: Collection[str] = (),
) -> None:
    """Record which ships were built, and why others were not.

    Args:
        ledger: of the voyage, opened for writing.
        ready: ids of the ships that were built. One that takes tasks is to be reached; one for the final verify
            sleeps until it is needed, and so does any other if the voyage has ended.
        created: ids of ships that are new, so that they have nothing of the repository.
        failed: why ships could not be built, by their ids.
        gone: those of ``failed`` that do not exist.
    """
    is_over = ledger.voyage().state in ENDED
    for ship in ledger.ships():
        if ship.id in created:
            ledger.set_ship_head(ship.id, None)
        if ship.id in ready:
            ledger.set_ship(ship.id, "asleep" if is_over or ship.role != "work" else "bootstrapping")
        elif failed and ship.id in failed:
            ledger.set_ship(ship.id, "gone" if ship.id in gone else "failed", failed[ship.id])
