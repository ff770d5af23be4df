"""Run checks and the final verify in the workspace (blocking)."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import subprocess
import time

from ocaptain.protocol.files import write_atomic
from ocaptain.protocol.messages import Check, CheckResult, Verify, VerifyResult
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.job import shell_argv
from ocaptain.worker.places import read_tail
from ocaptain.worker.procs import MARKER, kill_attempt_processes
from ocaptain.worker.state import State
from ocaptain.worker.workspace import Workspace


class Scripts:
    """Runs one script at a time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._pid: int | None = None
        self._is_stopped = False

    def reset_stop(self) -> None:
        """Forget an earlier :meth:`stop`, because another script starts now."""
        self._is_stopped = False

    def stop(self) -> None:
        """Kill the running script, if there is one; its result is not needed."""
        self._is_stopped = True
        if (pid := self._pid) is not None:
            _kill_group(pid)

    def check(self, args: Check) -> CheckResult:
        """Run a task's check on a candidate."""
        workspace = Workspace(self._state.places, self._state.ship)
        workspace.import_commit(args.bundle, args.commit)
        workspace.reset(args.commit, args.branch)
        self._state.workspace_commit = args.commit
        return self._run(self._bash(args.command, "check"), args)

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
            done = self._run(self._bash(args.setup, "setup"), args)
            if done.code:
                return _verify_result(done, clean=is_fresh, stage="setup")
        argv = [str(script)] if data.startswith(b"#!") else ["bash", str(script)]
        return _verify_result(self._run(argv, args), clean=is_fresh, stage="verify")

    def _bash(self, line: str, name: str) -> list[str]:
        """Return the argv that runs a shell line; ``name`` is of its file, if it is a long one."""
        return shell_argv(["bash", "-c", line], self._state.places.own / f"{name}.sh")

    def _run(self, argv: list[str], args: Check | Verify) -> CheckResult:
        """Run a script in the workspace with a time limit; kill all its processes at the end.

        Raises:
            WorkspaceError: ``stopped``: see :meth:`stop`.
        """
        marker = f"{self._state.fence.voyage}:{self._state.ship}:check"
        kill_attempt_processes(marker)  # one that a killed worker left behind must not run beside this one
        log = self._state.places.logs / f"{args.label}.log"
        began = time.monotonic()
        environment = {
            **os.environ,
            "OCAPTAIN_VOYAGE": self._state.fence.voyage,
            "OCAPTAIN_SHIP": self._state.ship,
            MARKER: marker,
        }
        timed_out = False
        with open(log, "wb") as output:
            child = subprocess.Popen(
                argv,
                cwd=self._state.places.workspace,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._pid = child.pid
            if self._is_stopped:  # between the two lines above
                self.stop()
            try:
                code = child.wait(args.timeout)
            except subprocess.TimeoutExpired:
                timed_out, code = True, 124
                _kill_group(child.pid)
                child.wait()
            finally:
                self._pid = None
        kill_attempt_processes(marker)
        if self._is_stopped:  # says nothing about the candidate, so it must not be a stored result
            raise WorkspaceError("stopped", "the check was stopped before its end")
        seconds = round(time.monotonic() - began, 3)
        code = code if code >= 0 else 128 - code
        return CheckResult(code, seconds, timed_out, read_tail(log))


def _kill_group(pid: int) -> None:
    """Kill a check's process group, with ``sudo`` if a process belongs to root."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError:
        argv = ["sudo", "-n", "kill", "-KILL", "--", f"-{pid}"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(argv, capture_output=True, timeout=10, check=False)


def _verify_result(done: CheckResult, *, clean: bool, stage: str) -> VerifyResult:
    return VerifyResult(clean, done.code, done.seconds, done.timed_out, done.tail, stage)
