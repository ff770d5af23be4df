"""Prepare the process of an attempt: complete its job with the facts that only the ship knows.

These are the home directory, the path of the agent's program, whether an earlier session can be
resumed, and the secrets of the agent's environment. The secrets come from files on the ship and
are never in a job, journal or argv.
"""

from __future__ import annotations

import glob
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence
from urllib.parse import unquote

from ocaptain.worker.job import JobFile
from ocaptain.worker.show import Masker
from ocaptain.worker.streams import prepare_project, prepare_task_list

_OWN_PREFIX = "~/.ocaptain/"
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL|HEADERS", re.IGNORECASE)
_REPORTING = "OTEL_"  # what the names of OpenTelemetry's variables begin with
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\s@]+)@")


@dataclass(frozen=True)
class PreparedRun:
    """The process to run for a job.

    Attributes:
        argv, env, prompt: of the process; ``prompt`` is the file on its standard input.
        mask: replaces the secrets in its output.
        resumed: id of the session to resume, None for a new one.
        notes: lines for the log.
    """

    argv: List[str]
    env: Dict[str, str]
    prompt: Path
    mask: Masker
    resumed: Optional[str]
    notes: Sequence[str] = ()


def prepare_run(job: JobFile, directory: Path, home: Path) -> PreparedRun:
    """Return the process to run for ``job``.

    Raises:
        OSError: a file of the agent's environment is missing or invalid.
        StartRefused: the repository's settings cannot be ignored.
    """
    env: Dict[str, str] = {}
    host_environment = dict(os.environ)
    for name in job.env_files:
        env.update(_read_environment(home / name))
        # What the host has set for itself must not come before what was laid down for this agent.
        host_environment = {key: value for key, value in host_environment.items() if not key.startswith(job.own_env)}
    secrets = [secret for key, value in env.items() for secret in secrets_in_variable(key, value)]
    if job.env_files:  # of the host's own, what its name says is not ours to judge; but it may have a proxy
        secrets += [secret for value in host_environment.values() for secret in secrets_in_variable("", value)]
    secret_paths = [home / name for name in job.secret_files]
    secrets += [path.read_text("utf-8", "replace").strip() for path in secret_paths if path.is_file()]
    argv, prompt, resumed = list(job.argv), directory / "prompt.md", None
    for earlier in job.resume:
        if glob.glob(str(home / earlier.transcript)):
            argv, prompt, resumed = list(earlier.argv), directory / "resume.md", earlier.session
            break
    argv = [f"{home}/{one[2:]}" if one.startswith(_OWN_PREFIX) else one for one in argv]
    if job.path_file and (home / job.path_file).is_file():
        argv[0] = (home / job.path_file).read_text("utf-8").strip() or argv[0]
    if job.telemetry and not any(name.startswith(_REPORTING) for name in env):  # else it reports where the role says
        host_environment = {key: value for key, value in host_environment.items() if not key.startswith(_REPORTING)}
        host_environment.update(job.telemetry)
    full_environment = {**host_environment, **job.env, **env}
    notes: Sequence[str] = ()
    if job.project:
        argv, notes = prepare_project(job.project, argv, full_environment, home, Path(job.cwd), job.repo_settings)
    if job.task_list:
        full_environment |= prepare_task_list(job.task_list, home, full_environment)
    return PreparedRun(argv, full_environment, prompt, Masker(secrets), resumed, notes)


def _read_environment(path: Path) -> Dict[str, str]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise OSError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise OSError(f"{path} cannot be used: it must be a JSON object of variables")
    return {str(key): str(value) for key, value in content.items()}


def secrets_in_variable(name: str, value: str) -> List[str]:
    """Return the parts of an environment variable that must never be shown.

    The whole value if the name suggests a secret, and each header if it holds several; of any other
    variable the user and password of URLs.
    """
    found = []
    if _SECRET.search(name):
        found.append(value)
        if "HEADER" in name.upper():
            for line in value.splitlines():
                content = line.partition(":")[2].strip()
                found += [line.strip(), content, content.rpartition(" ")[2]]
    for scheme, user in _USER.findall(value):
        password = user.partition(":")[2]
        if password or scheme.lower().startswith("http"):  # of a gateway, the name alone may be a key
            found += [user, password, unquote(password)]
    return found
