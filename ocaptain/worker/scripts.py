"""Run checks and the final verify in the workspace, and the trial of the gate beside it (blocking)."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import List, Optional

from ocaptain.protocol.files import write_atomic
from ocaptain.protocol.messages import Check, CheckResult, Verify, VerifyResult
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.job import shell_argv
from ocaptain.worker.places import read_tail
from ocaptain.worker.procs import MARKER, descendants, kill_attempt_processes
from ocaptain.worker.state import State
from ocaptain.worker.workspace import Workspace


class Scripts:
    """Runs one script at a time.

    Args:
        state: of the worker.
        kind: a word that marks the processes of these scripts.
        folder: where they run; by default the workspace.
    """

    def __init__(self, state: State, kind: str = "check", folder: Optional[Path] = None) -> None:
        self._state = state
        self._kind = kind
        self._folder = folder or state.places.workspace
        self._pid: int | None = None
        self._is_stopped = False

    def reset_stop(self) -> None:
        """Forget an earlier :meth:`stop`, because another script starts now."""
        self._is_stopped = False

    def stop(self) -> None:
        """Kill the running script, if there is one; its result is not needed."""
        self._is_stopped = True
        if (pid := self._pid) is not None:
            _kill_tree(pid)

    def kill_leftovers(self) -> None:
        """Kill the processes of a script that a killed worker left behind."""
        kill_attempt_processes(self._marker())

    def _marker(self) -> str:
        return f"{self._state.fence.voyage}:{self._state.ship}:{self._kind}"

    def check(self, args: Check) -> CheckResult:
        """Run a task's check on a candidate."""
        workspace = Workspace(self._state.places, self._state.ship)
        workspace.import_commit(args.bundle, args.commit)
        workspace.reset(args.commit, args.branch)
        self._state.workspace_commit = args.commit
        return self.run(self.bash(args.command, "line"), args.label, args.timeout)

    def verify(self, args: Verify) -> VerifyResult:
        """Run the final verify on exactly ``commit``, with the captain's copy of the script."""
        workspace = Workspace(self._state.places, self._state.ship)
        workspace.import_commit(args.bundle, args.commit)
        self._state.workspace_commit = args.commit
        script = self._state.places.artifacts / "verify.sh"
        data = base64.b64decode(args.script)
        write_atomic(script, data, 0o755)
        is_fresh = bool(args.setup) or args.fresh
        if is_fresh:
            workspace.reset_to_fresh_clone(args.commit, args.branch)
        else:
            workspace.reset(args.commit, args.branch)
        if args.setup:
            done = self.run(self.bash(args.setup, "setup"), args.label, args.timeout)
            if done.code:
                return _verify_result(done, clean=is_fresh, stage="setup")
        done = self.run(script_argv(script, data), args.label, args.timeout)
        return _verify_result(done, clean=is_fresh, stage="verify")

    def bash(self, line: str, name: str) -> List[str]:
        """Return the argv that runs a shell line; ``name`` is of its file, if it is a long one."""
        return shell_argv(["bash", "-c", line], self._state.places.own / f"{self._kind}-{name}.sh")

    def run(self, argv: List[str], label: str, timeout: float) -> CheckResult:
        """Run a script in the folder with a time limit; kill all its processes at the end.

        Args:
            argv: of the script.
            label: of its log.
            timeout: in seconds.

        Returns:
            How it ended; as in a shell, code 127 or 126 if it could not be started.

        Raises:
            WorkspaceError: ``stopped``: see :meth:`stop`.
        """
        marker = self._marker()
        kill_attempt_processes(marker)  # one that a killed worker left behind must not run beside this one
        log = self._state.places.logs / f"{label}.log"
        began = time.monotonic()
        environment = {
            **os.environ,
            "OCAPTAIN_VOYAGE": self._state.fence.voyage,
            "OCAPTAIN_SHIP": self._state.ship,
            MARKER: marker,
        }
        timed_out = False
        with open(log, "wb") as output:
            try:
                child = subprocess.Popen(
                    argv,
                    cwd=self._folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                if not (code := _START_CODES.get(error.errno or 0, 0)) or not self._folder.is_dir():
                    raise
                return CheckResult(code, 0.0, tail=f"{argv[0]} or the interpreter in its first line: {error.strerror}")
            self._pid = child.pid
            if self._is_stopped:  # between the two lines above
                self.stop()
            try:
                code = child.wait(timeout)
            except subprocess.TimeoutExpired:
                timed_out, code = True, 124
                _kill_tree(child.pid)
                child.wait()
            finally:
                self._pid = None
        kill_attempt_processes(marker)
        if self._is_stopped:  # says nothing about the candidate, so it must not be a stored result
            raise WorkspaceError("stopped", "the check was stopped before its end")
        seconds = round(time.monotonic() - began, 3)
        code = code if code >= 0 else 128 - code
        return CheckResult(code, seconds, timed_out, read_tail(log))


#: A script's exit code by the error of its start: what a shell says of a program that is not there, or cannot be run.
_START_CODES = {errno.ENOENT: 127, errno.ENOTDIR: 127, errno.EACCES: 126, errno.ENOEXEC: 126}


def script_argv(path: Path, content: bytes) -> List[str]:
    """Return how verify.sh is started: by its first line if that names an interpreter, else by bash."""
    return [str(path)] if content.startswith(b"#!") else ["bash", str(path)]


def _kill_tree(pid: int) -> None:
    """Kill a script's process group and whatever else descends from it, by ``sudo`` what belongs to root."""
    found = [f"-{pid}", *map(str, descendants(pid))]
    for one in found:
        try:
            os.kill(int(one), signal.SIGKILL)
        except ProcessLookupError:
            continue
        except PermissionError:
            argv = ["sudo", "-n", "kill", "-KILL", "--", one]
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(argv, capture_output=True, timeout=10, check=False)


def _verify_result(done: CheckResult, *, clean: bool, stage: str) -> VerifyResult:
    return VerifyResult(clean, done.code, done.seconds, done.timed_out, done.tail, stage)
