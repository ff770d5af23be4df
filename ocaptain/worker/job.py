"""An attempt, as stored on the ship's disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple

from ocaptain.protocol.messages import Resume


@dataclass
class Job:
    """The running attempt, in the worker's state.

    Attributes:
        id: id of the command that started it; empty in files of earlier versions.
        token, base, branch: of the attempt.
        directory: holds its job file, prompt and exit file.
        log: path of the log with the agent's output.
        marker: value in the environment of all its processes.
        sent: journalled bytes of the log.
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
    """What the supervisor runs (``job.json``); for the fields see ``ocaptain.agents.base.RunSpec``."""

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
