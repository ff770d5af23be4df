"""Making a voyage: its directory, whole or not at all."""

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
from ocaptain.plan import critical_paths, edges, estimates
from ocaptain.voyage import source as sources
from ocaptain.voyage.request import Prepared, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocaptain.config import Settings
    from ocaptain.voyage.check import Checked
    from ocaptain.voyage.home import Home

VERIFY_SECONDS = 1800.0
PRIORITY_UNIT = 1000  # the ledger has whole numbers: milliseconds of the chain


def make_home(path: Path) -> None:
    """Make the directory of all voyages.

    Raises:
        UsageError: it cannot be made or written, or no ledger can lie in it.
    """
    require_short_path(path / ("x" * len(new_voyage_id())) / "ledger.db")
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"{path} (OCAPTAIN_HOME) cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise UsageError(f"{path} (OCAPTAIN_HOME) cannot be written")


def make(
    home: Home,
    request: Request,
    checked: Checked,
    settings: Settings,
    place: str,
) -> Prepared:
    """Make the voyage that was asked for; the caller holds the home's lock.

    Args:
        home: of all voyages.
        request: what is asked for.
        checked: the same, checked.
        settings: the configuration.
        place: which place the provider is.

    Raises:
        OcaptainError: the repository cannot be brought here, or the directory not be written.
    """
    _clear_away(home.path)
    voyage = new_voyage_id()
    final = home.path / voyage
    building = Path(tempfile.mkdtemp(prefix=f".{voyage}-", dir=home.path))
    try:
        root = sources.bring(
            checked.source,
            building / "repo.git",
            voyage,
            checked.plan.name,
            settings,
            allow_partial=request.options.allow_partial,
        )
        checked.notes.extend(_settings_notes(building / "repo.git", root, request.options.repo_settings))
        sources.checkout(building / "repo.git", building / "workspace", voyage)
        for folder in ("logs", "tasks", "rescue"):
            (building / folder).mkdir()
        Ledger.create(building / "ledger.db", _new_voyage(voyage, request, checked, root, place))
        building.rename(final)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return prepare_new(voyage, home, checked)


def _settings_notes(repo: Path, root: str, mode: str | None) -> list[str]:
    """Return a line for each file of the repository that sets something of an agent."""
    found = sources.settings_of(Git(repo), root)
    if mode in {None, "ignore"}:
        return [f"warning: {one.told}; {one.note}" for one in found]
    return [f"warning: {one.told} (--repo-settings {mode})" for one in found]


def prepare_new(voyage: str, home: Home, checked: Checked) -> Prepared:
    """Return a voyage that is new."""
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


def _clear_away(home: Path) -> None:
    """Remove what a `sail` that was killed had begun to make; we hold the home's lock."""
    for left in home.glob(".voyage-*"):
        shutil.rmtree(left, ignore_errors=True)


def _task_rows(checked: Checked, graph: Mapping[str, frozenset[str]]) -> list[dict[str, Any]]:
    """Return the ledger's rows of the plan's tasks, in the plan's order."""
    plan = checked.plan
    done = {task.id for task in plan.tasks.values() if task.status == "completed"}
    left = {task: before - done for task, before in graph.items() if task not in done}
    chains = critical_paths(left, estimates({task: plan.tasks[task] for task in left}))
    return [
        {
            "id": task.id,
            "position": position,
            "subject": task.subject,
            "raw": json.dumps(task.model_copy(update={"owner": None}).raw(), ensure_ascii=False),
            "agent": checked.agents.get(task.id, ""),
            "wish": task.metadata.ship if isinstance(task.metadata.ship, str) else None,
            "pin": task.metadata.pin,
            "priority": round(chains.get(task.id, 0) * PRIORITY_UNIT),
            # An earlier run's in_progress is nobody's work now.
            "status": "completed" if task.id in done else "pending",
        }
        for position, task in enumerate(plan.tasks.values())
    ]


def _new_voyage(voyage: str, request: Request, checked: Checked, root: str, place: str) -> NewVoyage:
    plan, fleet = checked.plan, checked.fleet
    graph = edges(plan.tasks)
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
        verify_timeout=plan.manifest.verify_timeout or VERIFY_SECONDS,
        setup=plan.manifest.setup,
        prompt=plan.prompt,
        tasks=_task_rows(checked, graph),
        edges=graph,
        ships=fleet.ships(voyage),
        replace_lost=request.options.replace,
        place=place,
        mesh=fleet.mesh,
        targets={ship: way.model_dump_json(exclude_defaults=True) for ship, way in fleet.targets().items()},
        options={**request.as_kept(), **({"verify_on": "any"} if fleet.verify_on == "any" else {})},
        files=plan.files,
    )
