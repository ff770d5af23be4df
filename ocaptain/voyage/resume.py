"""Going on with a voyage that is there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.agents import ADAPTERS
from ocaptain.captain.decide.replace import plan_replacements
from ocaptain.captain.transport.target import read_target
from ocaptain.config import HOSTS
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.locks import Lock
from ocaptain.mesh import tailnet_of
from ocaptain.provider import choose_provider, endpoint, require_endpoint, require_same_provider
from ocaptain.voyage.fleet import existing, sprites_of
from ocaptain.voyage.request import Prepared, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocaptain.config import Settings
    from ocaptain.ledger import Ledger
    from ocaptain.options import SailOptions
    from ocaptain.voyage.check import Checked
    from ocaptain.voyage.home import Home, VoyageDirectory


def find_active(home: Home, request: Request, checked: Checked) -> VoyageDirectory | None:
    """Return the active voyage of this plan, None if another one is to be made.

    Raises:
        UsageError: there is one, and the request will have none, or will have it elsewhere.
    """
    if request.on_active == "new":
        return None
    active = _active_of(home, checked.digest)
    if active and request.on_active == "refuse":
        message = f"this plan sails already as {active.id} ({active.voyage().state}):"
        raise UsageError(message, [f"go on with it: --resume {active.id}", "start another one: --new"])
    if active:
        _require_same_kind_of_ships(active, checked.fleet.provider)
    return active


def _active_of(home: Home, digest: str) -> VoyageDirectory | None:
    found = [one for one in home.active() if one.voyage().digest == digest]
    if len(found) > 1:
        raise UsageError("several voyages of this plan are active, name one to resume:", [one.id for one in found])
    return found[0] if found else None


def _require_same_kind_of_ships(active: VoyageDirectory, provider: str) -> None:
    """Going on with a voyage elsewhere than it sails would look as if it did as it was told."""
    sails = active.voyage().provider
    if HOSTS in {sails, provider} and sails != provider:
        message = f"this plan sails already as {active.id}, on {sails}:"
        raise UsageError(message, [f"go on with it: voyage={active.id}", "start another one: on_active=new"])


def resume(directory: VoyageDirectory, settings: Settings, options: SailOptions, *, check: bool = False) -> Prepared:
    """Return a voyage that is there, to go on with.

    Args:
        directory: its.
        settings: the configuration.
        options: what is asked for anew.
        check: change and start nothing.

    Raises:
        UsageError: it is over, or something that it needs is missing.
    """
    voyage = directory.voyage()
    if voyage.state == "sunk":
        raise UsageError(f"{voyage.id} is sunk; start another voyage by `ocaptain sail PLAN --new`")
    _check_missing(directory)
    if voyage.provider == HOSTS:
        if options.replace:
            raise UsageError(f"{voyage.id} sails on hosts of an inventory: they are not replaced")
    else:
        provider, _ = choose_provider(settings, voyage.provider)
        reached = endpoint(provider, settings) if check else require_endpoint(provider, settings)
        require_same_provider(voyage, reached)
        if voyage.mesh == "tailscale":
            tailnet_of(settings)
        if reached:
            asyncio.run(sprites_of(voyage.id, reached))  # so that one that does not answer is said before anything
        if options.replace and not check:
            _replace_lost(directory, settings)
    if options.take_over and not check:
        process.take_over_mark(directory.path).touch()
    if options.repo_settings and not check:
        with _command(directory) as ledger:
            ledger.set_option("repo_settings", options.repo_settings)
    with directory.ledger() as ledger:
        wanted = [ship for ship in ledger.ships() if ship.replaced_by is None and voyage.state != "complete"]
        if voyage.state == "verifying" and any(ship.role == "verify" for ship in wanted):
            wanted = [ship for ship in wanted if ship.role == "verify"]  # no other is needed any more
    fleet = tuple((ship.id, ship.sprite) for ship in wanted)
    targets = {ship.id: read_target(ship) for ship in wanted if voyage.provider == HOSTS}
    return Prepared(voyage.id, str(directory.path), voyage.provider, voyage.state, fleet, resumed=True, targets=targets)


def _check_missing(directory: VoyageDirectory) -> None:
    """An agent that works on must have what it needs: ships that cannot be built anew for it would be left out."""
    with directory.ledger() as ledger:
        agents = {row["agent"] for row in ledger.rows("tasks", "position") if row["status"] != "completed"}
    faults = [found for agent in sorted(agents & set(ADAPTERS)) if (found := ADAPTERS[agent].missing())]
    if faults:
        raise UsageError(f"{directory.id} cannot go on:", faults)


def _replace_lost(directory: VoyageDirectory, settings: Settings) -> None:
    """Note that lost ships are replaced, and which are now; a captain that runs is stopped for it."""
    with _command(directory) as ledger:
        ledger.enable_replacement()
        exist = existing(directory, ledger, settings)
        decided = plan_replacements(ledger.ships(), exist, ledger.voyage().replacements)
        ledger.replace_ships(decided.recreate, decided.substitute)


@contextlib.contextmanager
def _command(directory: VoyageDirectory) -> Iterator[Ledger]:
    """Command the voyage for a moment; a captain that runs is stopped for it."""
    process.stop(directory.path)
    with Lock(process.lock_path(directory.path)) as lock:
        if not lock.acquire_within(process.STOP_SECONDS):
            raise OcaptainError(
                f"another ocaptain command or captain works on {directory.id}; try again when it has ended"
            )
        with directory.ledger() as ledger:
            ledger.take_command()
            yield ledger
