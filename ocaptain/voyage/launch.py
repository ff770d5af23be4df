"""Launch: note what Ansible built, and start the captain over it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.errors import OcaptainError
from ocaptain.ledger.records import ENDED, NOT_SAILING
from ocaptain.locks import Lock
from ocaptain.presence import Existing
from ocaptain.voyage.fleet import Outcome, existing, open_for_writing, outcome
from ocaptain.voyage.sink import leave_mesh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.config import Settings
    from ocaptain.ledger import Ledger
    from ocaptain.voyage.home import VoyageDirectory

REACH_SECONDS = 60.0
PROBE_SECONDS = 1.0  # somebody may just be looking whether the lock is held
POLL_SECONDS = 0.1


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
    while not lock.acquire_within(PROBE_SECONDS) and _has_news(directory, built):
        process.stop(directory.path)  # a waiting `sail` may be faster than we are: then once more
    if lock.is_held:
        with lock, open_for_writing(directory, lock) as ledger:
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
    exist = existing(directory, ledger, settings, built.destroyed) if built.failed else Existing()
    for ship in ledger.ships():
        if ship.sprite in built.created:
            ledger.set_ship_head(ship.id, None)
        if ship.sprite in built.ready:
            # ship-verify sleeps until it is needed: nobody waits for it.
            ledger.set_ship(ship.id, "bootstrapping" if ship.role == "work" else "asleep")
        elif ship.sprite in built.failed:
            gone = ship.sprite in exist.gone
            ledger.set_ship(ship.id, "gone" if gone else "failed", built.failed[ship.sprite])
    # All that is left is the final verify, which has other places, too.
    is_last = ledger.voyage().state == "verifying"
    if not is_last and not {ship.sprite for ship in ledger.ships() if ship.role == "work"} & set(built.ready):
        reasons = [f"{sprite}: {reason}" for sprite, reason in built.failed.items()]
        raise OcaptainError("no ship could be built:", [*reasons, *_close(directory, ledger, settings, exist)])
    if ledger.voyage().paused_reason:
        ledger.clear_pause()
    if ledger.voyage().state in {"failed", "paused", "sinking"}:
        ledger.set_note(None)
        ledger.set_state("running")


def _close(directory: VoyageDirectory, ledger: Ledger, settings: Settings, exist: Existing) -> list[str]:
    """Nothing sails: a voyage of which nothing is left is over, so that the plan can sail anew.

    Returns:
        What else there is to say, a line each.
    """
    name = ledger.voyage().id
    if exist.unknown:
        ledger.pause("provider")
        ledger.set_state("paused", f"what exists of its fleet is not known: {exist.why}")
        return [f"{exist.why}; {name} is paused, `ocaptain sail --resume {name}` goes on when it answers"]
    ledger.set_state("failed" if exist.there else "sunk", "no ship could be built")
    if exist.there:
        return [f"left are {', '.join(sorted(exist.there))}; end them with `ocaptain sink {name}`"]
    return leave_mesh(directory, settings, [])  # no sink will
