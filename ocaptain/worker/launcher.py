"""The launcher: a process in the agents' tmux that has the supervisor's modules loaded, and forks one for each attempt.

::

    worker ──connects──> launcher: which program it is ──a job's directory──> fork ──supervisor.json──> its pid
                         (none answers: the worker starts one in a window of session ``agent``)

Starting Python and a tmux client for each attempt took longer than all of git. The launcher leads the
session of its terminal, as a shell does, and each supervisor is the group in its foreground: Ctrl-C and
a closed window reach the agent's supervisor. The output of all agents stays in the window.

A launcher that does not answer, or that runs another program than the worker, is not used. It forks only for a
worker that still waits, and no second supervisor starts a job. A launcher whose socket was replaced ends after
its last supervisor.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import termios
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Set

from ocaptain.protocol.files import read_json
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.places import Places
from ocaptain.worker.windows import SESSION, close_finished_windows, run_tmux

ANSWER_SECONDS = 5.0
FORK_SECONDS = 30.0  # after the launcher has answered; the disk may be slow
RECHECK_SECONDS = 30.0
LAUNCHER_START_SECONDS = 60.0  # Python has to start; a ship may be busy
MAX_LINE = 64 * 1024


def program_identity(program: Path) -> str:
    """Return an identity of a program file, which changes when the file is replaced."""
    state = os.stat(program)
    return f"{state.st_ino} {state.st_size} {state.st_mtime_ns}"


# -- the worker's side ------------------------------------------------------------------------


def launch_supervisor(places: Places, program: Path, label: str, directory: Path) -> None:
    """Start a supervisor for a job; wait until ``supervisor.json`` exists.

    Args:
        places: the ship's directories.
        program: the worker's zipapp.
        label: name of the attempt, for people.
        directory: directory with ``job.json``.

    Raises:
        WorkspaceError: ``tmux``: the supervisor cannot be started.
    """
    if _request_supervisor(places, program, label, directory):
        return
    _start_launcher(places, program, label)
    until = time.monotonic() + LAUNCHER_START_SECONDS
    while not _request_supervisor(places, program, label, directory):
        if time.monotonic() > until:
            raise WorkspaceError("tmux", f"the launcher does not answer on {places.launcher}")
        time.sleep(0.02)


def _request_supervisor(places: Places, program: Path, label: str, directory: Path) -> bool:
    """Ask the running launcher for a supervisor; return False if no suitable launcher answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(places.launcher))
            lines = connection.makefile("rb")
            if json.loads(lines.readline(MAX_LINE))["program"] != program_identity(program):
                return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
        try:
            connection.settimeout(FORK_SECONDS)
            connection.sendall(json.dumps({"label": label, "directory": str(directory)}).encode() + b"\n")
            answer = json.loads(lines.readline(MAX_LINE))
        except (OSError, ValueError) as error:
            raise WorkspaceError("tmux", f"the agent's launcher died or does not answer: {error}") from error
    if not answer.get("pid"):
        raise WorkspaceError("tmux", f"the agent's launcher cannot start a supervisor: {answer.get('error')}")
    return True


def _start_launcher(places: Places, program: Path, label: str) -> None:
    """Start a launcher in a new window of the tmux session ``agent``, show that window, and close finished ones."""
    inside = ["python3", str(program), "launcher"]
    window = ["-n", label[:40], "-c", str(places.voyage), *inside]
    for argv in (
        ["new-window", "-t", f"={SESSION}:", *window],
        ["new-session", "-d", "-s", SESSION, *window],
    ):
        done = run_tmux(places, *argv)
        if done.returncode == 0:
            close_finished_windows(places)
            return
    raise WorkspaceError("tmux", f"tmux: {done.stderr.decode(errors='replace').strip()}")


# -- the launcher -----------------------------------------------------------------------------


def run_launcher(places: Places, program: Path) -> int:
    """Be the launcher until it is not needed any more; return 0."""
    import ocaptain.worker.supervise  # noqa: F401 - loaded once, for every fork

    own_identity = program_identity(program)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # the foreground is given from the background
    signal.signal(signal.SIGCHLD, _reap)
    terminal = _make_terminal_settings()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        inode = _bind(listener, places.launcher)
        gc.freeze()
        while _is_needed(places.launcher, inode):
            listener.settimeout(RECHECK_SECONDS)
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection, contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                connection.settimeout(ANSWER_SECONDS)
                connection.sendall(json.dumps({"program": own_identity}).encode() + b"\n")
                request = json.loads(connection.makefile("rb").readline(MAX_LINE))
                if not _has_hung_up(connection):
                    connection.sendall(
                        json.dumps(_fork_supervisor(request, terminal, (listener, connection))).encode() + b"\n"
                    )
    return 0


def _bind(listener: socket.socket, path: Path) -> int:
    """Listen at a path, replacing any older socket; return the socket file's inode."""
    os.chdir(path.parent)  # the name of a socket is short, a home need not be
    temporary = Path(f"l{os.getpid()}")
    temporary.unlink(missing_ok=True)
    listener.bind(str(temporary))
    temporary.chmod(0o600)
    listener.listen(4)
    inode = temporary.stat().st_ino
    temporary.rename(path.name)
    return inode


def _is_needed(path: Path, inode: int) -> bool:
    """Return whether the worker can still find this launcher, or one of its supervisors runs."""
    if _supervisor_pids:
        return True
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


def _has_hung_up(connection: socket.socket) -> bool:
    """Return whether the worker has closed the connection."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


_supervisor_pids: Set[int] = set()


def _reap(number: int, frame: Any) -> None:
    del number, frame
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            _supervisor_pids.discard(pid)


def _fork_supervisor(request: Dict[str, str], terminal: Any, inherited: tuple[socket.socket, ...]) -> Dict[str, Any]:
    """Fork a supervisor; return the answer to the worker: ``pid`` or ``error``."""
    directory, label = Path(request["directory"]), request["label"]
    read_end, write_end = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # one that ends at once ends after it was noted
    try:
        pid = os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.close(read_end)
        os.close(write_end)
        return {"error": str(error)}
    if pid == 0:
        os.close(read_end)
        for one in inherited:
            one.close()
        _run_supervisor(directory, label, terminal, lambda: os.close(write_end) if os.write(write_end, b"+") else None)
    _supervisor_pids.add(pid)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    os.close(write_end)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    with open(read_end, "rb") as pipe:  # the worker need not wait for a file to appear
        started = pipe.read(1)
    return {"pid": pid} if started else {"error": "the supervisor ended at once, or another one has this job"}


def _ignore_signal(number: int, frame: Any) -> None:
    """Do nothing: a pressed key must not stop the supervisor, which enforces the limits."""


def _take_terminal(terminal: Any, label: str) -> None:
    """Take the terminal's foreground and reset the terminal, so that people can follow the agent."""
    with contextlib.suppress(OSError, termios.error):
        os.tcsetpgrp(0, os.getpid())
        termios.tcsetattr(0, termios.TCSANOW, terminal)
        termios.tcflow(0, termios.TCOON)  # somebody pressed Ctrl-S
        # The window's name, and a heading.
        os.write(1, f"\033k{label}\033\\\033[0m\n── {label}\n".encode())


def _make_terminal_settings() -> Any:
    """Return terminal settings in which no key stops programs or output; None without a terminal."""
    if not os.isatty(0):
        return None
    found = termios.tcgetattr(0)
    found[0] &= ~termios.IXON
    found[6][termios.VSUSP] = b"\0"
    return found


def _report_crash(directory: Path) -> None:
    """Write the current traceback to the pane, and to the attempt's log, which stays."""
    traceback.print_exc()
    with contextlib.suppress(OSError, TypeError, KeyError), open(read_json(directory / "job.json")["log"], "a") as log:
        traceback.print_exc(file=log)


def _run_supervisor(directory: Path, label: str, terminal: Any, on_started: Callable[[], None]) -> None:
    """Be the supervisor of a job, in the forked child; never return."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        if terminal is not None:
            _take_terminal(terminal, label)
        for number in (signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP):
            signal.signal(number, _ignore_signal)  # not SIG_IGN, which the agent would inherit
        from ocaptain.worker.supervise import supervise

        code = supervise(directory, on_started)
    except BaseException:  # noqa: BLE001 - nothing may return into the launcher's loop
        _report_crash(directory)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code if 0 <= code < 256 else 1)
