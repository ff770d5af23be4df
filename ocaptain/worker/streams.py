"""The modules of agents that are packed with the worker, loaded by name: streams, projects and task lists."""

from __future__ import annotations

from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple


def stream_module(stream: str | None, view: str) -> str | None:
    """Return the name of a stream's module; older captains and job files give only a view."""
    name = view[: -len("-stream")] if view.endswith("-stream") else ""
    return stream or (f"ocaptain.agents.{name}.stream" if name.isidentifier() else None)


def own_variable_prefixes(module: str) -> Tuple[str, ...]:
    """Return the name prefixes of an agent's own variables (``OWN_ENV`` of its stream module)."""
    return tuple(getattr(import_module(module), "OWN_ENV", ()))


def new_stream(module: str, prices: Mapping[str, Any]) -> Any:
    """Return a new ``Stream`` of an agent: ``line(bytes) -> lines to show``, ``facts()``, ``changed``."""
    return import_module(module).Stream(prices)


def replay_stream(module: str, path: Path, prices: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the facts from a saved stream."""
    stream = new_stream(module, prices)
    with open(path, "rb") as saved:
        for line in saved:
            stream.line(line)
    facts: Dict[str, Any] = stream.facts()
    return facts


def prepare_project(
    module: str, argv: Sequence[str], env: Mapping[str, str], home: Path, workspace: Path, mode: str
) -> Tuple[List[str], Sequence[str]]:
    """Let an agent's module prepare an attempt's project; return the argv, and notes for the log.

    Raises:
        StartRefused: the agent must not be started with this repository.
        OSError: this ship cannot start it.
    """
    laid = import_module(module).lay_out(argv, env, home, workspace, mode)
    return laid.argv, laid.notes


def prepare_task_list(module: str, home: Path, env: Mapping[str, str]) -> Dict[str, str]:
    """Let an agent's module prepare an attempt whose agent shows the voyage's tasks; return variables for the agent.

    Raises:
        OSError: this ship cannot start it.
    """
    added: Dict[str, str] = import_module(module).prepare(home, env)
    return added


def find_task_lists(home: Path, voyage: str) -> List[Path]:
    """Return the directories in which the agents store the task list of a voyage."""
    folders = sorted(one.name for one in files("ocaptain.agents").iterdir() if (one / "ship/task_list.py").is_file())
    return [import_module(f"ocaptain.agents.{name}.ship.task_list").list_folder(home, voyage) for name in folders]


def find_transcripts(home: Path, workspaces: Iterable[Path]) -> List[Path]:
    """Return the directories in which the agents store the transcripts of sessions in ``workspaces``."""
    names = sorted(one.name for one in files("ocaptain.agents").iterdir() if (one / "stream.py").is_file())
    modules = [import_module(f"ocaptain.agents.{name}.stream") for name in names]
    return [path for module in modules for path in module.transcripts(home, list(workspaces))]
