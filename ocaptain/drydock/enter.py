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
import fcntl
import os
import signal
import subprocess
import termios
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain.drydock import confine, kernel, oom
from ocaptain.drydock.enrol import Enrolment
from ocaptain.drydock.errors import ApiError, DrydockError
from ocaptain.drydock.rootless import SandboxMode, sandbox_mode
from ocaptain.drydock.seccomp import filter_program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

FREEZE_ROUNDS = 20
NAMESPACES = ("net", "ipc", "uts", "cgroup", "pid", "mnt")


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
        program = filter_program()
        outside.open(command.group_files)
        for name in _other_namespaces(command.init_pid, NAMESPACES):  # one by one: each is closed if a later one fails
            opened += [_open_namespace(command.init_pid, name)]
        users = len(opened)
        if _other_namespaces(command.init_pid, ("user",)):  # which only the command itself joins
            opened += [_open_namespace(command.init_pid, "user")]
        process = await asyncio.create_subprocess_exec(
            "/proc/self/exe",  # never reached: the hook below executes the command itself
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={},
            cwd="/",
            start_new_session=True,
            preexec_fn=lambda: _enter_and_execute(command, opened[:users], opened[users:], program, outside),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ApiError(500, "sandbox_failed", f"the sandbox cannot be entered: {error}") from error
    finally:
        for fd in (*opened, *outside.descriptors()):
            os.close(fd)
    return RunningProcess(process)


def _open_namespace(init_pid: int, name: str) -> int:
    return os.open(f"/proc/{init_pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)


def _other_namespaces(init_pid: int, names: Sequence[str]) -> list[str]:
    """Return the namespaces that a sandbox does not share with drydock: there may be no right to join one's own."""
    return [
        name for name in names if os.readlink(f"/proc/{init_pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    ]


def _enter_and_execute(
    command: SandboxCommand, join: Sequence[int], own_users: Sequence[int], program: bytes, outside: Enrolment
) -> None:
    """In the forked child: become keeper and command. Does not return."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        # Until the final exec its memory is drydock's: nobody of the same id may look into it.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        confine.leave_session_keyring()
        _join(join)
        if command.terminal:  # the keeper leads the session; the command is its foreground
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        begun, begins = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child:
            os.close(begins)
            _wait_as_keeper(child, outside, begun)
        # Until the program takes its place, this process is as large as drydock: with a command's score it would be the
        # first to be ended wherever memory runs out.
        oom.raise_opened(outside.open_score(), oom.INIT)
        outside.join_groups()
        _join(own_users)
        single = sandbox_mode() is SandboxMode.SINGLE
        if own_users and not single:
            confine.become_root_of_namespace()
        confine.drop_privileges(program, as_root=command.as_root, set_groups=not single)
        # Only now: the kernel forgets it when credentials change. It ends with its keeper.
        confine.die_with_parent()
        _execute(command, begins)
    except BaseException as error:  # noqa: BLE001 - a forked child must never run on as the server
        with contextlib.suppress(OSError):
            os.write(2, f"drydock: {error}\n".encode())
    os._exit(126)


def freeze_processes(init_pid: int) -> Sequence[int]:
    """Stop every process of a sandbox; return those that were stopped already.

    Parents go first, so that no shell sees its job stop. The init goes last: it may be whatever the ship has made of
    its ``/bin/sh``. A process that has told a timer to send it SIGCONT goes on nevertheless.

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
    _send_signal(init_pid, signal.SIGSTOP)  # which an init obeys if it comes from outside (pid_namespaces(7))
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

    _send_signal(init_pid, signal.SIGCONT)
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
        opened += [_open_namespace(init_pid, name) for name in ("pid", "mnt")]
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
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        _join(namespaces)
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        os.closerange(3, confine.MAX_OPEN_FILES)
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - a forked child must never run on as the server
        with contextlib.suppress(OSError):
            os.write(2, repr(error).encode())
    os._exit(code)


def _join(namespaces: Sequence[int]) -> None:
    for fd in namespaces:
        kernel.join(fd)


def _wait_as_keeper(child: int, outside: Enrolment, begun: int) -> None:
    """Be the process on the host side: close all files, ignore signals, exit with the child's status.

    Args:
        child: the command.
        outside: opens its score.
        begun: end of a pipe whose other end closes when the program has taken the child's place.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.read(begun, 1)
    with contextlib.suppress(OSError):  # it has ended, or is of a program that nobody may look into
        oom.raise_opened(outside.open_score(child), oom.COMMAND)
    os.closerange(3, confine.MAX_OPEN_FILES)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _execute(command: SandboxCommand, begins: int) -> None:
    confine.reset_signals()
    os.umask(0o022)
    for place in (command.cwd, "/home/sprite", "/"):
        try:
            os.chdir(place)
        except OSError:
            continue
        break
    program, environment = command.argv[0], dict(command.environment)
    os.dup2(begins, 3, inheritable=False)
    os.closerange(4, confine.MAX_OPEN_FILES)
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
