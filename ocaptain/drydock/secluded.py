"""Run a program of the machine's over directories of a ship, where nothing else of the machine can be reached.

A ship may change its disk while drydock works on it: a process that wakes itself up (a timer that sends SIGCONT) is not
stopped for long. A directory that becomes a link at the right moment would lead a program that works by path, such as
``cp``, to any file of the machine, with the rights of the machine's root. So the program gets a root of its own::

    /usr, /bin …    the machine's programs, read-only
    /from/NAME      what is read: read-only, no device is opened, no link is followed (MS_NOSYMFOLLOW, Linux 5.10)
    /to             what is written
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from ocaptain.drydock import kernel
from ocaptain.drydock.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_NOSYMFOLLOW, MS_RDONLY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SYSTEM_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
READ = MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_NOSYMFOLLOW
WRITTEN = MS_NODEV | MS_NOSUID | MS_NOEXEC
NICENESS = 5


def system_mounts(host: str = "") -> tuple[dict[str, str], list[str]]:
    """Return the symbolic links of a root directory that its programs need, and the directories beside them.

    Args:
        host: the root directory; "" = the machine's.
    """
    links = {name: os.readlink(f"{host}/{name}") for name in SYSTEM_LINKS if os.path.islink(f"{host}/{name}")}
    return links, ["usr", *(name for name in SYSTEM_LINKS if name not in links and os.path.isdir(f"{host}/{name}"))]


def run_secluded(
    argv: Sequence[str], read: Sequence[Path], written: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Args:
        argv: command and arguments, which name the directories by their paths inside.
        read: directories that are ``/from/NAME`` inside.
        written: the directory that is ``/to``.
        seconds: after them it is killed.

    Raises:
        OSError: the directories cannot be mounted.
        subprocess.TimeoutExpired: it took longer.
    """
    links, system = system_mounts()
    return subprocess.run(
        list(argv),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=seconds,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        preexec_fn=lambda: _seclude(links, system, read, written),
    )


def _seclude(links: dict[str, str], system: Sequence[str], read: Sequence[Path], written: Path) -> None:
    """In the forked child: have the root that the module's docstring shows; or say why not, and end."""
    try:
        os.nice(NICENESS)  # commands first; not more, since the ship stands still meanwhile
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        target = os.open(written, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        place = str(written)  # covered by the new root, which needs some directory to be mounted on
        kernel.mount("copy", place, "tmpfs", MS_NODEV | MS_NOSUID, "mode=0755,size=1m")
        for name, leads_to in links.items():
            os.symlink(leads_to, f"{place}/{name}")
        for name in system:
            os.mkdir(f"{place}/{name}")
            kernel.bind(f"/{name}", f"{place}/{name}", MS_RDONLY | MS_NODEV | MS_NOSUID, whole=True)
        os.mkdir(f"{place}/from")
        for one in read:
            os.mkdir(f"{place}/from/{one.name}")
            kernel.bind(str(one), f"{place}/from/{one.name}", READ)
        os.mkdir(f"{place}/to")
        kernel.bind(f"/proc/self/fd/{target}", f"{place}/to", WRITTEN)
        os.close(target)
        os.mkdir(f"{place}/.old")
        os.chdir(place)
        kernel.pivot_root(".", ".old")
        os.chdir("/")
        kernel.unmount("/.old")
    except BaseException as error:  # noqa: BLE001 - subprocess would hide the reason
        with contextlib.suppress(OSError):
            os.write(2, f"{error}\n".encode())
        os._exit(125)
