"""The system calls that make a sandbox, which Python 3.11 does not have.

Each wrapper raises OSError that names the call and what it was for. Numbers above 423 are the same on every
architecture (``include/uapi/asm-generic/unistd.h``); flags are those of mount(2), unshare(2) and mount_setattr(2).
"""

from __future__ import annotations

import ctypes
import os

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MS_NOSYMFOLLOW = 256  # an older kernel takes no notice of it
MNT_DETACH = 2
#: Flags that a mount may have from an outer user namespace, which does not allow to take them away.
_LOCKABLE = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC  # as statvfs(3) shows them
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(os.uname().machine, 155)
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}.get(os.uname().machine, 126)
_SYS_SETGROUPS = {"x86_64": 116, "aarch64": 159}.get(os.uname().machine, 116)
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _AT_EMPTY_PATH = 1, 4, 0x1000
_MOUNT_ATTR_IDMAP = 0x100000
_CAPABILITY_VERSION = 0x20080522
_AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)
libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
libc.unshare.argtypes = (ctypes.c_int,)
libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


class _MountAttr(ctypes.Structure):
    """``struct mount_attr`` of mount_setattr(2)."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str = "") -> None:
    """Attach a file system to the directory ``target`` (mount(2))."""
    done = libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, options.encode())
    _check(done, f"mount {kind or 'bind'} on {target}")


def bind(source: str, target: str, flags: int = 0, *, whole: bool = False) -> None:
    """Show a directory or file at another place, there with more flags than it has.

    Args:
        source: what is shown.
        target: an existing directory or file.
        flags: of mount(2).
        whole: show the mounts below it as well; ``flags`` are not theirs.
    """
    mount(source, target, None, MS_BIND | (MS_REC if whole else 0))
    if flags:
        mount("none", target, None, MS_REMOUNT | MS_BIND | flags | os.statvfs(target).f_flag & _LOCKABLE)


def unmount(target: str) -> None:
    """Detach what is mounted on ``target``; it goes when nobody uses it any more."""
    _check(libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def unshare(flags: int) -> None:
    """Make new namespaces for this process (unshare(2))."""
    _check(libc.unshare(flags), f"unshare {flags:#x}")


def join(namespace: int) -> None:
    """Join the namespace of a descriptor of ``/proc/PID/ns``."""
    _check(libc.setns(namespace, 0), "setns")


def prctl(option: int, first: int = 0, second: int = 0) -> None:
    """Change a property of this process (prctl(2))."""
    _check(libc.prctl(option, first, second, 0, 0), f"prctl {option}")


def pivot_root(new: str, old: str) -> None:
    """Make ``new`` the root directory of this mount namespace, and put the old one on ``old``."""
    _check(libc.syscall(_SYS_PIVOT_ROOT, new.encode(), old.encode()), "pivot_root")


def open_mount(path: str) -> int:
    """Return a descriptor of a new, unattached mount of the directory ``path`` (Linux 5.2)."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    return _check(libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, path.encode(), flags), f"open_tree {path}")


def map_ids(mount_fd: int, user_namespace: int) -> None:
    """Show the files of an unattached mount under the ids that a user namespace maps theirs to (Linux 5.12)."""
    attributes = _MountAttr(_MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
    done = libc.syscall(
        _SYS_MOUNT_SETATTR, mount_fd, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), ctypes.sizeof(attributes)
    )
    _check(done, "mount_setattr")


def attach_mount(mount_fd: int, target: str) -> None:
    """Attach a mount of :func:`open_mount` to the directory ``target``."""
    done = libc.syscall(_SYS_MOVE_MOUNT, mount_fd, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    _check(done, f"move_mount {target}")


def set_capabilities(effective: int, permitted: int) -> None:
    """Set the capabilities of this thread, as bits; none is inherited."""
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    low, high = 0xFFFFFFFF, 32
    data = (_CapData * 2)(
        _CapData(effective & low, permitted & low, 0), _CapData(effective >> high, permitted >> high, 0)
    )
    _check(libc.syscall(_SYS_CAPSET, ctypes.byref(header), data), "capset")


def clear_thread_groups() -> None:
    """Leave every supplementary group, for this thread alone (the C library's own call changes all threads)."""
    _check(libc.syscall(_SYS_SETGROUPS, 0, None), "setgroups")
