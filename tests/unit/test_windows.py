"""The agents' tmux: which window a person is shown, and which are closed; by tmux itself."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from ocaptain.cli.shell import attach_command
from ocaptain.protocol.codec import to_dict
from ocaptain.protocol.files import read_json, write_json
from ocaptain.worker.build import worker_bytes
from ocaptain.worker.job import JobFile
from ocaptain.worker.launcher import launch_supervisor
from ocaptain.worker.places import Places
from ocaptain.worker.windows import (
    Pane,
    choose_window,
    close_own_window,
    finished_windows,
    list_panes,
    parse_panes,
    run_tmux,
)
from tests.helpers import REPO, wait_for


def launcher(window, pid, *, dead=False):
    return Pane(window, dead, pid, is_launcher=True)


def other(window, pid, *, dead=False):
    return Pane(window, dead, pid, is_launcher=False)


@pytest.mark.parametrize(
    ("panes", "at_work", "window"),
    [
        ([], (), None),
        ([launcher(0, 10, dead=True)], (), 0),
        ([launcher(0, 10, dead=True), launcher(3, 11)], (), 3),
        ([launcher(0, 10, dead=True), launcher(3, 11)], (11, 12), 3),
        ([launcher(0, 10), launcher(3, 11)], (), 3),
        ([launcher(0, 10), launcher(3, 11)], (10, 20), 0),  # the older one still has an attempt
        ([launcher(0, 10), other(9, 11)], (), 0),  # a window that somebody opened
        ([launcher(0, 10), other(9, 11)], (11,), 9),  # in which the attempt runs
        ([launcher(0, 10, dead=True), other(9, 11)], (), 9),
        ([launcher(0, 10, dead=True), launcher(1, 10)], (10,), 1),  # a pid that was used again
        ([launcher(2, 1, dead=True), launcher(10, 2, dead=True)], (), 10),
    ],
)
def test_the_window_at_work_is_shown(panes, at_work, window):
    assert choose_window(panes, frozenset(at_work)) == window
    assert choose_window(panes[::-1], frozenset(at_work)) == window


@pytest.mark.parametrize(
    ("panes", "finished"),
    [
        ([], []),
        ([launcher(0, 1, dead=True), launcher(1, 2)], [0]),
        ([launcher(0, 1, dead=True), launcher(1, 2, dead=True)], [0]),  # the newest shows why it ended
        ([launcher(0, 1, dead=True), other(0, 2), launcher(1, 3)], []),  # somebody is in a part of it
        ([other(0, 1, dead=True), launcher(1, 3), other(2, 4, dead=True)], [0, 2]),
    ],
)
def test_a_window_in_which_nothing_runs_is_finished(panes, finished):
    assert finished_windows(panes) == finished


def test_what_tmux_says():
    text = '@0 1 12 "python3 /h/.ocaptain/worker.pyz launcher"\n@12 0 7 \n@3 0 9 bash -c "x launcher y"\nnoise\n'
    assert parse_panes(text) == [launcher(0, 12, dead=True), other(12, 7), other(3, 9)]


@pytest.fixture
def ship(tmp_path, monkeypatch):
    """A ship's directories with the real worker, and a tmux server of their own."""
    places = Places(tmp_path / "ship")
    places.make()
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    monkeypatch.setenv("OCAPTAIN_SHIP_HOME", str(places.home))
    monkeypatch.delenv("TMUX", raising=False)
    places.tmux_conf.write_text((REPO / "roles/tmux-agent/files/tmux.conf").read_text())
    yield places
    run_tmux(places, "kill-server")


def attempt(places, program, name, line):
    """Start an attempt as the worker does; return its directory."""
    directory = places.attempts / name
    directory.mkdir()
    for file in ("prompt.md", "resume.md"):
        (directory / file).touch()
    log = str(places.logs / f"{name}.log")
    job = JobFile(("bash", "-c", line), {}, str(places.workspace), log, 60.0, 60.0, marker=str(directory))
    write_json(directory / "job.json", to_dict(job))
    write_json(places.state, {"job": {"directory": str(directory)}})
    launch_supervisor(places, program, name, directory)
    return directory


def shown(program):
    """Return the window that the worker names for a person."""
    done = subprocess.run([sys.executable, program, "window"], capture_output=True, text=True, check=False)
    return done.stdout.strip(), done.returncode


def look(awaited):
    """Look at the agent's window by ``shell``'s own line; leave it by keys, after one that must not reach it."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "-c", attach_command(write=False)], {**os.environ, "TERM": "xterm"})
    seen = ""
    try:
        while data := os.read(fd, 65536):
            seen += data.decode(errors="replace")
            if awaited and awaited in seen:
                awaited = ""
                os.write(fd, b"\x03\x02d")  # at once, as a slow line may bring them
    except OSError:  # Linux says so at the end of the other side
        pass
    os.close(fd)
    assert os.waitpid(pid, 0)[1] == 0, seen
    return seen


def test_a_launcher_that_died_leaves_no_window_in_the_way(ship):
    program = ship.own / "worker.pyz"
    program.write_bytes(worker_bytes())
    assert shown(program) == ("", 1)
    first = attempt(ship, program, "1.1", "echo first said this; sleep 60")
    (pane,) = list_panes(ship)
    assert shown(program) == (f"@{pane.window}", 0)
    wait_for(lambda: b"first said this" in (ship.logs / "1.1.log").read_bytes())
    os.kill(pane.pid, signal.SIGKILL)
    wait_for(lambda: read_json(first / "exit.json"))
    wait_for(lambda: list_panes(ship)[0].is_dead)
    assert shown(program) == (f"@{pane.window}", 0)  # it is all there is
    second = attempt(ship, program, "1.2", "printf '\\033]0;owned\\007\\033]52;c;eA==\\007second said that'; sleep 60")
    (later,) = list_panes(ship)
    assert later.window > pane.window
    # A launcher that is not needed any more closes its own.
    ending = f"from {close_own_window.__module__} import *; close_own_window(Places(Path('{ship.home}')))"
    run_tmux(ship, "new-window", "-t", "=agent:", f'PYTHONPATH={program} {sys.executable} -c "{ending}"')
    wait_for(lambda: list_panes(ship) == [later])
    # A person opens a window and stays there; it is not what the next one is shown.
    run_tmux(ship, "new-window", "-t", "=agent:", "sleep 60")
    assert shown(program) == (f"@{later.window}", 0)
    # What a closed window showed is in the log of its attempt.
    assert b"first said this" in (ship.logs / "1.1.log").read_bytes()
    for option in ("set-titles", "allow-passthrough"):
        assert run_tmux(ship, "show", "-gv", option).stdout in {b"off\n", b""}
    assert run_tmux(ship, "show", "-sv", "set-clipboard").stdout == b"off\n"
    seen = look("second said that")
    assert "owned" not in seen
    assert read_json(second / "exit.json") is None  # it goes on
    os.kill(read_json(second / "supervisor.json")["pid"], signal.SIGTERM)
    wait_for(lambda: read_json(second / "exit.json"))
