"""How the captain reaches a host of an inventory: the settings of Ansible's ssh connection, as data."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ocaptain.captain.transport.target import SshTarget
from ocaptain.errors import UsageError
from ocaptain.paths import expand_home
from ocaptain.text import plain_reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SSH_CONNECTIONS = frozenset({"ssh", "smart", "ansible.builtin.ssh"})
#: Ansible's default; the captain replaces it with its own sharing of connections.
DEFAULT_SSH_ARGS = "-C -o ControlMaster=auto -o ControlPersist=60s"
#: Secrets, which the captain must not store, by the connection's option.
SECRET_OPTIONS = {
    "password": "a password (ansible_password)",
    "private_key": "a key in a variable (ansible_private_key)",
    "private_key_passphrase": "a passphrase in a variable (ansible_private_key_passphrase)",
    "pkcs11_provider": "a smart card (ansible_ssh_pkcs11_provider)",
}


def build_target(
    name: str, connection: str, options: Mapping[str, Any], home: str | None = None, *, become: bool = False
) -> SshTarget:
    """Return how to reach a host.

    Args:
        name: name of the host.
        connection: its ``ansible_connection``.
        options: options of the connection plugin ``ssh`` for it, as Ansible resolves them (variables,
            configuration, environment and command line).
        home: its ``tmux_agent_home``, None if not set.
        become: its ``ansible_become``.

    Raises:
        UsageError: the captain cannot use these settings; says what to change.
    """
    if connection not in SSH_CONNECTIONS:
        raise UsageError(f"host {name}: ships are reached by ssh, not by ansible_connection {connection!r}")
    if become:
        why = "the ship would be built as another user than the captain logs in as"
        remedy = "the roles become root by themselves where they must"
        raise UsageError(f"host {name}: {why}. Remove ansible_become from the inventory, {remedy}")
    for option, what in SECRET_OPTIONS.items():
        if options.get(option):
            raise UsageError(
                f"host {name}: {what} is a secret, which is not stored: remove it, use a key file or ssh-agent"
            )
    key = options.get("private_key_file")
    args: list[str] = []
    if options.get("host_key_checking") is False:
        args += ["-o", "StrictHostKeyChecking=no"]
    for option in ("ssh_args", "ssh_common_args", "ssh_extra_args"):
        text = str(options.get(option) or "")
        args += shlex.split(text) if text != DEFAULT_SSH_ARGS else []
    try:
        return SshTarget(
            host=str(options.get("host") or name),
            port=options.get("port"),
            user=options.get("remote_user") or None,
            key=str(expand_home(key).absolute()) if key else None,
            executable=str(options.get("ssh_executable") or "ssh"),
            args=tuple(args),
            home=None if home in {None, "", "~"} else home,
        )
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}: {plain_reason(fault['msg'])}" for fault in error.errors(include_input=False)]
        raise UsageError(f"host {name}: cannot connect by ssh with the settings of the inventory:", faults) from error


def read_targets(names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, SshTarget]:
    """Return how to reach hosts of the inventory, as Ansible resolves it; call it only inside Ansible.

    Raises:
        UsageError: as :func:`build_target`.
    """
    from ansible import constants  # noqa: PLC0415 - Ansible's own process has it loaded
    from ansible.module_utils.parsing.convert_bool import boolean  # noqa: PLC0415
    from ansible.playbook.play_context import PlayContext  # noqa: PLC0415
    from ansible.plugins.loader import connection_loader  # noqa: PLC0415

    plugin_vars = constants.config.get_plugin_vars("connection", "ssh")
    targets = {}
    for name in names:
        variables = hostvars[name]
        plugin = connection_loader.get("ssh", PlayContext(), os.devnull)
        plugin.set_options(var_options={key: variables[key] for key in plugin_vars if key in variables})
        options = plugin.get_options()
        connection = str(variables.get("ansible_connection") or constants.DEFAULT_TRANSPORT)
        become = boolean(variables.get("ansible_become", False), strict=False)
        targets[name] = build_target(name, connection, options, variables.get("tmux_agent_home"), become=become)
    return targets
