"""``shell`` on a real pty, ``doctor`` on good and bad machines."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from ocaptain.voyage.doctor import judge_disk_space, judge_file_modes, judge_git, judge_limit, judge_open_files
from tests.helpers import OCAPTAIN, PATIENCE, run_task, wait_for


class Terminal:
    """A user at a terminal of a given size."""

    def __init__(self, sailor, *arguments, rows=30, cols=100):
        self.leader, follower = pty.openpty()
        self.resize(rows, cols)
        self.before = termios.tcgetattr(follower)
        self.follower = follower
        self.seen = ""
        self.all = ""
        self.process = subprocess.Popen(
            [OCAPTAIN, *arguments],
            env={**sailor.env, "TERM": "xterm"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
            cwd=sailor.home,
            start_new_session=True,
        )

    def resize(self, rows, cols):
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text):
        os.write(self.leader, text.encode())

    def until(self, pattern, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, self.seen
            if select.select([self.leader], [], [], 0.1)[0]:
                more = os.read(self.leader, 65536).decode(errors="replace")
                self.seen += more
                self.all += more
        self.seen = self.seen[found.end() :]
        return found

    def end(self):
        code = self.process.wait(240)
        assert termios.tcgetattr(self.follower) == self.before, "the terminal is not as it was"
        os.close(self.leader)
        os.close(self.follower)
        return code


@pytest.fixture(scope="module")
def voyage(fleet, tmp_path_factory):
    from tests.helpers import write_plan

    tasks = [
        run_task("echo I am an agent; sleep 600", pin="ship-0"),
        run_task(r"printf '\033]0;owned\007\033]52;c;eA==\007so am I\n'; sleep 600", pin="ship-1"),
    ]
    directory = write_plan(tmp_path_factory.mktemp("plan"), tasks)
    found = fleet.json("sail", directory, "-n", "2", "--new", "--json")["voyage"]
    wait_for(lambda: all(task["owner"] for task in fleet.json("tasks", found, "--json")["tasks"]))
    yield found
    fleet.run("sink", found, "--force", "--abandon")


root = pytest.mark.root


@root
def test_a_raw_shell(fleet, voyage):
    terminal = Terminal(fleet, "shell", voyage, "ship-0", "--raw", rows=33, cols=77)
    terminal.until("[$] ")
    terminal.type("stty size; id -un; pwd\r")
    terminal.until(r"33 77\r\n")
    terminal.until(r"sprite\r\n/home/sprite/voyage/workspace\r\n")
    terminal.resize(20, 60)
    os.kill(terminal.process.pid, signal.SIGWINCH)
    terminal.type("until stty size | grep '20 60'; do sleep 0.1; done\r")
    terminal.until(r"20 60\r\n")
    terminal.type("printf 'a\\033]52;c;eA==\\007b\\033]2;x\\007c\\n'\r")
    terminal.until(r"abc\r\n")
    terminal.type("sh -c 'echo runs-$((1 + 1)); exec sleep 600'\r")
    terminal.until("runs-2")
    terminal.type("\x03")
    terminal.type("echo interrupted=$?\r")
    terminal.until("interrupted=130")
    terminal.type("exit 7\r")
    assert terminal.end() == 7


@root
def test_attached_to_the_agents_tmux(fleet, voyage):
    terminal = Terminal(fleet, "shell", voyage, "ship-1")
    terminal.until("ship-1: read-only, --write lets you type; Ctrl-b d leaves it")
    terminal.until("so am I")
    terminal.type("\x03")  # it ends nothing
    time.sleep(0.2)
    terminal.type("\x02d")
    terminal.until("detached")
    assert terminal.end() == 0
    assert not re.search("\x1b[]Pk_^]", terminal.all)
    assert {task["status"] for task in fleet.json("tasks", voyage, "--json")["tasks"]} == {"in_progress"}


@root
def test_a_shell_whose_terminal_goes_away_ends(fleet, voyage):
    terminal = Terminal(fleet, "shell", voyage, "ship-0", "--raw")
    terminal.until("[$#]")
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.end() == 130


@root
def test_commands_on_standard_input(fleet, voyage):
    sprite = ["shell", voyage, "ship-0", "--raw"]
    done = subprocess.run(
        [OCAPTAIN, *sprite],
        input=b"echo out; echo err >&2; head -c 300000 /dev/zero | tr '\\0' x; exit 3",
        env=fleet.env,
        capture_output=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (3, b"err\n")
    assert done.stdout == b"out\n" + b"x" * 300000


@root
@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["{voyage}"], "which ship"),
        (["{voyage}", "ship-9"], "no ship 'ship-9'"),
        (["nope"], "no ship 'nope'"),
        (["voyage-nope"], "no voyage"),
        (["{voyage}", "ship-0"], "terminal"),
    ],
)
def test_wrong_ships_are_exit_2(fleet, voyage, arguments, part):
    done = fleet.run("shell", *[word.format(voyage=voyage) for word in arguments])
    assert (done.code, part in done.err) == (2, True), done.err


@root
def test_a_ship_that_runs_no_agent_says_so(fleet, plan):
    tasks = [run_task("sleep 60", pin="ship-0")]
    voyage = fleet.json("sail", plan(tasks), "-n", "2", "--new", "--json")["voyage"]
    terminal = Terminal(fleet, "shell", voyage, "ship-1")
    terminal.until("no agent's terminal is open")
    assert terminal.end() == 1
    fleet.run("sink", voyage, "--force")


# -- doctor -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "status"),
    [("git version 2.39.5", "ok"), ("git version 2.37.1", "fault"), ("git version 3.0", "ok"), (None, "fault")],
)
def test_git(said, status):
    assert judge_git(said).status == status


@pytest.mark.parametrize(
    ("running", "limit", "status"), [(0, 3, "ok"), (2, 3, "warning"), (3, 3, "fault"), (9, None, "ok")]
)
def test_the_ship_limit(running, limit, status):
    assert judge_limit(running, limit, 3).status == status


def test_room_files_and_privacy():
    assert [judge_disk_space("/x", size).status for size in (0, 2**30, 2**40)] == ["fault", "warning", "ok"]
    assert [judge_open_files(count, 50).status for count in (256, 1024)] == ["warning", "ok"]
    assert [judge_file_modes([("/x/.env", mode)]).status for mode in (0o100600, 0o100644)] == ["ok", "warning"]


@root
def test_a_good_machine(fleet):
    found = fleet.json("doctor", "--json")
    assert found["ok"] is True
    assert {check["name"] for check in found["checks"]} >= {"git", "ansible", "drydock", "provider", "home", "room"}
    assert "FAULT" not in fleet.run("doctor").out


@root
@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"OCAPTAIN_PROVIDER": "moon"}, "configuration"),
        (
            {"SPRITES_TOKEN": "canary-x", "SPRITES_API_URL": "http://127.0.0.1:9", "OCAPTAIN_API_TIMEOUT": "2"},
            "provider",
        ),
        ({"OCAPTAIN_PROVIDER": "sprites"}, "provider"),
        ({"OCAPTAIN_HOME": "/dev/null/x"}, "home"),
        ({"XDG_STATE_HOME": "/var/lib/x"}, "drydock"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_make_sail_fail_is_exit_1_with_a_remedy(fleet, environment, name):
    done = fleet.run("doctor", "--json", env=environment)
    assert done.code == 1
    (fault,) = [check for check in json.loads(done.out)["checks"] if check["status"] == "fault"]
    assert fault["name"] == name
    assert fault["remedy"]
    assert "canary-x" not in done.out + done.err
    shown = fleet.run("doctor", env=environment)
    assert (shown.code, f"FAULT\t{name}\t" in shown.out) == (1, True)


@root
def test_a_git_that_is_too_old(fleet, tmp_path):
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.20.1\n")
    (tmp_path / "git").chmod(0o755)
    done = fleet.run("doctor", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert (done.code, "2.38 or newer" in done.out) == (1, True)
