"""Checks of all that a new voyage needs. Nothing is made; only a drydock may be started."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.agents import ADAPTERS, Briefing, check_agents
from ocaptain.config import DEFAULT_SHIPS, HOSTS, MAX_SHIPS
from ocaptain.errors import UsageError
from ocaptain.mesh import check_access, choose_mesh, tailnet_of
from ocaptain.names import VERIFY_SHIP, sprite_name
from ocaptain.plan import Plan, load_plan
from ocaptain.plan.models import MODEL
from ocaptain.prices import load_prices
from ocaptain.provider import choose_provider, endpoint, provider_id, require_endpoint
from ocaptain.scratch import remove_abandoned, scratch_directory
from ocaptain.voyage import source as sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.captain.transport.target import SshTarget
    from ocaptain.config import Settings
    from ocaptain.mesh import Mesh
    from ocaptain.names import VerifyOn
    from ocaptain.provider import Endpoint
    from ocaptain.voyage.request import Request
    from ocaptain.voyage.source import Source


def fleet_size(asked: int | None, recommended: int | None, default: int) -> int:
    """Return how many ships sail: the user's word, the plan's, the configuration's.

    Raises:
        UsageError: fewer than one or more than can be handled.
    """
    size = asked if asked is not None else recommended if recommended is not None else default
    if not 1 <= size <= MAX_SHIPS:
        raise UsageError(f"ships must be 1 to {MAX_SHIPS}, not {size}")
    return size


def host_ships(hosts: Sequence[tuple[str, SshTarget]], asked: int | None) -> list[tuple[str, SshTarget]]:
    """Return the hosts that sail: the first of them in the inventory's order, all if no number is asked for.

    Raises:
        UsageError: more ships are asked for than there are hosts.
    """
    if asked is not None and asked > len(hosts):
        names = ", ".join(name for name, _ in hosts)
        raise UsageError(f"{asked} ships are asked for, and there are {len(hosts)} hosts: {names}")
    fleet_size(asked, len(hosts), DEFAULT_SHIPS)
    return list(hosts)[:asked]


@dataclass(frozen=True)
class ChosenFleet:
    """Where a voyage's ships come from.

    Attributes:
        provider: of sprites, or :data:`HOSTS`.
        size: how many sail.
        mesh: that they join.
        hosts: of an inventory, as many as sail.
        verify_on: where the final verify runs; ``clean`` adds a ship for it, but no host.
    """

    provider: str
    size: int
    mesh: Mesh = "none"
    hosts: tuple[tuple[str, SshTarget], ...] = ()
    verify_on: VerifyOn = "clean"

    def ships(self, voyage: str) -> tuple[tuple[str, str], ...]:
        """Return each ship's id, and the name of its sprite or host."""
        ids = [f"ship-{number}" for number in range(self.size)]
        if self.verify_on == "clean" and not self.hosts:
            ids.append(VERIFY_SHIP)
        names = [name for name, _ in self.hosts] or [sprite_name(voyage, ship) for ship in ids]
        return tuple(zip(ids, names, strict=True))

    def targets(self) -> dict[str, SshTarget]:
        """Return how each ship is reached that is a host, by the ship's id."""
        return {f"ship-{number}": way for number, (_, way) in enumerate(self.hosts)}


@dataclass(frozen=True)
class Checked:
    """A request for a new voyage that can be met.

    Attributes:
        plan: as it was loaded.
        agents: of each task that is still to be done.
        fleet: where the ships come from.
        source: of the repository.
        digest: of plan and repository: two requests with the same one are for the same voyage.
        notes: what the user should know, a line each.
    """

    plan: Plan
    agents: Mapping[str, str]
    fleet: ChosenFleet
    source: Source
    digest: str
    notes: list[str]


def check_request(request: Request, settings: Settings) -> Checked:
    """Check all that can be checked on this machine.

    Raises:
        UsageError: something is wrong; nothing was made.
    """
    if request.plan is None:
        raise UsageError("name a plan's directory (plan), or a voyage to go on with (voyage)")
    plan, notes = _load(request.plan)
    agents = check_agents(plan, request.options.agent, request.options.agent_cmd)
    fleet = _fleet(request, plan, settings, notes)
    load_prices(settings.prices)  # a wrong table would be found out by the captain only
    _check_model(request)
    beside = Path.cwd() if request.options.repo else request.plan
    _check_pins(plan, fleet.size)
    _check_template(plan, request.options.agent_cmd, agents)
    source = sources.resolve(request.options.repo or plan.manifest.repo, beside)
    digest = hashlib.sha256(f"{plan.digest()}\0{source.url}".encode()).hexdigest()[:16]
    return Checked(plan, agents, fleet, source, digest, notes)


def check_services(checked: Checked, settings: Settings, *, start: bool) -> str:
    """Have repository, provider and tailnet answer, all at once; what they say goes to the notes.

    Args:
        checked: the request.
        settings: the configuration.
        start: whether a drydock may be started for it.

    Returns:
        Which place the provider is (``Voyage.place``), empty if that is not known yet.

    Raises:
        UsageError: one of them refuses us.
        SpritesError: the provider does not answer.
    """
    remove_abandoned()
    with scratch_directory("check") as directory, ThreadPoolExecutor() as pool:
        access = pool.submit(sources.check_access, checked.source, settings, directory)
        reach = pool.submit(_check_provider, checked.fleet.provider, settings, start=start)
        joinable = pool.submit(_check_mesh, checked.fleet.mesh, settings)
        checked.notes.extend(access.result())
        reached = reach.result()  # whether a host answers is seen when it is built
        joinable.result()
    return provider_id(reached) if reached else ""


def _fleet(request: Request, plan: Plan, settings: Settings, notes: list[str]) -> ChosenFleet:
    """Decide where ships come from and how many sail; what the user should know of it goes to ``notes``."""
    verify_on: VerifyOn = "any" if (request.options.verify_on or settings.verify_on) == "any" else "clean"
    if request.hosts:
        hosts = host_ships(request.hosts, request.options.ships)
        _check_hosts(request, hosts)
        if settings.mesh == "tailscale":
            notes.append("OCAPTAIN_MESH=tailscale is not for hosts of an inventory: they are not put on a tailnet")
        return ChosenFleet(HOSTS, len(hosts), hosts=tuple(hosts), verify_on=verify_on)
    provider, why = choose_provider(settings, request.options.provider)
    if provider == "drydock" and why != "named":
        notes.append(f"{why}: sailing on drydock, the local provider")
    notes += _drydocks_shortcoming() if provider == "drydock" else []
    size = fleet_size(request.options.ships, plan.manifest.recommended_ships, settings.default_ships)
    if verify_on == "clean" and size == MAX_SHIPS:
        most = (
            f"{MAX_SHIPS - 1} ships and one for the final verify are the most: -n {MAX_SHIPS - 1}, or --verify-on any"
        )
        raise UsageError(f"{size} ships leave no room for the final verify's own: {most}")
    return ChosenFleet(provider, size, choose_mesh(settings, provider, request.options.mesh), verify_on=verify_on)


def _load(directory: Path) -> tuple[Plan, list[str]]:
    report = load_plan(directory)
    if report.plan is None:
        raise UsageError(f"the plan {directory} cannot be sailed:", [str(fault) for fault in report.faults])
    return report.plan, [f"warning: {warning}" for warning in report.warnings]


def _check_model(request: Request) -> None:
    if request.options.model is not None and not re.fullmatch(MODEL, request.options.model):
        raise UsageError(f"--model {request.options.model!r} is not a model's name")
    if request.options.max_turns is not None and request.options.max_turns < 1:
        raise UsageError("--max-turns must be 1 or more")


def _check_hosts(request: Request, hosts: Sequence[tuple[str, SshTarget]]) -> None:
    """What is asked for must be possible with hosts, and from here."""
    if request.options.replace:
        raise UsageError("hosts of an inventory are not replaced when they are lost: leave replace out")
    if request.options.provider:
        raise UsageError(
            f"hosts of an inventory and sprites of {request.options.provider} were both asked for: give only one"
        )
    if request.options.mesh == "tailscale":
        remedy = "leave --mesh out, and apply the role tailscale to them with a key of your own"
        raise UsageError(f"ocaptain cannot add hosts of an inventory to the voyage's tailnet: {remedy}")
    _check_distinct(hosts)
    missing = {way.executable for _, way in hosts if shutil.which(way.executable) is None}
    if missing:
        raise UsageError(f"{', '.join(sorted(missing))} is not installed: apt-get install openssh-client")


def _check_distinct(hosts: Sequence[tuple[str, SshTarget]]) -> None:
    """A ship has its host's user for itself: two of them would end each other's agents."""
    known: dict[tuple[str, int, str | None], str] = {}
    for name, way in hosts:
        other = known.setdefault((way.host, way.port or 22, way.user), name)
        if other != name:
            where = f"{way.user or 'the same user'} on {way.host}, port {way.port or 22}"
            raise UsageError(f"{other} and {name} are one host ({where}): leave one out, or give it another user")


def _check_pins(plan: Plan, size: int) -> None:
    """A task that is pinned to a ship that will not sail would wait for ever."""
    pinned = [
        f"tasks/{task.id}.json: metadata.pin: {task.metadata.pin} does not sail; use ship-0 to ship-{size - 1}"
        for task in plan.tasks.values()
        if task.metadata.pin and int(task.metadata.pin.removeprefix("ship-")) >= size
    ]
    if pinned:
        raise UsageError(
            f"only {size} ships sail, and these tasks are pinned to others; add ships, or change the pins:", pinned
        )


def _check_template(plan: Plan, agent_cmd: str | None, agents: Mapping[str, str]) -> None:
    """A plan's own prompt template must render for every task, before anything is created."""
    if plan.prompt is not None:
        for task, agent in agents.items():
            raw = plan.tasks[task].raw()
            ADAPTERS[agent].brief(Briefing("voyage-0", "ship-0", 1, raw, plan.spec, agent_cmd, (), None, plan.prompt))


def _drydocks_shortcoming() -> list[str]:
    from ocaptain.drydock.rootless import describe_limitation  # noqa: PLC0415 - only where drydock is meant

    found = describe_limitation()
    return [found] if found else []


def _check_provider(named: str, settings: Settings, *, start: bool) -> Endpoint | None:
    """Have the provider answer to our token; drydock is started for it, or None is returned, as for hosts."""
    if named == HOSTS:
        return None
    provider, _ = choose_provider(settings, named)
    reached = require_endpoint(provider, settings) if start else endpoint(provider, settings)
    if reached is None:
        return None
    found = asyncio.run(_organisation(reached))
    if provider == "sprites" and settings.sprites_org and found and found != settings.sprites_org:
        message = (
            f"the Sprites token is one of organisation {found}, but OCAPTAIN_SPRITES_ORG is {settings.sprites_org}"
        )
        raise UsageError(f"{message}: set the other organisation's token, or unset OCAPTAIN_SPRITES_ORG")
    return reached


def _check_mesh(mesh: Mesh, settings: Settings) -> None:
    """Have the tailnet's service answer to our secret, before anything is created."""
    if mesh == "tailscale":
        asyncio.run(check_access(tailnet_of(settings)))


async def _organisation(reached: Endpoint) -> str:
    async with reached.client() as client:
        return (await client.first_page()).organisation
