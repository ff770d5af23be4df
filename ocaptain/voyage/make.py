"""Make the directory of a new voyage, completely or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocaptain.errors import UsageError
from ocaptain.git import Git
from ocaptain.ledger import Ledger, NewVoyage
from ocaptain.ledger.file import require_short_path
from ocaptain.names import new_voyage_id
from ocaptain.plan import claim_priorities, dependency_graph, known_estimates
from ocaptain.plan.from_tasks import write_plan
from ocaptain.voyage import source as sources
from ocaptain.voyage.clone import clone_workspace, import_repository
from ocaptain.voyage.request import Prepared, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocaptain.config import Settings
    from ocaptain.voyage.check import CheckedRequest, Services
    from ocaptain.voyage.home import Home

DEFAULT_VERIFY_SECONDS = 1800.0


def make_home(path: Path) -> None:
    """Make the directory of all voyages.

    Raises:
        UsageError: it cannot be created or written, or its path is too long for a ledger.
    """
    require_short_path(path / ("x" * len(new_voyage_id())) / "ledger.db")
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"{path} (OCAPTAIN_HOME) cannot be created: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise UsageError(f"{path} (OCAPTAIN_HOME) cannot be written")


def make_voyage(
    home: Home,
    request: Request,
    checked: CheckedRequest,
    settings: Settings,
    services: Services,
) -> Prepared:
    """Make the requested voyage; the caller holds the home's lock.

    Args:
        home: the directory of all voyages.
        request: the request.
        checked: the same request with the results of its checks.
        settings: the configuration.
        services: what they said: the id of the provider, and where the voyage starts.

    Raises:
        UsageError: only the clone could tell that no voyage can start from the source.
        OcaptainError: the repository cannot be cloned, or the directory not be written.
    """
    _remove_unfinished(home.path)
    voyage = new_voyage_id()
    final = home.path / voyage
    building = Path(tempfile.mkdtemp(prefix=f".{voyage}-", dir=home.path))
    try:
        made = import_repository(
            checked.source,
            services.start,
            building / "repo.git",
            voyage,
            checked.plan.name,
            settings,
            allow_partial=checked.allow_partial,
        )
        checked.notes.extend(made.notes)
        checked.notes.extend(_settings_notes(building / "repo.git", made.root, request.options.repo_settings))
        clone_workspace(building / "repo.git", building / "workspace", voyage)
        for folder in ("logs", "tasks", "rescue"):
            (building / folder).mkdir()
        write_plan(building / "plan", checked.plan.files)
        Ledger.create(building / "ledger.db", _new_voyage(voyage, request, checked, made.root, services))
        building.rename(final)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return describe_new_voyage(voyage, home, checked)


def _settings_notes(repo: Path, root: str, mode: str | None) -> list[str]:
    """Return a warning for each file of the repository that contains agent settings."""
    found = sources.settings_in_commit(Git(repo), root)
    if mode in {None, "ignore"}:
        return [f"warning: {one.description}; {one.note}" for one in found]
    return [f"warning: {one.description} (--repo-settings {mode})" for one in found]


def describe_new_voyage(voyage: str, home: Home, checked: CheckedRequest) -> Prepared:
    """Return the description of a new voyage."""
    fleet = checked.fleet
    return Prepared(
        voyage,
        str(home.path / voyage),
        fleet.provider,
        "preparing",
        fleet.ships(voyage),
        resumed=False,
        notes=tuple(checked.notes),
        targets=fleet.targets(),
    )


def _remove_unfinished(home: Path) -> None:
    """Remove unfinished directories of a killed `sail`; the caller holds the home's lock."""
    for directory in home.glob(".voyage-*"):
        shutil.rmtree(directory, ignore_errors=True)


def _task_rows(checked: CheckedRequest, graph: Mapping[str, frozenset[str]]) -> list[dict[str, Any]]:
    """Return the ledger's rows of the plan's tasks, in the plan's order."""
    plan = checked.plan
    done = {task.id for task in plan.tasks.values() if task.status == "completed"}
    left = {task: before - done for task, before in graph.items() if task not in done}
    priorities = claim_priorities(left, known_estimates(plan.tasks))
    return [
        {
            "id": task.id,
            "position": position,
            "subject": task.subject,
            "raw": json.dumps(task.model_copy(update={"owner": None}).as_dict(), ensure_ascii=False),
            "agent": checked.agents.get(task.id, ""),
            "wish": task.metadata.ship if isinstance(task.metadata.ship, str) else None,
            "pin": task.metadata.pin,
            "approved": int(not task.metadata.hold),
            "priority": priorities.get(task.id, 0),
            # A task that an earlier run left in_progress has no worker now.
            "status": "completed" if task.id in done else "pending",
        }
        for position, task in enumerate(plan.tasks.values())
    ]


def _new_voyage(voyage: str, request: Request, checked: CheckedRequest, root: str, services: Services) -> NewVoyage:
    plan, fleet = checked.plan, checked.fleet
    graph = dependency_graph(plan.tasks)
    return NewVoyage(
        id=voyage,
        name=plan.name,
        provider=fleet.provider,
        digest=checked.digest,
        repo=checked.source.url,
        root=root,
        agent_cmd=request.options.agent_cmd,
        model=request.options.model,
        max_turns=request.options.max_turns,
        spec=plan.spec,
        verify_script=plan.verify,
        verify_timeout=plan.manifest.verify_timeout or DEFAULT_VERIFY_SECONDS,
        setup=plan.manifest.setup,
        prompt=plan.prompt,
        tasks=_task_rows(checked, graph),
        edges=graph,
        ships=fleet.ships(voyage),
        replace_lost=request.options.replace,
        place=services.provider_id,
        mesh=fleet.mesh,
        targets={ship: target.model_dump_json(exclude_defaults=True) for ship, target in fleet.targets().items()},
        options={
            **request.as_ledger_options(),
            **({"verify_on": "any"} if fleet.verify_on == "any" else {}),
            **({"branch": services.start.branch} if services.start.branch else {}),
        },
        files=plan.files,
    )
