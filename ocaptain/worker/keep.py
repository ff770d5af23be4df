"""The keeper: runs the worker and restarts it, on hosts without a service manager.

It has its own session, so it outlives the login that started it. It holds a lock while it runs;
the lock's file holds its pid and the checksum of its program.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from ocaptain.protocol.files import read_json, start_time
from ocaptain.worker.places import Places, remove_path
from ocaptain.worker.procs import kill_attempt_processes
from ocaptain.worker.streams import find_task_lists, find_transcripts

START_SECONDS = 60.0
LOOK_SECONDS = 20.0  # how long who tests the keeper's lock may hold it, and a keeper be silent about itself
STOP_SECONDS = 15.0
MAX_LOG = 1024 * 1024
VOYAGE_LOCK = "voyage.lock"  # names the voyage that uses the host; never removed here
_PR_SET_PDEATHSIG = 1


def run_keeper_command(places: Places, program: Path, verb: str) -> int:
    """Carry out ``start``, ``stop``, ``status`` or ``run``; print the outcome as one word.

    ``start`` also restarts a keeper whose program is not the current one.
    """
    places.own.mkdir(mode=0o700, parents=True, exist_ok=True)
    if verb == "run":
        return _run_keeper(places, program)
    running = _running_keeper(places)
    if verb == "status":
        word = "running" if running else "stopped"
    elif verb == "stop":
        word = _stop_keeper(places) if running else "absent"
    elif running and running.get("program") == _program_digest(program):
        word = "running"
    else:
        word = "restarted" if running else "started"
        _stop_keeper(places)
        _start_keeper(places, program)
    print(word)
    return 0


def _program_digest(program: Path) -> str:
    return hashlib.sha256(program.read_bytes()).hexdigest()


def _take_keeper_lock(places: Places) -> int | None:
    """Take the keeper's lock; return its descriptor, None if a keeper holds it."""
    fd = os.open(places.own / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _running_keeper(places: Places) -> dict[str, Any]:
    """Return the record of the running keeper, {} if none runs."""
    until = time.monotonic() + LOOK_SECONDS
    while (fd := _take_keeper_lock(places)) is None:
        keeper = read_json(places.own / "keeper.lock")
        if isinstance(keeper, dict) and start_time(int(keeper["pid"])) == keeper["start"]:
            return keeper
        if time.monotonic() > until:  # somebody else is just looking, or it has not said it yet
            raise SystemExit(
                f"a keeper holds {places.own}/keeper.lock, but did not write its process id there"
                f" within {LOOK_SECONDS:g} s; try again"
            )
        time.sleep(0.02)
    os.close(fd)
    return {}


def _start_keeper(places: Places, program: Path) -> None:
    path = places.own / "worker.log"
    with contextlib.suppress(OSError):
        if path.stat().st_size > MAX_LOG:
            path.unlink()
    # The agents must not inherit the variables of the login, above all its ssh-agent.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
    with open(path, "ab") as log:
        subprocess.Popen(
            [sys.executable, str(program), "keep", "run"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=places.home,
            env={**environment, "OCAPTAIN_SHIP_HOME": str(places.home)},
            start_new_session=True,
        )
    until = time.monotonic() + START_SECONDS
    while not (_running_keeper(places) and places.socket.exists()):
        if time.monotonic() > until:
            tail = path.read_bytes()[-2000:].decode(errors="replace").strip()
            raise SystemExit(f"the worker did not start within {START_SECONDS:g} s; the end of {path}: {tail}")
        time.sleep(0.02)


def _stop_keeper(places: Places) -> str:
    """End the keeper and the worker; agents continue in their tmux."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + STOP_SECONDS
        while (found := _running_keeper(places)) and time.monotonic() < until:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(found["pid"]), number)
            time.sleep(0.05)
    places.socket.unlink(missing_ok=True)
    return "stopped"


def _run_keeper(places: Places, program: Path) -> int:
    """Be the keeper until a signal ends it; return at once if another keeper runs."""
    while (fd := _take_keeper_lock(places)) is None:  # who starts us looks again and again, and holds it for a moment
        if _running_keeper(places):
            return 0
    keeper_record = {"pid": os.getpid(), "start": start_time(os.getpid()), "program": _program_digest(program)}
    os.ftruncate(fd, 0)
    os.write(fd, json.dumps(keeper_record).encode())
    stopped = []
    child: subprocess.Popen[bytes] | None = None

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        if child is not None:
            child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    wait = 1.0
    while not stopped:
        began = time.monotonic()
        argv = [sys.executable, str(program), "serve"]
        end = partial(_end_with_parent, os.getpid())
        child = subprocess.Popen(argv, preexec_fn=end)  # noqa: PLW1509 - there is one thread
        if stopped:  # it was told while the child was being made
            child.terminate()
        code = child.wait()
        if not stopped:
            print(f"the worker ended (exit code {code}) and is started again", flush=True)
            wait = 1.0 if time.monotonic() - began > 60 else min(30.0, wait * 2)
            until = time.monotonic() + (wait if time.monotonic() - began < 1 else 0.2)
            while not stopped and time.monotonic() < until:
                time.sleep(0.1)
    return 0


def _end_with_parent(parent: int) -> None:
    """Have this process end when ``parent`` does, even if that ended before the kernel was told."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def remove_everything(places: Places) -> int:
    """Remove everything of ocaptain from the host except the voyage's lock; print what was removed."""
    if _running_keeper(places):
        _stop_keeper(places)
    state = read_json(places.state) or {}
    job = state.get("job")
    tmux = ["tmux", "-L", "ocaptain", "kill-server"]
    with contextlib.suppress(OSError):
        subprocess.run(tmux, capture_output=True, timeout=30, check=False)
    if job:
        kill_attempt_processes(str(job["marker"]))
    own_paths = [places.voyage, *sorted(path for path in places.own.glob("*") if path.name != VOYAGE_LOCK)]
    agents_paths = find_transcripts(places.home, (places.workspace, places.workspace.resolve()))
    if voyage := str(state.get("voyage") or ""):
        agents_paths += find_task_lists(places.home, voyage)
    existing = [path for path in (*own_paths, *agents_paths) if os.path.lexists(path)]
    for path in existing:
        remove_path(path)
    remaining = [str(path) for path in existing if os.path.lexists(path)]
    if remaining:
        raise SystemExit(f"these files cannot be removed; remove them as root: {', '.join(remaining)}")
    with contextlib.suppress(OSError):  # the lock is in it
        places.own.rmdir()
    print(json.dumps({"removed": [os.path.relpath(path, places.home) for path in existing]}))
    return 0
