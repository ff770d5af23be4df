"""Making ship-verify again: one that is lost or broken, or that the account had no room for.

Made as lost ships are (``fleet``): by `ocaptain sail --resume` in the background, whose launch puts
another captain in the place of this one. Each making is noted in the ledger first, so that captains
that follow one another do not go on with it for ever.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ocaptain.captain.decide.verify import Making
from ocaptain.captain.fleet import start_replacement
from ocaptain.errors import OcaptainError
from ocaptain.ledger import LedgerError
from ocaptain.names import VERIFY_SHIP
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
        ask: asks the provider anything, and starts a drydock again that was killed.
    """

    def __init__(
        self, directory: Path, ledger: Ledger, client: SpritesClient, ask: Callable[[], Awaitable[object]]
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._client = client
        self._ask = ask

    async def look(self) -> Making:
        """Return whether it can be made; waits for a provider that does not answer: unknown is no reason for less."""
        while True:
            try:
                await self._ask()
                return await self._look()
            except AuthenticationError:
                return Making()
            except LedgerError:
                raise
            except OcaptainError as error:
                log.warning("whether %s can be made is not known now: %s", VERIFY_SHIP, error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> Making:
        voyage = self._ledger.voyage().id
        wanted = any(ship.role == "verify" for ship in self._ledger.ships())
        page = await self._client.first_page()
        there = await self._client.list(f"{voyage}-{VERIFY_SHIP}")
        own = sum(sprite.status == RUNNING for sprite in there)  # it goes before it is made again
        full = page.running_limit is not None and page.running is not None and page.running - own >= page.running_limit
        return Making(wanted, self._ledger.verify_ships_begun(), full=full)

    async def make(self, instead_of: str | None) -> None:
        """Make it; returns only if that fails, since else this captain is stopped.

        Args:
            instead_of: a ship whose work is here, and which is destroyed for it.
        """
        self._ledger.make_verify_ship(instead_of)
        for ship in self._ledger.ships():
            if ship.id in {VERIFY_SHIP, instead_of}:
                try:
                    await self._client.destroy(ship.sprite)
                except SpritesError as error:
                    log.warning("%s could not be destroyed: %s", ship.sprite, error)
        log.info("making %s%s", VERIFY_SHIP, f" in the place of {instead_of}" if instead_of else "")
        run = start_replacement(self._directory)
        # No thread may wait for it: it ends only after this captain has.
        while run.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS / 5)
        if self._ledger.ship_row(VERIFY_SHIP).state == "provisioning":
            reason = f"it could not be made: {self._directory / 'replace.log'}"
            self._ledger.set_ship(VERIFY_SHIP, "failed", reason)
