"""Run a command inside a sandbox; no code of the sandbox runs before the privileges are dropped.

Everything between ``fork`` and the final ``exec`` is system calls made by drydock itself: joining
the namespaces, dropping every capability that is not on the list, becoming the user. A ship that
replaces its ``setpriv``, its libc or ``ld.so.preload`` therefore replaces only its own tools, and
the environment that a client asked for is seen by no program of the host.

::

    drydock ──fork──> keeper (host side: waits, ignores signals, exits with the command's status)
                        └─fork──> the command (in all namespaces, confined)
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import termios
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain.drydock.enrol import Enrolment
from ocaptain.drydock.errors import ApiError, DrydockError
from ocaptain.drydock.rootless import SPRITE_UID, SandboxMode, sandbox_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

#: What root inside a ship keeps: enough for apt, sudo, sshd and tmux, nothing that reaches the
#: host (no dac_read_search: open_by_handle_at leads out; no net_raw: the host's network is shared).
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
FREEZE_ROUNDS = 20
NAMESPACES = ("net", "ipc", "uts", "pid", "mnt")  # the mount namespace last: procfs is the host's until then
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _AMBIENT_CLEAR = 1, 4, 24, 47, 4
_CAPABILITY_VERSION = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_prctl, _setns, _syscall = _libc.prctl, _libc.setns, _libc.syscall
_KEYCTL, _JOIN_SESSION_KEYRING = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine, 250), 1
_CAPSET = {"x86_64": 126, "aarch64": 91}.get(os.uname().machine, 126)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@dataclass(frozen=True)
class SandboxCommand:
    """A command in a sandbox.

    Attributes:
        init_pid: pid of the sandbox's init, as the host sees it.
        argv: passed unchanged; the first word is searched in the PATH of ``environment``.
        environment: the complete environment.
        cwd: working directory; a missing one is ignored, as on the live service.
        as_root: run as the ship's root, not as its user.
        terminal: make stdin the controlling terminal.
        group_files: of the control groups that it joins; of :attr:`.sandbox.Sandbox.group_files`.
    """

    init_pid: int
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/home/sprite"
    as_root: bool = False
    terminal: bool = False
    group_files: Sequence[Path] = ()

    def require_runnable(self) -> None:
        """Raise ApiError (400) if no program can be started with these arguments."""
        words = [*self.argv, self.cwd, *self.environment, *self.environment.values()]
        if not self.argv or any("\0" in word for word in words):
            raise ApiError(400, "invalid_request", "the command is empty, or an argument contains a NUL byte")
        if any(not name or "=" in name for name in self.environment):
            raise ApiError(400, "invalid_request", "the name of an environment variable is empty or contains =")
        if any(len(os.fsencode(word)) > 128 * 1024 - 1 for word in words):
            raise ApiError(400, "invalid_request", "an argument or environment value is longer than 128 KiB")


class RunningProcess:
    """A process that was spawned; waiting for it does not wait for other holders of its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Wait for its end; return the exit code, 128 + n if signal n killed it."""
        status = await self._process.wait()
        return status if status >= 0 else 128 - status

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group, even if its leader has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


async def spawn(command: SandboxCommand, *, stdin: int, stdout: int, stderr: int) -> RunningProcess:
    """Start a command on the given descriptors (the caller closes its own copies).

    Raises:
        ApiError: 400: the command is invalid; 500: the sandbox does not exist any more.
    """
    command.require_runnable()
    opened: list[int] = []
    outside = Enrolment()
    try:
        outside.open(command.group_files)
        # With one id the ship has a user namespace of its own, which only the command itself joins.
        names = [*NAMESPACES, *(("user",) if sandbox_mode() is SandboxMode.SINGLE else ())]
        if _shares_host_network(command.init_pid):  # the host's: there may be no right to join it once more
            names = names[1:]
        for name in names:  # one by one: what was opened is closed if the next one fails
            opened += [os.open(f"/proc/{command.init_pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)]
        process = await asyncio.create_subprocess_exec(
            "/proc/self/exe",  # never reached: the hook below executes the command itself
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={},
            cwd="/",
            start_new_session=True,
            preexec_fn=lambda: _enter_and_execute(command, opened, outside),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ApiError(500, "sandbox_failed", f"the sandbox cannot be entered: {error}") from error
    finally:
        for fd in (*opened, *outside.descriptors()):
            os.close(fd)
    return RunningProcess(process)


def _shares_host_network(init_pid: int) -> bool:
    return os.readlink(f"/proc/{init_pid}/ns/net") == os.readlink("/proc/self/ns/net")


def _enter_and_execute(command: SandboxCommand, namespaces: Sequence[int], outside: Enrolment) -> None:
    """In the forked child: become keeper and command. Does not return."""
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # Until the final exec its memory is drydock's: nobody of the same id may look into it.
        _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        _syscall(_KEYCTL, _JOIN_SESSION_KEYRING, None)  # the caller's keys are none of the ship's
        users = 1 if sandbox_mode() is SandboxMode.SINGLE else 0
        join, own_users = namespaces[: len(namespaces) - users], namespaces[len(namespaces) - users :]
        _join(join)
        if command.terminal:  # the keeper leads the session; the command is its foreground
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        child = os.fork()
        if child:
            _wait_as_keeper(child)
        outside.enrol_this_process()
        _join(own_users)
        _drop_privileges(as_root=command.as_root, set_groups=not own_users)
        # Only now: the kernel forgets it when credentials change. It ends with its keeper.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _execute(command)
    except BaseException as error:  # noqa: BLE001 - a forked child must never run on as the server
        with contextlib.suppress(OSError):
            os.write(2, f"drydock: {error}\n".encode())
    os._exit(126)


def freeze_processes(init_pid: int) -> Sequence[int]:
    """Stop every process of a sandbox but its init; return those that were stopped already.

    Parents go first, so that no shell sees its job stop.

    Raises:
        DrydockError: the sandbox is gone.
    """
    already_stopped = {pid for pid, (_, state) in _processes(init_pid).items() if state in "Tt"}

    def stop() -> None:
        for _ in range(FREEZE_ROUNDS):  # until nobody has forked in between
            found = _processes(1)
            running = [pid for pid, (_, state) in found.items() if state not in "TtZX"]
            for pid in _sort_parents_first(found, running):
                _send_signal(pid, signal.SIGSTOP)
            if not running:
                return
        os.kill(-1, signal.SIGSTOP)

    _run_in_pid_namespace(init_pid, stop)
    return tuple(already_stopped)


def thaw_processes(init_pid: int, stopped: Sequence[int]) -> None:
    """Continue every process of a sandbox except those in ``stopped``; children first.

    Raises:
        DrydockError: the sandbox is gone.
    """

    def go_on() -> None:
        found = _processes(1)
        for pid in reversed(_sort_parents_first(found, [pid for pid in found if pid not in stopped])):
            _send_signal(pid, signal.SIGCONT)

    _run_in_pid_namespace(init_pid, go_on)


def _processes(init_pid: int) -> dict[int, tuple[int, str]]:
    """Return parent and state of each process but the init, by the sandbox's own pids.

    Args:
        init_pid: the sandbox's init as the caller sees it.
    """
    found = {}
    proc_directory = f"/proc/{init_pid}/root/proc" if init_pid != 1 else "/proc"
    for name in os.listdir(proc_directory):
        if name.isdecimal() and name != "1" and not (init_pid == 1 and int(name) == os.getpid()):
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"{proc_directory}/{name}/stat", encoding="utf-8", errors="replace") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
                found[int(name)] = (int(parent), state)
    return found


def _sort_parents_first(parents_and_states: Mapping[int, tuple[int, str]], pids: Sequence[int]) -> list[int]:
    """Return ``pids`` with every parent before its children."""

    def count_ancestors(pid: int) -> int:
        steps = 0
        while pid in parents_and_states and steps < len(parents_and_states):
            pid, steps = parents_and_states[pid][0], steps + 1
        return steps

    return sorted(pids, key=count_ancestors)


def _send_signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _run_in_pid_namespace(init_pid: int, work: Callable[[], None]) -> None:
    """Call ``work`` in a new process in the sandbox's pid and mount namespaces.

    Nothing of the sandbox is executed, and the process is invisible to its users' debuggers.

    Raises:
        DrydockError: it cannot be entered, or ``work`` failed.
    """
    opened: list[int] = []
    try:
        opened += [os.open(f"/proc/{init_pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("pid", "mnt")]
        done = subprocess.run(
            ["/proc/self/exe"],  # never reached
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={},
            cwd="/",
            check=False,
            timeout=30,
            preexec_fn=lambda: _run_joined(opened, work),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DrydockError(f"the sandbox of pid {init_pid} cannot be entered: {error}") from error
    finally:
        for fd in opened:
            os.close(fd)
    if done.returncode:
        stderr = done.stderr.decode(errors="replace").strip()
        raise DrydockError(f"the processes of the sandbox of pid {init_pid} cannot be reached: {stderr}")


def _run_joined(namespaces: Sequence[int], work: Callable[[], None]) -> None:
    """In the forked child: join, fork (a pid namespace is joined by children only), work. Does not return."""
    code = 1
    try:
        _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        _join(namespaces)
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        os.closerange(3, 65536)
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - a forked child must never run on as the server
        with contextlib.suppress(OSError):
            os.write(2, repr(error).encode())
    os._exit(code)


def _join(namespaces: Sequence[int]) -> None:
    for fd in namespaces:
        if _setns(fd, 0):
            raise OSError(ctypes.get_errno(), "setns")


def _wait_as_keeper(child: int) -> None:
    """Be the process on the host side: close all files, ignore signals, exit with the child's status."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.closerange(3, 65536)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _drop_privileges(*, as_root: bool, set_groups: bool) -> None:
    """Drop every capability that is not allowed, permanently; then become the user."""
    allowed = 0
    for number in ALLOWED_CAPABILITIES.values():
        allowed |= 1 << number
    for number in range(LAST_CAPABILITY + 1):
        if not allowed & (1 << number):
            _prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    _prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0)
    if set_groups:  # the kernel forbids it where there is one id
        os.setgroups([0] if as_root else [SPRITE_UID])
    if not as_root:
        os.setresgid(SPRITE_UID, SPRITE_UID, SPRITE_UID)
        os.setresuid(SPRITE_UID, SPRITE_UID, SPRITE_UID)
        allowed = 0
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    data = (_CapData * 2)(
        _CapData(allowed & 0xFFFFFFFF, allowed & 0xFFFFFFFF, 0), _CapData(allowed >> 32, allowed >> 32, 0)
    )
    if _syscall(_CAPSET, ctypes.byref(header), data):
        raise OSError(ctypes.get_errno(), "capset")


def _execute(command: SandboxCommand) -> None:
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    for place in (command.cwd, "/home/sprite", "/"):
        try:
            os.chdir(place)
        except OSError:
            continue
        break
    program, environment = command.argv[0], dict(command.environment)
    os.closerange(3, 65536)
    places = [""] if "/" in program else environment.get("PATH", os.defpath).split(":") if program else []
    reason = "No such file or directory"
    for place in places:
        path = f"{place}/{program}" if place else program
        try:
            os.execve(path, list(command.argv), environment)  # noqa: S606 - an argv, no shell
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno == 8:  # a script without an interpreter line: what every shell does with it
                with contextlib.suppress(OSError):
                    os.execve("/bin/sh", ["sh", path, *command.argv[1:]], environment)  # noqa: S606
            reason = error.strerror or "cannot be run"
    os.write(2, f"executable file `{program}` not found in $PATH: {reason}\n".encode(errors="replace"))
    os._exit(127)
