"""The captain on a machine that has nothing of Linux but its programs: as on macOS, drydock stands outside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ocaptain import process
from tests.helpers import HELD, OCAPTAIN, Sailor, run_task, wait_for, write_plan

pytestmark = pytest.mark.root

#: What macOS lacks, taken away before anything else of ours is imported; LOCAL_PEERCRED is not to be had here.
SITE = """
import ctypes, os, select, signal, socket
for module, names in (
    (os, ("pidfd_open", "O_PATH", "memfd_create", "sched_getaffinity", "posix_fallocate", "O_TMPFILE")),
    (signal, ("pidfd_send_signal",)),
    (socket, ("SO_PEERCRED", "AF_NETLINK")),
    (select, ("epoll",)),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
whole = ctypes.CDLL.__getattr__
def without_linux(self, name):
    if name in ("prctl", "syscall", "unshare", "setns"):
        raise AttributeError(name)
    return whole(self, name)
ctypes.CDLL.__getattr__ = without_linux
"""
#: ``/proc`` and ``/dev/shm`` are empty, and cannot be written.
INSIDE = 'for one in /proc /dev/shm; do mount -t tmpfs -o ro,mode=555 none "$one" || exit 99; done; exec "$@"'
START = "import pathlib, sys; from ocaptain.process import start_captain; start_captain(pathlib.Path(sys.argv[1]))"


def test_a_captain_without_linux_lands_pauses_and_ends(sailor, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    plan = write_plan(
        tmp_path / "plan", [run_task(f"{HELD}; echo a > a"), run_task("echo b > b", "1")], "test -f a; test -f b"
    )
    reach = sailor.drydock()
    user = Sailor(sailor.home)  # to whom drydock is a service somewhere, and no program of this machine's
    user.env |= {"SPRITES_TOKEN": reach.token, "SPRITES_API_URL": reach.url, "OCAPTAIN_PROVIDER": "sprites"}
    voyage = user.json("sail", plan, "-n", 1, "--json")["voyage"]
    directory = sailor.voyage(voyage)
    os.kill(process.captain_pid(directory), signal.SIGKILL)
    wait_for(lambda: not process.is_captain_running(directory))

    def elsewhere(*argv, code=0):
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", INSIDE, "sh", *map(str, argv)],
            env={**user.env, "PYTHONPATH": str(tmp_path / "site")},
            cwd=sailor.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == code, done
        return done.stdout + done.stderr

    assert elsewhere(sys.executable, "-c", "import os, pathlib; print(os.listdir('/proc'), hasattr(os, 'O_PATH'))") == (
        "[] False\n"
    )
    elsewhere(sys.executable, "-c", START, directory)
    assert (directory / "captain.pid").read_text().endswith(" -\n")
    assert process.is_captain_running(directory)
    pid = process.captain_pid(directory)
    assert pid is not None
    elsewhere(sys.executable, "-c", START, directory)  # one is in command already
    assert process.captain_pid(directory) == pid, (directory / "captain.log").read_text()
    assert "running" in elsewhere(OCAPTAIN, "status", voyage)
    assert "paus" in elsewhere(OCAPTAIN, "pause", voyage)
    sailor.go(f"{voyage}-ship-0")
    wait_for(lambda: user.json("status", voyage, "--json")["state"] == "paused")
    assert sailor.landed(voyage) == ["1"]
    assert "task 1" in elsewhere(OCAPTAIN, "why", voyage, "1").lower()
    elsewhere(OCAPTAIN, "logs", voyage)
    assert "FAULT" not in elsewhere(OCAPTAIN, "doctor")
    # The rest of the way needs Ansible, which on Linux needs /dev/shm.
    assert user.run("sail", "--resume", voyage, "--wait").code == 0
    assert sailor.landed(voyage) == ["1", "2"]
    assert user.run("sink", voyage, "-f").code == 0


def test_a_captain_that_was_killed_elsewhere_is_not_taken_for_a_later_process(tmp_path):
    """Its pid may be anybody's; the lock is not."""
    file = tmp_path / "captain.pid"
    file.write_text(f"{os.getpid()} -\n")
    assert process.captain_pid(tmp_path) is None
    with process.Lock(file) as lock:
        lock.acquire()
        assert process.captain_pid(tmp_path) == os.getpid()
    assert process.captain_pid(tmp_path) is None
