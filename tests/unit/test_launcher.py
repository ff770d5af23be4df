"""The launcher that forks supervisors: on a terminal of its own, asked by a worker, attacked from both sides."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time

import pytest

from ocaptain.protocol.codec import to_dict
from ocaptain.protocol.files import read_json, write_json
from ocaptain.worker import launcher
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.job import JobFile
from ocaptain.worker.places import Places
from tests.helpers import REPO, wait_for

PROGRAM = """
import sys
from pathlib import Path
from ocaptain.worker.launcher import run_launcher
from ocaptain.worker.places import Places
home = Path(sys.argv[1])
run_launcher(Places(home), home / "worker.pyz")
"""


class Terminal:
    """A launcher on a pty; ``keys`` are what somebody types there."""

    def __init__(self, home):
        self.places = Places(home)
        self.places.make()
        self.program = home / "worker.pyz"
        self.program.write_text("x")
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(REPO)
            os.execv(sys.executable, [sys.executable, "-c", PROGRAM, str(home)])
        wait_for(self.places.launcher.exists)

    def keys(self, data):
        os.write(self.fd, data)

    def job(self, name, line, timeout=30.0):
        directory = self.places.attempts / name
        directory.mkdir()
        (directory / "prompt.md").touch()
        (directory / "resume.md").touch()
        argv, workspace, log = ("bash", "-c", line), str(self.places.workspace), str(directory / "log")
        job = JobFile(argv, {}, workspace, log, timeout, 600.0, marker=str(directory))
        write_json(directory / "job.json", to_dict(job))
        return directory

    def launch(self, directory):
        launcher.launch_supervisor(self.places, self.program, directory.name, directory)
        return directory

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "_start_launcher", lambda *_: pytest.fail("another launcher was needed"))
    monkeypatch.setattr(launcher, "ANSWER_SECONDS", 240.0)
    made = Terminal(tmp_path)
    yield made
    made.close()


def end_of(directory):
    return wait_for(lambda: read_json(directory / "exit.json"))


def test_supervisors_are_forked_one_after_the_other_on_the_terminal(terminal):
    for number in range(3):
        directory = terminal.launch(terminal.job(str(number), f"test -t 0 || echo said {number}; exit {number}"))
        keeper = read_json(directory / "supervisor.json")
        assert keeper["pid"]
        assert end_of(directory)["code"] == number
        assert (directory / "log").read_text() == f"said {number}\n"
    shown = os.read(terminal.fd, 65536).decode()
    assert "said 0" in shown
    assert "\033k2\033\\" in shown


@pytest.mark.parametrize("key", [b"\x1a", b"\x13"])
def test_no_key_stops_what_watches_over_the_limits(terminal, key):
    directory = terminal.launch(terminal.job("1", "yes | head -c 300000; sleep 60", timeout=2.0))
    time.sleep(0.3)
    terminal.keys(key)
    assert end_of(directory)["reason"] == "timeout"
    after = terminal.launch(terminal.job("2", "exit 5"))
    assert end_of(after)["code"] == 5


def test_ctrl_c_ends_the_attempt_and_not_the_launcher(terminal):
    directory = terminal.launch(terminal.job("1", "sleep 60"))
    wait_for(lambda: (directory / "log").exists())
    terminal.keys(b"\x03")
    assert end_of(directory)["reason"] == "stopped"
    assert end_of(terminal.launch(terminal.job("2", "exit 5")))["code"] == 5


def test_it_forks_only_for_who_is_still_there_and_each_job_once(terminal):
    directory = terminal.job("1", f"echo one; until test -e {terminal.places.home}/go; do sleep 0.1; done")
    os.kill(terminal.pid, signal.SIGSTOP)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as way:
        way.connect(str(terminal.places.launcher))
        way.sendall(json.dumps({"label": "1", "directory": str(directory)}).encode() + b"\n")
    os.kill(terminal.pid, signal.SIGCONT)
    terminal.launch(directory)
    with pytest.raises(WorkspaceError, match="another one has this job"):
        terminal.launch(directory)
    (terminal.places.home / "go").touch()
    assert end_of(directory) | {"seconds": 1} == {"code": 0, "reason": "exit", "seconds": 1}
    assert (directory / "log").read_text() == "one\n"


@pytest.mark.parametrize("line", [b"[]\n", b"{}\n", b"noise\n", b"", b'{"label": "x"}\n'])
def test_noise_does_not_end_it(terminal, line):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as way:
        way.connect(str(terminal.places.launcher))
        way.sendall(line)
    assert end_of(terminal.launch(terminal.job("1", "exit 5")))["code"] == 5


def test_one_of_another_program_is_not_asked_and_one_that_is_replaced_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "LAUNCHER_START_SECONDS", 0.2)
    begun = []
    monkeypatch.setattr(launcher, "_start_launcher", lambda *_: begun.append(1))
    made = Terminal(tmp_path)
    try:
        time.sleep(0.01)
        made.program.write_text("another")
        with pytest.raises(WorkspaceError):
            made.launch(made.job("1", "exit 5"))
        assert begun == [1]
    finally:
        made.close()


def test_a_launcher_without_a_terminal_will_do(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "_start_launcher", lambda *_: pytest.fail("another launcher was needed"))
    places = Places(tmp_path)
    places.make()
    program = tmp_path / "worker.pyz"
    program.write_text("x")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=REPO, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as run:
        try:
            wait_for(places.launcher.exists)
            directory = Terminal.job(type("T", (), {"places": places})(), "1", "exit 5")
            launcher.launch_supervisor(places, program, "1", directory)
            assert end_of(directory)["code"] == 5
        finally:
            run.kill()


def test_a_supervisor_that_is_stopped_the_moment_it_can_be_found_says_so(terminal):
    directory = terminal.job("1", "sleep 600")
    # In a process of its own: it takes over signals and orphans.
    code = "import os, sys; from pathlib import Path; from ocaptain.worker.supervise import supervise;"
    code += "supervise(Path(sys.argv[1]), lambda: os.kill(os.getpid(), 15))"
    subprocess.run([sys.executable, "-c", code, str(directory)], cwd=REPO, timeout=240, check=False)
    assert end_of(directory)["reason"] == "stopped"
