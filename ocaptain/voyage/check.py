"""Check everything that a new voyage needs. Nothing is created; only a drydock may be started."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ocaptain.agents import ADAPTERS, check_agents, find_missing_requirements
from ocaptain.config import DEFAULT_SHIPS, MAX_SHIPS
from ocaptain.environment import install_line
from ocaptain.errors import UsageError
from ocaptain.mesh import choose_mesh, count_devices, tailnet_of
from ocaptain.names import HOSTS, VERIFY_SHIP, sprite_name
from ocaptain.options import require_hooks
from ocaptain.plan import Plan, Report, load_plan
from ocaptain.plan.models import MODEL, group_findings
from ocaptain.plan.texts import has_half_character
from ocaptain.prices import load_prices
from ocaptain.provider import choose_provider, endpoint, provider_id, read_first_page, require_endpoint
from ocaptain.scratch import remove_abandoned, scratch_directory
from ocaptain.text import group_by_reason
from ocaptain.voyage import source as sources
from ocaptain.voyage.doctor import check_git
from ocaptain.voyage.plan_check import check_template, find_undescribed_tasks
from ocaptain.voyage.proof import prove_source
from ocaptain.voyage.start import SourceRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ocaptain.captain.transport.target import SshTarget
    from ocaptain.config import Settings
    from ocaptain.mesh import Mesh
    from ocaptain.names import VerifyOn
    from ocaptain.provider import Endpoint
    from ocaptain.voyage.request import Request
    from ocaptain.voyage.source import Source
    from ocaptain.voyage.start import Start


_P = ParamSpec("_P")
_T = TypeVar("_T")


def choose_fleet_size(requested: int | None, recommended: int | None, default: int) -> int:
    """Return how many ships sail: as requested, else as the plan recommends, else as configured.

    Raises:
        UsageError: the number is below 1 or above :data:`MAX_SHIPS`.
    """
    size = requested if requested is not None else recommended if recommended is not None else default
    if not 1 <= size <= MAX_SHIPS:
        raise UsageError(f"ships must be 1 to {MAX_SHIPS}, not {size}")
    return size


def select_hosts(hosts: Sequence[tuple[str, SshTarget]], requested: int | None) -> list[tuple[str, SshTarget]]:
    """Return the first ``requested`` hosts in the inventory's order, all if it is None.

    Raises:
        UsageError: more ships are requested than there are hosts.
    """
    if requested is not None and requested > len(hosts):
        names = ", ".join(name for name, _ in hosts)
        raise UsageError(f"{requested} ships are requested, but the inventory has only {len(hosts)} hosts: {names}")
    choose_fleet_size(requested, len(hosts), DEFAULT_SHIPS)
    return list(hosts)[:requested]


@dataclass(frozen=True)
class ChosenFleet:
    """Where a voyage's ships come from.

    Attributes:
        provider: name of the sprites' provider, or :data:`HOSTS`.
        size: number of ships that work.
        mesh: network that the ships join.
        hosts: hosts of the inventory that become the ships.
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
        """Return how to reach each ship that is a host, by the ship's id."""
        return {f"ship-{number}": target for number, (_, target) in enumerate(self.hosts)}


@dataclass(frozen=True)
class CheckedRequest:
    """A request for a new voyage that passed all checks.

    Attributes:
        plan: the loaded plan.
        agents: name of the agent of each open task.
        fleet: where the ships come from.
        source: where the repository comes from.
        digest: of plan, repository and branch: two requests with the same one are for the same voyage.
        notes: what the user should know, a line each.
        allow_partial: whether the source may have submodules and files in LFS.
    """

    plan: Plan
    agents: Mapping[str, str]
    fleet: ChosenFleet
    source: Source
    digest: str
    notes: list[str]
    allow_partial: bool = False


@dataclass(frozen=True)
class Services:
    """What the services said.

    Attributes:
        provider_id: id of the provider (``Voyage.place``), empty if it is not known yet.
        start: where the voyage starts in its source.
    """

    provider_id: str
    start: Start


def check_request(
    request: Request,
    settings: Settings,
    report: Report | None = None,
    *,
    on_hosts: bool = False,
    forecast: bool = False,
) -> CheckedRequest:
    """Check everything that can be checked on this machine, and name all that is wrong at once.

    Args:
        request: the request.
        settings: the configuration.
        report: of its plan, if that is read already.
        on_hosts: whether the ships are hosts of an inventory that is not read yet, so that ``request`` names none.
        forecast: whether nothing will sail: what an agent lacks on this machine is then a note.

    Raises:
        UsageError: something is wrong; nothing was created.
    """
    if request.plan is None:
        raise UsageError("give either plan (a plan's directory) or voyage (the id of one to resume)")
    gathered = _Gathered()
    gathered.attempt(_check_git_version)
    gathered.attempt(load_prices, settings.prices)  # else only the captain would find an error in it
    gathered.attempt(_check_model, request)
    loaded = gathered.attempt(_load_plan, request.plan, report)
    if loaded is None:
        raise gathered.as_error()
    plan, notes = loaded
    agents = gathered.attempt(check_agents, plan, request.options.agent, request.options.agent_cmd, may_lack=forecast)
    fleet = gathered.attempt(_choose_fleet, request, plan, settings, notes, on_hosts=on_hosts)
    if fleet:
        gathered.attempt(_check_pins, plan, fleet.size)
    if agents is not None and request.options.interactive:
        gathered.attempt(_check_interactive, agents, request)
    if agents is not None:
        gathered.attempt(check_template, plan, request.options.agent_cmd, agents)
    base_directory = Path.cwd() if request.options.repo else request.plan
    source = gathered.attempt(_find_source, request, plan, base_directory)
    if gathered.errors or agents is None or fleet is None or source is None:
        raise gathered.as_error()
    if forecast:
        lacking = find_missing_requirements(agents.values())
        notes += [f"warning: `sail` would refuse this now: {problem}" for problem in lacking.values()]
    notes += [f"warning: {finding}" for finding in find_undescribed_tasks(plan.tasks, agents)]
    named = "\0".join((plan.digest(), source.url, *([source.branch] if source.branch else [])))
    digest = hashlib.sha256(named.encode()).hexdigest()[:16]
    return CheckedRequest(plan, agents, fleet, source, digest, notes, request.options.allow_partial)


class _Gathered:
    """Runs checks and collects what they refuse, so that all of it is named at once."""

    def __init__(self) -> None:
        self.errors: list[UsageError] = []

    def attempt(self, check: Callable[_P, _T], *args: _P.args, **more: _P.kwargs) -> _T | None:
        """Return what a check returns, None if it refuses."""
        try:
            return check(*args, **more)
        except UsageError as error:
            self.errors.append(error)
            return None

    def as_error(self) -> UsageError:
        """Return all refusals as one error."""
        if len(self.errors) == 1:
            return self.errors[0]
        lines = [line for error in self.errors for line in str(error).splitlines()]
        return UsageError(f"{len(self.errors)} things are wrong:", lines)


def _check_git_version() -> None:
    found = check_git()
    if found.status == "fault":
        raise UsageError(f"git: {found.detail}; {found.remedy}")


def _find_source(request: Request, plan: Plan, base_directory: Path) -> Source:
    repo = request.options.repo or plan.manifest.repo
    # The plan's branch is that of the plan's repository, if it names one.
    is_plans = not (request.options.repo and plan.manifest.repo)
    branch = request.options.branch or (plan.manifest.branch if is_plans else None)
    source = replace(sources.parse_source(repo, base_directory), branch=branch)
    for field, value in (("repo", source.url), ("branch", branch)):
        if value and has_half_character(value):  # no variable of Ansible can hold it
            raise SourceRefused(field, f"{value!r} is not valid UTF-8", "rename it")
    return source


def check_services(checked: CheckedRequest, settings: Settings, *, start: bool) -> Services:
    """Prove the source, check access to provider and tailnet, in parallel; add their notes to ``checked.notes``.

    Args:
        checked: the checked request.
        settings: the configuration.
        start: whether to start a drydock that does not run.

    Raises:
        UsageError: one of them refuses us, or no voyage can start from the source.
        SpritesError: the provider does not answer.
    """
    remove_abandoned()
    with scratch_directory("check") as directory, ThreadPoolExecutor() as pool:
        proving = pool.submit(prove_source, checked.source, settings, directory, allow_partial=checked.allow_partial)
        reach = pool.submit(_check_provider, checked.fleet, settings, checked.notes, start=start)
        joinable = pool.submit(_check_tailnet_access, checked.fleet.mesh, settings)
        proof = proving.result()
        checked.notes.extend(proof.notes)
        reached = reach.result()  # hosts are only contacted when they are built
        joinable.result()
    return Services(provider_id(reached) if reached else "", proof.start)


def _choose_fleet(request: Request, plan: Plan, settings: Settings, notes: list[str], *, on_hosts: bool) -> ChosenFleet:
    """Decide where ships come from and how many sail; add what the user should know to ``notes``."""
    verify_on: VerifyOn = "any" if (request.options.verify_on or settings.verify_on) == "any" else "clean"
    if on_hosts:
        _check_hosts(request, ())
        return ChosenFleet(HOSTS, request.options.ships or MAX_SHIPS, verify_on=verify_on)
    if request.hosts:
        hosts = select_hosts(request.hosts, request.options.ships)
        _check_hosts(request, hosts)
        if settings.mesh == "tailscale":
            notes.append("OCAPTAIN_MESH=tailscale is not for hosts of an inventory: they are not put on a tailnet")
        return ChosenFleet(HOSTS, len(hosts), hosts=tuple(hosts), verify_on=verify_on)
    provider, why = choose_provider(settings, request.options.provider)
    if provider == "drydock" and why != "named":
        notes.append(f"{why}: sailing on drydock, the local provider")
    notes += _drydock_warnings() if provider == "drydock" else []
    size = choose_fleet_size(request.options.ships, plan.manifest.recommended_ships, settings.default_ships)
    if verify_on == "clean" and size == MAX_SHIPS:
        remedy = f"use -n {MAX_SHIPS - 1} or --verify-on any"
        raise UsageError(f"{size} ships and one for the final verify are more than {MAX_SHIPS}: {remedy}")
    return ChosenFleet(provider, size, choose_mesh(settings, provider, request.options.mesh), verify_on=verify_on)


def _load_plan(directory: Path, report: Report | None) -> tuple[Plan, list[str]]:
    report = report or load_plan(directory)
    return report.require_plan(directory), [f"warning: {warning}" for warning in group_findings(report.warnings)]


def _check_model(request: Request) -> None:
    if request.options.model is not None and not re.fullmatch(MODEL, request.options.model):
        raise UsageError(f"--model {request.options.model!r} is not a valid model name")
    if request.options.max_turns is not None and request.options.max_turns < 1:
        raise UsageError("--max-turns must be 1 or more")


def _check_interactive(agents: Mapping[str, str], request: Request) -> None:
    """Check that each task's agent has a screen, and that no setting of the repository can switch our hooks off."""
    without = {name: f"agent {name}" for name in agents.values() if not getattr(ADAPTERS[name], "has_screen", False)}
    if without:
        faults = {f"tasks/{task}.json": without[name] for task, name in agents.items() if name in without}
        able = ", ".join(name for name, adapter in ADAPTERS.items() if getattr(adapter, "has_screen", False))
        why = f"--interactive is for agents with a screen of their own ({able}); leave it out, or change these tasks:"
        raise UsageError(why, group_by_reason(faults))
    require_hooks(is_interactive=True, repo_settings=request.options.repo_settings)


def _check_hosts(request: Request, hosts: Sequence[tuple[str, SshTarget]]) -> None:
    """Check that the request is possible with hosts, and from this machine."""
    if request.options.replace:
        raise UsageError("hosts of an inventory cannot be replaced: leave replace out")
    if request.options.provider:
        raise UsageError(f"give either hosts of an inventory or provider {request.options.provider}, not both")
    if request.options.mesh == "tailscale":
        remedy = "leave --mesh out, and apply the role tailscale to them with a key of your own"
        raise UsageError(f"ocaptain cannot add hosts of an inventory to the voyage's tailnet: {remedy}")
    _check_distinct(hosts)
    missing = {target.executable for _, target in hosts if shutil.which(target.executable) is None}
    if missing:
        raise UsageError(f"{', '.join(sorted(missing))} is not installed: {install_line('openssh-client')}")


def _check_distinct(hosts: Sequence[tuple[str, SshTarget]]) -> None:
    """Check that no two ships share a host and user: they would end each other's agents."""
    known: dict[tuple[str, int, str | None], str] = {}
    for name, target in hosts:
        other = known.setdefault((target.host, target.port or 22, target.user), name)
        if other != name:
            where = f"{target.user or 'the same user'} on {target.host}, port {target.port or 22}"
            raise UsageError(f"{other} and {name} are one host ({where}): leave one out, or give it another user")


def _check_pins(plan: Plan, size: int) -> None:
    """Check that each pinned task's ship sails: the task would never start otherwise."""
    sailing = {f"ship-{number}" for number in range(size)}
    pinned = [
        f"tasks/{task.id}.json: metadata.pin: {task.metadata.pin} does not sail; use ship-0 to ship-{size - 1}"
        for task in plan.tasks.values()
        if task.metadata.pin and task.metadata.pin not in sailing
    ]
    if pinned:
        raise UsageError(
            f"only {size} ships sail, but these tasks are pinned to others; add ships (-n) or change the pins:", pinned
        )


def _drydock_warnings() -> list[str]:
    from ocaptain.drydock.rootless import describe_limitation  # noqa: PLC0415 - only where drydock is meant
    from ocaptain.drydock.server import SHARED_NETWORK, next_network  # noqa: PLC0415 - as above

    found = describe_limitation()
    return [*([found] if found else []), *([SHARED_NETWORK] if next_network() == "host" else [])]


def describe_missing_room(running: int | None, limit: int | None, ships: int) -> str | None:
    """Return a note if the account has no room for all ships, None if it has, or says nothing about it."""
    if running is None or limit is None or ships <= limit - running:
        return None
    room = max(0, limit - running)
    return (
        f"the account runs at most {limit} sprites at once, and {running} run: it has room for {room} of {ships} ships"
    )


def _check_provider(fleet: ChosenFleet, settings: Settings, notes: list[str], *, start: bool) -> Endpoint | None:
    """Check that the provider accepts our token; start a drydock for it if ``start``.

    A limit of the account that is too low for the fleet is added to ``notes``.

    Returns:
        How to reach it; None for hosts, and for a drydock that does not run.
    """
    if fleet.provider == HOSTS:
        return None
    provider, _ = choose_provider(settings, fleet.provider)
    reached = require_endpoint(provider, settings) if start else endpoint(provider, settings)
    if reached is None:
        return None
    page = read_first_page(reached)
    if note := describe_missing_room(page.running, page.running_limit, len(fleet.ships(""))):
        notes.append(note)
    found = page.organisation
    if provider == "sprites" and settings.sprites_org and found and found != settings.sprites_org:
        message = (
            f"the Sprites token is one of organisation {found}, but OCAPTAIN_SPRITES_ORG is {settings.sprites_org}"
        )
        raise UsageError(f"{message}: set the other organisation's token, or unset OCAPTAIN_SPRITES_ORG")
    return reached


def _check_tailnet_access(mesh: Mesh, settings: Settings) -> None:
    """Check that the tailnet's service accepts our secret, if the ships join one."""
    if mesh == "tailscale":
        asyncio.run(count_devices(tailnet_of(settings)))
