"""Runs Ansible, through ansible-runner; the only module that does.

Hygiene (all of it was measured): the private directory is temporary, 0700 and removed; the
``command`` artefact, which holds the whole environment, is unlinked before the process starts;
no event is written to disk, the handler sees them all; no secret is in extravars.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible_runner

from ocaptain.ansible.failures import describe_failure
from ocaptain.background import dying_with_us
from ocaptain.errors import BY_EXIT_CODE, OcaptainError
from ocaptain.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocaptain.ansible.invocation import Invocation

MAX_OUTPUT_LINES = 40
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Event:
    """An event of Ansible.

    Attributes:
        kind: the runner's name for it (``runner_on_ok``, ``playbook_on_task_start`` …).
        task: name of its task or play, "" if it has none.
        host: host of the inventory, "" if it has none.
        result: the task's result.
        role: name of the role that the task is of, "" if of none.
        is_ignored: whether the play goes on after its failure (``ignore_errors``).
    """

    kind: str
    task: str
    host: str
    result: dict[str, Any]
    role: str = ""
    is_ignored: bool = False

    @property
    def failure(self) -> str:
        """Host, role, task and reason of a failure."""
        return f"{self.host}: {describe_failure(self.result, self.task, self.role, [self.host])}"


@dataclass
class RunResult:
    """How a run ended.

    Attributes:
        ok: whether Ansible succeeded.
        status: the runner's status: successful, failed, canceled, timeout.
        results: result of each task on localhost, by the task's name.
        failures: a line for each failed task, with its host.
        unreachable: those lines by host that say that it could not be reached.
        output: the last lines that Ansible printed.
        error: the last error of one of our actions on localhost.
    """

    ok: bool = False
    status: str = ""
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    unreachable: dict[str, str] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    error: OcaptainError | None = None


class _CancelCallback:
    """Stops Ansible: by SIGTERM first, by the runner's kill if that is not enough or there is no time.

    The runner by itself only kills, and then only Ansible's first process.
    """

    def __init__(self, stop_urgency: Callable[[], int]) -> None:
        self._stop_urgency = stop_urgency
        self._asked_at: float | None = None

    def __call__(self) -> bool:
        """Whether the runner should kill Ansible; called in its thread, about once a second."""
        stop_urgency = self._stop_urgency()
        if stop_urgency == 0:
            return False
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            for pid in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        return stop_urgency > 1 or time.monotonic() - self._asked_at > STOP_SECONDS


def _children() -> list[int]:
    """Return the pids of the processes that this thread forked."""
    try:
        listed = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text("ascii")
    except OSError:  # not Linux: only the runner's kill is left
        return []
    return [int(pid) for pid in listed.split()]


def run_invocation(
    invocation: Invocation, on_event: Callable[[Event], None], stop_urgency: Callable[[], int]
) -> RunResult:
    """Run a playbook; ``on_event`` sees every event as it happens.

    Args:
        invocation: what to run.
        on_event: called for each event, in the runner's thread.
        stop_urgency: called now and then: 0 = go on, 1 = stop in order, 2 = stop now.
    """
    done = RunResult()

    def handle(raw: dict[str, Any]) -> bool:
        event = _parse_event(raw)
        _record_event(done, event, str(raw.get("stdout") or ""))
        on_event(event)
        return False  # do not write the event to disk

    def status(data: dict[str, Any], runner_config: Any) -> None:
        if data.get("status") == "running":
            Path(runner_config.artifact_dir, "command").unlink(missing_ok=True)

    with scratch_directory("run") as private:
        # The environment of this process stays as it is: other threads read it at the same time.
        run = ansible_runner.interface.init_runner(
            private_data_dir=str(private),
            ident="run",
            playbook=str(invocation.playbook),
            cmdline=f"--inventory {shlex.quote(invocation.inventory)}",
            extravars=dict(invocation.extravars),
            envvars={**dict.fromkeys(invocation.ignored, ""), **invocation.environment},
            event_handler=handle,
            status_handler=status,
            cancel_callback=_CancelCallback(stop_urgency),
            settings={"pexpect_timeout": 1, "idle_timeout": 0, "suppress_ansible_output": True},
            quiet=True,
        )
        # Killed, we could end nothing: an Ansible whose terminal is gone may wait for its results for ever.
        if shutil.which("setpriv"):  # Linux's alone
            run.config.command = dying_with_us(run.config.command)
        for name in invocation.ignored:
            if not run.config.env[name]:  # ansible-runner has set some of them for itself
                del run.config.env[name]
        run.run()
        done.status = str(run.status)
        done.ok = run.status == "successful"
    return done


def _parse_event(raw: dict[str, Any]) -> Event:
    data = raw.get("event_data") or {}
    result = data.get("res")
    return Event(
        str(raw.get("event", "")),
        str(data.get("task") or data.get("name") or ""),
        str(data.get("host") or ""),
        result if isinstance(result, dict) else {},
        str(data.get("role") or ""),
        is_ignored=bool(data.get("ignore_errors")),
    )


def _record_event(done: RunResult, event: Event, stdout: str) -> None:
    if stdout:
        done.output = [*done.output, *stdout.splitlines()][-MAX_OUTPUT_LINES:]
    if event.kind in {"runner_on_ok", "runner_on_failed"} and event.host == "localhost":
        done.results[event.task] = event.result
    if event.kind in {"runner_on_failed", "runner_on_unreachable"}:
        if not event.is_ignored:
            # Ansible does not tell which tasks ignore that: what such a host ends with says why.
            former = done.unreachable.pop(event.host, None)
            done.failures = [*(one for one in done.failures if one != former), event.failure]
            if event.kind == "runner_on_unreachable":
                done.unreachable[event.host] = event.failure
        ours = event.result.get("ocaptain")
        if isinstance(ours, dict) and event.host == "localhost":
            kind = BY_EXIT_CODE.get(int(ours.get("exit_code", 1)), OcaptainError)
            done.error = kind(str(ours.get("message")), [str(line) for line in ours.get("details", [])])
