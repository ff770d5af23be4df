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
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ocaptain.agents import ADAPTERS, Briefing, check_agents
from ocaptain.captain import process
from ocaptain.captain.decide.replace import replacements
from ocaptain.captain.ssh import way_of
from ocaptain.config import DEFAULT_SHIPS, HOSTS, MAX_SHIPS, Settings
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.ledger import Ledger, NewVoyage
from ocaptain.locks import Lock
from ocaptain.mesh import check_access, choose_mesh, tailnet_of
from ocaptain.plan import Plan, critical_paths, edges, load_plan
from ocaptain.plan.models import MODEL
from ocaptain.prices import load_prices
from ocaptain.provider import Endpoint, check_place, choose, endpoint, place_of, require_endpoint
from ocaptain.scratch import clear_up, scratch
from ocaptain.voyage import source as sources
from ocaptain.voyage.home import Home, VoyageDirectory, new_id, sprite_name
from ocaptain.voyage.life import sprites_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.captain.ssh import Way
    from ocaptain.mesh import Mesh
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
    model: str | None = None
    max_turns: int | None = None
    provider: str | None = None
    mesh: str | None = None
    on_active: OnActive = "resume"
    allow_partial: bool = False
    replace: bool = False
    hosts: tuple[tuple[str, Way], ...] = ()

    def options(self) -> dict[str, Any]:
        """Return what was asked for of a new voyage, as the ledger keeps it; what was left open is left out."""
        asked = {
            "ships": self.ships,
            "repo": self.repo,
            "agent": self.agent,
            "agent_cmd": self.agent_cmd,
            "model": self.model,
            "max_turns": self.max_turns,
            "provider": self.provider,
            "mesh": self.mesh,
            "allow_partial": self.allow_partial or None,
            "replace": self.replace or None,
            "hosts": [name for name, _ in self.hosts] or None,
        }
        return {name: value for name, value in asked.items() if value is not None}


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


def prepare(request: Request, settings: Settings, *, check: bool = False) -> Prepared:
    """Check what is asked for and make the voyage, or find the one to go on with.

    Args:
        request: what is asked for.
        settings: the configuration.
        check: change nothing, and say what would be: nothing is made, nothing started.

    Raises:
        UsageError: something is wrong with plan, configuration or surroundings; nothing was made.
        OcaptainError: the directory could not be made.
    """
    home = Home(settings.voyages)
    if shutil.which("git") is None:
        raise UsageError("git is not installed: apt-get install git")
    if request.voyage:
        return _resumed(home.find(request.voyage), settings, replace=request.replace, check=check)
    if request.plan is None:
        raise UsageError("name a plan's directory (plan), or a voyage to go on with (voyage)")
    plan, notes = _checked_plan(request.plan)
    agents = check_agents(plan, request.agent, request.agent_cmd, settings)
    fleet = _fleet(request, plan, settings, notes)
    load_prices(settings.prices)  # a wrong table would be found out by the captain only
    _check_model(request)
    beside = Path.cwd() if request.repo else request.plan
    _check_pins(plan, fleet.size)
    _check_template(plan, request.agent_cmd, agents)
    source = sources.resolve(request.repo or plan.manifest.repo, beside)
    if not check:
        _make_home(home.path)
    clear_up()
    with scratch("check") as directory, ThreadPoolExecutor() as pool:
        access = pool.submit(sources.check_access, source, settings, directory)
        reach = pool.submit(_check_provider, fleet.provider, settings, start=not check)
        joinable = pool.submit(_check_mesh, fleet.mesh, settings)
        notes += access.result()
        reached = reach.result()  # whether a host answers is seen when it is built
        joinable.result()
    digest = hashlib.sha256(f"{plan.digest()}\0{source.url}".encode()).hexdigest()[:16]
    if check:
        return _foreseen(home, request, fleet, digest, settings, notes)
    with Lock(home.path / ".lock") as lock:
        if not lock.wait(LOCK_SECONDS):
            raise OcaptainError(f"another `ocaptain sail` is still preparing a voyage in {home.path}")
        if active := _gone_on_with(home, request, fleet, digest):
            return _resumed(active, settings, replace=request.replace)
        place = place_of(reached) if reached else ""
        return _make(home, request, plan, agents, fleet, source, digest, settings, notes, place)


@dataclass(frozen=True)
class _Fleet:
    """Where a voyage's ships come from.

    Attributes:
        provider: of sprites, or :data:`HOSTS`.
        size: how many sail.
        mesh: that they join.
        hosts: of an inventory, as many as sail.
    """

    provider: str
    size: int
    mesh: Mesh = "none"
    hosts: tuple[tuple[str, Way], ...] = ()

    def ships(self, voyage: str) -> tuple[tuple[str, str], ...]:
        """Return each ship's id, and the name of its sprite or host."""
        ids = [f"ship-{number}" for number in range(self.size)]
        names = [name for name, _ in self.hosts] or [sprite_name(voyage, ship) for ship in ids]
        return tuple(zip(ids, names, strict=True))

    def ways(self) -> dict[str, Way]:
        """Return how each ship is reached that is a host, by the ship's id."""
        return {f"ship-{number}": way for number, (_, way) in enumerate(self.hosts)}


def _fleet(request: Request, plan: Plan, settings: Settings, notes: list[str]) -> _Fleet:
    """Decide where ships come from and how many sail; what the user should know of it goes to ``notes``."""
    if request.hosts:
        hosts = host_ships(request.hosts, request.ships)
        _check_hosts(request, hosts)
        if settings.mesh == "tailscale":
            notes.append("OCAPTAIN_MESH=tailscale is not for hosts of an inventory: they are not put on a tailnet")
        return _Fleet(HOSTS, len(hosts), hosts=tuple(hosts))
    provider, why = choose(settings, request.provider)
    if provider == "drydock" and why != "named":
        notes.append(f"{why}: sailing on drydock, the local provider")
    notes += _drydocks_shortcoming() if provider == "drydock" else []
    size = fleet_size(request.ships, plan.manifest.recommended_ships, settings.default_ships)
    return _Fleet(provider, size, choose_mesh(settings, provider, request.mesh))


def _foreseen(
    home: Home, request: Request, fleet: _Fleet, digest: str, settings: Settings, notes: list[str]
) -> Prepared:
    """Return the voyage that would be made, or the one that would be gone on with."""
    if active := _gone_on_with(home, request, fleet, digest):
        return _resumed(active, settings, replace=request.replace, check=True)
    voyage = new_id()
    return _fresh(voyage, home, fleet, notes)


def _fresh(voyage: str, home: Home, fleet: _Fleet, notes: list[str]) -> Prepared:
    """Return a voyage that is new."""
    return Prepared(
        voyage,
        str(home.path / voyage),
        fleet.provider,
        "preparing",
        fleet.ships(voyage),
        resumed=False,
        notes=tuple(notes),
        ways=fleet.ways(),
    )


def _gone_on_with(home: Home, request: Request, fleet: _Fleet, digest: str) -> VoyageDirectory | None:
    """Return the active voyage of this plan, None if another one is to be made.

    Raises:
        UsageError: there is one, and the request will have none, or will have it elsewhere.
    """
    if request.on_active == "new":
        return None
    active = _active(home, digest)
    if active and request.on_active == "refuse":
        message = f"this plan sails already as {active.id} ({active.voyage().state}):"
        raise UsageError(message, [f"go on with it: --resume {active.id}", "start another one: --new"])
    if active:
        _check_same(active, fleet.provider)
    return active


def _checked_plan(directory: Path) -> tuple[Plan, list[str]]:
    report = load_plan(directory)
    if report.plan is None:
        raise UsageError(f"the plan {directory} cannot be sailed:", [str(fault) for fault in report.faults])
    return report.plan, [f"warning: {warning}" for warning in report.warnings]


def _check_model(request: Request) -> None:
    if request.model is not None and not re.fullmatch(MODEL, request.model):
        raise UsageError(f"--model {request.model!r} is not a model's name")
    if request.max_turns is not None and request.max_turns < 1:
        raise UsageError("--max-turns must be 1 or more")


def _check_hosts(request: Request, hosts: Sequence[tuple[str, Way]]) -> None:
    """What is asked for must be possible with hosts, and from here."""
    if request.replace:
        raise UsageError("hosts of an inventory are not replaced when they are lost: leave replace out")
    if request.provider:
        raise UsageError(f"ships are either hosts of the inventory or sprites of {request.provider}: name one")
    if request.mesh == "tailscale":
        remedy = "leave --mesh out, and apply the role tailscale to them with a key of your own"
        raise UsageError(f"hosts of an inventory are not put on the voyage's tailnet: {remedy}")
    _check_distinct(hosts)
    missing = {way.executable for _, way in hosts if shutil.which(way.executable) is None}
    if missing:
        raise UsageError(f"{', '.join(sorted(missing))} is not installed: apt-get install openssh-client")


def _check_distinct(hosts: Sequence[tuple[str, Way]]) -> None:
    """A ship has its host's user for itself: two of them would end each other's agents."""
    known: dict[tuple[str, int, str | None], str] = {}
    for name, way in hosts:
        other = known.setdefault((way.host, way.port or 22, way.user), name)
        if other != name:
            where = f"{way.user or 'the same user'} on {way.host}, port {way.port or 22}"
            raise UsageError(f"{other} and {name} are one host ({where}): leave one out, or give it another user")


def _check_same(active: VoyageDirectory, provider: str) -> None:
    """Going on with a voyage elsewhere than it sails would look as if it did as it was told."""
    sails = active.voyage().provider
    if HOSTS in {sails, provider} and sails != provider:
        message = f"this plan sails already as {active.id}, on {sails}:"
        raise UsageError(message, [f"go on with it: voyage={active.id}", "start another one: on_active=new"])


def _check_pins(plan: Plan, size: int) -> None:
    """A task that is pinned to a ship that will not sail would wait for ever."""
    pinned = [
        f"tasks/{task.id}.json: metadata.pin: {task.metadata.pin} does not sail; use ship-0 to ship-{size - 1}"
        for task in plan.tasks.values()
        if task.metadata.pin and int(task.metadata.pin.removeprefix("ship-")) >= size
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


def _check_provider(named: str, settings: Settings, *, start: bool) -> Endpoint | None:
    """Have the provider answer to our token; drydock is started for it, or None is returned, as for hosts."""
    if named == HOSTS:
        return None
    provider, _ = choose(settings, named)
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


def _resumed(directory: VoyageDirectory, settings: Settings, *, replace: bool, check: bool = False) -> Prepared:
    voyage = directory.voyage()
    if voyage.state == "sunk":
        raise UsageError(f"{voyage.id} is sunk; start another voyage by `ocaptain sail PLAN --new`")
    _check_missing(directory, settings)
    if voyage.provider == HOSTS:
        if replace:
            raise UsageError(f"{voyage.id} sails on hosts of an inventory: they are not replaced")
    else:
        provider, _ = choose(settings, voyage.provider)
        reached = endpoint(provider, settings) if check else require_endpoint(provider, settings)
        check_place(voyage, reached)
        if voyage.mesh == "tailscale":
            tailnet_of(settings)
        there = asyncio.run(sprites_of(voyage.id, reached)) if reached else []
        if replace and not check:
            _replace_lost(directory, frozenset(there))
    with directory.ledger() as ledger:
        wanted = [ship for ship in ledger.ships() if ship.replaced_by is None and voyage.state != "complete"]
    fleet = tuple((ship.id, ship.sprite) for ship in wanted)
    ways = {ship.id: way_of(ship) for ship in wanted if voyage.provider == HOSTS}
    return Prepared(voyage.id, str(directory.path), voyage.provider, voyage.state, fleet, resumed=True, ways=ways)


def _check_missing(directory: VoyageDirectory, settings: Settings) -> None:
    """An agent that works on must have what it needs: ships that cannot be built anew for it would be left out."""
    with directory.ledger() as ledger:
        agents = {row["agent"] for row in ledger.rows("tasks", "position") if row["status"] != "completed"}
    faults = [found for agent in sorted(agents & set(ADAPTERS)) if (found := ADAPTERS[agent].missing(settings))]
    if faults:
        raise UsageError(f"{directory.id} cannot go on:", faults)


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
    fleet: _Fleet,
    source: Source,
    digest: str,
    settings: Settings,
    notes: list[str],
    place: str,
) -> Prepared:
    _clear_away(home.path)
    voyage = new_id()
    final = home.path / voyage
    building = Path(tempfile.mkdtemp(prefix=f".{voyage}-", dir=home.path))
    try:
        root = sources.bring(
            source, building / "repo.git", voyage, plan.name, settings, allow_partial=request.allow_partial
        )
        sources.checkout(building / "repo.git", building / "workspace", voyage)
        for folder in ("logs", "tasks", "rescue"):
            (building / folder).mkdir()
        Ledger.create(
            building / "ledger.db",
            _new_voyage(voyage, request, plan, agents, fleet, source, digest, root, place),
        )
        building.rename(final)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return _fresh(voyage, home, fleet, notes)


def _clear_away(home: Path) -> None:
    """Remove what a `sail` that was killed had begun to make; we hold the home's lock."""
    for left in home.glob(".voyage-*"):
        shutil.rmtree(left, ignore_errors=True)


def _new_voyage(
    voyage: str,
    request: Request,
    plan: Plan,
    agents: Mapping[str, str],
    fleet: _Fleet,
    source: Source,
    digest: str,
    root: str,
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
            "wish": task.metadata.ship if isinstance(task.metadata.ship, str) else None,
            "pin": task.metadata.pin,
            "priority": chains.get(task.id, 0),
            # An earlier run's in_progress is nobody's work now.
            "status": "completed" if task.id in done else "pending",
        }
        for position, task in enumerate(plan.tasks.values())
    ]
    return NewVoyage(
        id=voyage,
        name=plan.name,
        provider=fleet.provider,
        digest=digest,
        repo=source.url,
        root=root,
        agent_cmd=request.agent_cmd,
        model=request.model,
        max_turns=request.max_turns,
        spec=plan.spec,
        verify_script=plan.verify,
        verify_timeout=plan.manifest.verify_timeout or VERIFY_SECONDS,
        setup=plan.manifest.setup,
        prompt=plan.prompt,
        tasks=tasks,
        edges=graph,
        ships=fleet.ships(voyage),
        replace_lost=request.replace,
        place=place,
        mesh=fleet.mesh,
        ways={ship: way.model_dump_json(exclude_defaults=True) for ship, way in fleet.ways().items()},
        options=request.options(),
        files=plan.files,
    )
