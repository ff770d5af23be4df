"""The work of the action ``voyage``: one function for each state; each returns the task's result.

In check mode (``check``) nothing is created, started, stopped or recorded; the result tells what would
happen, as far as that is known.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocaptain import process
from ocaptain.captain.transport.target import read_target
from ocaptain.config import load_settings
from ocaptain.errors import OcaptainError, PartialError, UsageError
from ocaptain.git import GitError
from ocaptain.names import HOSTS, LABEL, VERIFY_SHIP
from ocaptain.options import SailOptions
from ocaptain.paths import expand_home
from ocaptain.plan import load_plan
from ocaptain.query import Query
from ocaptain.voyage.fleet import Outcome, read_outcome
from ocaptain.voyage.home import Home, VoyageDirectory
from ocaptain.voyage.host_ports import describe_host_ports
from ocaptain.voyage.launch import BuildResult, join, launch, report_failures
from ocaptain.voyage.plan_check import check_whole_plan
from ocaptain.voyage.prepare import prepare
from ocaptain.voyage.request import Request
from ocaptain.voyage.roles import ship_facts
from ocaptain.voyage.sink import finish_sink, has_mesh, leave_mesh, list_remaining
from ocaptain.voyage.wait import wait_for_end

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ocaptain.captain.rescue import Rescue
    from ocaptain.captain.transport.target import SshTarget

Args = dict[str, Any]


def prepare_voyage(args: Args) -> Args:
    """Check everything and make the voyage, or find the one to resume."""
    plan = expand_home(args["plan"]).absolute() if args.get("plan") else None
    request = Request(
        plan=plan,
        voyage=args.get("voyage"),
        options=SailOptions.from_mapping(args),
        on_active=args.get("on_active") or "resume",
        hosts=tuple((args.get("targets") or {}).items()),
    )
    settings = load_settings()
    made = prepare(request, settings, check=bool(args.get("check")))
    is_there = made.resumed or not args.get("check")
    if not args.get("check"):
        process.record_build(Path(made.directory), os.getppid())  # an action runs in a child of Ansible's process
    facts: Args = asdict(ship_facts(Path(made.directory), settings)) if is_there else {"roles": {}, "host_ports": {}}
    host_ports: dict[int, str] = facts.pop("host_ports")
    return {
        "changed": not made.resumed,
        "voyage": {
            "id": made.id,
            "directory": made.directory,
            "provider": made.provider,
            "state": made.state,
            "labels": [LABEL, made.id],
            "ships": [
                {
                    "id": ship,
                    "sprite": sprite,
                    "role": "verify" if ship == VERIFY_SHIP else "work",
                    "variables": _connection_variables(sprite, made.targets.get(ship), args),
                }
                for ship, sprite in made.ships
            ],
            "resumed": made.resumed,
            "host_ports": sorted(host_ports),
            **facts,
        },
        "notes": [*made.notes, *describe_host_ports(host_ports)],
    }


def name_roles(roles: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the roles of ships by their names in a collection, where a name has no dash (scripts/collection)."""
    return {ship: [name.replace("-", "_") for name in names] for ship, names in roles.items()}


def _connection_variables(name: str, target: SshTarget | None, args: Args) -> Args:
    """Return the connection variables of a host that is not in the inventory of this run."""
    return target.ansible_variables() if target and name not in (args.get("inventory") or ()) else {}


def _find_directory(args: Args) -> VoyageDirectory:
    return Home(load_settings().voyages).find(args.get("voyage"))


def _outcome_result(now: Outcome, *, changed: bool) -> Args:
    return {"changed": changed, "outcome": {**asdict(now), "sailing": list(now.sailing)}}


def join_voyage(args: Args) -> Args:
    """Make a ship that was just built part of the fleet."""
    has_joined = not args.get("check")
    if has_joined:
        join(_find_directory(args), args["ship"], is_new=bool(args.get("is_new")))
    return {"changed": False, "ready": True, "joined": has_joined}


def leave_out(args: Args) -> Args:
    """Tell a captain that runs which ships could not be built; one that starts later learns it from the launch."""
    if not args.get("check"):
        report_failures(_find_directory(args), dict(args.get("failed") or {}))
    return {"changed": False}


def launch_captain(args: Args) -> Args:
    """Start the captain for the ships that were built."""
    if args.get("check"):
        return _predict_launch(args)
    directory = _find_directory(args)
    before = Query(directory.path).state()
    built = BuildResult(
        ready=tuple(args.get("ready") or ()),
        failed=dict(args.get("failed") or {}),
        created=tuple(args.get("created") or ()),
        destroyed=tuple(args.get("destroyed") or ()),
        joined=tuple(args.get("joined") or ()),
    )
    try:
        now = launch(directory, built, load_settings())
    finally:
        process.end_build(directory.path, os.getppid())
    return _outcome_result(now, changed=bool(built.created) or before not in {"running", "complete", "verifying"})


def _predict_launch(args: Args) -> Args:
    """Return the current state of the voyage, and whether a launch would change it."""
    try:
        directory = _find_directory(args)
    except UsageError:  # it does not exist yet
        made = Outcome(str(args.get("voyage")), "preparing", (), {}, verify_ok=None, note=None)
        return _outcome_result(made, changed=True)
    now = read_outcome(directory)
    return _outcome_result(
        now, changed=bool(args.get("created")) or now.state not in {"running", "complete", "verifying"}
    )


def wait_until_complete(args: Args) -> Args:
    """Wait for the end of the voyage; raise an error if it failed, with ``strict`` also if ships were missing."""
    if args.get("check"):
        return {"changed": False, "skipped": True}
    now = wait_for_end(_find_directory(args))
    if now.state != "complete":
        raise (UsageError if now.is_gate_unusable else OcaptainError)(
            f"{now.voyage} {now.state}: {now.note or 'see its logs'}"
        )
    if now.is_less_proven and args.get("strict"):
        raise PartialError(f"{now.voyage} is complete, but not proven where no agent was: {now.note}")
    if now.left_out and args.get("strict"):
        left = [f"{ship}: {reason}" for ship, reason in now.left_out.items()]
        raise PartialError(
            f"{now.voyage} completed its plan, but these ships did not sail (strict counts this as a failure):", left
        )
    return _outcome_result(now, changed=False)


def rescue_work(args: Args) -> Args:
    """Stop captain and agents, fetch every ship's work; return which sprites may be destroyed."""
    directory = _find_directory(args)
    query = Query(directory.path)
    seen = query.overview()
    about: Args = {"voyage": directory.id, "provider": seen.provider, "hosts": []}
    if seen.state == "sunk" and not list_remaining(directory, load_settings()):
        return {**about, "changed": False, "destroy": [], "kept": {}, "rescues": [], "bundle": None}
    abandon = bool(args.get("abandon"))
    if args.get("check"):
        fleet = [ship.sprite for ship in query.ships()]
        return {**about, "changed": True, "destroy": fleet, "kept": {}, "rescues": [], "bundle": None}
    found, bundle, trouble = _rescue(directory, abandon=abandon)
    destroy = [one.sprite for one in found if one.ok or abandon]
    if seen.provider == HOSTS:
        known = [(ship.id, ship.sprite, read_target(ship)) for ship in query.ships() if ship.sprite in destroy]
        about["hosts"] = [
            {"id": ship, "sprite": name, "variables": _connection_variables(name, target, args)}
            for ship, name, target in known
        ]
    return {
        **about,
        "changed": True,
        "destroy": destroy,
        "kept": {one.sprite: one.reason or "" for one in found if not one.ok and not abandon},
        "rescues": [asdict(one) for one in found],
        "bundle": str(bundle) if bundle else None,
        "trouble": trouble,
    }


def _rescue(directory: VoyageDirectory, *, abandon: bool) -> tuple[tuple[Rescue, ...], Path | None, str | None]:
    """Fetch and check the work; with ``abandon`` a damaged repository is only reported."""
    # Only a sink loads the code that commands ships.
    from ocaptain.captain.rescue import Rescue  # noqa: PLC0415
    from ocaptain.voyage.rescue import begin_sink  # noqa: PLC0415

    try:
        rescued = begin_sink(directory, load_settings())
    except GitError as error:
        if not abandon:
            remedy = f"no ship was destroyed; repair {directory.path / 'repo.git'}, or use --abandon"
            raise PartialError(f"{directory.id}: {error.message} ({remedy})") from error
        ships = Query(directory.path).ships()
        return tuple(Rescue(ship.id, ship.sprite, ok=False) for ship in ships), None, error.message
    return rescued.ships, rescued.bundle, None


def prove_sunk(args: Args) -> Args:
    """Check that nothing is left of the voyage; raise an error that names what is left."""
    directory, settings = _find_directory(args), load_settings()
    seen = Query(directory.path).overview()
    over = seen.state == "sunk" and all(ship["state"] == "gone" for ship in seen.ships)
    is_gone = over and not list_remaining(directory, settings)
    if is_gone and not has_mesh(directory):
        return {"changed": False, "voyage": directory.id, "left": []}
    if args.get("check"):
        return {"changed": True, "voyage": directory.id, "left": []}
    kept = dict(args.get("failed") or {})
    left = (
        {}
        if is_gone
        else finish_sink(directory, settings, kept, args.get("destroyed") or (), abandon=bool(args.get("abandon")))
    )
    on_tailnet = leave_mesh(directory, settings, list(left))
    if left:
        unfetched = () if args.get("abandon") else args.get("unfetched") or ()
        raise _not_sunk_error(directory.id, left, unfetched, on_tailnet)
    if on_tailnet:
        remedy = f"`ocaptain sink {directory.id}` tries again; devices leave by themselves in the end"
        raise PartialError(f"{directory.id} is sunk, but not all of it has left the tailnet ({remedy}):", on_tailnet)
    return {"changed": True, "voyage": directory.id, "left": []}


def _not_sunk_error(
    voyage: str, left: Mapping[str, str], unfetched: Collection[str], on_tailnet: Sequence[str]
) -> PartialError:
    """Return the error that names the ships that are left, each with its reason.

    Args:
        voyage: its id.
        left: sprites, with the reason.
        unfetched: sprites that were kept because their work could not be fetched, which only --abandon destroys.
        on_tailnet: a line for each device or key that is left there.
    """
    remedy = f"`ocaptain sink {voyage}` tries again"
    if not left.keys().isdisjoint(unfetched):
        remedy += ", with --abandon it destroys also ships whose work cannot be fetched, and loses that work"
    lines = [f"{name}: {reason}" for name, reason in left.items()]
    return PartialError(f"{voyage} is not sunk, these ships are left ({remedy}):", [*lines, *on_tailnet])


def check_plan(args: Args) -> Args:
    """Check a plan; return its errors and warnings."""
    directory = expand_home(args["plan"])
    found = check_whole_plan(load_plan(directory), directory)
    return {
        "changed": False,
        "failed": bool(found.faults),
        "faults": [str(fault) for fault in found.faults],
        "warnings_found": [str(warning) for warning in found.warnings],
    }


STATES: dict[str, Callable[[Args], Args]] = {
    "checked": check_plan,
    "prepared": prepare_voyage,
    "joined": join_voyage,
    "left_out": leave_out,
    "launched": launch_captain,
    "complete": wait_until_complete,
    "rescued": rescue_work,
    "sunk": prove_sunk,
}
