"""The user and group ids of a ship: 65,536 of the machine's, which nobody else has.

A root-run drydock gives each ship a range of its own. Inside, 0 is the ship's root and 1000 its user; for the machine
they are ``first`` and ``first + 1000``: no user of the host, and no one of another ship. The range is written into
the sprite's record, because its disk belongs to it.

Two drydocks of one machine must not choose the same range: a range is one locked byte of :data:`CLAIMS` (fcntl's
locks of an open file, which end with the process, however it ends).
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.rootless import SPRITE_UID, SandboxMode, is_machine_root, sandbox_mode

if TYPE_CHECKING:
    from collections.abc import Iterable

RANGE_SIZE = 65536
#: Which ranges are chosen from, in units of RANGE_SIZE: above what systemd-homed, adduser and subuid give by default,
#: below 2**31, where programs begin to take an id for a negative number.
FIRST_SLOT, LAST_SLOT = 0x1000, 0x6FFF
#: For ships that share a Debian of their own, whose files can belong to one range only; and for building a base.
SHARED_SLOT = 0x7000
CLAIMS = Path("/run/ocaptain-drydock.ids")
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux
_F_OFD_SETLK = 37  # fcntl(2); not in Python 3.11's module
_CAPABILITY_ATTRIBUTE = "security.capability"
_CAPABILITY_REVISION_MASK, _REVISION_2, _REVISION_3 = 0xFF000000, 0x02000000, 0x03000000


@dataclass(frozen=True)
class Ids:
    """The ids of a ship, as drydock sees them.

    Attributes:
        first: the ship's root.
        sprite: the ship's user.
        size: number of ids; 0 = the ship has no user namespace of its own.
    """

    first: int
    sprite: int
    size: int = 0

    @property
    def is_own(self) -> bool:
        """Whether the ship has a range of its own, and a user namespace for it."""
        return self.size > 0

    def outside(self, inside: int) -> int:
        """Return what drydock calls an id of the ship; -1 (leave it alone) stays -1.

        Raises:
            OSError: EINVAL: the ship has no such id.
        """
        if inside == -1 or not self.size:
            return inside
        if inside >= self.size:
            raise OSError(errno.EINVAL, "Invalid argument")
        return self.first + inside

    def inside(self, outside: int) -> int:
        """Return what the ship calls an id; 65534 (nobody) for one that is not its own."""
        if not self.size:
            return outside
        return outside - self.first if self.first <= outside < self.first + self.size else 65534


def range_of(slot: int) -> Ids:
    """Return the ids of a slot."""
    return Ids(slot * RANGE_SIZE, slot * RANGE_SIZE + SPRITE_UID, RANGE_SIZE)


def shared_ids() -> Ids:
    """Return the ids of a ship that has no range to itself, as this drydock's mode demands."""
    if sandbox_mode() is SandboxMode.SINGLE:
        return Ids(0, 0)
    return range_of(SHARED_SLOT) if is_machine_root() else Ids(0, SPRITE_UID)


def taken_slots(subordinate: str) -> frozenset[int]:
    """Return the slots that lines of /etc/subuid or /etc/subgid (subuid(5)) reach into."""
    found: set[int] = set()
    for line in subordinate.splitlines():
        fields = line.split(":")
        if len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal() and int(fields[2]) > 0:
            first, last = int(fields[1]) // RANGE_SIZE, (int(fields[1]) + int(fields[2]) - 1) // RANGE_SIZE
            found.update(range(max(first, FIRST_SLOT), min(last, LAST_SLOT) + 1))
    return frozenset(found)


def slots_from(start: int, taken: frozenset[int]) -> Iterable[int]:
    """Return every free slot, the one at ``start`` first."""
    count = LAST_SLOT - FIRST_SLOT + 1
    order = (FIRST_SLOT + (start + step) % count for step in range(count))
    return (slot for slot in order if slot not in taken)


class IdClaims:
    """The ranges that this drydock holds."""

    def __init__(self, path: Path = CLAIMS) -> None:
        self._path = path
        self._file: int | None = None
        self._mine: set[int] = set()

    def claim(self, wanted: int = 0) -> Ids:
        """Return ids for a ship; a range of its own is held until :meth:`release` or the end of this process.

        Args:
            wanted: first id of the range that a disk belongs to, 0 = none; another is chosen if somebody has it.

        Raises:
            DrydockError: the file of the claims cannot be used, or every range is taken.
        """
        if sandbox_mode() is not SandboxMode.HOST:
            return shared_ids()
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            taken = frozenset().union(*(taken_slots(_read(name)) for name in ("/etc/subuid", "/etc/subgid")))
            first = [wanted // RANGE_SIZE] if wanted else []
            start = random.SystemRandom().randrange(LAST_SLOT - FIRST_SLOT + 1)
            for slot in [*first, *slots_from(start, taken)]:
                if slot not in self._mine and self._lock(slot, fcntl.F_WRLCK):
                    self._mine.add(slot)
                    return range_of(slot)
        except OSError as error:
            raise DrydockError(f"drydock cannot claim user ids for a ship in {self._path}: {error}") from error
        raise DrydockError(f"every range of user ids is taken ({self._path}); destroy some sprites")

    def release(self, ids: Ids) -> None:
        """Let others have a range again."""
        slot = ids.first // RANGE_SIZE
        if slot in self._mine:
            self._mine.discard(slot)
            self._lock(slot, fcntl.F_UNLCK)

    def _lock(self, slot: int, kind: int) -> bool:
        assert self._file is not None
        try:
            fcntl.fcntl(self._file, _F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, slot, 1, 0))
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EAGAIN}:
                return False
            raise
        return True


def _read(name: str) -> str:
    try:
        return Path(name).read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""


# -- the owners of a disk ---------------------------------------------------------------------------


def move_id(owner: int, source: int, target: int) -> int:
    """Return an owner's id after a disk of the range at ``source`` was given that at ``target``; 0 = as inside."""
    return owner - source + target if source <= owner < source + RANGE_SIZE else owner


def move_capability(value: bytes, source: int, target: int) -> bytes:
    """Return a file's capabilities (``struct vfs_ns_cap_data``, capabilities(7)) for the range at ``target``.

    Revision 3 ends with the id of the root for whom they count, revision 2 has none: it is the machine's.
    """
    if len(value) < 4:
        return value
    (magic,) = struct.unpack_from("<I", value)
    revision, root = magic & _CAPABILITY_REVISION_MASK, 0
    if revision == _REVISION_3 and len(value) == 24:
        (root,) = struct.unpack_from("<I", value, 20)
    elif revision != _REVISION_2 or len(value) != 20:
        return value
    root = move_id(root, source, target)
    flags = magic & ~_CAPABILITY_REVISION_MASK
    if root == 0:
        return struct.pack("<I", _REVISION_2 | flags) + value[4:20]
    return struct.pack("<I", _REVISION_3 | flags) + value[4:20] + struct.pack("<I", root)


def move_tree(top: Path, source: int, target: int) -> None:
    """Give a disk's files to another range of ids; nothing may write to it meanwhile.

    A file that belongs to the new range already is left alone, so that an interrupted call can be repeated.
    Links are not followed, and other file systems are not entered.

    Raises:
        OSError: an owner cannot be changed.
    """
    device = os.lstat(top).st_dev
    _move(str(top), os.lstat(top), source, target)
    directories = [str(top)] if top.is_dir() and not top.is_symlink() else []
    while directories:
        with os.scandir(directories.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if status.st_dev == device:
                    _move(entry.path, status, source, target)
                    if stat.S_ISDIR(status.st_mode):
                        directories.append(entry.path)


def _move(path: str, status: os.stat_result, source: int, target: int) -> None:
    owner, group = move_id(status.st_uid, source, target), move_id(status.st_gid, source, target)
    if (owner, group) == (status.st_uid, status.st_gid):
        return
    capability = None
    if stat.S_ISREG(status.st_mode):
        try:
            capability = os.getxattr(path, _CAPABILITY_ATTRIBUTE, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
                raise
    os.lchown(path, owner, group)
    # A change of owners takes these away (chown(2)).
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISLNK(status.st_mode):
        os.chmod(path, stat.S_IMODE(status.st_mode))
    if capability is not None:
        os.setxattr(path, _CAPABILITY_ATTRIBUTE, move_capability(capability, source, target), follow_symlinks=False)
