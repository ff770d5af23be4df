"""An attempt as it lies on the ship's disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple

from ocaptain.protocol.messages import Resume


@dataclass
class Job:
    """The attempt that runs, for the worker.

    Attributes:
        id: of the command that began it; empty in what an earlier version wrote.
        token, base, branch: of the attempt.
        directory: with its job file, prompt and exit file.
        log: of what the agent writes.
        marker: in the environment of all its processes.
        sent: bytes of the log that are journalled.
    """

    token: int
    base: str
    branch: str
    directory: str
    log: str
    marker: str
    id: str = ""
    sent: int = 0


@dataclass(frozen=True)
class JobFile:
    """What its supervisor runs (``job.json``): see ``ocaptain.agents.base.AgentRun``."""

    argv: Tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    log: str
    timeout: float
    stall: float
    marker: str
    env_files: Tuple[str, ...] = ()
    secret_files: Tuple[str, ...] = ()
    own_env: Tuple[str, ...] = ()
    path_file: str | None = None
    stream: str | None = None
    project: str | None = None
    repo_settings: str = "ignore"
    view: str = "raw"  # in what an earlier version wrote, in place of ``stream``
    resume: Tuple[Resume, ...] = ()
    news: str = ""
    prices: Mapping[str, Any] = field(default_factory=dict)
