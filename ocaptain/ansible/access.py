"""What the plugins share.

Ansible forks for each task of each host, after it has loaded the task's action: whatever a plugin
of ours needs is imported here, once, so that fifty ships do not load it fifty times.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from ocaptain.config import load_settings
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.provider import Endpoint, choose, endpoint

if TYPE_CHECKING:
    from ocaptain.config import ProviderName


for _needed in ("ocaptain.sprites", "ocaptain.drydock.server"):
    importlib.import_module(_needed)

_PR_SET_PDEATHSIG = 1


def end_with_ansible() -> None:
    """Bind this process to the ansible-playbook that forked it.

    Ansible's workers lead sessions of their own: one whose parent was killed would go on creating
    ships, or waiting for a voyage, with nobody there who knows of it.
    """
    parent = multiprocessing.parent_process()
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:  # it died before we asked
        os._exit(1)


def find_endpoint(
    provider: str | None = None, url: str | None = None, token: str | None = None
) -> tuple[ProviderName, Endpoint | None]:
    """Return the provider and how to reach it; None for a drydock that does not run.

    Args:
        provider: ``sprites`` or ``drydock``; None = as configured.
        url: of the API, in place of the configured one.
        token: likewise.

    Raises:
        OcaptainError: the configuration is wrong, or there is no token.
    """
    settings = load_settings()
    named = provider or ("sprites" if url or token else None)
    name, _ = choose(settings, named)
    if not (url or token):
        return name, endpoint(name, settings)
    found = None if url and token else endpoint(name, settings)
    if found is None and not (url and token):
        raise UsageError("api_url and api_token go together for a drydock that does not run")
    url, token = url or (found.url if found else ""), token or (found.token if found else "")
    return name, Endpoint(name, url, token, settings.api_timeout)


def require(provider: str | None = None, url: str | None = None, token: str | None = None) -> Endpoint:
    """Return how to reach the provider.

    Raises:
        UsageError: it is a drydock that does not run.
    """
    _, found = find_endpoint(provider, url, token)
    if found is None:
        raise UsageError("drydock does not run; start it with `ocaptain drydock start`")
    return found


def failure(error: OcaptainError) -> dict[str, Any]:
    """Return an error as the result of a task; the CLI reads ``ocaptain`` and ends accordingly."""
    return {
        "failed": True,
        "msg": str(error),
        "ocaptain": {"exit_code": error.exit_code, "message": error.message, "details": list(error.details)},
    }
