"""What the plugins share."""

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
from ocaptain.provider import Endpoint, choose_provider, endpoint, require_endpoint_if_used

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ocaptain.names import ProviderName

# Ansible loads a plugin once and then forks for each task and host: what a call needs is loaded here,
# or each of them would load it anew, which costs ten times what the call does.
for _name in (
    "ocaptain.sprites",
    "httpcore",
    "anyio._backends._asyncio",
    *(("ocaptain.drydock.server",) if sys.platform == "linux" else ()),
):
    with contextlib.suppress(ImportError):  # how httpx is made inside is its own affair
        importlib.import_module(_name)

# Ansible holds some hundred thousand objects until it ends, and forks for each task: the collector would
# walk over all of them in each of these processes.
reduce_garbage_collection()

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
    provider: str | None = None, url: str | None = None, token: str | None = None, *, restart: bool = False
) -> tuple[ProviderName, Endpoint | None]:
    """Return the provider and how to reach it; None for a drydock that does not run.

    Args:
        provider: ``sprites`` or ``drydock``; None = as configured.
        url: of the API, in place of the configured one.
        token: likewise.
        restart: start a drydock again that does not run and has left sprites.

    Raises:
        OcaptainError: the configuration is wrong, or there is no token.
    """
    settings = load_settings()
    named = provider or ("sprites" if url or token else None)
    name, _ = choose_provider(settings, named)
    if not (url or token):
        return name, (require_endpoint_if_used if restart else endpoint)(name, settings)
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
    _, found = find_endpoint(provider, url, token, restart=True)
    if found is None:
        raise UsageError("drydock does not run; start it with `ocaptain drydock start`")
    return found


def of_host(args: Mapping[str, Any], known: Mapping[str, Any], template: Callable[[Any], Any]) -> tuple[str, Endpoint]:
    """Return the sprite that a task is about, and how to reach it: as its arguments say, else as its host does.

    Args:
        args: ``sprite``, ``provider``, ``api_url`` and ``api_token``, None where they are not given.
        known: the host's variables, which the connection plugin reads as well.
        template: resolves one.

    Raises:
        UsageError: as :func:`require`.
    """

    def given(name: str) -> Any:
        return args[name] or template(known.get(f"ocaptain_{name}"))

    sprite = args["sprite"] or template(known.get("ocaptain_sprite")) or known["inventory_hostname"]
    return sprite, require(given("provider"), given("api_url"), given("api_token"))


def failure(error: OcaptainError) -> dict[str, Any]:
    """Return an error as the result of a task; the CLI reads ``ocaptain`` and ends accordingly."""
    return {
        "failed": True,
        "msg": str(error),
        "ocaptain": {"exit_code": error.exit_code, "message": error.message, "details": list(error.details)},
    }
