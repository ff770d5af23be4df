"""One agent's keeper: runs in tmux, outlives worker and captain, leaves an exit file.

It bounds the attempt on the ship (time, silence) so that a hung agent ends without anybody
watching, and takes every process of the attempt with it: as a child subreaper it inherits
the orphans, and what escaped even that carries the attempt's marker in its environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ocaptain.worker.places import read_json, write_json
from ocaptain.worker.procs import MARKER, start_time, sweep

_PR_SET_CHILD_SUBREAPER = 36
TERM_SECONDS = 5.0


class Stopped(Exception):
    """Somebody asked the supervisor to end the attempt."""


def _stop(number: int, _: Any) -> None:
    raise Stopped(signal.Signals(number).name)


def supervise(directory: Path) -> int:
    """Run the job described by ``directory/job.json``; return the agent's exit code.

    ``exit.json`` then holds code, signal, reason (``exit``, ``timeout``, ``stall``,
    ``stopped``, ``error``) and seconds.
    """
    job = read_json(directory / "job.json")
    marker = str(job["marker"])
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    write_json(directory / "supervisor.json", {"pid": os.getpid(), "start": start_time(os.getpid())})
    began = time.monotonic()
    code, reason = 127, "error"
    child: subprocess.Popen[bytes] | None = None
    try:
        with open(directory / "prompt.md", "rb") as prompt, open(job["log"], "ab", buffering=0) as log:
            child = subprocess.Popen(
                job["argv"],
                cwd=job["cwd"],
                env={**os.environ, **job["env"], MARKER: marker},
                stdin=prompt,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            reason = _watch(child, log, began, float(job["timeout"]), float(job["stall"]))
            code = _end(child) if reason != "exit" else child.wait()
    except Stopped:
        _ignore_signals()
        reason = "stopped"
        code = _end(child) if child else 143
    except OSError as error:
        with contextlib.suppress(OSError), open(job["log"], "ab") as log:
            log.write(f"ocaptain: the agent could not be started: {error}\n".encode())
    _ignore_signals()
    sweep(marker, root=os.getpid(), spare=frozenset({os.getpid()}))
    seconds = round(time.monotonic() - began, 3)
    write_json(
        directory / "exit.json",
        {"code": code if code >= 0 else 128 - code, "reason": reason, "seconds": seconds},
    )
    return code


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _watch(child: subprocess.Popen[bytes], log: Any, began: float, timeout: float, stall: float) -> str:
    """Copy output to log and pane until the agent ends or a limit is passed."""
    assert child.stdout
    os.set_blocking(child.stdout.fileno(), False)
    spoke = time.monotonic()
    ended_at: float | None = None
    silent = False
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not silent:
                selector.select(timeout=0.05 if ended_at is None else 0.01)
            data: bytes | None = b"" if silent else child.stdout.read(65536)
            now = time.monotonic()
            if data:
                spoke = now
                log.write(data)
                with contextlib.suppress(OSError):
                    sys.stdout.buffer.write(data)
                    sys.stdout.buffer.flush()
            elif data is not None and not silent:
                selector.unregister(child.stdout)  # it closed its output; its limits still hold
                silent = True
            if silent:
                time.sleep(0.05)
            if child.poll() is not None:
                # A background child may hold the pipe; what the agent itself said is there.
                ended_at = ended_at or now
                if silent or (not data and now - ended_at > 0.2):
                    return "exit"
            elif now - began > timeout:
                return "timeout"
            elif now - spoke > stall:
                return "stall"


def _end(child: subprocess.Popen[bytes]) -> int:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(TERM_SECONDS)
    return child.wait()
