"""Build a sandbox: namespaces over a copy-on-write view, by system calls of a forked child; nothing is executed.

::

    drydock ──fork──> keeper   a mount namespace of the machine's: one overlay for each tree, over lower directories
                       │       that show the machine's files under the ship's ids; then it joins the user namespace
                       └─fork──> init   mount, pid, uts, ipc, cgroup (and net) namespaces that belong to that user
                                        namespace: the ship's root is put together, and becomes /

The overlays are mounted before the user namespace is joined, by the machine's root: only so do setuid programs
count, and may files of any owner be copied up. Whoever drydock runs as, the steps are the same; an ordinary user's
ships have no user namespace of their own (``single``: one that holds a single id, which the init makes at the end).

What is mounted where is data (:func:`overlays`, :func:`root_mounts`); :func:`build_and_become_init` carries it out.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.drydock import confine, kernel, oom
from ocaptain.drydock.enrol import Enrolment
from ocaptain.drydock.hide import DEVICES, HIDDEN_DIRECTORIES, HIDDEN_FILES, READ_ONLY
from ocaptain.drydock.idmap import make_user_namespace, show_mapped, write_file
from ocaptain.drydock.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY
from ocaptain.drydock.rootless import OVERLAID_DIRECTORIES, SPRITE_UID, SandboxMode
from ocaptain.drydock.secluded import system_mounts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.drydock.ids import Ids

OWN_DIRECTORIES = ("own/root", "own/srv", "own/mnt", "own/media")
VAR_TMP = "own/var-tmp"
#: A place of drydock's own mount namespace, inside the sprite's folder.
VIEW = "view"
_DEV_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC
#: A shell that waits reaps every orphan and costs less than a megabyte. It says that all is ready: whoever entered
#: before would find namespaces and rights that the init is about to leave.
INIT_SCRIPT = (
    "echo ready; exec >/dev/null 2>&1; trap : TERM INT HUP; while :; do sleep 2147483647 & wait $!; done"  # of sh
)
#: It never waits for its init, whose pid therefore stays its own until drydock ends the keeper (:mod:`.init_process`).
KEEPER = ("sleep", "2147483647")


@dataclass(frozen=True)
class Plan:
    """What a sandbox is to be.

    Attributes:
        name: host name inside.
        directory: the sprite's folder, absolute.
        mode: what its file system is made of.
        base: the shared base layer; None while that layer itself is being built.
        layers: directories that lie above the base, the highest first.
        ids: its ids.
        own_network: give it a network namespace.
        program: filter of system calls.
        links: symbolic links of its root directory, and where they lead.
        files: files of its /etc that are made anew at each boot.
        group_files: where its init writes ``0`` to be counted as one of its control groups.
    """

    name: str
    directory: str
    mode: SandboxMode
    base: str | None
    layers: tuple[str, ...]
    ids: Ids
    own_network: bool
    program: bytes
    links: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    group_files: tuple[Path, ...] = ()

    @property
    def host(self) -> str:
        """The directory whose trees lie lowest: the machine's root or, without a view of the machine, the base."""
        return "" if self.mode is SandboxMode.HOST else self.base or ""


def root_links(host: str) -> dict[str, str]:
    """Return the symbolic links like ``/bin`` of the root directory ``host``, and where they lead."""
    return system_mounts(host)[0]


def etc_files(name: str, resolver: Path = Path("/etc/resolv.conf")) -> dict[str, bytes]:
    """Return the files of ``/etc`` that a ship of this name has, whatever it did to them before."""
    found = {
        "hostname": f"{name}\n".encode(),
        # sudo complains about a host that it cannot resolve.
        "hosts": f"127.0.0.1 localhost {name}\n::1 localhost\n".encode(),
    }
    with contextlib.suppress(OSError):
        found["resolv.conf"] = resolver.read_bytes()  # it may be a link into the machine's /run
    return found


@dataclass(frozen=True)
class Mount:
    """A mount below the ship's root.

    Attributes:
        target: relative path; it is made if it is missing.
        source: of a bind mount, relative to the sprite's folder or absolute.
        kind: file system; None = bind mount.
        flags: of mount(2); a bind mount is mounted again with them.
        options: of the file system.
    """

    target: str
    source: str = "ship"
    kind: str | None = None
    flags: int = 0
    options: str = ""


def overlays(plan: Plan) -> dict[str, list[str]]:
    """Return the lower directories of each tree that exist, the highest first."""
    found = {}
    for tree in OVERLAID_DIRECTORIES:
        above = [*plan.layers, *([plan.base] if plan.base and plan.host != plan.base else [])]
        places = [f"{place}/{tree}" for place in above if Path(place, tree).is_dir()]
        found[tree] = [*places, f"{plan.host}/{tree}"]
    return found


def root_mounts(*, single: bool) -> list[Mount]:
    """Return what is mounted below the ship's root beside the overlays, in this order."""
    terminals = "newinstance,ptmxmode=0666,mode=0620" + ("" if single else ",gid=5")  # with one id 5 is no one's
    return [
        Mount("run", kind="tmpfs", options="mode=0755,size=64m"),
        # Of these the machine's root makes copies: a device that got into one is not to be opened.
        Mount("home", "home", flags=MS_NODEV),
        *(Mount(own.removeprefix("own/"), own, flags=MS_NODEV) for own in OWN_DIRECTORIES),
        Mount("tmp", "tmp", flags=MS_NODEV),
        Mount("var/tmp", VAR_TMP, flags=MS_NODEV),  # the host's holds what its users put there
        Mount(".sprite", "dot-sprite", flags=MS_NODEV),
        Mount("dev", kind="tmpfs", flags=MS_NOSUID | MS_NOEXEC, options="mode=0755,size=1m"),
        *(Mount(f"dev/{node}", f"/dev/{node}") for node in DEVICES),
        Mount("dev/pts", kind="devpts", options=terminals),
        Mount("dev/shm", kind="tmpfs", flags=MS_NOSUID | MS_NODEV, options="mode=1777,size=256m"),
        Mount("proc", kind="proc", flags=_SAFE),
    ]


def hidden_mounts(present: Sequence[str]) -> list[Mount]:
    """Return what is mounted over the entries of the ship's ``/proc``, given its names."""
    return [
        *(Mount(f"proc/{one}", f"root/proc/{one}", flags=MS_RDONLY | _SAFE) for one in READ_ONLY if one in present),
        *(Mount(f"proc/{one}", "root/dev/null") for one in HIDDEN_FILES if one in present),
        *(
            Mount(f"proc/{one}", kind="tmpfs", flags=MS_RDONLY | _SAFE, options="mode=0555,size=4k")
            for one in HIDDEN_DIRECTORIES
            if one in present
        ),
    ]


# -- in the forked child ------------------------------------------------------------------------------


def build_and_become_init(plan: Plan, parent: int) -> None:
    """In the forked child: become the keeper, and in a child of its own the ship's init. Does not return."""
    try:
        os.closerange(3, confine.MAX_OPEN_FILES)
        outside = Enrolment()
        outside.open(plan.group_files)
        oom.raise_opened(outside.open_score(), oom.INIT)  # the init inherits it
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        confine.leave_session_keyring()
        confine.die_with_parent(parent)
        _mount_view(plan)
        if plan.ids.is_own:
            confine.become_root_of_namespace()
        confine.die_with_parent(parent)  # once more: the ids have changed
        kernel.unshare(kernel.CLONE_NEWPID)
        waiting, held = os.pipe()
        if not os.fork():
            os.close(waiting)
            _become_init(plan, held, outside)
        os.dup2(waiting, 0)
        os.closerange(3, confine.MAX_OPEN_FILES)
        nothing = os.open("/dev/null", os.O_RDWR)
        for number in (1, 2):
            os.dup2(nothing, number)
        os.execvpe(KEEPER[0], KEEPER, {"PATH": os.defpath})  # noqa: S606 - the machine's own: small, while it waits
    except BaseException as error:  # noqa: BLE001 - a forked child must never run on as the server
        _say(error)
    os._exit(126)


def _say(error: BaseException) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{error}\n".encode())


def _mount_view(plan: Plan) -> None:
    """Mount the overlays at VIEW in a mount namespace of our own; then join the ship's user namespace.

    The ship does not keep the lower directories that are mounted beside them: they go with its old root.
    """
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    os.chdir(plan.directory)
    kernel.mount("ship", VIEW, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    users = make_user_namespace(plan.ids.first, plan.ids.size) if plan.ids.is_own else None
    extra = ",userxattr" if plan.mode is not SandboxMode.HOST and not plan.ids.is_own else ""
    for tree, lower in overlays(plan).items():
        shown = lower
        if users and plan.mode is SandboxMode.HOST:
            shown = [show_mapped(path, f"{VIEW}/{tree}-{number}", users) for number, path in enumerate(lower)]
        for needed in (f"{VIEW}/{tree}", f"upper/{tree}", f"work/{tree}"):
            os.makedirs(needed, exist_ok=True)
        os.chown(f"upper/{tree}", plan.ids.first, plan.ids.first)  # it is the root of the view
        layers = f"lowerdir={':'.join(shown)},upperdir=upper/{tree},workdir=work/{tree}{extra}"
        kernel.mount("ship", f"{VIEW}/{tree}", "overlay", MS_NODEV, layers)
    if users:
        kernel.join(users)
        os.close(users)


def is_closed(writing: int) -> bool:
    """Return whether nobody has the reading end of a pipe open any more."""
    poller = select.poll()
    poller.register(writing, 0)
    return any(event & select.POLLERR for _, event in poller.poll(0))


def _make_root(plan: Plan) -> None:
    """Mount all of the ship's root at ``root``; the working directory is the sprite's folder."""
    kernel.mount("ship", "root", "tmpfs", 0, "mode=0755,size=16m")
    for name, target in plan.links.items():
        os.symlink(target, f"root/{name}")
    for tree in OVERLAID_DIRECTORIES:
        _mount_in_root(Mount(tree, f"{VIEW}/{tree}"))
    os.mkdir("root/.old")
    os.mkdir("root/sys", 0o755)
    for one in root_mounts(single=plan.mode is SandboxMode.SINGLE):
        _mount_in_root(one)
    os.chmod("root/root", 0o700)
    os.mkdir("root/run/lock")
    os.mkdir("root/run/sshd")
    for link, target in _DEV_LINKS.items():
        os.symlink(target, f"root/dev/{link}")
    for one in hidden_mounts(os.listdir("root/proc")):
        _mount_in_root(one)
    for name, content in plan.files.items():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"root/etc/{name}")  # the ship may have put a link there
        fd = os.open(f"root/etc/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            os.write(fd, content)
        finally:
            os.close(fd)


def _mount_in_root(one: Mount) -> None:
    target = f"root/{one.target}"
    if one.kind is None and not os.path.isdir(one.source):
        if not os.path.lexists(target):
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    elif os.path.islink(target) or not os.path.isdir(target):  # a ship may have made /var/tmp a link
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        os.mkdir(target, 0o755)
    if one.kind:
        kernel.mount(one.source, target, one.kind, one.flags, one.options)
        return
    kernel.bind(one.source, target, one.flags)


def _become_init(plan: Plan, held: int, outside: Enrolment) -> None:
    """In the keeper's child, which is pid 1 of the ship: put its root together and run the init.

    Args:
        plan: what the ship is to be.
        held: the writing end of the pipe whose other end the keeper holds: it tells whether the keeper lives.
        outside: the ship's control groups, which it joins before anything else: whatever it becomes is counted.
    """
    try:
        outside.join_groups()
        outside.close()
        flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC
        kernel.unshare(flags | (kernel.CLONE_NEWNET if plan.own_network else 0))
        with contextlib.suppress(OSError):  # of a kernel without cgroups
            kernel.unshare(kernel.CLONE_NEWCGROUP)
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        socket.sethostname(plan.name)
        _make_root(plan)
        os.chdir("root")
        kernel.pivot_root(".", ".old")
        os.chdir("/")
        kernel.unmount("/.old")
        os.rmdir("/.old")
        single = plan.mode is SandboxMode.SINGLE
        if single:
            kernel.unshare(kernel.CLONE_NEWUSER)
            write_file("/proc/self/setgroups", "deny")
            for name in ("uid_map", "gid_map"):
                write_file(f"/proc/self/{name}", f"{SPRITE_UID} 0 1\n")
        # What a ship has made of its /bin/sh is not to gain by a setuid bit the right to outlive the keeper.
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        confine.drop_privileges(plan.program, as_root=not single, set_groups=not single)
        confine.reset_signals()
        os.umask(0o022)
        confine.die_with_parent()
        if is_closed(held):
            raise ProcessLookupError("the keeper has ended")
        os.execve("/bin/sh", ["/bin/sh", "-c", INIT_SCRIPT], {"PATH": os.defpath})  # noqa: S606 - an argv
    except BaseException as error:  # noqa: BLE001 - a forked child must never run on as the server
        _say(error)
    os._exit(126)
