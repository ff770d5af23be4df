"""What a process gives up before it runs anything of a ship: capabilities, keys, system calls, power over others."""

from __future__ import annotations

import contextlib
import os
import resource
import signal

from ocaptain.drydock import kernel
from ocaptain.drydock.rootless import SPRITE_UID
from ocaptain.drydock.seccomp import load_filter

#: What root inside a ship keeps: enough for apt, sudo, sshd and tmux, nothing that reaches the
#: host (no dac_read_search: open_by_handle_at leads out; no net_raw: the network may be the host's).
ALLOWED_CAPABILITIES = {
    "chown": 0,
    "dac_override": 1,
    "fowner": 3,
    "fsetid": 4,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "setpcap": 8,
    "net_bind_service": 10,
    "sys_chroot": 18,
    "audit_write": 29,
}
LAST_CAPABILITY = 40
#: Descriptors that drydock wants at most: a forked child closes those below this number.
MAX_OPEN_FILES = 65536
#: The soft limit of descriptors that this process was started with, once it has a higher one.
_given_open_files: list[int] = []
_KEYCTL, _JOIN_SESSION_KEYRING = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine, 250), 1


def leave_session_keyring() -> None:
    """Have an empty session keyring: the keys of whoever started drydock are none of the ship's."""
    kernel.libc.syscall(_KEYCTL, _JOIN_SESSION_KEYRING, None)


def wanted_open_files(soft: int, hard: int) -> int:
    """Return the soft limit of descriptors (setrlimit(2)) for a server that serves many ships, never a lower one."""
    if soft == resource.RLIM_INFINITY:
        return soft
    return max(soft, MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES))


def raise_open_files() -> None:
    """Let this process have more descriptors than the usual 1024: a connection of a ship takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = wanted_open_files(soft, hard)
    if wanted != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        _given_open_files[:] = [soft]


def give_back_open_files() -> None:
    """In a forked child: have the limit that drydock was started with; many programs are slow with a high one."""
    for soft in _given_open_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def die_with_parent(parent: int | None = None) -> None:
    """Be killed when the parent ends. The kernel forgets it when ids change or capabilities are gained.

    Raises:
        OSError: the process ``parent`` has ended already.
    """
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        raise ProcessLookupError("drydock has ended")


def become_root_of_namespace() -> None:
    """After joining a user namespace: be its root, and nobody of the one before."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def drop_privileges(program: bytes, *, as_root: bool, set_groups: bool) -> None:
    """Come under the filter of system calls, drop every capability that is not allowed, become the user; for ever.

    The limit of descriptors is again the one that drydock was started with.

    Args:
        program: the filter (:func:`ocaptain.drydock.seccomp.filter_program`), made before the fork.
        as_root: stay the ship's root.
        set_groups: whether the kernel allows to change groups; not where there is one id.
    """
    give_back_open_files()
    load_filter(program)  # while sys_admin is there: without it sudo would have to go
    allowed = 0
    for number in ALLOWED_CAPABILITIES.values():
        allowed |= 1 << number
    for number in range(LAST_CAPABILITY + 1):
        if not allowed & (1 << number):
            with contextlib.suppress(OSError):  # of a kernel that does not know it yet
                kernel.prctl(kernel.PR_CAPBSET_DROP, number)
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    if set_groups:
        os.setgroups([0] if as_root else [SPRITE_UID])
    if not as_root:
        os.setresgid(SPRITE_UID, SPRITE_UID, SPRITE_UID)
        os.setresuid(SPRITE_UID, SPRITE_UID, SPRITE_UID)
        allowed = 0
    kernel.set_capabilities(allowed, allowed)


def reset_signals() -> None:
    """Give every signal its default action back."""
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
