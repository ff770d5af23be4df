"""``python -m ocaptain.captain DIRECTORY``: the captain of one voyage, in the foreground."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.background import reduce_garbage_collection
from ocaptain.captain.awake import AwakeCounter
from ocaptain.captain.decide.pause import temporary_pause
from ocaptain.captain.fleet import Fleet
from ocaptain.captain.life import Captain
from ocaptain.captain.mirrors import Mirrors
from ocaptain.captain.provider_watch import ProviderWatch
from ocaptain.captain.telemetry import VoyageTelemetry
from ocaptain.captain.transport.sprite import sprite_transport_factory
from ocaptain.captain.transport.ssh import ssh_transport_factory
from ocaptain.captain.verify_ship import VerifyShipMaker
from ocaptain.config import load_settings
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.git import BareRepository
from ocaptain.ledger import Contradiction, Ledger, LedgerUnwritable, TakenOver
from ocaptain.locks import Lock
from ocaptain.names import HOSTS
from ocaptain.presence import Presence, find_existing
from ocaptain.prices import load_prices
from ocaptain.process import captain_lock_path, record_captain
from ocaptain.provider import require_endpoint, require_endpoint_of

if TYPE_CHECKING:
    from ocaptain.config import Settings
    from ocaptain.provider import Endpoint
    from ocaptain.telemetry.batch import TelemetrySink

RETRY_SECONDS = 5.0  # after a disk was full, or the provider did not answer
LOCK_SECONDS = 1.0  # another process may hold it for a moment, to test whether it is held
log = logging.getLogger("ocaptain.captain")


def main(directory: Path) -> int:
    """Run the captain in this process; return the exit code."""
    reduce_garbage_collection()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    for noisy in ("httpx", "httpcore", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with Lock(captain_lock_path(directory)) as lock:
        if not lock.acquire_within(LOCK_SECONDS):
            log.error("another captain is in command of this voyage: %s is locked", captain_lock_path(directory))
            return 1
        try:
            record = record_captain(directory)
        except OSError as error:
            log.error("%s cannot be written: %s", directory / "captain.pid", error.strerror)  # noqa: TRY400 - likewise
            return 1
        try:
            asyncio.run(_run(directory))
        except TakenOver as error:
            log.warning("%s", error)
            return 1
        except OcaptainError as error:
            log.error("%s", error)  # noqa: TRY400 - a known error needs no traceback
            return error.exit_code
        except asyncio.CancelledError:
            log.info("stopped")
        finally:
            record.path.unlink(missing_ok=True)
            record.release()
    return 0


async def _run(directory: Path) -> None:
    """Run the captain until it has ended, or a signal ends it."""
    work = asyncio.create_task(_command_until_end(directory))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, work.cancel)
    await work


async def _command_until_end(directory: Path) -> None:
    """Command until the voyage ends; start again after the ledger was unwritable or the provider has moved."""
    while True:
        try:
            with Ledger(directory / "ledger.db") as ledger:
                ledger.take_command()
                try:
                    await _command(directory, ledger)
                except Contradiction as error:
                    ledger.pause("ours")
                    ledger.set_state("paused", error.message)
                    raise
                return
        except _ProviderMoved:
            log.info("drydock was restarted at another address: connecting to it")
        except LedgerUnwritable as error:
            log.error("%s (the captain itself tries again in %g s)", error, RETRY_SECONDS)  # noqa: TRY400 - no traceback
            await asyncio.sleep(RETRY_SECONDS)


async def _command(directory: Path, ledger: Ledger) -> None:
    settings = load_settings()
    async with VoyageTelemetry(directory, ledger, settings) as telemetry:
        await _command_fleet(directory, ledger, settings, telemetry.sink)


async def _command_fleet(directory: Path, ledger: Ledger, settings: Settings, sink: TelemetrySink | None) -> None:
    prices = load_prices(settings.prices)
    if ledger.voyage().provider == HOSTS:
        # Hosts are not made by us, so they are not replaced; and only a user can say that one is gone.
        await _sail(Captain(directory, ledger, ssh_transport_factory(directory), prices=prices, telemetry=sink))
        return
    reached = await _reach(ledger, settings)
    async with reached.client() as client:
        prefix = f"{ledger.voyage().id}-ship-"

        async def find(names: frozenset[str]) -> Presence:
            return await find_existing(client, prefix, names)

        async def ask() -> None:
            """Make any call to the provider; a drydock that was killed is restarted."""
            now = await asyncio.to_thread(require_endpoint, reached.provider, settings)
            if now != reached:
                raise _ProviderMoved
            await client.first_page()

        fleet = Fleet(directory, ledger, find)
        awake = AwakeCounter(ledger, client, ledger.voyage().id)
        maker = VerifyShipMaker(directory, ledger, client, ask)
        transports = sprite_transport_factory(client)
        watch = ProviderWatch(ask)

        async def identify(sprite: str) -> str:
            return (await client.get(sprite)).id

        git = BareRepository(directory / "repo.git")
        is_off = settings.mutagen == "off"
        async with Mirrors(directory, ledger, git, identify, is_off=is_off) as mirrors:
            hooks = (mirrors,)
            captain = Captain(directory, ledger, transports, watch, fleet, prices, awake, hooks, maker, sink)
            await _sail(captain)


async def _reach(ledger: Ledger, settings: Settings) -> Endpoint:
    """Return how to reach the provider; waits until it answers.

    Raises:
        UsageError: it is not the one that the voyage sails on.
    """
    voyage = ledger.voyage()
    while True:
        try:
            reached = await asyncio.to_thread(require_endpoint_of, voyage, settings)
        except UsageError:
            raise
        except OcaptainError as error:
            log.warning("the provider does not answer: %s", error)
            if ledger.voyage().paused_reason is None:
                pause = temporary_pause(
                    None, f"the provider does not answer: {error.message}", is_any_ship_connected=False
                )
                assert pause
                ledger.pause(pause.reason, pause.note)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return reached


async def _sail(captain: Captain) -> None:
    try:
        await captain.run()
    except BaseExceptionGroup as group:
        for kind in (_ProviderMoved, Contradiction, OcaptainError):
            if known := group.subgroup(kind):
                raise _first(known) from group
        raise
    voyage = captain.ledger.voyage()
    log.info("voyage %s: %s", voyage.id, voyage.state)


class _ProviderMoved(Exception):
    """The provider has another address now: its clients must be made again."""


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first plain error of a group of groups."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
