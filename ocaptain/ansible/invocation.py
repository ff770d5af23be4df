"""A run of a playbook as data: playbook, variables and environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocaptain.ansible.content import content_root
from ocaptain.config import DOTENV_DIRECTORY

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
    """

    playbook: Path
    extravars: Mapping[str, Any] = field(default_factory=dict)
    #: The plays make their own hosts, so that no other inventory is loaded, which might fail.
    inventory: str = "localhost,"
    environment: Mapping[str, str] = field(default_factory=dict)


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
        caller_environment: its values win, and its roles come before ours.
        caller_directory: the directory whose ``.env`` is read.
        root: directory of the Ansible content; None = find it.
        inventory: absolute path; None = no inventory.
    """
    root = root or content_root()
    plugins = root / "plugins"
    roles = [caller_environment["ANSIBLE_ROLES_PATH"]] if caller_environment.get("ANSIBLE_ROLES_PATH") else []
    ours = {
        # Always named: Ansible ignores an ansible.cfg in a world-writable checkout.
        "ANSIBLE_CONFIG": caller_environment.get("ANSIBLE_CONFIG") or str(root / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": os.pathsep.join([*roles, str(root / "roles")]),
        "ANSIBLE_INVENTORY_PLUGINS": str(root / "inventory_plugins"),
        "ANSIBLE_CONNECTION_PLUGINS": str(plugins / "connection"),
        "ANSIBLE_ACTION_PLUGINS": str(plugins / "action"),
        "ANSIBLE_LIBRARY": str(plugins / "modules"),
        "ANSIBLE_HOST_KEY_CHECKING": caller_environment.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
        "ANSIBLE_FORKS": caller_environment.get("ANSIBLE_FORKS", "25"),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), caller_environment.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(
            entry for entry in (str(package_root()), caller_environment.get("PYTHONPATH", "")) if entry
        ),
        DOTENV_DIRECTORY: caller_environment.get(DOTENV_DIRECTORY) or str(caller_directory),
    }
    given = {name: value for name, value in extravars.items() if value is not None}
    made = Invocation(root / "playbooks" / f"{playbook}.yml", given, environment=ours)
    return replace(made, inventory=inventory) if inventory else made


def package_root() -> Path:
    """Return the directory that contains the package ``ocaptain``."""
    return Path(__file__).resolve().parent.parent.parent
