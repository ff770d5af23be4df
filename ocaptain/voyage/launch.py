"""Launch: record which ships Ansible built, and start the captain."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.errors import OcaptainError
from ocaptain.ledger.records import ENDED, NOT_SAILING
from ocaptain.locks import Lock
from ocaptain.presence import Presence
from ocaptain.protocol.files import write_atomic
from ocaptain.text import group_by_reason
from ocaptain.voyage.fleet import Outcome, find_existing_ships, open_for_writing, read_outcome
from ocaptain.voyage.sink import leave_mesh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.config import Settings
    from ocaptain.ledger import Ledger
    from ocaptain.voyage.home import VoyageDirectory

REACH_SECONDS = 60.0
PROBE_SECONDS = 1.0  # another process may hold the lock for a moment to test it
POLL_SECONDS = 0.1
RESUMED_NAME = "resumed"  # file with the number of the last event before the user had the voyage resumed


@dataclass(frozen=True)
class BuildResult:
    """What Ansible built; all are names of sprites or hosts.

    Attributes:
        ready: those that were bootstrapped.
        failed: those that were not created or not bootstrapped, with the reason.
        created: new ones, whose disks are empty.
        destroyed: failed ones that were destroyed again.
    """

    ready: Sequence[str] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    created: Sequence[str] = ()
    destroyed: Sequence[str] = ()


def launch(directory: VoyageDirectory, built: BuildResult, settings: Settings) -> Outcome:
    """Record which ships were built, start the captain, and wait until it has reached them.

    A running captain is replaced if ships were created or created again; its ships work on meanwhile.

    Raises:
        OcaptainError: no ship is ready, or the captain did not start.
    """
    lock = Lock(process.captain_lock_path(directory.path))
    while not lock.acquire_within(PROBE_SECONDS) and _needs_new_captain(directory, built):
        process.stop_captain(directory.path)  # a waiting `sail` may start a captain first: then stop that one
    if lock.is_held:
        with lock, open_for_writing(directory, lock) as ledger:
            _record_fleet(directory, ledger, built, settings)
            state = ledger.voyage().state
        if state == "complete":
            return read_outcome(directory)
        process.start_captain(directory.path)
    until = time.monotonic() + REACH_SECONDS
    while time.monotonic() < until:
        with directory.ledger() as ledger:
            waiting = [ship.id for ship in ledger.ships() if ship.state == "bootstrapping"]
            if not waiting or ledger.voyage().state in ENDED:
                break
        if not process.is_captain_running(directory.path):
            break
        time.sleep(POLL_SECONDS)
    return read_outcome(directory)


def _needs_new_captain(directory: VoyageDirectory, built: BuildResult) -> bool:
    """Whether the running captain must be replaced: it has ended, is of an earlier version, or lacks a built ship."""
    with directory.ledger() as ledger:
        voyage = ledger.voyage()
        if ledger.is_copy or voyage.state in {*ENDED, "paused"} or voyage.paused_reason:
            return True
        off = {ship.sprite for ship in ledger.ships() if ship.state in {*NOT_SAILING, "provisioning"}}
    return bool(off & set(built.ready)) or bool(set(built.created) & set(built.ready))


def _record_fleet(directory: VoyageDirectory, ledger: Ledger, built: BuildResult, settings: Settings) -> None:
    if ledger.voyage().state == "complete":
        return
    if ledger.voyage().state == "sunk":
        raise OcaptainError(
            f"{ledger.voyage().id} was sunk meanwhile; destroy its new ships with `ocaptain sink {ledger.voyage().id}`"
        )
    # Only the final verify is left, which can also run on another ship.
    is_last = ledger.voyage().state == "verifying"
    has_failed = not is_last and not {ship.sprite for ship in ledger.ships() if ship.role == "work"} & set(built.ready)
    must_look = built.failed or has_failed
    exist = find_existing_ships(directory, ledger, settings, built.destroyed) if must_look else Presence()
    for ship in ledger.ships():
        if ship.sprite in built.created:
            ledger.set_ship_head(ship.id, None)
        if ship.sprite in built.ready:
            # ship-verify sleeps until it is needed: the launch does not wait for it.
            ledger.set_ship(ship.id, "bootstrapping" if ship.role == "work" else "asleep")
        elif ship.sprite in built.failed:
            gone = ship.sprite in exist.gone
            ledger.set_ship(ship.id, "gone" if gone else "failed", built.failed[ship.sprite])
    if has_failed:
        reasons = group_by_reason(built.failed)
        raise OcaptainError("no ship could be built:", [*reasons, *_end_voyage(directory, ledger, settings, exist)])
    if not _is_paused_since(directory, ledger):
        _let_sail(ledger)


def _let_sail(ledger: Ledger) -> None:
    """End a pause, or an end that was not the last one."""
    if ledger.voyage().paused_reason:
        ledger.clear_pause()
    if ledger.voyage().state in {"failed", "paused", "sinking"}:
        ledger.set_note(None)
        ledger.set_state("running")


def note_resume(directory: VoyageDirectory, event: int) -> None:
    """Note that the user had a voyage resumed after an event: an earlier pause is over.

    Args:
        directory: the voyage's.
        event: number of its last event.
    """
    write_atomic(directory.path / RESUMED_NAME, str(event).encode())


def _is_paused_since(directory: VoyageDirectory, ledger: Ledger) -> bool:
    """Whether the user has paused the voyage since it was made or last resumed: while its ships were built."""
    try:
        resumed = int((directory.path / RESUMED_NAME).read_text("ascii"))
    except (OSError, ValueError):
        resumed = 0
    return ledger.voyage().paused_reason == "user" and ledger.last_pause("user") > resumed


def _end_voyage(directory: VoyageDirectory, ledger: Ledger, settings: Settings, exist: Presence) -> list[str]:
    """End a voyage of which no ship could be built, so that its plan can sail again.

    Returns:
        Lines to add to the error: what is left, and what to do.
    """
    name = ledger.voyage().id
    if exist.unknown:
        ledger.pause("provider")
        ledger.set_state("paused", f"it is not known which of its ships exist: {exist.why}")
        return [f"{exist.why}; {name} is paused, resume it when the provider answers: `ocaptain sail --resume {name}`"]
    ledger.set_state("failed" if exist.there else "sunk", "no ship could be built")
    if exist.there:
        return [f"these ships are left: {', '.join(sorted(exist.there))}; destroy them with `ocaptain sink {name}`"]
    return leave_mesh(directory, settings, [])  # no sink will do it
