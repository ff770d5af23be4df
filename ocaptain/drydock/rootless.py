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

UID = 1000
_ROOT = ("unshare", "--user", "--map-root-user", "--mount")


class Mode(StrEnum):
    """What a ship is made of."""

    HOST = "host"  # root of the machine: a view of the machine itself
    MAPPED = "mapped"  # root of a range of ids: a view of a Debian of its own
    SINGLE = "single"  # one id: the machine's programs, for one user, without sudo and apt


@functools.cache
def mode() -> Mode:
    """Return the mode of this process, which is root of some user namespace."""
    if Path("/usr").stat().st_uid == 0:
        return Mode.HOST
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
    many = any(int(first) <= UID < int(first) + int(count) for first, _, count in ranges)
    return Mode.MAPPED if many else Mode.SINGLE


def shortcoming() -> str | None:
    """Return why this user's ships would be reduced and what to do about it, None if they are whole.

    Asked outside of any namespace, as the user is.
    """
    if os.geteuid() == 0 or _tries((*_ROOT, "--map-auto")) is None:
        missing = None if os.geteuid() == 0 or shutil.which("mmdebstrap") else "apt-get install mmdebstrap"
    elif shutil.which("newuidmap") is None:
        missing = "apt-get install uidmap mmdebstrap"
    else:
        missing = "give this user a range: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME"
    if missing is None:
        return None
    return (
        f"drydock's ships are reduced (one user, no sudo, no apt) for want of a Debian of their own; as root: {missing}"
    )


def owner() -> int:
    """Return the id that drydock itself sees where a ship sees its user."""
    return 0 if mode() is Mode.SINGLE else UID


def become_root() -> None:
    """As an ordinary user: run this program again, with the same pid, as root of a user namespace.

    Raises:
        DrydockError: the kernel allows no user namespaces.
    """
    if os.geteuid() != 0:
        command = namespace()
        os.execvp(command[0], [*command, sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def namespace() -> tuple[str, ...]:
    """Return the command prefix that makes an ordinary user root of the best namespace to be had.

    Raises:
        DrydockError: the kernel allows none.
    """
    said: str | None = ""
    for command in ((*_ROOT, "--map-auto"), _ROOT):
        if "--map-auto" in command and shutil.which("mmdebstrap") is None:
            continue
        said = _tries(command)
        if said is None:
            return command
    raise DrydockError(f"drydock needs root or user namespaces, and this machine allows none: {said}")


def _tries(command: tuple[str, ...]) -> str | None:
    """Return what was said against a namespace, None if it can be had."""
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if tried.returncode == 0 else tried.stderr.strip() or f"exit {tried.returncode}"
