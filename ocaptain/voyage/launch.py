"""Launch: record which ships Ansible built, and start the captain."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.control import Answer, CaptainSilent, Command, ask, carry_out
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
HALTED = frozenset({*ENDED, "paused", "sinking"})  # states in which a captain has nothing to do
OFF = frozenset({*NOT_SAILING, "provisioning"})  # states of ships that no captain follows
RESUMED_NAME = "resumed"  # file with the number of the last event before the user had the voyage resumed


@dataclass(frozen=True)
class BuildResult:
    """What Ansible built; all are names of sprites or hosts.

    Attributes:
        ready: those that were bootstrapped.
        failed: those that were not created or not bootstrapped, with the reason.
        created: new ones, whose disks are empty.
        destroyed: failed ones that were destroyed again.
        joined: those of ``ready`` that are part of the fleet already, see :func:`join`.
    """

    ready: Sequence[str] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    created: Sequence[str] = ()
    destroyed: Sequence[str] = ()
    joined: Sequence[str] = ()

    @property
    def waiting(self) -> frozenset[str]:
        """Those that were bootstrapped and have not joined."""
        return frozenset(self.ready) - frozenset(self.joined)


def join(directory: VoyageDirectory, sprite: str, *, is_new: bool) -> None:
    """Make a ship that was just built part of the fleet; the first one that takes tasks starts the captain.

    Args:
        directory: the voyage's.
        sprite: name of the sprite or host.
        is_new: whether it was created for this, so that its disk is empty.

    Raises:
        OcaptainError: the voyage was sunk meanwhile, or its captain neither answers nor ends.
    """
    with directory.ledger() as ledger:
        voyage = ledger.voyage()
        ship = next((one for one in ledger.ships() if one.sprite == sprite), None)
        must_resume = voyage.paused_reason == "user" and ledger.last_pause("user") <= _last_resumed(directory)
    if ship is None:
        raise OcaptainError(f"{directory.id} has no ship on {sprite}")
    has_captain = process.is_captain_running(directory.path)
    if has_captain and voyage.state not in HALTED and not (is_new or must_resume or ship.state in OFF):
        return  # it has never left
    # One that sleeps until the final verify needs no captain.
    needs_captain = ship.role == "work" or has_captain
    command = Command(name="built", ready=(ship.id,), created=(ship.id,) if is_new else ())

    def record(command: Command, ledger: Ledger) -> Answer:
        _refuse_sunk(directory, ledger)
        answer = carry_out(command, ledger)
        if needs_captain:
            _resume(directory, ledger)
        return answer

    if must_resume:  # a captain that pauses does not go on
        process.stop_captain(directory.path)
    try:
        ask(directory.path, command, record)
    except CaptainSilent:
        process.stop_captain(directory.path)
        ask(directory.path, command, record)
    with directory.ledger() as ledger:
        state = ledger.voyage().state
    if needs_captain and state not in HALTED:
        process.start_captain(directory.path)


def report_failures(directory: VoyageDirectory, failed: Mapping[str, str]) -> None:
    """Tell the captain which ships could not be built, if one runs: something may wait for them.

    Args:
        directory: the voyage's.
        failed: the reasons, by sprite or host.

    Raises:
        OcaptainError: it does not answer.
    """
    if not process.is_captain_running(directory.path):
        return
    with directory.ledger() as ledger:
        command = _command(ledger, BuildResult(failed=failed), Presence())
    ask(directory.path, command, _ignore)


def _ignore(command: Command, ledger: Ledger) -> Answer:
    """Leave it to the launch, since the captain has ended meanwhile."""
    del command, ledger
    return Answer(done=True, said="")


def launch(directory: VoyageDirectory, built: BuildResult, settings: Settings) -> Outcome:
    """Record which ships were built and which were not, and wait until the captain has reached them.

    It starts the captain, or another one in its place, where that was not done as the ships joined; ships work on
    meanwhile.

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
        if state == "complete" or (built.joined and state in HALTED):
            return read_outcome(directory)
        process.start_captain(directory.path)
    elif built.joined:
        _report(directory, built, settings)
    _wait_until_reached(directory)
    return read_outcome(directory)


def _wait_until_reached(directory: VoyageDirectory) -> None:
    until = time.monotonic() + REACH_SECONDS
    while time.monotonic() < until:
        with directory.ledger() as ledger:
            waiting = [ship.id for ship in ledger.ships() if ship.state == "bootstrapping"]
            if not waiting or ledger.voyage().state in ENDED:
                return
        if not process.is_captain_running(directory.path):
            return
        time.sleep(POLL_SECONDS)


def _report(directory: VoyageDirectory, built: BuildResult, settings: Settings) -> None:
    """Have the captain record what did not join."""
    with directory.ledger() as ledger:
        exist = find_existing_ships(directory, ledger, settings, built.destroyed) if built.failed else Presence()
        command = _command(ledger, built, exist)
    if command.ready or command.failed:
        ask(directory.path, command)


def _command(ledger: Ledger, built: BuildResult, exist: Presence) -> Command:
    """Return the command that records what did not join."""
    ships = {ship.sprite: ship.id for ship in ledger.ships()}
    return Command(
        name="built",
        ready=tuple(ships[name] for name in ships if name in built.waiting),
        created=tuple(ships[name] for name in ships if name in built.created and name not in built.joined),
        failed={ships[name]: why for name, why in built.failed.items() if name in ships},
        gone=tuple(ships[name] for name in built.failed if name in exist.gone and name in ships),
    )


def _needs_new_captain(directory: VoyageDirectory, built: BuildResult) -> bool:
    """Whether the running captain must be replaced: it has ended, is of an earlier version, or lacks a built ship."""
    with directory.ledger() as ledger:
        voyage = ledger.voyage()
        if ledger.is_copy or voyage.state in {*ENDED, "paused"} or (voyage.paused_reason and not built.joined):
            return True
        off = {ship.sprite for ship in ledger.ships() if ship.role == "work" and ship.state in OFF}
    return bool(built.waiting & (off | set(built.created)))


def _record_fleet(directory: VoyageDirectory, ledger: Ledger, built: BuildResult, settings: Settings) -> None:
    _refuse_sunk(directory, ledger)
    # Only the final verify is left, which can also run on another ship.
    is_over = ledger.voyage().state in {"verifying", "complete"}
    has_failed = not is_over and not {ship.sprite for ship in ledger.ships() if ship.role == "work"} & set(built.ready)
    must_look = built.failed or has_failed
    exist = find_existing_ships(directory, ledger, settings, built.destroyed) if must_look else Presence()
    carry_out(_command(ledger, built, exist), ledger)
    if has_failed:
        reasons = group_by_reason(built.failed)
        raise OcaptainError("no ship could be built:", [*reasons, *_end_voyage(directory, ledger, settings, exist)])
    _resume(directory, ledger)


def _refuse_sunk(directory: VoyageDirectory, ledger: Ledger) -> None:
    """Refuse a voyage that was sunk, or whose sink began, while its ships were built.

    Raises:
        OcaptainError: it is so.
    """
    state = ledger.voyage().state
    if state == "sunk" or (state == "sinking" and ledger.last_end() > _last_resumed(directory)):
        raise OcaptainError(
            f"{directory.id} was sunk meanwhile; destroy its new ships with `ocaptain sink {directory.id}`"
        )


def _resume(directory: VoyageDirectory, ledger: Ledger) -> None:
    """End a pause, or an end that was not the last one, unless it came after the user had the voyage resumed."""
    resumed = _last_resumed(directory)
    if ledger.voyage().paused_reason == "user" and ledger.last_pause("user") > resumed:
        return
    if ledger.voyage().state in {"failed", "paused", "sinking"} and ledger.last_end() > resumed:
        return
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


def _last_resumed(directory: VoyageDirectory) -> int:
    """Return the number of the last event before the user had the voyage resumed, 0 if that was never done."""
    try:
        return int((directory.path / RESUMED_NAME).read_text("ascii"))
    except (OSError, ValueError):
        return 0


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
