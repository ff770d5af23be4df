"""What no ship may do, whoever runs drydock: attempts, each of which must be refused.

``{pid}`` is a process of the host's own, ``{home}`` the home of whoever runs drydock, ``{other}`` a
number that only a command of another ship has, ``{port}`` a port on which the host listens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
from pathlib import Path

from ocaptain.drydock.hide import HIDDEN_FILES

_X86 = {
    "add_key": 248,
    "keyctl": 250,
    "bpf": 321,
    "perf_event_open": 298,
    "userfaultfd": 323,
    "io_uring_setup": 425,
    "clone": 56,
    "clone3": 435,
    "setns": 308,
    "ptrace": 101,
    "mount": 165,
    "fsopen": 430,
    "open_tree": 428,
    "pidfd_getfd": 438,
}
_ARM = {
    "add_key": 217,
    "keyctl": 219,
    "bpf": 280,
    "perf_event_open": 241,
    "userfaultfd": 282,
    "clone": 220,
    "setns": 268,
    "ptrace": 117,
    "mount": 40,
}
NUMBERS = _X86 if os.uname().machine == "x86_64" else {**_X86, **_ARM}
CLONE_NEWUSER, SIGCHLD = 0x10000000, 17
LOAD = "import ctypes, os, socket, sys, time; libc = ctypes.CDLL(None, use_errno=True); "


def python(code):
    return f"python3 -c '{LOAD}{code}'"


def call(name, *arguments):
    """Return a shell line that ends with 0 if a system call answers at least 0."""
    words = ", ".join([str(NUMBERS[name]), *map(str, arguments)])
    return python(f"sys.exit(0 if libc.syscall({words}) >= 0 else 1)")


KEY_OF_THE_HOST = (
    f"libc.syscall({NUMBERS['keyctl']}, 8, -4, -3); "  # link the user's keyring into the session's
    f'found = libc.syscall({NUMBERS["keyctl"]}, 10, -3, b"user", b"ocaptain-isolation-{{pid}}", 0); '
    "sys.exit(0 if found > 0 else 1)"
)
ASK_A_SERVICE = (
    's = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect("\\0ocaptain-isolation-{pid}"); '
    'sys.exit(0 if s.recv(9) == b"trusted" else 1)'
)
NEW_USERS = f"made = libc.syscall({NUMBERS['clone']}, {CLONE_NEWUSER | SIGCHLD}, 0, 0, 0, 0); os._exit(made < 0)"
LEAVE_CHROOT = (
    'os.makedirs("/tmp/jail", exist_ok=True); up = os.open("/", 0); os.chroot("/tmp/jail"); os.fchdir(up); '
    '[os.chdir("..") for _ in range(64)]; os.chroot("."); os.listdir("{home}")'
)
TABLES = " ".join(name for name in HIDDEN_FILES if name not in {"sysrq-trigger", "kmsg", "kcore"})
#: Each ends with 0 only if it got what it must not get.
ATTEMPTS = {
    "signal a process of the host": "kill -0 {pid}",
    "kill everything outside": "kill -KILL -{pid}",
    "trace a process of the host": call("ptrace", 16, "{pid}", 0, 0),
    "see a process of the host": "test -d /proc/{pid}",
    "read its environment": "cat /proc/{pid}/environ",
    "read the memory of the init": "head -c 1 /proc/1/mem",
    "see the command of another ship": "ps axww | grep -v grep | grep -q {other}",
    "read the home of the user": "ls {home}",
    "go there by the root of the init": "ls /proc/1/root{home}",
    "go there by the directory of the init": "ls /proc/1/cwd{home}",
    "go there by the root of any process": "for r in /proc/[0-9]*/root; do ls $r{home} && exit 0; done; exit 1",
    "go there out of a root of its own": python(LEAVE_CHROOT),
    "write where programs of the host are": "echo x > /proc/1/root{home}/x",
    "write a kernel setting": "echo x > /proc/sys/kernel/core_pattern",
    "make that writable": "mount -o remount,rw /proc/sys",
    "uncover what is covered": "umount /proc/sysrq-trigger",
    "press a key of the console": "test ! -c /proc/sysrq-trigger && echo h > /proc/sysrq-trigger",
    "change the name of the machine": "hostname evil",
    "set the clock of the machine": python("time.clock_settime(time.CLOCK_REALTIME, time.time())"),
    "read the messages of the kernel": "dmesg | grep -q .",
    "read the tables of the kernel": f"for f in {TABLES}; do grep -q . /proc/$f && exit 0; done; exit 1",
    "mount": "mount -t tmpfs x /mnt",
    "mount as root of new namespaces": "unshare -Urm mount -t tmpfs x /mnt",
    "mount the new way": call("fsopen", 'b"tmpfs"', 0),
    "clone a mount": call("open_tree", -100, 'b"/etc"', 1),
    "reach the cgroups of the host": "unshare -UrmC sh -c 'mount -t cgroup2 x /mnt && ls /mnt/cgroup.procs'",
    "see them": "mount -t cgroup2 x /mnt && ls /mnt/cgroup.procs",
    "be root of a new user namespace": "unshare -U true",
    "be that by clone": python(NEW_USERS),
    "join another namespace": "nsenter -t 1 -n true && nsenter -t 1 -m --mount=/proc/1/ns/mnt ls {home}",
    "join a namespace by its number": python(
        f'sys.exit(0 if libc.syscall({NUMBERS["setns"]}, os.open("/proc/self/ns/uts", 0), 0) == 0 else 1)'
    ),
    "find a key of the host": python(KEY_OF_THE_HOST),
    "have keys of the kernel": call("add_key", 'b"user"', 'b"x"', 'b"y"', 1, -3),
    "be somebody for a service of the host": python(ASK_A_SERVICE),
    "reach the hypervisor": python("socket.socket(40, socket.SOCK_STREAM)"),
    "have a pair of sockets of another kind": python("socket.socketpair(30, socket.SOCK_STREAM)"),
    "use the cryptography of the kernel": python("socket.socket(38, socket.SOCK_SEQPACKET)"),
    "listen to a network": python("socket.socket(17, socket.SOCK_RAW, 768)"),
    "have a ring of system calls": call("io_uring_setup", 1, "ctypes.create_string_buffer(120)"),
    "serve page faults": call("userfaultfd", 1),
    "load a program into the kernel": call("bpf", 0, "ctypes.create_string_buffer(72)", 72),
    "count the events of the processor": call("perf_event_open", "ctypes.create_string_buffer(112)", 0, -1, -1, 0),
    "take a file of another process": call("pidfd_getfd", 0, 0, 0),
    "make a disk": "mknod /tmp/ocaptain-disk b 254 0",
    "make the memory of the machine a file": "mknod /tmp/ocaptain-memory c 1 1",
    "see what is kept of sprites": "find / -xdev -name sprite.json 2>/dev/null | grep -q .",
    "read what users of the host put aside": "ls /var/tmp/.ocaptain-isolation-{pid}",
    "use the disk of the host": "ls /dev/sd* /dev/vd* /dev/nvme* /dev/loop0 2>/dev/null | grep -q .",
}
#: With a network of the ship's own.
ATTEMPTS_BY_NETWORK = {
    "see the sockets of the host": "grep -qi :{port_hex} /proc/net/tcp",
    "see the names of services of the host": "grep -q ocaptain-isolation-{pid} /proc/net/unix",
    "reach a service of the loopback of the host": python(
        'socket.create_connection(("127.0.0.1", {port}), 20); sys.exit(0)'
    ),
}


def attempts(*, pid: int, home: str, other: str, port: int, own_network: bool) -> dict[str, str]:
    """Return the shell lines."""
    lines = {**ATTEMPTS, **(ATTEMPTS_BY_NETWORK if own_network else {})}
    facts = {"pid": pid, "home": home, "other": other, "port": port, "port_hex": f"{port:04x}"}
    return {what: line.format(**facts) for what, line in lines.items()}


@contextlib.contextmanager
def lures(pid):
    """Put out on the host what a ship must not get: a file, a key, two services. Yields the port of one."""
    aside = Path(f"/var/tmp/.ocaptain-isolation-{pid}")
    aside.touch()
    libc = ctypes.CDLL(None, use_errno=True)
    name = f"ocaptain-isolation-{pid}".encode()
    key = libc.syscall(NUMBERS["add_key"], b"user", name, b"secret", 6, -4)
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(b"\0" + name)
    abstract.listen()

    def serve():
        with contextlib.suppress(OSError):
            while True:
                caller, _ = abstract.accept()
                with caller:
                    peer = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                    caller.sendall(b"trusted" if struct.unpack("3i", peer)[1] < 65536 else b"refused")

    threading.Thread(target=serve, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        try:
            yield listener.getsockname()[1]
        finally:
            abstract.shutdown(socket.SHUT_RDWR)
            abstract.close()
            aside.unlink()
            if key > 0:
                libc.syscall(NUMBERS["keyctl"], 3, key)  # revoke


def succeeded(run, *, sudo: bool, own_network: bool, **facts) -> list[str]:
    """Return which attempts were not refused; ``run(*argv)`` returns what a command inside has said."""
    found = []
    with lures(facts["pid"]) as port:
        lines = attempts(**facts, port=port, own_network=own_network)
        script = "\n".join(f"( {line} ) >/dev/null 2>&1 </dev/null && echo '{what}'" for what, line in lines.items())
        script += "\necho tried"
        for become in ((), *((("sudo", "-n"),) if sudo else ())):
            told = run(*become, "sh", "-c", script).splitlines()
            assert told[-1:] == ["tried"], told
            found += [" ".join([*become, what]) for what in told[:-1]]
    return found
