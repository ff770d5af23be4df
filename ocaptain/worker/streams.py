"""The streams of agents: modules of theirs that are packed with the worker, loaded by name."""

from __future__ import annotations

from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Tuple


def module_of(stream: str | None, view: str) -> str | None:
    """Return the module of a stream; of captains and job files of before there were names, by their view."""
    name = view[: -len("-stream")] if view.endswith("-stream") else ""
    return stream or (f"ocaptain.agents.{name}.stream" if name.isidentifier() else None)


def own_env(module: str) -> Tuple[str, ...]:
    """Return how the variables begin that are an agent's own, as its stream's module says."""
    return tuple(getattr(import_module(module), "OWN_ENV", ()))


def new_stream(module: str, prices: Mapping[str, Any]) -> Any:
    """Return a new ``Stream`` of an agent: ``line(bytes) -> lines to show``, ``facts()``, ``changed``."""
    return import_module(module).Stream(prices)


def replay(module: str, path: Path, prices: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what a stream that was saved says."""
    stream = new_stream(module, prices)
    with open(path, "rb") as saved:
        for line in saved:
            stream.line(line)
    facts: Dict[str, Any] = stream.facts()
    return facts


def transcripts(home: Path, workspaces: Iterable[Path]) -> List[Path]:
    """Return where the agents keep what was said in workspaces."""
    names = sorted(one.name for one in files("ocaptain.agents").iterdir() if (one / "stream.py").is_file())
    modules = [import_module(f"ocaptain.agents.{name}.stream") for name in names]
    return [path for module in modules for path in module.transcripts(home, list(workspaces))]
