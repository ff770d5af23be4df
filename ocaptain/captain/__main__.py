"""``python -m ocaptain.captain DIRECTORY``: the captain of one voyage, in the foreground."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from ocaptain.background import seldom_collect
from ocaptain.captain.awake import Awake
from ocaptain.captain.fleet import Fleet
from ocaptain.captain.life import Captain
from ocaptain.captain.transport.sprite import sprite_transports
from ocaptain.captain.transport.ssh import ssh_transports
from ocaptain.config import HOSTS, load_settings
from ocaptain.errors import OcaptainError
from ocaptain.ledger import Fenced, Ledger
from ocaptain.locks import Lock
from ocaptain.prices import load_prices
from ocaptain.process import lock_path
from ocaptain.protocol.files import start_time, write_atomic
from ocaptain.provider import choose, endpoint, require_same_provider

LOCK_SECONDS = 1.0  # somebody may just be looking whether it is held
log = logging.getLogger("ocaptain.captain")


def main(directory: Path) -> int:
    """Run the captain in this process; return the exit code."""
    seldom_collect()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    for noisy in ("httpx", "httpcore", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with Lock(lock_path(directory)) as lock:
        if not lock.wait(LOCK_SECONDS):
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
    with Ledger(directory / "ledger.db") as ledger:
        ledger.command()
        settings = load_settings()
        prices = load_prices(settings.prices)
        if ledger.voyage().provider == HOSTS:
            # Nobody makes another host, so nothing is replaced; and none is gone but by a person's word.
            await _command(Captain(directory, ledger, ssh_transports(directory), prices=prices))
            return
        reached = endpoint(choose(settings, ledger.voyage().provider)[0], settings)
        if reached is None:
            raise OcaptainError("drydock is not running, so its ships are gone; `ocaptain sink` ends the voyage")
        await asyncio.to_thread(require_same_provider, ledger.voyage(), reached)
        async with reached.client() as client:
            here = reached

            def there() -> bool:
                return here.provider == "sprites" or endpoint("drydock", settings) == here

            async def sprites() -> frozenset[str]:
                return frozenset(one.name for one in await client.list(f"{ledger.voyage().id}-ship-"))

            fleet = Fleet(directory, ledger, sprites)
            awake = Awake(ledger, client, ledger.voyage().id)
            await _command(Captain(directory, ledger, sprite_transports(client), there, fleet, prices, awake))


async def _command(captain: Captain) -> None:
    """Run the captain until it has ended, or a signal ends it."""
    work = asyncio.create_task(captain.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, work.cancel)
    try:
        await work
    except BaseExceptionGroup as group:
        known = group.subgroup(OcaptainError)
        if known is None:
            raise
        raise _first(known) from group
    voyage = captain.ledger.voyage()
    log.info("voyage %s: %s", voyage.id, voyage.state)


def _first(group: BaseExceptionGroup[OcaptainError]) -> OcaptainError:
    """Return the first plain error of a group of groups."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
