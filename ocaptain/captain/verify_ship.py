"""Make ship-verify again if it is lost or broken, or if the account had no room for it.

It is made as lost ships are (``fleet``): by `ocaptain sail --resume` in the background, for which another captain
may have to take the place of this one. Each time is noted in the ledger first, so that a series of captains
does not repeat it without end.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ocaptain.captain.decide.verify import CreationStatus
from ocaptain.errors import OcaptainError
from ocaptain.ledger import LedgerError
from ocaptain.names import VERIFY_SHIP
from ocaptain.process import is_building, start_replacement
from ocaptain.sprites import AuthenticationError, SpritesError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ocaptain.ledger import Ledger
    from ocaptain.sprites import SpritesClient

RUNNING = "running"
LOOK_SECONDS = 5.0
log = logging.getLogger("ocaptain.captain")


class VerifyShipMaker:
    """Makes the ship for the final verify.

    Args:
        directory: the voyage's.
        ledger: of the captain.
        client: of the provider.
        ask: makes any call to the provider, and restarts a drydock that was killed.
    """

    def __init__(
        self, directory: Path, ledger: Ledger, client: SpritesClient, ask: Callable[[], Awaitable[object]]
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._client = client
        self._ask = ask

    async def check_status(self) -> CreationStatus:
        """Return whether it can be made; waits for a provider that does not answer."""
        while True:
            try:
                await self._ask()
                return await self._look()
            except AuthenticationError:
                return CreationStatus()
            except LedgerError:
                raise
            except OcaptainError as error:
                log.warning(
                    "cannot find out whether %s can be made: %s; trying again in %g s", VERIFY_SHIP, error, LOOK_SECONDS
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> CreationStatus:
        voyage = self._ledger.voyage().id
        wanted = any(ship.role == "verify" for ship in self._ledger.ships())
        page = await self._client.first_page()
        former = await self._client.list(f"{voyage}-{VERIFY_SHIP}")
        own = sum(sprite.status == RUNNING for sprite in former)  # it is destroyed before it is made again
        is_full = (
            page.running_limit is not None and page.running is not None and page.running - own >= page.running_limit
        )
        return CreationStatus(wanted, self._ledger.count_verify_ships_made(), is_account_full=is_full)

    async def make(self, instead_of: str | None) -> None:
        """Make it. This captain is stopped for it if it still follows a former one.

        Args:
            instead_of: a ship that is destroyed to make room; its work is here already.
        """
        # One run at a time builds ships of a voyage. None of them tells when it has ended.
        while is_building(self._directory):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS / 5)
        self._ledger.make_verify_ship(instead_of)
        for ship in self._ledger.ships():
            if ship.id in {VERIFY_SHIP, instead_of}:
                try:
                    await self._client.destroy(ship.sprite)
                except SpritesError as error:
                    log.warning("%s could not be destroyed: %s", ship.sprite, error)
        log.info("making %s%s", VERIFY_SHIP, f" in the place of {instead_of}" if instead_of else "")
        run = start_replacement(self._directory)
        # No thread may wait for it: this captain may have to end before it does.
        while run.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS / 5)
        if self._ledger.ship_row(VERIFY_SHIP).state == "provisioning":
            reason = f"it could not be made; see {self._directory / 'replace.log'}"
            self._ledger.set_ship(VERIFY_SHIP, "failed", reason)
