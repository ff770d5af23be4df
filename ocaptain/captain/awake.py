"""Count how long ships were awake, by their provider's own times, which it bills by.

The provider's list is watched (a line for each change, and heartbeats); between two lines its time
advances as ours does. A service that offers no watch is polled. What a line means
is decided by :func:`ocaptain.captain.decide.meter.advance_meter`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ocaptain.captain.decide.meter import Meter, Sample, advance_meter
from ocaptain.errors import OcaptainError
from ocaptain.ledger import LedgerError

if TYPE_CHECKING:
    from ocaptain.ledger import Ledger
    from ocaptain.sprites import SpritesClient
    from ocaptain.sprites.models import Change, Sprite

POLL_SECONDS = 15.0
RETRY_SECONDS = 3.0
RUNNING = "running"
PAUSED = frozenset({"warm", "cold"})
log = logging.getLogger("ocaptain.captain")


class AwakeCounter:
    """Adds the time that ships are awake to the ledger.

    Args:
        ledger: of a captain, or of a sink.
        client: of the provider.
        voyage: its id; its sprites' names begin with it.
    """

    def __init__(self, ledger: Ledger, client: SpritesClient, voyage: str) -> None:
        self._ledger = ledger
        self._client = client
        self._prefix = f"{voyage}-ship-"
        self._meters = {ship: Meter(**stored) for ship, stored in ledger.meters().items()}
        self._ships = {ship.sprite: ship.id for ship in ledger.ships()}
        self._last: dict[str, Change | Sprite] = {}
        self._changed = asyncio.Event()
        self._provider_time: tuple[float, float] | None = None  # the provider's time, and ours (monotonic) then

    async def wait_until_paused(self) -> None:
        """Wait until the provider reports of every ship that it does not run."""
        while not self._last or any(seen.status == RUNNING for seen in self._last.values()):
            self._changed.clear()
            await self._changed.wait()

    async def follow(self) -> None:
        """Count until cancelled; a provider that does not answer is asked again."""
        while True:
            wait = RETRY_SECONDS
            try:
                async for change in self._client.watch(self._prefix):
                    self._take(change)
                await self.count_once()  # the service offers no watch
                wait = POLL_SECONDS
            except LedgerError:
                raise
            except OcaptainError as error:
                log.debug("cannot count how long ships are awake: %s; trying again", error)
            await asyncio.sleep(wait)

    async def count_once(self, seconds: float = 5.0) -> None:
        """Count up to now: by the first lines of the watch, else by the list and our own time.

        Args:
            seconds: for which the lines of the watch are waited for.

        Raises:
            SpritesError: the provider did not answer.
        """
        listed = await self._client.list(self._prefix)
        missing = {sprite.name for sprite in listed}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async with contextlib.aclosing(self._client.watch(self._prefix)) as changes:
                    async for change in changes:
                        self._take(change)
                        missing.discard(change.name)
                        if not missing:
                            return
        if self._provider_time is None or missing:
            for sprite in listed:
                if sprite.name in missing:
                    self._last[sprite.name] = sprite
                    self._changed.set()
            self._provider_time = (time.time(), time.monotonic())
            self.count_all()

    def _take(self, change: Change) -> None:
        now = unix_seconds(change.timestamp)
        if now is not None:
            self._provider_time = (now, time.monotonic())
        if change.name:
            self._last[change.name] = change
            self._changed.set()
        self.count_all()

    def count_all(self) -> None:
        """Count every ship up to the provider's current time."""
        if self._provider_time is None:
            return
        reported, then = self._provider_time
        now = reported + time.monotonic() - then
        found: dict[str, tuple[dict[str, Any], float]] = {}
        for sprite, seen in self._last.items():
            if seen.status != RUNNING and seen.status not in PAUSED:
                continue
            ship = self._ships.get(sprite) or self._find(sprite)
            if ship is None:
                continue
            times = unix_seconds(seen.last_running_at), unix_seconds(seen.last_warming_at)
            meter = self._meters.get(ship, Meter())
            after, added = advance_meter(meter, Sample(seen.status == RUNNING, *times, now))
            if after != meter:
                self._meters[ship] = after
                found[ship] = (asdict(after), added)
        if found:
            self._ledger.add_awake_seconds(found)

    def _find(self, sprite: str) -> str | None:
        """Return the ship of a sprite that was added later, in the place of a lost one; None if there is none."""
        self._ships = {ship.sprite: ship.id for ship in self._ledger.ships()}
        return self._ships.get(sprite)


def unix_seconds(stamp: str | None) -> float | None:
    """Return an RFC 3339 time as Unix seconds, None if it is not one."""
    try:
        return dt.datetime.fromisoformat(stamp).timestamp() if stamp else None
    except ValueError:
        return None
