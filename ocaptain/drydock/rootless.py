"""As whom drydock makes its sandboxes: the one place that knows.

An ordinary user's drydock is the same program, run as root of a user namespace. There the files
of the machine's own root belong to nobody, so the ships stand on a base of their own; without a
range of subordinate ids there is but one user, and no root, in a ship.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

from ocaptain.drydock.errors import DrydockError

SPRITE_UID = 1000
_UNSHARE_AS_ROOT = ("unshare", "--user", "--map-root-user", "--mount")


class SandboxMode(StrEnum):
    """What a ship is made of."""

    HOST = "host"  # root of the machine: a view of the machine itself
    MAPPED = "mapped"  # root of a range of ids: a view of a Debian of its own
    SINGLE = "single"  # one id: the machine's programs, for one user, without sudo and apt


@functools.cache
def sandbox_mode() -> SandboxMode:
    """Return the mode of this process, which is root of some user namespace."""
    if Path("/usr").stat().st_uid == 0:
        return SandboxMode.HOST
    return SandboxMode.MAPPED if maps_sprite_user(Path("/proc/self/uid_map").read_text("ascii")) else SandboxMode.SINGLE


def maps_sprite_user(uid_map: str) -> bool:
    """Whether a map (see user_namespaces(7)) has the ships' user in it."""
    ranges = [line.split() for line in uid_map.splitlines()]
    return any(int(first) <= SPRITE_UID < int(first) + int(count) for first, _, count in ranges)


def describe_limitation() -> str | None:
    """Return why this user's ships would be reduced and what to do about it, None if they are whole.

    Asked outside of any namespace, as the user is.
    """
    if os.geteuid() == 0:
        return None
    failure, ids = _try_namespace((*_UNSHARE_AS_ROOT, "--map-auto"))
    if failure is None and maps_sprite_user(ids) and shutil.which("mmdebstrap"):
        return None
    if shutil.which("newuidmap") is None or shutil.which("mmdebstrap") is None:
        remedy = "apt-get install uidmap mmdebstrap"
    else:
        remedy = "give this user a range: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME"
        remedy += f" ({failure})" if failure else ""
    return (
        f"drydock's ships are reduced (one user, no sudo, no apt) for want of a Debian of their own; as root: {remedy}"
    )


def sprite_owner_id() -> int:
    """Return the id that drydock itself sees where a ship sees its user."""
    return 0 if sandbox_mode() is SandboxMode.SINGLE else SPRITE_UID


def become_root() -> None:
    """As an ordinary user: run this program again, with the same pid, as root of a user namespace.

    Raises:
        DrydockError: the kernel allows no user namespaces.
    """
    if os.geteuid() != 0:
        command = namespace_root_command()
        os.execvp(command[0], [*command, sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def namespace_root_command() -> tuple[str, ...]:
    """Return the command prefix that makes an ordinary user root of the best namespace to be had.

    Raises:
        DrydockError: the kernel allows none.
    """
    failure: str | None = ""
    for command in ((*_UNSHARE_AS_ROOT, "--map-auto"), _UNSHARE_AS_ROOT):
        if "--map-auto" in command and shutil.which("mmdebstrap") is None:
            continue
        failure, _ = _try_namespace(command)
        if failure is None:
            return command
    raise DrydockError(f"drydock needs root or user namespaces, and this machine allows none: {failure}")


def _try_namespace(command: tuple[str, ...]) -> tuple[str | None, str]:
    """Return what was said against a namespace (None if it can be had), and its map of ids."""
    try:
        done = subprocess.run(
            [*command, "cat", "/proc/self/uid_map"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error), ""
    if done.returncode:
        return done.stderr.strip() or f"exit {done.returncode}", ""
    return None, done.stdout
