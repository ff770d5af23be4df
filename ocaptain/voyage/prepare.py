"""The first step: check everything, then make the voyage's directory. Nothing is created on a fault.

::

    Request ──plan, agents, provider, repository (all at once)──> faults? exit 2
            ──one active voyage of this digest?──> go on with it, or refuse
            ──directory under a scratch name: repo.git, workspace, ledger──rename──> Prepared
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ocaptain.agents import ADAPTERS, Briefing, check_agents
from ocaptain.captain import process
from ocaptain.captain.replace import replacements
from ocaptain.captain.ssh import way_of
from ocaptain.config import DEFAULT_SHIPS, HOSTS, MAX_SHIPS, Settings
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.ledger import Ledger, NewVoyage
from ocaptain.locks import Lock
from ocaptain.plan import Plan, critical_paths, edges, load_plan
from ocaptain.provider import Endpoint, check_place, choose, place_of, require_endpoint
from ocaptain.voyage import source as sources
from ocaptain.voyage.home import Home, VoyageDirectory, new_id, sprite_name
from ocaptain.voyage.life import sprites_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.captain.ssh import Way
    from ocaptain.voyage.source import Source

VERIFY_SECONDS = 1800.0
LOCK_SECONDS = 600.0
OnActive = Literal["resume", "refuse", "new"]


@dataclass(frozen=True)
class Request:
    """What the user asks for. Either ``plan`` or ``voyage``; with ``hosts`` (name, way) they are the ships."""

    plan: Path | None = None
    voyage: str | None = None
    ships: int | None = None
    repo: str | None = None
    agent: str | None = None
    agent_cmd: str | None = None
    provider: str | None = None
    on_active: OnActive = "resume"
    allow_partial: bool = False
    replace: bool = False
    hosts: tuple[tuple[str, Way], ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A voyage that can be provisioned.

    Attributes:
        id, directory, provider, state: of the voyage.
        ships: every ship that shall sail: (id, sprite or host).
        ways: to those that are hosts, by id.
        resumed: whether the voyage was there before.
        notes: what the user should know, a line each.
    """

    id: str
    directory: str
    provider: str
    state: str
    ships: tuple[tuple[str, str], ...]
    resumed: bool
    notes: tuple[str, ...] = field(default=())
    ways: Mapping[str, Way] = field(default_factory=dict)


def fleet_size(asked: int | None, recommended: int | None, default: int) -> int:
    """Return how many ships sail: the user's word, the plan's, the configuration's.

    Raises:
        UsageError: fewer than one or more than can be handled.
    """
    size = asked if asked is not None else recommended if recommended is not None else default
    if not 1 <= size <= MAX_SHIPS:
        raise UsageError(f"ships must be 1 to {MAX_SHIPS}, not {size}")
    return size


def host_ships(hosts: Sequence[tuple[str, Way]], asked: int | None) -> list[tuple[str, Way]]:
    """Return the hosts that sail: the first of them in the inventory's order, all if no number is asked for.

    Raises:
        UsageError: more ships are asked for than there are hosts.
    """
    if asked is not None and asked > len(hosts):
        names = ", ".join(name for name, _ in hosts)
        raise UsageError(f"{asked} ships are asked for, and there are {len(hosts)} hosts: {names}")
    fleet_size(asked, len(hosts), DEFAULT_SHIPS)
    return list(hosts)[:asked]


def prepare(request: Request, settings: Settings) -> Prepared:
    """Check what is asked for and make the voyage, or find the one to go on with.

    Raises:
        UsageError: something is wrong with plan, configuration or surroundings; nothing was made.
        OcaptainError: the directory could not be made.
    """
    home = Home(settings.voyages)
    if shutil.which("git") is None:
        raise UsageError("git is not installed: apt-get install git")
    if request.voyage:
        return _resumed(home.find(request.voyage), settings, replace=request.replace)
    if request.plan is None:
        raise UsageError("name a plan's directory (plan), or a voyage to go on with (voyage)")
    plan, notes = _checked_plan(request.plan)
    agents = check_agents(plan, request.agent, request.agent_cmd, settings)
    if request.hosts:
        provider, hosts = HOSTS, host_ships(request.hosts, request.ships)
        _check_hosts(request, hosts)
        size = len(hosts)
    else:
        (provider, why), hosts = choose(settings, request.provider), []
        if provider == "drydock" and why != "named":
            notes.append(f"{why}: sailing on drydock, the local provider")
        notes += _drydocks_shortcoming() if provider == "drydock" else []
        size = fleet_size(request.ships, plan.manifest.recommended_ships, settings.default_ships)
    beside = Path.cwd() if request.repo else request.plan
    _check_pins(plan, size)
    _check_template(plan, request.agent_cmd, agents)
    source = sources.resolve(request.repo or plan.manifest.repo, beside)
    _make_home(home.path)
    with tempfile.TemporaryDirectory(prefix="ocaptain-check-") as scratch, ThreadPoolExecutor() as pool:
        access = pool.submit(sources.check_access, source, settings, Path(scratch))
        reach = pool.submit(_check_provider, provider, settings)
        notes += access.result()
        reached = reach.result()  # whether a host answers is seen when it is built
    with Lock(home.path / ".lock") as lock:
        if not lock.wait(LOCK_SECONDS):
            raise OcaptainError(f"another `ocaptain sail` is still preparing a voyage in {home.path}")
        digest = hashlib.sha256(f"{plan.digest()}\0{source.url}".encode()).hexdigest()[:16]
        active = _active(home, digest)
        if active and request.on_active == "refuse":
            state = active.voyage().state
            message = f"this plan sails already as {active.id} ({state}):"
            raise UsageError(message, [f"go on with it: --resume {active.id}", "start another one: --new"])
        if active and request.on_active == "resume":
            _check_same(active, provider)
            return _resumed(active, settings, replace=request.replace)
        place = place_of(reached) if reached else ""
        fleet = [name for name, _ in hosts] if hosts else [None] * size
        return _make(home, request, plan, agents, provider, fleet, dict(hosts), source, digest, settings, notes, place)


def _checked_plan(directory: Path) -> tuple[Plan, list[str]]:
    report = load_plan(directory)
    if report.plan is None:
        raise UsageError(f"the plan {directory} cannot be sailed:", [str(fault) for fault in report.faults])
    return report.plan, [f"warning: {warning}" for warning in report.warnings]


def _check_hosts(request: Request, hosts: Sequence[tuple[str, Way]]) -> None:
    """What is asked for must be possible with hosts, and from here."""
    if request.replace:
        raise UsageError("hosts of an inventory are not replaced when they are lost: leave replace out")
    if request.provider:
        raise UsageError(f"ships are either hosts of the inventory or sprites of {request.provider}: name one")
    missing = {way.executable for _, way in hosts if shutil.which(way.executable) is None}
    if missing:
        raise UsageError(f"{', '.join(sorted(missing))} is not installed: apt-get install openssh-client")


def _check_same(active: VoyageDirectory, provider: str) -> None:
    """Going on with a voyage elsewhere than it sails would look as if it did as it was told."""
    sails = active.voyage().provider
    if HOSTS in {sails, provider} and sails != provider:
        message = f"this plan sails already as {active.id}, on {sails}:"
        raise UsageError(message, [f"go on with it: voyage={active.id}", "start another one: on_active=new"])


def _check_pins(plan: Plan, size: int) -> None:
    """A task that is pinned to a ship that will not sail would wait for ever."""
    pinned = [
        f"tasks/{task.id}.json: metadata.ship: {task.metadata.ship} does not sail; use ship-0 to ship-{size - 1}"
        for task in plan.tasks.values()
        if task.metadata.ship and int(task.metadata.ship.removeprefix("ship-")) >= size
    ]
    if pinned:
        raise UsageError(f"tasks are pinned to ships beyond the {size} that sail:", pinned)


def _check_template(plan: Plan, agent_cmd: str | None, agents: Mapping[str, str]) -> None:
    """A plan's own prompt template must render for every task, before anything is created."""
    if plan.prompt is not None:
        for task, agent in agents.items():
            raw = plan.tasks[task].raw()
            ADAPTERS[agent].brief(Briefing("voyage-0", "ship-0", 1, raw, plan.spec, agent_cmd, (), None, plan.prompt))


def _drydocks_shortcoming() -> list[str]:
    from ocaptain.drydock.rootless import shortcoming  # noqa: PLC0415 - only where drydock is meant

    found = shortcoming()
    return [found] if found else []


def _check_provider(named: str, settings: Settings) -> Endpoint | None:
    """Start drydock if it is meant, and have the provider answer to our token; None for hosts."""
    if named == HOSTS:
        return None
    provider, _ = choose(settings, named)
    reached = require_endpoint(provider, settings)
    found = asyncio.run(_organisation(reached))
    if provider == "sprites" and settings.sprites_org and found and found != settings.sprites_org:
        message = (
            f"the Sprites token is one of organisation {found}, but OCAPTAIN_SPRITES_ORG is {settings.sprites_org}"
        )
        raise UsageError(f"{message}: set the other organisation's token, or unset OCAPTAIN_SPRITES_ORG")
    return reached


async def _organisation(reached: Endpoint) -> str:
    async with reached.client() as client:
        return (await client.first_page()).organisation


def _make_home(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"{path} (OCAPTAIN_HOME) cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise UsageError(f"{path} (OCAPTAIN_HOME) cannot be written")


def _active(home: Home, digest: str) -> VoyageDirectory | None:
    found = [one for one in home.active() if one.voyage().digest == digest]
    if len(found) > 1:
        raise UsageError("several voyages of this plan are active, name one to resume:", [one.id for one in found])
    return found[0] if found else None


def _resumed(directory: VoyageDirectory, settings: Settings, *, replace: bool) -> Prepared:
    voyage = directory.voyage()
    if voyage.state == "sunk":
        raise UsageError(f"{voyage.id} is sunk; start another voyage by `ocaptain sail PLAN --new`")
    if voyage.provider == HOSTS:
        if replace:
            raise UsageError(f"{voyage.id} sails on hosts of an inventory: they are not replaced")
    else:
        provider, _ = choose(settings, voyage.provider)
        reached = require_endpoint(provider, settings)
        check_place(voyage, reached)
        there = asyncio.run(sprites_of(voyage.id, reached))
        if replace:
            _replace_lost(directory, frozenset(there))
    with directory.ledger() as ledger:
        wanted = [ship for ship in ledger.ships() if ship.replaced_by is None and voyage.state != "complete"]
    fleet = tuple((ship.id, ship.sprite) for ship in wanted)
    ways = {ship.id: way_of(ship) for ship in wanted if voyage.provider == HOSTS}
    return Prepared(voyage.id, str(directory.path), voyage.provider, voyage.state, fleet, resumed=True, ways=ways)


def _replace_lost(directory: VoyageDirectory, there: frozenset[str]) -> None:
    """Note that lost ships are replaced, and which are now; a captain that runs is stopped for it."""
    process.stop(directory.path)
    with Lock(process.lock_path(directory.path)) as lock:
        if not lock.wait(process.STOP_SECONDS):
            raise OcaptainError(f"another process commands {directory.id}")
        with directory.ledger() as ledger:
            ledger.command()
            ledger.set_replace()
            decided = replacements(ledger.ships(), there, ledger.voyage().replacements)
            ledger.replace(decided.again, decided.fresh)


def _make(
    home: Home,
    request: Request,
    plan: Plan,
    agents: Mapping[str, str],
    provider: str,
    fleet: Sequence[str | None],
    hosts: Mapping[str, Way],
    source: Source,
    digest: str,
    settings: Settings,
    notes: list[str],
    place: str,
) -> Prepared:
    _clear_away(home.path)
    voyage = new_id()
    final = home.path / voyage
    scratch = Path(tempfile.mkdtemp(prefix=f".{voyage}-", dir=home.path))
    try:
        root = sources.bring(
            source, scratch / "repo.git", voyage, plan.name, settings, allow_partial=request.allow_partial
        )
        sources.checkout(scratch / "repo.git", scratch / "workspace", voyage)
        for folder in ("logs", "tasks", "rescue"):
            (scratch / folder).mkdir()
        named = [(f"ship-{number}", host) for number, host in enumerate(fleet)]
        ships = tuple((ship, host or sprite_name(voyage, ship)) for ship, host in named)
        ways = {ship: hosts[host] for ship, host in named if host}
        Ledger.create(
            scratch / "ledger.db",
            _new_voyage(voyage, request, plan, agents, provider, source, digest, root, ships, ways, place),
        )
        scratch.rename(final)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Prepared(voyage, str(final), provider, "preparing", ships, resumed=False, notes=tuple(notes), ways=ways)


def _clear_away(home: Path) -> None:
    """Remove what a `sail` that was killed had begun to make; we hold the home's lock."""
    for left in home.glob(".voyage-*"):
        shutil.rmtree(left, ignore_errors=True)


def _new_voyage(
    voyage: str,
    request: Request,
    plan: Plan,
    agents: Mapping[str, str],
    provider: str,
    source: Source,
    digest: str,
    root: str,
    ships: tuple[tuple[str, str], ...],
    ways: Mapping[str, Way],
    place: str,
) -> NewVoyage:
    graph = edges(plan.tasks)
    done = {task.id for task in plan.tasks.values() if task.status == "completed"}
    chains = critical_paths({task: before - done for task, before in graph.items() if task not in done})
    tasks = [
        {
            "id": task.id,
            "position": position,
            "subject": task.subject,
            "raw": json.dumps(task.model_copy(update={"owner": None}).raw(), ensure_ascii=False),
            "agent": agents.get(task.id, ""),
            "pin": task.metadata.ship,
            "priority": chains.get(task.id, 0),
            # An earlier run's in_progress is nobody's work now.
            "status": "completed" if task.id in done else "pending",
        }
        for position, task in enumerate(plan.tasks.values())
    ]
    return NewVoyage(
        id=voyage,
        name=plan.name,
        provider=provider,
        digest=digest,
        repo=source.url,
        root=root,
        agent_cmd=request.agent_cmd,
        spec=plan.spec,
        verify_script=plan.verify,
        verify_timeout=plan.manifest.verify_timeout or VERIFY_SECONDS,
        setup=plan.manifest.setup,
        prompt=plan.prompt,
        tasks=tasks,
        edges=graph,
        ships=ships,
        replace_lost=request.replace,
        place=place,
        ways={ship: way.model_dump_json(exclude_defaults=True) for ship, way in ways.items()},
    )
