"""Shared by our plugins: access to the provider, errors as results of tasks."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from ocaptain.background import reduce_garbage_collection
from ocaptain.config import load_settings
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.provider import (
    Endpoint,
    choose_provider,
    drydock_directory,
    endpoint,
    require_endpoint_if_used,
    sprites_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ocaptain.names import ProviderName

# Ansible loads a plugin once and then forks for each task and host: load here what a call needs, since
# loading it in each fork would cost ten times as much as the call.
for _name in (
    "ocaptain.sprites",
    "httpcore",
    "anyio._backends._asyncio",
    *(("ocaptain.drydock.server",) if sys.platform == "linux" else ()),
):
    with contextlib.suppress(ImportError):  # these are internals of httpx, which may change
        importlib.import_module(_name)

# Ansible holds about a hundred thousand objects until it ends, and forks for each task: the garbage
# collector would walk over all of them in each of these processes.
reduce_garbage_collection()

NO_DRYDOCK = "drydock is not running; start it with `ocaptain drydock start`"
_PR_SET_PDEATHSIG = 1


def die_with_ansible() -> None:
    """Have this process killed when the ansible-playbook that forked it dies.

    Ansible's workers lead sessions of their own: a worker whose parent was killed would otherwise continue
    to create ships, or wait for a voyage, unknown to anybody.
    """
    parent = multiprocessing.parent_process()
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:  # it died before we asked
        os._exit(1)


def name_provider(provider: str | None, url: str | None, token: str | None) -> str | None:
    """Return the provider that options name: with a URL or a token of their own it is Sprites, None: as configured."""
    return provider or ("sprites" if url or token else None)


def find_endpoint(
    provider: str | None = None, url: str | None = None, token: str | None = None, *, restart: bool = False
) -> tuple[ProviderName, Endpoint | None]:
    """Return the provider and how to reach it; None for a drydock that does not run.

    Args:
        provider: ``sprites`` or ``drydock``; None = as configured.
        url: URL of the API; None = as configured.
        token: token of the API; None = as configured.
        restart: restart a drydock that does not run but has sprites.

    Raises:
        OcaptainError: the configuration is wrong, or no token is set.
    """
    settings = load_settings()
    name, _ = choose_provider(settings, name_provider(provider, url, token))
    if not (url or token):
        return name, (require_endpoint_if_used if restart else endpoint)(name, settings)
    if name == "sprites":
        url, origin = url or settings.sprites_api_url, "api_token"
        return name, Endpoint(
            name, url, token or sprites_token(settings), settings.api_timeout, origin if token else ""
        )
    found = None if url and token else endpoint(name, settings)
    if found is None and not (url and token):
        raise UsageError("api_url and api_token go together for a drydock that does not run")
    url, token = url or (found.url if found else ""), token or (found.token if found else "")
    return name, Endpoint(name, url, token, settings.api_timeout)


def find_source(provider: str | None = None, url: str | None = None) -> tuple[ProviderName, str]:
    """Return the provider and whose list it has, a URL or a drydock's directory; nobody is asked, no token looked for.

    Args:
        provider: ``sprites`` or ``drydock``; None = as configured.
        url: URL of the API; None = as configured.

    Raises:
        OcaptainError: the configuration is wrong.
    """
    settings = load_settings()
    name, _ = choose_provider(settings, provider)
    return name, url or (settings.sprites_api_url if name == "sprites" else str(drydock_directory()))


def require_running_endpoint(provider: str | None = None, url: str | None = None, token: str | None = None) -> Endpoint:
    """Return how to reach the provider; restart a drydock that does not run but has sprites.

    Raises:
        UsageError: it is a drydock that does not run.
    """
    _, found = find_endpoint(provider, url, token, restart=True)
    if found is None:
        raise UsageError(NO_DRYDOCK)
    return found


def find_sprite_and_endpoint(
    args: Mapping[str, Any], host_vars: Mapping[str, Any], template: Callable[[Any], Any], *, check: bool = False
) -> tuple[str, Endpoint | None]:
    """Return the sprite of a task and how to reach it, by the task's arguments, else by its host's variables.

    Args:
        args: ``sprite``, ``provider``, ``api_url`` and ``api_token``, None where not given.
        host_vars: the host's variables, which the connection plugin reads as well.
        template: renders a value that is a template.
        check: start nothing; the endpoint of a drydock that does not run is None, since it has no sprite yet.

    Raises:
        UsageError: as :func:`require_running_endpoint`; not with ``check``.
    """

    def read(name: str) -> Any:
        return args[name] or template(host_vars.get(f"ocaptain_{name}"))

    sprite = args["sprite"] or template(host_vars.get("ocaptain_sprite")) or host_vars["inventory_hostname"]
    where = (read("provider"), read("api_url"), read("api_token"))
    if check:
        return sprite, find_endpoint(*where)[1]
    return sprite, require_running_endpoint(*where)


def failure_result(error: OcaptainError) -> dict[str, Any]:
    """Return an error as the result of a failed task; the CLI takes its exit code from ``ocaptain``."""
    return {
        "failed": True,
        "msg": str(error),
        "ocaptain": {"exit_code": error.exit_code, "message": error.message, "details": list(error.details)},
    }
