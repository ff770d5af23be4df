"""Mirrors of real ships: the switch to a sprite, what ships cost meanwhile, and one that is lost and made again."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from ocaptain.sync.live import Live
from ocaptain.sync.place import Place, find_place
from tests.helpers import HELD, Sailor, run_task, wait_for
from tests.sync import fake_mutagen

IDLE = 3.0
MEGABYTES = 20


def put_agent(lone, sprite, version, script):
    """Put a program where Mutagen's agent of some version would be; return the command that runs it."""
    place = f".mutagen/agents/{version}"
    lone.inside(sprite, f"cd && mkdir -p {place} && printf '#!/bin/sh\\n{script}\\n' > {place}/mutagen-agent")
    lone.inside(sprite, f"cd && chmod 700 {place}/mutagen-agent")
    return f"{place}/mutagen-agent synchronizer"


def check_switch(lone, sprite, ssh):
    """Check that what Mutagen dials is a clean stream, with the command's own end."""

    def dial(command, **more):
        return subprocess.run([ssh, *fake_mutagen.OPTIONS, sprite, command], capture_output=True, check=False, **more)

    assert dial("uname -s -m").stdout.startswith(b"Linux ")
    both = dial(put_agent(lone, sprite, "0.18.91", "cat; echo said >&2; exit 42"), input=b"\0\xff\n")
    assert (both.returncode, both.stdout, both.stderr) == (42, b"\0\xff\n", b"said\n")
    data = os.urandom(1024 * 1024) * MEGABYTES
    echo = put_agent(lone, sprite, "0.18.92", "exec cat")
    assert dial(echo, input=data).stdout == data
    assert dial(".mutagen/agents/0.18.93/mutagen-agent synchronizer").returncode == 127
    ran = lone.inside(sprite, "ls ~")
    assert dial("touch foreign").returncode == 255
    assert lone.inside(sprite, "ls ~") == ran

    pipe = subprocess.PIPE
    with subprocess.Popen([ssh, *fake_mutagen.OPTIONS, sprite, echo], stdin=pipe, stdout=pipe) as client:
        client.stdin.write(b"a\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"a\n"
        client.send_signal(signal.SIGKILL)
    wait_for(lambda: not lone.inside(sprite, "pgrep -x cat"))
    with subprocess.Popen([ssh, *fake_mutagen.OPTIONS, sprite, echo], stdin=pipe, stdout=pipe) as client:
        client.stdin.write(b"a\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"a\n"
        lone.inside(sprite, "pkill -KILL -x cat")
        assert client.wait() == 128 + signal.SIGKILL


@pytest.mark.slow
def test_a_ship_with_a_mirror_sleeps_and_one_that_is_lost_leaves_it(tmp_path, plan):
    if os.geteuid() != 0:
        pytest.skip("drydock needs root")
    lone = Sailor(tmp_path / "lone")
    lone.home.mkdir()
    fake = fake_mutagen.install(tmp_path / "bin").parent
    lone.env["PATH"] = f"{fake}:{lone.env['PATH']}"
    first = run_task(f"echo $OCAPTAIN_ATTEMPT > made; {HELD}; echo x > a")
    try:
        assert lone.run("drydock", "start", "--idle", IDLE, "--cold", "0").code == 0
        voyage = lone.json("sail", plan([first, run_task("echo y > b", hold=True)]), "-n", "1", "--json")["voyage"]
        sprite, directory = f"{voyage}-ship-0", lone.voyage(voyage)
        mirror = directory / "ships/ship-0/workspace"

        def state():
            live = Live.decode((directory / "mirrors.json").read_bytes())
            return live.health("ship-0", live.at).state

        def status():
            return lone.api("GET", f"/v1/sprites/{sprite}").json()["status"]

        def made():
            return (mirror / "made").read_text() if (mirror / "made").exists() else ""

        wait_for(lambda: made() == "1\n")
        assert (mirror / "made").stat().st_mode & 0o777 == 0o444
        wait_for(lambda: state() == "watching")
        ssh = Place(find_place(directory)).programs / "ssh"
        check_switch(lone, sprite, ssh)

        lone.api("DELETE", f"/v1/sprites/{sprite}")
        (kept,) = wait_for(lambda: list((directory / "ships").glob("ship-0.lost-*")))
        assert (kept / "workspace/made").read_text() == "1\n"
        ref = f"refs/ocaptain/saved/ship-0/{kept.name.rpartition('-')[2]}"
        assert lone.git(voyage, "show", f"{ref}:made") == "1"
        lone.json("sail", "--resume", voyage, "--json")
        wait_for(lambda: made() == "2\n")
        assert (kept / "workspace/made").read_text() == "1\n", "and nothing of it is wiped"

        lone.go(sprite)
        wait_for(lambda: lone.landed(voyage) == ["1"])
        wait_for(lambda: status() == "warm")
        wait_for(lambda: state() == "paused")
        awake = lone.metrics()["awake_seconds"][sprite]
        lone.api("POST", "/drydock/clock", {"advance": 600})
        for _ in range(3):
            assert subprocess.run([ssh, sprite, "uname -s -m"], check=False).returncode == 255
        assert status() == "warm"
        assert lone.metrics()["awake_seconds"][sprite] == awake
        lone.json("approve", voyage, "2", "--json")
        wait_for(lambda: lone.json("status", voyage, "--json")["state"] == "complete")
        assert lone.run("sink", voyage, "--force").code == 0
        assert find_place(directory) is None
        assert not (directory / "mutagen").exists()
    finally:
        lone.run("sink", "--all", "--force", "--abandon")
        lone.stop_drydock()
    assert lone.leftovers() == []
    assert not [
        line for line in _processes() if str(fake) in line or ("sync/thin.py" in line and str(tmp_path) in line)
    ]


def _processes():
    found = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True)
    return found.stdout.splitlines()
