"""What is run, as data: playbook, variables and environment. Pure; tested whole."""

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
        extravars: variables; never a secret (they go to a file of the runner).
        environment: what is set beside the caller's own environment; never a secret either.
    """

    playbook: Path
    extravars: Mapping[str, Any] = field(default_factory=dict)
    #: The plays make their own hosts: an API that some inventory cannot reach is none of theirs.
    inventory: str = "localhost,"
    environment: Mapping[str, str] = field(default_factory=dict)


def build(
    playbook: str,
    extravars: Mapping[str, Any],
    caller: Mapping[str, str],
    here: Path,
    root: Path | None = None,
    inventory: str | None = None,
) -> Invocation:
    """Return the invocation of one of our playbooks.

    Args:
        playbook: name, without suffix.
        extravars: those that are None are left out.
        caller: the caller's environment; what it says wins, and its roles come before ours.
        here: the caller's directory, whose ``.env`` counts.
        root: of the content; found if None.
        inventory: absolute path, for plays that use hosts of it.
    """
    root = root or content_root()
    plugins = root / "plugins"
    roles = [caller["ANSIBLE_ROLES_PATH"]] if caller.get("ANSIBLE_ROLES_PATH") else []
    ours = {
        # Always named: Ansible ignores an ansible.cfg in a world-writable checkout.
        "ANSIBLE_CONFIG": caller.get("ANSIBLE_CONFIG") or str(root / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": os.pathsep.join([*roles, str(root / "roles")]),
        "ANSIBLE_INVENTORY_PLUGINS": str(root / "inventory_plugins"),
        "ANSIBLE_CONNECTION_PLUGINS": str(plugins / "connection"),
        "ANSIBLE_ACTION_PLUGINS": str(plugins / "action"),
        "ANSIBLE_LIBRARY": str(plugins / "modules"),
        "ANSIBLE_HOST_KEY_CHECKING": caller.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
        "ANSIBLE_FORKS": caller.get("ANSIBLE_FORKS", "25"),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), caller.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(
            entry for entry in (str(root_of_package()), caller.get("PYTHONPATH", "")) if entry
        ),
        DOTENV_DIRECTORY: caller.get(DOTENV_DIRECTORY) or str(here),
    }
    given = {name: value for name, value in extravars.items() if value is not None}
    made = Invocation(root / "playbooks" / f"{playbook}.yml", given, environment=ours)
    return replace(made, inventory=inventory) if inventory else made


def root_of_package() -> Path:
    """Return the directory that ``import ocaptain`` finds it in."""
    return Path(__file__).resolve().parent.parent.parent
