"""How a host of an inventory is reached: data, and the command lines made from it. Nothing is run here.

No target and no argv contains a secret: keys are named by their path, passwords are not supported.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ocaptain.errors import OcaptainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.ledger import ShipRow

ALIVE_SECONDS = 10  # between two keep-alive messages on an idle connection; three without an answer end it

# A host may be hostile: nothing of this machine is forwarded to it, whatever ~/.ssh/config says.
_FIXED_OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "ForwardAgent=no", "-o", "ForwardX11=no"),
    *("-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no"),
)
# ssh takes the first value that it is given, so the inventory can override these, which come last.
_DEFAULT_OPTIONS = (
    *("-o", "ConnectTimeout=15", "-o", f"ServerAliveInterval={ALIVE_SECONDS}", "-o", "ServerAliveCountMax=3"),
    "-T",
)


class SshTarget(BaseModel):
    """How a host is reached.

    Attributes:
        host: name or address for ssh.
        port, user: None = from ssh's own configuration.
        key: path of a private key.
        executable: the ssh client.
        args: further options, in the user's order (``ansible_ssh_common_args`` and the like).
        home: directory of the ship on the host; None = where a login starts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, StringConstraints(pattern=r"^[^\s-][^\s]*$")]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    user: Annotated[str, StringConstraints(pattern=r"^[^\s-][^\s]*$")] | None = None
    key: str | None = None
    executable: str = "ssh"
    args: tuple[str, ...] = ()
    home: str | None = None

    def ansible_variables(self) -> dict[str, str | int]:
        """Return the host variables by which Ansible reaches it."""
        given: dict[str, str | int | None] = {
            "ansible_host": self.host,
            "ansible_port": self.port,
            "ansible_user": self.user,
            "ansible_ssh_private_key_file": self.key,
            "ansible_ssh_executable": self.executable,
            "ansible_ssh_common_args": shlex.join(self.args) or None,
            "tmux_agent_home": self.home,
        }
        return {name: value for name, value in given.items() if value is not None}


def ssh_argv(target: SshTarget, before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return ssh's command line: options that nothing overrides, the inventory's, defaults, host, command.

    Args:
        target: the host.
        before: further options that nothing overrides.
        after: what is run there, as the words that the remote shell reads; may be empty.
    """
    own: list[str] = []
    if target.port is not None:
        own += ["-o", f"Port={target.port}"]
    if target.key is not None:
        own += ["-o", f'IdentityFile="{target.key}"']
    if target.user is not None:
        own += ["-o", f'User="{target.user}"']
    return [
        target.executable,
        *_FIXED_OPTIONS,
        *before,
        *own,
        *target.args,
        *_DEFAULT_OPTIONS,
        "--",
        target.host,
        *after,
    ]


def remote_command(target: SshTarget, script: str) -> list[str]:
    """Return the words that run a POSIX script in the ship's home, whatever the login shell is."""
    place = f'cd -- {shlex.quote(target.home)} && export OCAPTAIN_SHIP_HOME="$PWD" && ' if target.home else ""
    return ["exec", "sh", "-c", shlex.quote(f"{place}{script}")]


def terminal_argv(target: SshTarget, line: str, *, is_terminal: bool) -> list[str]:
    """Return the command line that runs a shell line on the host for a person, with a terminal if they have one."""
    words = remote_command(target, f"exec bash -c {shlex.quote(line)}")
    # What comes first counts: a person may be asked. What comes last counts of -t and -T.
    plain = [*ssh_argv(target, ["-o", "ControlPath=none"], [])]
    at = plain.index("--")
    interactive = [plain[0], "-o", "BatchMode=no", *plain[1:at], *(("-t", "-t") if is_terminal else ()), *plain[at:]]
    return [*interactive, *words]


def read_target(ship: ShipRow) -> SshTarget:
    """Return how a ship is reached, from its row in the ledger.

    Raises:
        OcaptainError: the row has no valid target.
    """
    try:
        return SshTarget.model_validate_json(ship.way or "")
    except ValidationError as error:
        raise OcaptainError(f"the ledger has no valid ssh target for {ship.id} ({ship.sprite})") from error
