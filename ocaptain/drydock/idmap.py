"""Show the machine's directories under the ids of a ship: user namespaces and idmapped mounts.

An idmapped mount (mount_setattr(2), Linux 5.12; as a lower directory of an overlay Linux 5.19) shows a file of the
machine's root as one of the ship's root, and nothing on the disk is changed. Some file systems cannot (NFS; overlayfs,
on which a container's own root lies): :func:`why_not` tries it and says why.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from typing import TYPE_CHECKING

from ocaptain.drydock import kernel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: The machine's ids that drydock gives away: the ships' ranges (:mod:`.ids`), and behind them the one of the trial.
FIRST_ID, END_ID = 0x10000000, 0x70020000
_TRIAL_IDS = (0x70010000, 65536)


def make_user_namespace(first: int, size: int) -> int:
    """Return a descriptor of a new user namespace in which ``size`` ids from ``first`` begin at 0.

    A child makes it and ends at once.

    Raises:
        OSError: the kernel refuses it, or this process may not give such ids.
    """
    made, say_made = os.pipe()
    go_on, say_go_on = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(say_go_on)
            kernel.unshare(kernel.CLONE_NEWUSER)
            os.write(say_made, b"y")
            os.read(go_on, 1)  # until the namespace is held by its descriptor
        finally:
            os._exit(0)
    try:
        os.close(say_made)
        if not os.read(made, 1):
            raise OSError(1, "this machine allows no more user namespaces")
        for name in ("uid_map", "gid_map"):
            write_file(f"/proc/{child}/{name}", f"0 {first} {size}\n")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for fd in (made, go_on, say_go_on):
            os.close(fd)
        os.waitpid(child, 0)


def maps_ids(id_map: str, first: int, end: int) -> bool:
    """Return whether an id map (user_namespaces(7): "inside outside count", a range a line) holds first to end - 1."""
    for start, count in sorted((int(inside), int(count)) for inside, _, count in map(str.split, id_map.splitlines())):
        if start <= first < start + count:
            first = start + count
    return first >= end


def why_no_users() -> str | None:
    """Return why root cannot make a user namespace with ids of a ship; None if it can."""
    try:
        os.close(make_user_namespace(*_TRIAL_IDS))
    except OSError as error:
        return error.strerror or str(error)
    return None


def write_file(path: str, text: str) -> None:
    """Write to an existing file of procfs in one call."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def show_mapped(path: str, place: str, user_namespace: int) -> str:
    """Mount a directory under a user namespace's ids at the new directory ``place``, and return that.

    Raises:
        OSError: the kernel or the file system cannot.
    """
    os.mkdir(place)
    fd = kernel.open_mount(path)
    try:
        kernel.map_ids(fd, user_namespace)
        kernel.attach_mount(fd, place)
    finally:
        os.close(fd)
    return place


def why_not(directories: Iterable[Path]) -> str | None:
    """Return why these directories cannot be shown under a ship's ids; None if they can. Needs root.

    A child tries it in a mount namespace of its own: each directory, and an overlay over two of them.
    """
    present = [str(one) for one in directories if one.is_dir()]
    with tempfile.TemporaryDirectory(prefix="ocaptain-idmap-") as scratch:
        try:
            done = subprocess.run(
                ["/proc/self/exe"],  # never reached
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
                timeout=30,
                preexec_fn=lambda: _try_and_exit(scratch, present),
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"an idmapped mount could not be tried: {error}"
    if not done.returncode:
        return None
    return done.stderr.decode(errors="replace").strip() or f"the trial of an idmapped mount ended by {done.returncode}"


def _try_and_exit(scratch: str, directories: list[str]) -> None:
    """In the forked child: say on stderr what fails, and end."""
    code = 1
    with contextlib.suppress(BaseException):  # a forked child must never run on as the caller
        reason = _try_directories(scratch, directories)
        os.write(2, (reason or "").encode())
        code = 1 if reason else 0
    os._exit(code)


def _try_directories(scratch: str, directories: list[str]) -> str | None:
    what = "user namespaces"
    try:
        users = make_user_namespace(*_TRIAL_IDS)
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        kernel.mount("trial", scratch, "tmpfs", 0, "mode=0700,size=64k")
        os.chdir(scratch)
        for number, directory in enumerate(directories):
            what = directory
            show_mapped(directory, str(number), users)
        what = "an overlay over idmapped directories"
        os.mkdir("all")
        kernel.mount("trial", "all", "overlay", kernel.MS_RDONLY, "lowerdir=1:0")
    except OSError as error:
        return f"{what}: {error.strerror or error}"
    return None
