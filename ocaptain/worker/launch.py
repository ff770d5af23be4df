"""From an attempt's job to a process: what the ship alone knows is filled in here.

That is the home directory, where the agent's program is, whether an earlier session can be gone
on with, and the secrets of the agent's environment, which come from files of the ship and are
in no job, journal or argv.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from ocaptain.worker.places import read_json
from ocaptain.worker.stream import Masker

_OWN = "~/.ocaptain/"
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL|HEADERS", re.IGNORECASE)


@dataclass(frozen=True)
class Start:
    """What is run.

    Attributes:
        argv, env, prompt: of the process; ``prompt`` is the file on its standard input.
        mask: knows the secrets.
        resumed: the session that is gone on with, None for one of its own.
    """

    argv: List[str]
    env: Dict[str, str]
    prompt: Path
    mask: Masker
    resumed: Optional[str]


def prepare(job: Dict[str, Any], directory: Path, home: Path) -> Start:
    """Return what to run for ``job``.

    Raises:
        OSError: a file of the agent's environment is there and cannot be read.
    """
    env: Dict[str, str] = {}
    secrets: List[str] = []
    for name in job.get("env_files", []):
        for key, value in (read_json(home / name) or {}).items():
            env[str(key)] = str(value)
            if _SECRET.search(str(key)):
                secrets.append(str(value))
    hidden = [home / name for name in job.get("secret_files", [])]
    secrets += [path.read_text("utf-8", "replace").strip() for path in hidden if path.is_file()]
    argv, prompt, resumed = list(job["argv"]), directory / "prompt.md", None
    for earlier in job.get("resume", []):
        if glob.glob(str(home / earlier["transcript"])):
            argv, prompt, resumed = list(earlier["argv"]), directory / "resume.md", str(earlier["session"])
            break
    argv = [f"{home}/{one[2:]}" if one.startswith(_OWN) else one for one in argv]
    if job.get("path_file") and (home / job["path_file"]).is_file():
        argv[0] = (home / job["path_file"]).read_text("utf-8").strip() or argv[0]
    return Start(argv, {**os.environ, **job["env"], **env}, prompt, Masker(secrets), resumed)
