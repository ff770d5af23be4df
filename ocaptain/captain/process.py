"""The captain as a process: in the background, one at a time, found by its lock.

In the voyage directory: ``captain.lock`` (flock for life), ``captain.pid``, ``captain.log``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from ocaptain.background import start_module
from ocaptain.captain.captain import Captain, sprite_transports
from ocaptain.captain.fleet import Fleet
from ocaptain.captain.ssh import ssh_transports
from ocaptain.config import HOSTS, load_settings
from ocaptain.errors import OcaptainError
from ocaptain.ledger import Fenced, Ledger
from ocaptain.locks import Lock, end_holder, is_locked, start_time
from ocaptain.provider import check_place, choose, endpoint

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 60.0
STARTS = 3
STOP_SECONDS = 10.0
LOCK_SECONDS = 1.0  # somebody may just be looking whether it is held
log = logging.getLogger("ocaptain.captain")


def lock_path(directory: Path) -> Path:
    """Return the lock of a voyage's captain."""
    return directory / "captain.lock"


def is_running(directory: Path) -> bool:
    """Whether a captain (or a sink) holds the voyage."""
    return is_locked(lock_path(directory))


def pid_of(directory: Path) -> int | None:
    """Return the pid of the voyage's captain, None if it is not there: a pid alone may be anybody's by now."""
    try:
        pid, _, born = (directory / "captain.pid").read_text("ascii").strip().partition(" ")
        return int(pid) if born and start_time(int(pid)) == born else None
    except (OSError, ValueError):
        return None


def start(directory: Path) -> None:
    """Start a captain in the background, off any terminal; does nothing if one runs.

    Raises:
        OcaptainError: it did not come up.
    """
    with Lock(directory / "start.lock") as starting:
        if not starting.wait(START_SECONDS):
            raise OcaptainError(f"somebody else has been starting the captain of {directory.name} for too long")
        _start(directory)


def _start(directory: Path) -> None:
    if is_running(directory):
        return
    (directory / "captain.pid").unlink(missing_ok=True)
    log_file = directory / "captain.log"
    for _ in range(STARTS):
        process = start_module("ocaptain.captain", [str(directory)], log_file)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            # It may even have ended already: with everything landed there is little to do.
            if pid_of(directory) is not None or process.poll() == 0:
                return
            if process.poll() is not None:
                break
            time.sleep(0.02)
        if (process.poll() or 0) >= 0:  # not killed while it came up: it would do the same again
            break
    tail = log_file.read_text("utf-8", "replace").strip()[-1500:]
    raise OcaptainError(f"the captain did not start (log: {log_file}):\n{tail}")


def stop(directory: Path) -> bool:
    """Stop the captain that runs; True if none runs afterwards. Its ships work on."""
    pid = pid_of(directory)
    lock = lock_path(directory)
    if not is_locked(lock):
        return True
    return pid is not None and end_holder(lock, pid, STOP_SECONDS)


def main(directory: Path) -> int:
    """Run the captain in this process; return the exit code."""
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
        # Whole at once: who reads it half-written would hold the captain for one that cannot be stopped.
        scratch = directory / "captain.pid.new"
        scratch.write_text(f"{os.getpid()} {start_time(os.getpid())}\n", "ascii")
        scratch.replace(pid_file)
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
        if ledger.voyage().provider == HOSTS:
            # Nobody makes another host, so nothing is replaced; and none is gone but by a person's word.
            await _command(Captain(directory, ledger, ssh_transports(directory)))
            return
        settings = load_settings()
        reached = endpoint(choose(settings, ledger.voyage().provider)[0], settings)
        if reached is None:
            raise OcaptainError("drydock does not run, so its ships are gone; `ocaptain sink` ends the voyage")
        await asyncio.to_thread(check_place, ledger.voyage(), reached)
        async with reached.client() as client:
            here = reached

            def there() -> bool:
                return here.provider == "sprites" or endpoint("drydock", settings) == here

            async def sprites() -> frozenset[str]:
                return frozenset(one.name for one in await client.list(f"{ledger.voyage().id}-ship-"))

            fleet = Fleet(directory, ledger, sprites)
            await _command(Captain(directory, ledger, sprite_transports(client), there, fleet))


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
