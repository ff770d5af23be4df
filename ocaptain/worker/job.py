"""An attempt, as stored on the ship's disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Mapping, Sequence, Tuple

from ocaptain.protocol.files import write_atomic
from ocaptain.protocol.messages import Resume

#: Bytes: Linux takes no argument of 128 KiB or more (MAX_ARG_STRLEN, execve(2)); on other pages than 4 KiB it is more.
MAX_ARGUMENT = 128 * 1024 - 1


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
    screen: str | None = None
    repo_settings: str = "ignore"
    task_list: str | None = None
    view: str = "raw"  # in what an earlier version wrote, in place of ``stream``
    resume: Tuple[Resume, ...] = ()
    news: str = ""
    prices: Mapping[str, Any] = field(default_factory=dict)
    telemetry: Mapping[str, str] = field(default_factory=dict)


def shell_argv(argv: Sequence[str], file: Path) -> List[str]:
    """Return an argv that the kernel takes: a line of ``bash -c`` that is too long for an argument goes into ``file``.

    Raises:
        OSError: the file cannot be written.
    """
    line = os.fsencode(argv[2]) if list(argv[:2]) == ["bash", "-c"] and len(argv) == 3 else b""
    if len(line) <= MAX_ARGUMENT:
        return list(argv)
    write_atomic(file, line + b"\n", durable=False)
    return ["bash", str(file)]
