"""``python -m ocaptain.captain DIRECTORY``: the captain of one voyage, in the foreground."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.background import reduce_garbage_collection
from ocaptain.captain.awake import Awake
from ocaptain.captain.decide.pause import passing_pause
from ocaptain.captain.fleet import Fleet
from ocaptain.captain.life import Captain
from ocaptain.captain.provider_watch import ProviderWatch
from ocaptain.captain.transport.sprite import sprite_transports
from ocaptain.captain.transport.ssh import ssh_transports
from ocaptain.captain.verify_ship import VerifyShipMaker
from ocaptain.config import HOSTS, load_settings
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.ledger import Contradiction, Fenced, Ledger, LedgerUnwritable
from ocaptain.locks import Lock
from ocaptain.presence import Existing, what_exists
from ocaptain.prices import load_prices
from ocaptain.process import lock_path
from ocaptain.protocol.files import start_time, write_atomic
from ocaptain.provider import choose, require_endpoint, require_same_provider

if TYPE_CHECKING:
    from ocaptain.config import Settings
    from ocaptain.provider import Endpoint

AGAIN_SECONDS = 5.0  # after a disk was full, or the provider did not answer
LOCK_SECONDS = 1.0  # somebody may just be looking whether it is held
log = logging.getLogger("ocaptain.captain")


def main(directory: Path) -> int:
    """Run the captain in this process; return the exit code."""
    reduce_garbage_collection()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    for noisy in ("httpx", "httpcore", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with Lock(lock_path(directory)) as lock:
        if not lock.acquire_within(LOCK_SECONDS):
            log.error("another captain commands this voyage")
            return 1
        pid_file = directory / "captain.pid"
        try:
            write_atomic(
                pid_file, f"{os.getpid()} {start_time(os.getpid())}\n".encode(), 0o644, durable=False, one_writer=True
            )
        except OSError as error:
            log.error("%s cannot be written: %s", pid_file, error.strerror)  # noqa: TRY400 - likewise
            return 1
        try:
            asyncio.run(_run(directory))
        except Fenced as error:
            log.warning("%s", error)
            return 1
        except OcaptainError as error:
            log.error("%s", error)  # noqa: TRY400 - a known error needs no traceback
            return error.exit_code
        except asyncio.CancelledError:
            log.info("stopped")
        finally:
            pid_file.unlink(missing_ok=True)
    return 0


async def _run(directory: Path) -> None:
    """Run the captain until it has ended, or a signal ends it."""
    work = asyncio.create_task(_command_for_ever(directory))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, work.cancel)
    await work


async def _command_for_ever(directory: Path) -> None:
    """Command; begin anew when the ledger can be written again, or the provider is elsewhere."""
    while True:
        try:
            with Ledger(directory / "ledger.db") as ledger:
                ledger.command()
                try:
                    await _command(directory, ledger)
                except Contradiction as error:
                    ledger.pause("ours")
                    ledger.set_state("paused", error.message)
                    raise
                return
        except _Moved:
            log.info("drydock serves elsewhere now")
        except LedgerUnwritable as error:
            log.error("%s; trying again in %g s", error, AGAIN_SECONDS)  # noqa: TRY400 - no traceback
            await asyncio.sleep(AGAIN_SECONDS)


async def _command(directory: Path, ledger: Ledger) -> None:
    settings = load_settings()
    prices = load_prices(settings.prices)
    if ledger.voyage().provider == HOSTS:
        # Nobody makes another host, so nothing is replaced; and none is gone but by a person's word.
        await _sail(Captain(directory, ledger, ssh_transports(directory), prices=prices))
        return
    reached = await _reach(ledger, settings)
    async with reached.client() as client:
        prefix = f"{ledger.voyage().id}-ship-"

        async def exist(names: frozenset[str]) -> Existing:
            return await what_exists(client, prefix, names)

        async def ask() -> None:
            """Ask the provider anything; a drydock that was killed is started again."""
            now = await asyncio.to_thread(require_endpoint, reached.provider, settings)
            if now != reached:
                raise _Moved
            await client.first_page()

        fleet = Fleet(directory, ledger, exist)
        awake = Awake(ledger, client, ledger.voyage().id)
        maker = VerifyShipMaker(directory, ledger, client, ask)
        transports = sprite_transports(client)
        await _sail(Captain(directory, ledger, transports, ProviderWatch(ask), fleet, prices, awake, maker=maker))


async def _reach(ledger: Ledger, settings: Settings) -> Endpoint:
    """Return how to reach the provider; one that does not answer is waited for.

    Raises:
        UsageError: it is not the one that the voyage sails on.
    """
    voyage = ledger.voyage()
    while True:
        try:
            reached = await asyncio.to_thread(require_endpoint, choose(settings, voyage.provider)[0], settings)
            await asyncio.to_thread(require_same_provider, voyage, reached)
        except UsageError:
            raise
        except OcaptainError as error:
            log.warning("the provider does not answer: %s", error)
            if ledger.voyage().paused_reason is None:
                pause = passing_pause(None, f"the provider does not answer: {error.message}", is_anyone_reached=False)
                assert pause
                ledger.pause(pause.reason)
                ledger.set_note(pause.note)
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            return reached


async def _sail(captain: Captain) -> None:
    try:
        await captain.run()
    except BaseExceptionGroup as group:
        for kind in (_Moved, Contradiction, OcaptainError):
            if known := group.subgroup(kind):
                raise _first(known) from group
        raise
    voyage = captain.ledger.voyage()
    log.info("voyage %s: %s", voyage.id, voyage.state)


class _Moved(Exception):
    """The provider serves elsewhere: whoever has a client of it begins anew."""


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first plain error of a group of groups."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
