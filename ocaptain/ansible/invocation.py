"""A run of a playbook as data: playbook, variables and environment."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocaptain.ansible.content import content_root
from ocaptain.environment import choose_locale, ignored_settings, is_found_by
from ocaptain.sources import DOTENV_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Invocation:
    """A run of one playbook.

    Attributes:
        playbook: absolute path.
        inventory: host list.
        extravars: extra variables; never a secret (the runner writes them to a file).
        environment: variables added to the caller's environment; never a secret either.
        ignored: variables of the caller's environment that are left out.
    """

    playbook: Path
    extravars: Mapping[str, Any] = field(default_factory=dict)
    #: The plays make their own hosts, so that no other inventory is loaded, which might fail.
    inventory: str = "localhost,"
    environment: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def build_invocation(
    playbook: str,
    extravars: Mapping[str, Any],
    caller_environment: Mapping[str, str],
    caller_directory: Path,
    root: Path | None = None,
    inventory: str | None = None,
) -> Invocation:
    """Return the invocation of one of our playbooks.

    Args:
        playbook: name, without suffix.
        extravars: extra variables; those that are None are left out.
        caller_environment: what reaches hosts and names a team's content is kept, see :mod:`ocaptain.environment`;
            its roles come before ours.
        caller_directory: the directory whose ``.env`` is read.
        root: directory of the Ansible content; None = find it.
        inventory: absolute path; None = no inventory.

    Raises:
        UsageError: the machine has no locale in which Ansible runs.
    """
    root = root or content_root()
    ignored = ignored_settings(caller_environment, has_content=inventory is not None)
    caller = {name: value for name, value in caller_environment.items() if name not in ignored}
    locale = choose_locale(caller)
    plugins = root / "plugins"
    roles = [caller["ANSIBLE_ROLES_PATH"]] if caller.get("ANSIBLE_ROLES_PATH") else []
    ours = {
        # Always named: Ansible ignores an ansible.cfg in a world-writable checkout, and would read the user's.
        "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": os.pathsep.join([*roles, str(root / "roles")]),
        "ANSIBLE_INVENTORY_PLUGINS": str(root / "inventory_plugins"),
        "ANSIBLE_CONNECTION_PLUGINS": str(plugins / "connection"),
        "ANSIBLE_ACTION_PLUGINS": str(plugins / "action"),
        "ANSIBLE_LIBRARY": str(plugins / "modules"),
        "ANSIBLE_HOST_KEY_CHECKING": caller.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
        "ANSIBLE_FORKS": caller.get("ANSIBLE_FORKS", "25"),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), caller.get("PATH", os.defpath)]),
        "PYTHONPATH": _python_path(caller.get("PYTHONPATH", "")),
        DOTENV_DIRECTORY: caller.get(DOTENV_DIRECTORY) or str(caller_directory),
        **({"LC_ALL": locale} if locale else {}),
    }
    given = {name: value for name, value in extravars.items() if value is not None}
    made = Invocation(root / "playbooks" / f"{playbook}.yml", given, environment=ours, ignored=tuple(ignored))
    return replace(made, inventory=inventory) if inventory else made


def _python_path(callers: str) -> str:
    """Return the path of modules: ours, and what we were installed with, come before those of the caller's."""
    ours = [str(package_root())]
    if callers and not is_found_by(callers):
        ours.append(sysconfig.get_path("purelib"))
    return os.pathsep.join(dict.fromkeys([*ours, *filter(None, callers.split(os.pathsep))]))


def package_root() -> Path:
    """Return the directory that contains the package ``ocaptain``."""
    return Path(__file__).resolve().parent.parent.parent
