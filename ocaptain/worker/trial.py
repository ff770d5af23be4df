"""Try the gate on the start commit before there is any work: setup and verify.sh, in a clone of their own (blocking).

It runs beside the agents, so it uses nothing that an attempt uses but the objects of the worker's git directory,
which it only reads. It waits until they hold the commit, which the first attempt brings.
"""

from __future__ import annotations

import base64
import os
import shutil
import stat
import threading
import time

from ocaptain.protocol.files import write_atomic
from ocaptain.protocol.messages import CheckResult, Trial, TrialResult
from ocaptain.protocol.shebang import named_programs
from ocaptain.worker.checkout import Checkout
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.places import Places, remove_path
from ocaptain.worker.repository import START_REFS
from ocaptain.worker.scripts import Scripts, script_argv
from ocaptain.worker.state import State

LOOK_SECONDS = 0.2
KIND = "trial"


class GateTrial:
    """Runs one trial at a time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._places = Places(state.places.home)
        self._places.workspace = state.places.voyage / KIND
        self._places.git = state.places.own / f"{KIND}.git"
        self._scripts = Scripts(state, KIND, self._places.workspace)
        self._is_stopped = False
        self._one_at_a_time = threading.Lock()

    def expect(self) -> None:
        """Forget an earlier :meth:`stop`, because a trial was commanded now."""
        self._is_stopped = False

    def stop(self) -> None:
        """End the running trial, if there is one; its result is not needed."""
        self._is_stopped = True
        self._scripts.stop()

    def clear(self) -> None:
        """End what a killed worker's trial left running, and remove its clone."""
        with self._one_at_a_time:
            self._clear()

    def _clear(self) -> None:
        self._scripts.kill_leftovers()
        remove_path(self._places.workspace)
        remove_path(self._places.git)

    def run(self, args: Trial) -> TrialResult:
        """Run a trial, for at most ``args.timeout`` seconds; all of it is gone at the end.

        Raises:
            WorkspaceError: ``stopped``: see :meth:`stop`; ``need_full``: the commit did not come.
        """
        until = time.monotonic() + args.timeout
        with self._one_at_a_time:
            self._scripts.reset_stop()
            self._clear()
            if self._is_stopped:  # before it began
                raise WorkspaceError("stopped", "the trial was stopped")
            try:
                self._make_clone(args, until)
                return self._try(args, until)
            finally:
                self._clear()

    def _make_clone(self, args: Trial, until: float) -> None:
        clone = Checkout(self._places, self._state.ship)
        clone.initialize()
        alternates = self._places.git / "objects" / "info" / "alternates"
        alternates.parent.mkdir(parents=True, exist_ok=True)
        alternates.write_text(f"{self._state.places.git}/objects\n")
        (self._places.git / START_REFS).symlink_to(self._state.places.git / START_REFS)  # they come with the commit
        while True:
            try:
                if clone.has_commit(args.commit):
                    return clone.reset_to_fresh_clone(args.commit, args.branch)
            except WorkspaceError:  # its files are still being written
                pass
            if self._is_stopped or time.monotonic() > until:
                reason = "the trial was stopped" if self._is_stopped else f"commit {args.commit} did not come"
                raise WorkspaceError("stopped" if self._is_stopped else "need_full", reason)
            time.sleep(LOOK_SECONDS)

    def _try(self, args: Trial, until: float) -> TrialResult:
        done = CheckResult(0, 0.0)
        script = base64.b64decode(args.script)
        if args.setup:
            setup = self._scripts.bash(args.setup, "setup")
            done = self._scripts.run(setup, args.label, max(0.0, until - time.monotonic()))
        missing = self._missing_program(script)
        if done.code or missing:
            return TrialResult(done.code, done.seconds, done.timed_out, done.tail, "setup", missing)
        path = self._state.places.artifacts / "verify.sh"
        if not path.is_file() or path.read_bytes() != script or not os.access(path, os.X_OK):
            write_atomic(path, script, 0o755)
        ran = self._scripts.run(script_argv(path, script), args.label, max(0.0, until - time.monotonic()))
        return TrialResult(ran.code, done.seconds + ran.seconds, ran.timed_out, ran.tail, "verify")

    def _missing_program(self, script: bytes) -> str:
        """Return the first program of the script's first line that is surely not on this ship, "" if all are."""
        for program in named_programs(script):
            if "/" not in program:
                is_missing = shutil.which(program) is None
            elif program.startswith((f"{self._state.places.workspace}/", f"{self._places.workspace}/")):
                is_missing = False  # a file of the clone: a task or setup brings it
            else:
                is_missing = program.startswith("/") and not _may_exist(program)
            if is_missing:
                return program
        return ""


def _may_exist(path: str) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
