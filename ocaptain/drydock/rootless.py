"""Under which user ids drydock makes its sandboxes, and of what.

As the machine's root drydock shows its ships the machine's own system under ids of their own (:mod:`.ids`,
:mod:`.idmap`); where kernel or file system cannot do that, they stand on a separate Debian.

In a container whose root has too few ids for that, they share its ids 0 and 1000 and stand on that Debian, too.

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
from ocaptain.drydock.idmap import END_ID, FIRST_ID, maps_ids, why_no_users, why_not
from ocaptain.sources import cache_directory

SPRITE_UID = 1000
OVERLAID_DIRECTORIES = ("usr", "etc", "var", "opt")
BASE_VARIABLE = "OCAPTAIN_DRYDOCK_BASE"
_UNSHARE_AS_ROOT = ("unshare", "--user", "--map-root-user", "--mount")


class SandboxMode(StrEnum):
    """What a ship's file system and users are made of."""

    HOST = "host"  # drydock is root: a view of the machine's own system under ids of the ship's own
    MAPPED = "mapped"  # drydock has a range of ids, or is root without such views: a view of a separate Debian
    SINGLE = "single"  # drydock has one id: the machine's programs, one user, no sudo, no apt


def is_machine_root() -> bool:
    """Return whether this process is root, and has the machine's files and all the ids that ships are given.

    Root of a user namespace has the files of nobody; root of many a container has its files, and 65,536 ids.
    """
    has_files = os.geteuid() == 0 and Path("/usr").stat().st_uid == 0
    return has_files and all(maps_ids(_own_map(name), FIRST_ID, END_ID) for name in ("uid_map", "gid_map"))


def _own_map(name: str) -> str:
    try:
        return Path("/proc/self", name).read_text("ascii")
    except FileNotFoundError:  # of a kernel without user namespaces
        return f"0 0 {2**32 - 1}\n"


@functools.cache
def sandbox_mode() -> SandboxMode:
    """Return the mode of this process, which must be root of its user namespace."""
    if is_machine_root():
        return SandboxMode.MAPPED if why_no_view() else SandboxMode.HOST
    return SandboxMode.MAPPED if maps_sprite_user(_own_map("uid_map")) else SandboxMode.SINGLE


@functools.cache
def why_no_view() -> str | None:
    """Return why root's ships cannot stand on the machine's own system; None if they can.

    The variable :data:`BASE_VARIABLE` = ``own`` asks for a separate Debian.
    """
    if os.environ.get(BASE_VARIABLE) == "own":
        return f"{BASE_VARIABLE}=own asks for it"
    if not is_machine_root():
        return "root has too few ids here, as in a container"
    cache = cache_directory().absolute()
    of_base = next(place for place in (cache, *cache.parents) if place.is_dir())
    return why_not([*(Path("/", tree) for tree in OVERLAID_DIRECTORIES), of_base])


def maps_sprite_user(uid_map: str) -> bool:
    """Return whether an id map (see user_namespaces(7)) includes the ships' user id."""
    return maps_ids(uid_map, SPRITE_UID, SPRITE_UID + 1)


def require_namespaces() -> None:
    """As root: raise an error if no sandbox can be made here, or not the base that its ships would stand on.

    Raises:
        DrydockError: what is forbidden or missing, and what to do.
    """
    what, failure = "user namespaces", why_no_users() if is_machine_root() else None
    if not failure:
        what, (failure, _) = "mount namespaces", _try_namespace(("unshare", "--mount"))
    if failure:
        raise DrydockError(
            f"drydock cannot fence its ships: this machine or container allows no {what} ({failure}); "
            "they need CAP_SYS_ADMIN, a seccomp profile that lets them pass, and sysctl user.max_user_namespaces "
            "above 0; else use sprites (--provider sprites)"
        )
    if sandbox_mode() is SandboxMode.MAPPED and shutil.which("mmdebstrap") is None:
        raise DrydockError(
            f"drydock cannot show its ships this machine's system under ids of their own ({why_no_view()}); "
            "for a Debian of their own: apt-get install mmdebstrap"
        )


def describe_limitation() -> str | None:
    """Return what this user's ships lack and how to change that; None if nothing is missing.

    Call it as the user, outside of drydock's namespace.
    """
    if os.geteuid() == 0:
        if sandbox_mode() is SandboxMode.SINGLE:
            return "drydock's ships are reduced (one user, no sudo, no apt) because root has a single id here"
        reason = why_no_view()
        return (
            f"drydock's ships stand on a Debian of their own, not on this machine's system ({reason})"
            if reason
            else None
        )
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


def describe_ids() -> str:
    """Return in a line whose ids this user's ships have, and what they stand on.

    Call it as the user, outside of drydock's namespace.
    """
    if os.geteuid() != 0:
        ids = "their own within your range" if describe_limitation() is None else "yours alone"
        return f"ships have ids that are {ids}"
    if sandbox_mode() is SandboxMode.SINGLE:
        return "ships have root's id alone, the only one here"
    if not is_machine_root():
        return "ships share the ids 0 and 1000 of root here, which has too few for more (a container)"
    if why_no_view():
        return "ships have a range of ids that is nobody's, the same for all; they stand on a Debian of their own"
    return (
        "each ship has a range of ids that is nobody's; they stand on this machine's system (idmapped mounts), "
        "without the files that its other users cannot read (docs/security.md says which are left)"
    )


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
