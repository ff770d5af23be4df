"""The system calls that nothing in a ship may make, as container engines forbid them.

The list is what the default profiles of Docker and Podman leave out or tie to a capability that no ship has
(``moby/profiles``, ``containers/common``): whatever is not needed to build software and leads into the kernel's wide
or little tested parts, or to what namespaces do not separate. Here the list names what is forbidden, and not what is
allowed, so that a program of tomorrow finds the calls of tomorrow.

The kernel's filter (BPF) is made by **libseccomp**, which knows the numbers of every architecture and the 32-bit
calls beside the 64-bit ones. Debian's apt needs it, so that it is there wherever ships are. It is called by
``ctypes``: the wrappers on PyPI load the same library, and add a dependency. It runs once in drydock's own process;
what a forked child does is one ``prctl``.

::

    library ──export──> bytes (kept)  ──fork──> prctl(PR_SET_SECCOMP) ──> capabilities go ──> execve
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
import tempfile

from ocaptain.drydock import kernel
from ocaptain.drydock.errors import DrydockError

#: Refused with EPERM.
FORBIDDEN = (
    # Keys of the kernel, which user ids own across namespaces.
    *("add_key", "request_key", "keyctl"),
    # Programs in the kernel, counters of the processor, memory that a program serves, rings that pass the filter by.
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    # Namespaces and mounts: a new user namespace would give back every capability.
    *("unshare", "setns", "mount", "umount", "umount2", "pivot_root", "open_tree", "move_mount", "mount_setattr"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "open_tree_attr", "listmount", "statmount"),
    # Files by number instead of by path.
    *("open_by_handle_at", "name_to_handle_at"),
    # The machine itself.
    *("init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms"),
    *("kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "syslog", "quotactl", "quotactl_fd"),
    *("clock_settime", "clock_settime64", "settimeofday", "stime", "clock_adjtime", "clock_adjtime64", "adjtimex"),
    *("iopl", "ioperm", "vm86", "vm86old", "modify_ldt", "lookup_dcookie", "nfsservctl", "uselib", "ustat", "sysfs"),
    *("_sysctl", "vhangup", "fanotify_init", "kcmp", "pidfd_getfd"),
    # 32-bit sockets in one call, whose family lies in memory; a C library since 2016 makes them one by one.
    "socketcall",
    # Where memory lies in the machine.
    *("mbind", "set_mempolicy", "set_mempolicy_home_node", "migrate_pages", "move_pages"),
)
#: Refused with ENOSYS: its flags lie in memory, which a filter cannot see, and libraries then use ``clone``.
ABSENT = ("clone3",)
#: Flags of ``clone`` that make a namespace (clone(2)).
NAMESPACE_FLAGS = (
    kernel.CLONE_NEWNS,
    kernel.CLONE_NEWCGROUP,
    kernel.CLONE_NEWUTS,
    kernel.CLONE_NEWIPC,
    kernel.CLONE_NEWUSER,
    kernel.CLONE_NEWPID,
    kernel.CLONE_NEWNET,
)
#: Families of sockets that a ship has (socket(2)): UNIX, INET, INET6 and NETLINK. Among the others are VSOCK, which
#: reaches the hypervisor, and ALG, the kernel's cryptography.
SOCKET_FAMILIES = (1, 2, 10, 16)
#: Families of pairs of sockets (socketpair(2)): UNIX. TIPC makes such pairs, too, and a pair loads the family's module.
PAIR_FAMILIES = (1,)
LIBRARY = "libseccomp.so.2"
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EQ, _GT, _MASKED_EQ = 4, 6, 7
_SECONDARY_ARCHITECTURES = {"x86_64": ("x86", "x32"), "aarch64": ("arm",)}
_SECCOMP_MODE_FILTER = 2


class _Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def load_library() -> ctypes.CDLL:
    """Return the library.

    Raises:
        DrydockError: this machine does not have it.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise DrydockError(f"drydock needs {LIBRARY} to fence its ships: apt-get install libseccomp2") from error
    library.seccomp_init.restype = ctypes.c_void_p
    return library


@functools.cache
def filter_program() -> bytes:
    """Return the filter as the kernel takes it (BPF, 8 bytes an instruction).

    Raises:
        DrydockError: the library is missing or refuses the list.
    """
    library = load_library()
    made = library.seccomp_init(_ALLOW)
    if not made:
        raise DrydockError(f"{LIBRARY} could not make a filter")
    context = ctypes.c_void_p(made)
    try:
        for name in _SECONDARY_ARCHITECTURES.get(os.uname().machine, ()):
            library.seccomp_arch_add(context, library.seccomp_arch_resolve_name(name.encode()))
        for name in FORBIDDEN:
            _forbid(library, context, name, errno.EPERM)
        for name in ABSENT:
            _forbid(library, context, name, errno.ENOSYS)
        for flag in NAMESPACE_FLAGS:
            _forbid(library, context, "clone", errno.EPERM, _Comparison(0, _MASKED_EQ, flag, flag))
        for name, families in (("socket", SOCKET_FAMILIES), ("socketpair", PAIR_FAMILIES)):
            for family in set(range(max(families))) - set(families):
                _forbid(library, context, name, errno.EAFNOSUPPORT, _Comparison(0, _EQ, family, 0))
            _forbid(library, context, name, errno.EAFNOSUPPORT, _Comparison(0, _GT, max(families), 0))
        with tempfile.TemporaryFile() as file:
            if library.seccomp_export_bpf(context, file.fileno()):
                raise DrydockError(f"{LIBRARY} could not export its filter")
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


def _forbid(
    library: ctypes.CDLL, context: ctypes.c_void_p, name: str, code: int, comparison: _Comparison | None = None
) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number == -1:  # of a kernel that is newer than the library
        return
    count, given = (1, ctypes.byref(comparison)) if comparison else (0, None)
    failed = library.seccomp_rule_add_array(context, ctypes.c_uint32(_ERRNO | code), number, count, given)
    if failed and -failed != errno.EDOM:  # EDOM: no such call on one of the architectures
        raise DrydockError(f"{LIBRARY} refuses a rule for {name}: {os.strerror(-failed)}")


def load_filter(program: bytes) -> None:
    """Put this process under the filter, for ever, with all that it starts.

    It needs sys_admin in its user namespace, or to have given up new privileges.

    Raises:
        OSError: the kernel refuses it.
    """
    loaded = _Program(len(program) // struct.calcsize("HBBI"), program)
    kernel.prctl(kernel.PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(loaded))
