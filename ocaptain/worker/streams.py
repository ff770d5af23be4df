"""The modules of agents that are packed with the worker, loaded by name: streams and projects."""

from __future__ import annotations

from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple


def stream_module(stream: str | None, view: str) -> str | None:
    """Return the module of a stream; of captains and job files of before there were names, by their view."""
    name = view[: -len("-stream")] if view.endswith("-stream") else ""
    return stream or (f"ocaptain.agents.{name}.stream" if name.isidentifier() else None)


def own_variable_prefixes(module: str) -> Tuple[str, ...]:
    """Return how the variables begin that are an agent's own, as its stream's module says."""
    return tuple(getattr(import_module(module), "OWN_ENV", ()))


def new_stream(module: str, prices: Mapping[str, Any]) -> Any:
    """Return a new ``Stream`` of an agent: ``line(bytes) -> lines to show``, ``facts()``, ``changed``."""
    return import_module(module).Stream(prices)


def replay_stream(module: str, path: Path, prices: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what a stream that was saved says."""
    stream = new_stream(module, prices)
    with open(path, "rb") as saved:
        for line in saved:
            stream.line(line)
    facts: Dict[str, Any] = stream.facts()
    return facts


def prepare_project(
    module: str, argv: Sequence[str], env: Mapping[str, str], home: Path, workspace: Path, mode: str
) -> Tuple[List[str], Sequence[str]]:
    """Have an agent's module make its project of an attempt; return the argv, and notes for the log.

    Raises:
        Refused: it is not to be started with this repository.
        OSError: this ship cannot start it.
    """
    laid = import_module(module).lay_out(argv, env, home, workspace, mode)
    return laid.argv, laid.notes


def find_transcripts(home: Path, workspaces: Iterable[Path]) -> List[Path]:
    """Return where the agents keep what was said in workspaces."""
    names = sorted(one.name for one in files("ocaptain.agents").iterdir() if (one / "stream.py").is_file())
    modules = [import_module(f"ocaptain.agents.{name}.stream") for name in names]
    return [path for module in modules for path in module.transcripts(home, list(workspaces))]
