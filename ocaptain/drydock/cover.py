"""What of the machine's files no ship sees, although it stands on them: what the machine's other users cannot read.

Under its own ids a ship's root is the owner of whatever the machine's root owns. The keys of VPNs and certificates,
the passwords of services, their data and their logs would be the ship's to read. So the base layer covers them, as
overlayfs does it (the kernel's filesystems/overlayfs.rst): a file by a device with the numbers 0 and 0, the content
of a directory by an attribute of the same directory in the layer::

    machine  /etc ──covered_paths (pure: covers)──> paths ──cover──> base layer, below each ship

They are looked for when the layer is made. A covered directory stays so for what comes into it later; other files that
come later are covered by the next layer, which a new one in /etc asks for (:func:`.base.base_layer_key`).
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Directories of /var that the layer removes (:data:`.base.USERS_SCRIPT`).
REMOVED = (
    *("lib/postgresql", "lib/mysql", "lib/docker", "lib/containerd", "mail", "spool/mail", "spool/cron", "backups"),
    "cache/debconf/passwords.dat",
)
#: What dpkg, apt, sudo and sshd do not work without, and the user database, which the layer writes anew.
KEPT = (
    *("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/.pwd.lock", "/etc/sudoers"),
    *("/etc/sudoers.d", "/etc/ssh", "/etc/apt", "/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt"),
    *("/var/cache/debconf", "/var/cache/ldconfig"),
)
#: Not looked into: a ship has its own /var/tmp.
_PASSED_BY = frozenset({"/var/tmp", *(f"/var/{one}" for one in REMOVED), *KEPT})  # noqa: S108 - a name, not used
#: Where is looked; what comes with packages into the rest of /usr is no secret.
SEARCHED = ("etc", "var", "opt", "usr/local")
_OPAQUE = "trusted.overlay.opaque"


def covers(path: str, mode: int) -> bool:
    """Return whether the base layer covers a file, or what is in a directory.

    Args:
        path: absolute, on the machine.
        mode: its type and permissions, as of lstat(2).
    """
    if any(path == one or path.startswith(f"{one}/") for one in KEPT):
        return False
    if stat.S_ISDIR(mode):
        return not mode & stat.S_IXOTH
    is_program = bool(mode & 0o111) and path.startswith("/usr/")
    return stat.S_ISREG(mode) and not mode & stat.S_IROTH and not is_program


def covered_paths(trees: Iterable[str], root: Path = Path("/")) -> list[str]:
    """Return what is to be covered in some trees of the machine, sorted; other file systems are not entered.

    Args:
        trees: relative to the root, such as :data:`SEARCHED`.
        root: of the machine.

    Raises:
        OSError: a directory cannot be read; not if it goes meanwhile.
    """
    found: list[str] = []
    for tree in trees:
        directories = [f"/{tree}"]
        device = (root / tree).stat().st_dev if (root / tree).is_dir() else -1
        while directories:
            directory = directories.pop()
            for path, status in _entries(root, directory):
                if status.st_dev != device or path in _PASSED_BY:
                    continue
                if covers(path, status.st_mode):
                    found.append(path)
                elif stat.S_ISDIR(status.st_mode):
                    directories.append(path)
    return sorted(found)


def _entries(root: Path, directory: str) -> list[tuple[str, os.stat_result]]:
    try:
        with os.scandir(f"{root}{directory}" if root != Path("/") else directory) as entries:
            return [(f"{directory}/{one.name}", one.stat(follow_symlinks=False)) for one in entries]
    except FileNotFoundError:  # gone, or one of its files is: what is going holds nothing for long
        return []


def cover(layer: Path, paths: Sequence[str], root: Path = Path("/")) -> None:
    """Cover paths of the machine in a layer; what the layer itself has there stays, but for logs.

    Args:
        layer: directory of the layer, with its trees.
        paths: of :func:`covered_paths`.
        root: of the machine.

    Raises:
        OSError: the layer cannot be written.
    """
    for path in paths:
        here, there = root / path[1:], layer / path[1:]
        if not os.path.lexists(here):
            continue
        if not _make_parents(layer, there.parent, root):
            continue  # the layer has removed one of them
        if stat.S_ISDIR(here.lstat().st_mode):
            if _make_parents(layer, there, root):
                os.setxattr(there, _OPAQUE, b"y")
            continue
        if path.startswith("/var/log/"):  # its own one begins with what the machine's says
            there.unlink(missing_ok=True)
        if not os.path.lexists(there):
            os.mknod(there, stat.S_IFCHR | 0o600, os.makedev(0, 0))


def _make_parents(layer: Path, directory: Path, root: Path) -> bool:
    """Make a directory of the layer and those above it like the machine's; return whether it is one in the end."""
    inside = directory.relative_to(layer)
    for part in [*reversed(inside.parents), inside]:
        made, model = layer / part, root / part
        if not os.path.lexists(made):
            made.mkdir()
            status = model.stat()
            os.chown(made, status.st_uid, status.st_gid)
            shutil.copystat(model, made)
        elif not stat.S_ISDIR(made.lstat().st_mode):
            return False
    return True
