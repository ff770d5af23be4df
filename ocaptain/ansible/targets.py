"""From a host of an inventory to the captain's way to it: what Ansible's own ssh connection would do, as data."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ocaptain.captain.transport.target import SshTarget
from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SSH = frozenset({"ssh", "smart", "ansible.builtin.ssh"})
#: Ansible's own default, in whose place the captain shares connections by itself.
PLAIN_ARGS = "-C -o ControlMaster=auto -o ControlPersist=60s"
#: What the captain must not keep, by the connection's options.
SECRET = {
    "password": "a password (ansible_password)",
    "private_key": "a key in a variable (ansible_private_key)",
    "private_key_passphrase": "a passphrase in a variable (ansible_private_key_passphrase)",
    "pkcs11_provider": "a smart card (ansible_ssh_pkcs11_provider)",
}


def build_target(
    name: str, connection: str, options: Mapping[str, Any], home: str | None = None, *, become: bool = False
) -> SshTarget:
    """Return the way to a host.

    Args:
        name: of the host.
        connection: its ``ansible_connection``.
        options: of the connection plugin ``ssh`` for it, as Ansible resolves them (variables,
            configuration, environment and command line).
        home: its ``tmux_agent_home``, if there is one.
        become: its ``ansible_become``.

    Raises:
        UsageError: the captain cannot reach it like that; says what to do.
    """
    if connection not in SSH:
        raise UsageError(f"{name}: ships are reached by ssh, not by ansible_connection {connection!r}")
    if become:
        why = "the ship would be built as another user than the captain logs in as"
        remedy = "the roles become root by themselves where they must"
        raise UsageError(f"host {name}: {why}. Remove ansible_become from the inventory, {remedy}")
    for option, what in SECRET.items():
        if options.get(option):
            raise UsageError(
                f"{name}: {what} is a secret, and no secret is stored: remove it, and give ssh a key file or an agent"
            )
    key = options.get("private_key_file")
    args: list[str] = []
    if options.get("host_key_checking") is False:
        args += ["-o", "StrictHostKeyChecking=no"]
    for option in ("ssh_args", "ssh_common_args", "ssh_extra_args"):
        text = str(options.get(option) or "")
        args += shlex.split(text) if text != PLAIN_ARGS else []
    try:
        return SshTarget(
            host=str(options.get("host") or name),
            port=options.get("port"),
            user=options.get("remote_user") or None,
            key=str(Path(key).expanduser().absolute()) if key else None,
            executable=str(options.get("ssh_executable") or "ssh"),
            args=tuple(args),
            home=None if home in {None, "", "~"} else home,
        )
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_input=False)]
        raise UsageError(f"host {name}: cannot connect by ssh with the settings of the inventory:", faults) from error


def read_targets(names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, SshTarget]:
    """Return the targets of hosts of the inventory, resolved by Ansible itself; called inside Ansible only.

    Raises:
        UsageError: as :func:`build_target`.
    """
    from ansible import constants  # noqa: PLC0415 - Ansible's own process has it loaded
    from ansible.module_utils.parsing.convert_bool import boolean  # noqa: PLC0415
    from ansible.playbook.play_context import PlayContext  # noqa: PLC0415
    from ansible.plugins.loader import connection_loader  # noqa: PLC0415

    known = constants.config.get_plugin_vars("connection", "ssh")
    targets = {}
    for name in names:
        variables = hostvars[name]
        plugin = connection_loader.get("ssh", PlayContext(), os.devnull)
        plugin.set_options(var_options={key: variables[key] for key in known if key in variables})
        options = plugin.get_options()
        connection = str(variables.get("ansible_connection") or constants.DEFAULT_TRANSPORT)
        become = boolean(variables.get("ansible_become", False), strict=False)
        targets[name] = build_target(name, connection, options, variables.get("tmux_agent_home"), become=become)
    return targets
