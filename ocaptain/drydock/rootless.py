"""Under which user ids drydock makes its sandboxes.

Started by an ordinary user, drydock runs itself as root of a user namespace. There the files of the
machine's root belong to ``nobody``, so the ships need a separate base system. Without a range of
subordinate ids a ship has only one user and no root.
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
    """What a ship's file system and users are made of."""

    HOST = "host"  # drydock is root: a view of the machine's own system
    MAPPED = "mapped"  # drydock has a range of ids: a view of a separate Debian
    SINGLE = "single"  # drydock has one id: the machine's programs, one user, no sudo, no apt


@functools.cache
def sandbox_mode() -> SandboxMode:
    """Return the mode of this process, which must be root of its user namespace."""
    if Path("/usr").stat().st_uid == 0:
        return SandboxMode.HOST
    return SandboxMode.MAPPED if maps_sprite_user(Path("/proc/self/uid_map").read_text("ascii")) else SandboxMode.SINGLE


def maps_sprite_user(uid_map: str) -> bool:
    """Return whether an id map (see user_namespaces(7)) includes the ships' user id."""
    ranges = [line.split() for line in uid_map.splitlines()]
    return any(int(first) <= SPRITE_UID < int(first) + int(count) for first, _, count in ranges)


def describe_limitation() -> str | None:
    """Return why this user's ships would have no root and how to change that; None if nothing is missing.

    Call it as the user, outside of drydock's namespace.
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
        "drydock's ships are reduced (one user, no sudo, no apt) because they have no separate Debian; "
        f"as root: {remedy}"
    )


def sprite_owner_id() -> int:
    """Return the user id, as drydock sees it, of files that belong to the ship's user."""
    return 0 if sandbox_mode() is SandboxMode.SINGLE else SPRITE_UID


def become_root() -> None:
    """If not root: execute this program again (same pid) as root of a new user namespace.

    Raises:
        DrydockError: the kernel allows no user namespaces.
    """
    if os.geteuid() != 0:
        command = namespace_root_command()
        os.execvp(command[0], [*command, sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def namespace_root_command() -> tuple[str, ...]:
    """Return the command prefix that runs a program as root of the best available user namespace.

    Raises:
        DrydockError: the kernel allows no user namespaces.
    """
    failure: str | None = ""
    for command in ((*_UNSHARE_AS_ROOT, "--map-auto"), _UNSHARE_AS_ROOT):
        if "--map-auto" in command and shutil.which("mmdebstrap") is None:
            continue
        failure, _ = _try_namespace(command)
        if failure is None:
            return command
    raise DrydockError(f"drydock needs root or user namespaces, and this machine allows no user namespaces: {failure}")


def _try_namespace(command: tuple[str, ...]) -> tuple[str | None, str]:
    """Try to make a namespace; return why that failed (None if it works), and the namespace's uid map."""
    try:
        done = subprocess.run(
            [*command, "cat", "/proc/self/uid_map"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error), ""
    if done.returncode:
        return done.stderr.strip() or f"exit {done.returncode}", ""
    return None, done.stdout
