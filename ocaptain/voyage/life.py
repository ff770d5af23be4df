"""The other steps: launch, wait, and the end of a sink. Provisioning between them is Ansible's."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain.captain import process
from ocaptain.captain.ssh import holding
from ocaptain.config import HOSTS
from ocaptain.errors import OcaptainError, Paused
from ocaptain.ledger import Ledger, overview
from ocaptain.ledger.ledger import ENDED, NOT_SAILING
from ocaptain.locks import Lock
from ocaptain.mesh import Records, tailnet_of, take_away
from ocaptain.provider import Endpoint, check_place, choose, endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.config import Settings
    from ocaptain.voyage.home import VoyageDirectory

REACH_SECONDS = 60.0
PROBE_SECONDS = 1.0  # somebody may just be looking whether the lock is held
POLL_SECONDS = 0.1
LOOK_SECONDS = 0.2  # at a voyage that may take hours: each look opens its ledger
MOST_RESTARTS = 5


@dataclass(frozen=True)
class Outcome:
    """Where a voyage stands after a step.

    Attributes:
        state: of the voyage.
        sailing: ships that sail.
        left_out: ships that do not, and why.
        verify_ok: the final verify, None if it was not run.
        note: what the voyage says of itself.
    """

    voyage: str
    state: str
    sailing: tuple[str, ...]
    left_out: Mapping[str, str]
    verify_ok: bool | None
    note: str | None


def outcome(directory: VoyageDirectory) -> Outcome:
    """Return where the voyage stands."""
    with directory.ledger() as ledger:
        seen = overview(ledger)
    return Outcome(
        voyage=seen.voyage,
        state=seen.state,
        sailing=tuple(ship["id"] for ship in seen.ships if ship["state"] not in NOT_SAILING),
        left_out={
            ship["id"]: ship["reason"] or ""
            for ship in seen.ships
            if ship["state"] in NOT_SAILING and not ship["replaced_by"]
        },
        verify_ok=seen.verify["ok"] if seen.verify else None,
        note=seen.note,
    )


def commanded(directory: VoyageDirectory, lock: Lock) -> Ledger:
    """Open the ledger for writing under ``lock``, which is held."""
    assert lock.path.parent == directory.path
    ledger = Ledger(directory.path / "ledger.db")
    ledger.command()
    return ledger


@dataclass(frozen=True)
class Built:
    """What became of the sprites, as Ansible says.

    Attributes:
        ready: that were bootstrapped.
        failed: that were not made or not bootstrapped, with the reason.
        created: that are new: nothing is on their disks yet.
        destroyed: of those that failed, the ones that are gone again.
    """

    ready: Sequence[str] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    created: Sequence[str] = ()
    destroyed: Sequence[str] = ()


def launch(directory: VoyageDirectory, built: Built, settings: Settings) -> Outcome:
    """Note which ships were built, start the captain, and wait until it has reached them.

    A captain that commands already knows its ships, unless some were made or made again: then
    another one takes its place. Its ships work on meanwhile.

    Raises:
        OcaptainError: no ship is ready, or the captain did not start.
    """
    lock = Lock(process.lock_path(directory.path))
    while not lock.wait(PROBE_SECONDS) and _has_news(directory, built):
        process.stop(directory.path)  # a waiting `sail` may be faster than we are: then once more
    if lock.is_held:
        with lock, commanded(directory, lock) as ledger:
            _note_fleet(directory, ledger, built, settings)
            state = ledger.voyage().state
        if state == "complete":
            return outcome(directory)
        process.start(directory.path)
    until = time.monotonic() + REACH_SECONDS
    while time.monotonic() < until:
        with directory.ledger() as ledger:
            waiting = [ship.id for ship in ledger.ships() if ship.state == "bootstrapping"]
            if not waiting or ledger.voyage().state in ENDED:
                break
        if not process.is_running(directory.path):
            break
        time.sleep(POLL_SECONDS)
    return outcome(directory)


def _has_news(directory: VoyageDirectory, built: Built) -> bool:
    """Whether the captain has ended its work, is of an earlier version, or does not count on a ship that is there."""
    with directory.ledger() as ledger:
        voyage = ledger.voyage()
        if ledger.is_copy or voyage.state in {*ENDED, "paused"} or voyage.paused_reason:
            return True
        off = {ship.sprite for ship in ledger.ships() if ship.state in {*NOT_SAILING, "provisioning"}}
    return bool(off & set(built.ready)) or bool(set(built.created) & set(built.ready))


def _note_fleet(directory: VoyageDirectory, ledger: Ledger, built: Built, settings: Settings) -> None:
    if ledger.voyage().state == "complete":
        return
    if ledger.voyage().state == "sunk":
        raise OcaptainError(
            f"{ledger.voyage().id} was sunk meanwhile; `ocaptain sink {ledger.voyage().id}` takes the rest"
        )
    there = _listed(directory, ledger, settings) if built.failed else []
    for ship in ledger.ships():
        if ship.sprite in built.created:
            ledger.ship_has(ship.id, None)
        if ship.sprite in built.ready:
            ledger.set_ship(ship.id, "bootstrapping")
        elif ship.sprite in built.failed:
            gone = ship.sprite not in there
            ledger.set_ship(ship.id, "gone" if gone else "failed", built.failed[ship.sprite])
    if not built.ready:
        reasons = [f"{sprite}: {reason}" for sprite, reason in built.failed.items()]
        left = _close(directory, ledger, settings)
        more = [f"left are {', '.join(left)}; end them with `ocaptain sink {ledger.voyage().id}`"] if left else []
        more += [] if left else leave_mesh(directory, settings, [])  # no sink will
        raise OcaptainError("no ship could be built:", [*reasons, *more])
    if ledger.voyage().paused_reason:
        ledger.go_on()
    if ledger.voyage().state in {"failed", "paused", "sinking"}:
        ledger.set_note(None)
        ledger.set_state("running")


def _listed(directory: VoyageDirectory, ledger: Ledger, settings: Settings) -> list[str]:
    """Return the voyage's sprites that exist, as the provider says; all, if it does not answer.

    Of a voyage on hosts: those that it has, or may have.
    """
    voyage = ledger.voyage()
    if voyage.provider == HOSTS:
        return list(held(directory, ledger))
    try:
        reached = endpoint(choose(settings, voyage.provider)[0], settings)
        return asyncio.run(sprites_of(voyage.id, reached)) if reached else []
    except OcaptainError:
        return [ship.sprite for ship in ledger.ships()]


def held(directory: VoyageDirectory, ledger: Ledger) -> dict[str, str | None]:
    """Return the hosts that the voyage has (None), or that cannot be asked (why)."""
    return asyncio.run(holding(directory.path, directory.id, ledger.ships()))


def _close(directory: VoyageDirectory, ledger: Ledger, settings: Settings) -> list[str]:
    """Nothing sails: a voyage of which nothing is left is over, so that the plan can sail anew.

    Returns:
        The sprites that are left, as the provider says; all, if it does not answer.
    """
    left = _listed(directory, ledger, settings)
    ledger.set_state("failed" if left else "sunk", "no ship could be built")
    return left


def wait(directory: VoyageDirectory) -> Outcome:
    """Wait until the voyage has ended; a captain that died is started again.

    Raises:
        OcaptainError: the captain dies again and again.
    """
    restarts = 0
    while (now := outcome(directory)).state not in ENDED:
        if now.state == "paused":
            raise Paused(f"{directory.id} is paused; go on with `ocaptain sail --resume {directory.id}`")
        if now.state == "sinking":
            raise OcaptainError(
                f"{directory.id} is being sunk; `ocaptain sail --resume {directory.id}` takes it up again"
            )
        if not process.is_running(directory.path):
            time.sleep(POLL_SECONDS)
            if outcome(directory).state in ENDED or process.is_running(directory.path):
                continue
            if restarts == MOST_RESTARTS:
                log = directory.path / "captain.log"
                remedy = f"`ocaptain sail --resume {directory.id}` goes on"
                raise OcaptainError(f"the captain of {directory.id} ended {restarts} times (log: {log}); {remedy}")
            restarts += 1
            process.start(directory.path)
        time.sleep(LOOK_SECONDS)
    return now


def finish_sink(
    directory: VoyageDirectory, settings: Settings, kept: Mapping[str, str], *, abandon: bool = False
) -> dict[str, str]:
    """Prove what is gone, by the provider's own list; return the sprites that are left, with the reason.

    Args:
        directory: the voyage's.
        settings: for the provider.
        kept: sprites that were not destroyed on purpose, with the reason.
        abandon: a host that cannot be asked counts as given back; it keeps its lock until a person removes it.
    """
    with Lock(process.lock_path(directory.path)) as lock:
        if not lock.wait(process.STOP_SECONDS):
            raise OcaptainError(f"another process commands {directory.id}")
        with commanded(directory, lock) as ledger:
            left = _left(directory, ledger, settings, abandon=abandon)
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
        return asyncio.run(take_away(tailnet_of(settings), directory.path, keep=frozenset(sprites)))
    except OcaptainError as error:
        return [error.message]


def has_mesh(directory: VoyageDirectory) -> bool:
    """Whether something of a voyage may be left on a tailnet."""
    return bool(Records(directory.path).files())


def _left(directory: VoyageDirectory, ledger: Ledger, settings: Settings, *, abandon: bool) -> dict[str, str]:
    """Return what is left of a fleet, and what tells it."""
    provider = ledger.voyage().provider
    if provider == HOSTS:
        there = held(directory, ledger)
        return {name: why or "it is still this voyage's" for name, why in there.items() if not (abandon and why)}
    reached = endpoint(choose(settings, provider)[0], settings)
    left = asyncio.run(sprites_of(directory.id, reached)) if reached else []
    return dict.fromkeys(left, "the provider still lists it")


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
    reached = endpoint(choose(settings, voyage.provider)[0], settings)
    check_place(voyage, reached)
    return asyncio.run(sprites_of(directory.id, reached)) if reached else []


async def sprites_of(voyage: str, reached: Endpoint) -> list[str]:
    """Return the sprites of a voyage that the provider lists.

    Raises:
        SpritesError: it cannot be asked.
    """
    async with reached.client() as client:
        return [sprite.name for sprite in await client.list(f"{voyage}-ship-")]
