"""First half of a sink: take command, fetch every ship's work, check the fetched repository.

In a module of its own, since it loads all of the captain.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.captain.awake import AwakeCounter
from ocaptain.captain.rescue import Rescue, bundle_unlanded_work, rescue
from ocaptain.captain.transport.sprite import sprite_transport_factory
from ocaptain.captain.transport.ssh import ssh_transport_factory
from ocaptain.control import stop_captain
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.git import Git, GitError, drop_unreachable
from ocaptain.ledger.records import ENDED
from ocaptain.locks import Lock
from ocaptain.names import HOSTS
from ocaptain.prices import load_prices
from ocaptain.provider import Endpoint, require_endpoint_of
from ocaptain.sprites import SpritesError
from ocaptain.voyage.fleet import held_hosts, open_for_writing

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.config import Settings
    from ocaptain.ledger import Ledger
    from ocaptain.prices import Prices
    from ocaptain.voyage.home import VoyageDirectory


@dataclass(frozen=True)
class RescueResult:
    """The fetched work of a fleet.

    Attributes:
        ships: the result for each ship.
        bundle: file with the work that had not landed, tested by cloning it; None if everything had landed.
    """

    ships: tuple[Rescue, ...]
    bundle: Path | None


def begin_sink(directory: VoyageDirectory, settings: Settings) -> RescueResult:
    """Stop the captain, take command, fetch every ship's work and check it. Destroys nothing.

    Raises:
        OcaptainError: the captain could not be stopped, or what was fetched is not sound.
    """
    voyage = directory.voyage()
    reached = None if voyage.provider == HOSTS else require_endpoint_of(voyage, settings)
    prices = None
    with contextlib.suppress(UsageError):  # a wrong price table must not stop a sink: use the built-in one
        prices = load_prices(settings.prices)
    # Twice: a captain may start another replacement run when one ends, and that starts a captain.
    for _ in range(2):
        if not stop_captain(directory.path):
            message = f"the captain of {directory.id} does not end, or another sink is running"
            raise OcaptainError(f"{message}; see {directory.path / 'captain.log'}")
        process.stop_replacement(directory.path)
    with Lock(process.captain_lock_path(directory.path)) as lock:
        if not lock.acquire_within(process.STOP_SECONDS):
            raise OcaptainError(
                f"another ocaptain command or captain works on {directory.id}; try again when it has ended"
            )
        with open_for_writing(directory, lock) as ledger:
            if ledger.voyage().state not in ENDED:
                ledger.set_state("sinking")  # so that no waiting `sail` starts a captain again
            if voyage.provider == HOSTS:
                transports = ssh_transport_factory(directory.path)
                found = asyncio.run(
                    rescue(directory.path, ledger, transports, set(held_hosts(directory, ledger)), prices)
                )
            else:
                assert reached
                found = asyncio.run(_rescue(directory, ledger, reached, prices))
            bundle = bundle_unlanded_work(directory.path, ledger)
            with contextlib.suppress(GitError):  # it is housekeeping: what is to be kept was proven just now
                drop_unreachable(Git(directory.path / "repo.git"))
            return RescueResult(tuple(found), bundle)


async def _rescue(directory: VoyageDirectory, ledger: Ledger, reached: Endpoint, prices: Prices | None) -> list[Rescue]:
    async with reached.client() as client:
        there = {sprite.name for sprite in await client.list(f"{directory.id}-ship-")}
        awake = AwakeCounter(ledger, client, directory.id)
        await _count_awake_time(awake)  # how long the ships slept, before they are woken
        found = await rescue(directory.path, ledger, sprite_transport_factory(client), there, prices)
        await _count_awake_time(awake)
        return found


async def _count_awake_time(awake: AwakeCounter) -> None:
    with contextlib.suppress(SpritesError):  # an unknown cost must not stop the rescue
        await awake.count_once()
