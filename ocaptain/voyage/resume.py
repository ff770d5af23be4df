"""Resume an existing voyage."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Literal

from ocaptain import process
from ocaptain.agents import ADAPTERS
from ocaptain.captain.decide.replace import plan_replacements
from ocaptain.captain.transport.target import read_target
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.ledger.records import NOT_SAILING
from ocaptain.locks import Lock
from ocaptain.mesh import tailnet_of
from ocaptain.names import HOSTS
from ocaptain.options import require_hooks
from ocaptain.provider import choose_provider, endpoint, require_endpoint_of, require_same_provider
from ocaptain.voyage.fleet import find_existing_ships, list_sprites
from ocaptain.voyage.home import Home, table_of
from ocaptain.voyage.launch import note_resume
from ocaptain.voyage.request import Prepared, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocaptain.config import Settings
    from ocaptain.ledger import Ledger
    from ocaptain.options import SailOptions
    from ocaptain.voyage.check import CheckedRequest
    from ocaptain.voyage.home import VoyageDirectory

Start = Literal["captain", "fleet"] | None
MAX_NAMED = 10  # tasks in a message


def find_active(home: Home, request: Request, checked: CheckedRequest) -> VoyageDirectory | None:
    """Return the active voyage of this plan, None if a new one should be made.

    Raises:
        UsageError: there is one, and the request forbids it or needs other ships.
    """
    if request.on_active == "new":
        return None
    active = _find_by_digest(home, checked.digest)
    if active and request.on_active == "refuse":
        message = f"this plan sails already as {active.id} ({active.voyage().state}):"
        raise UsageError(message, [f"resume it: --resume {active.id}", "start another one: --new"])
    if active:
        _require_same_kind_of_ships(active, checked.fleet.provider)
    return active


def _find_by_digest(home: Home, digest: str) -> VoyageDirectory | None:
    found = [one for one in home.active_voyages() if one.voyage().digest == digest]
    if len(found) > 1:
        raise UsageError("several voyages of this plan are active, name one to resume:", table_of(found))
    return found[0] if found else None


def _require_same_kind_of_ships(active: VoyageDirectory, provider: str) -> None:
    """Refuse to resume a voyage of hosts for a request for sprites, or the other way round."""
    sails = active.voyage().provider
    if HOSTS in {sails, provider} and sails != provider:
        message = f"this plan sails already as {active.id}, on {sails}:"
        raise UsageError(message, [f"resume it: voyage={active.id}", "start another one: on_active=new"])


def resume(directory: VoyageDirectory, settings: Settings, options: SailOptions, *, check: bool = False) -> Prepared:
    """Prepare an existing voyage to continue.

    Args:
        directory: the voyage's directory.
        settings: the configuration.
        options: options to change.
        check: change and start nothing.

    Raises:
        UsageError: the voyage is sunk, something that it needs is missing, or an option does not go with it.
        OcaptainError: tasks failed for good, and no other can be tried.
    """
    voyage = directory.voyage()
    if voyage.state == "sunk":
        raise UsageError(f"{voyage.id} is sunk; start another voyage by `ocaptain sail PLAN --new`")
    require_hooks(is_interactive=voyage.is_interactive, repo_settings=options.repo_settings)
    _require_open_tasks(directory)
    _check_agents(directory)
    if voyage.provider == HOSTS:
        if options.replace:
            raise UsageError(
                f"{voyage.id} sails on hosts of an inventory, which cannot be replaced; leave out --replace"
            )
    else:
        if check:
            reached = endpoint(choose_provider(settings, voyage.provider)[0], settings)
            require_same_provider(voyage, reached)
        else:
            reached = require_endpoint_of(voyage, settings)
        if voyage.mesh == "tailscale":
            tailnet_of(settings)
        if reached:
            asyncio.run(list_sprites(voyage.id, reached))  # so that a provider that does not answer is reported first
        if options.replace and not check:
            _replace_lost(directory, settings)
    if not check:
        _store_request(directory, options)
    with directory.ledger() as ledger:
        ships = [ship for ship in ledger.ships() if ship.replaced_by is None and voyage.state != "complete"]
        if voyage.state == "verifying" and any(ship.role == "verify" for ship in ships):
            ships = [ship for ship in ships if ship.role == "verify"]  # no other is needed any more
    fleet = tuple((ship.id, ship.sprite) for ship in ships)
    targets = {ship.id: read_target(ship) for ship in ships if voyage.provider == HOSTS}
    return Prepared(voyage.id, str(directory.path), voyage.provider, voyage.state, fleet, resumed=True, targets=targets)


def _store_request(directory: VoyageDirectory, options: SailOptions) -> None:
    """Store what the user asks for, for the captain and the launch."""
    if options.take_over:
        process.take_over_path(directory.path).touch()
    for name in ("repo_settings", "task_list"):
        if (value := getattr(options, name)) is not None:
            with _open_for_writing(directory) as ledger:
                ledger.set_option(name, value)
    if not process.is_replacement_running(directory.path):  # which the captain asked for, not the user
        with directory.ledger() as ledger:
            note_resume(directory, ledger.last_event_number())


def _require_open_tasks(directory: VoyageDirectory) -> None:
    """Refuse to go on where nothing can be tried, since what is left failed for good or waits for that.

    Raises:
        OcaptainError: it is so; the message says how to look at the failures, and how to try them again.
    """
    with directory.ledger() as ledger:
        failed = [] if ledger.has_open_tasks() else ledger.failed_tasks()
    if failed:
        several = len(Home(directory.path.parent).active_voyages()) > 1
        words = [directory.id] if several else []
        named = failed if len(failed) <= MAX_NAMED else []  # none named = all that failed
        why, retry = " ".join([*words, failed[0]]), " ".join(["retry", *words, *named])
        raise OcaptainError(f"{len(failed)} failed: ocaptain why {why}; ocaptain {retry}")


def decide_start(directory: VoyageDirectory, settings: Settings, *, is_same_agent: bool = True) -> Start:
    """Decide what the open tasks of a voyage need so that they are worked on.

    A voyage that is paused, or has ended otherwise than by a failure, is left as it is.

    Args:
        directory: the voyage's.
        settings: the configuration of the provider.
        is_same_agent: whether the ships have what the agents of all tasks need.

    Returns:
        ``captain``: one is to be started, its ships are there. ``fleet``: what ``sail --resume`` does, which makes
        missing ships again. None: nothing.
    """
    has_captain = process.is_captain_running(directory.path)
    with directory.ledger() as ledger:
        voyage = ledger.voyage()
        if voyage.state not in {"running", "failed"} or voyage.paused_reason == "user" or not ledger.has_open_tasks():
            return None
        fleet = [ship for ship in ledger.ships() if ship.role == "work" and ship.replaced_by is None]
        off = {ship.id for ship in fleet if ship.state in {*NOT_SAILING, "provisioning"}}
        if has_captain and is_same_agent:
            return "fleet" if len(off) == len(fleet) or off & ledger.open_pins() else None
        if voyage.state == "failed" or off or not is_same_agent:
            return "fleet"
        is_there = {ship.sprite for ship in fleet} <= find_existing_ships(directory, ledger, settings).there
    return "captain" if is_there else "fleet"


def _check_agents(directory: VoyageDirectory) -> None:
    """Check that the agents of all open tasks have what they need to build their ships.

    Raises:
        UsageError: one lacks something; names each.
    """
    with directory.ledger() as ledger:
        agents = {row["agent"] for row in ledger.rows("tasks", "position") if row["status"] != "completed"}
    faults = [
        found for agent in sorted(agents & set(ADAPTERS)) if (found := ADAPTERS[agent].find_missing_requirement())
    ]
    if faults:
        raise UsageError(f"{directory.id} cannot go on:", faults)


def _replace_lost(directory: VoyageDirectory, settings: Settings) -> None:
    """Record that lost ships are replaced, and replace those lost now; stops a running captain."""
    with _open_for_writing(directory) as ledger:
        ledger.enable_replacement()
        exist = find_existing_ships(directory, ledger, settings)
        decided = plan_replacements(ledger.ships(), exist, ledger.voyage().replacements)
        ledger.replace_ships(decided.recreate, decided.substitute)


@contextlib.contextmanager
def _open_for_writing(directory: VoyageDirectory) -> Iterator[Ledger]:
    """Open the ledger for writing inside the block; stops a running captain."""
    process.stop_captain(directory.path)
    with Lock(process.captain_lock_path(directory.path)) as lock:
        if not lock.acquire_within(process.STOP_SECONDS):
            raise OcaptainError(
                f"another ocaptain command or captain works on {directory.id}; try again when it has ended"
            )
        with directory.ledger() as ledger:
            ledger.take_command()
            yield ledger
