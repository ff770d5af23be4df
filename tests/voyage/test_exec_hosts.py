"""``exec`` on a host: by ssh, and as on any ship."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from ocaptain.ledger import Ledger
from tests.helpers import OCAPTAIN, Sailor, new_voyage, wait_for
from tests.voyage.hosts import Machines
from tests.voyage.test_hosts import way
from tests.voyage.test_shell_doctor import Terminal

pytestmark = pytest.mark.root
V = "voyage-0123456789ed"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    found = Machines(tmp_path_factory.mktemp("machines"))
    try:
        yield found.add("alpha", "deck", "/srv/deck"), found
    finally:
        found.end()


@pytest.fixture(scope="module")
def captain(machine, tmp_path_factory):
    """A voyage on a host whose ships have a place of their own; no agent and no captain."""
    host, machines = machine
    found = Sailor(tmp_path_factory.mktemp("captain"))
    found.env["OCAPTAIN_HOME"] = str(found.voyages)
    place = "/srv/deck/a place"
    host.inside(f"mkdir -p '{place}/voyage/workspace'; chown -R deck /srv/deck", check=False)
    directory = found.voyages / V
    directory.mkdir(parents=True)
    target = way(machines, host, home=place)
    new = new_voyage(
        id=V,
        provider="hosts",
        tasks=[],
        edges={},
        ships=[("ship-0", "alpha")],
        targets={"ship-0": target.model_dump_json()},
    )
    Ledger.create(directory / "ledger.db", new)
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("running")
        ledger.set_ship("ship-0", "idle")
    return found


def start(captain, *words, **more):
    argv = [OCAPTAIN, "exec", V, "ship-0", "--", *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(argv, env={**captain.env, **more}, **pipes, start_new_session=True)


def test_streams_words_place_and_exit_code(captain):
    words = ["", " ", "'\"`$(id)`\\", "a\nb\n", "--", "修复\udcff", "x" * 20_000]
    data = os.urandom(3_000_000)
    with start(captain, "bash", "-c", 'pwd; printf "%s\\0" "$@"; cat; echo err >&2; exit 7', "x", *words) as process:
        out, err = process.communicate(data, timeout=60)
    place = b"/srv/deck/a place/voyage/workspace\n"
    assert out == place + b"".join(os.fsencode(word) + b"\0" for word in words) + data
    assert (process.returncode, err) == (7, b"err\n")


def test_no_secret_of_ours_is_there(captain):
    with start(captain, "env", ANTHROPIC_API_KEY="canary-1", SPRITES_TOKEN="canary-2") as process:
        out, _ = process.communicate(timeout=240)
    assert b"PATH=" in out
    assert b"canary" not in out


def test_ctrl_c_reaches_the_command_and_a_second_one_kills_it(captain, machine):
    with start(captain, "sh", "-c", "trap 'echo caught' INT; echo ready; while :; do sleep 0.1; done") as process:
        assert process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: ssh gets it, too
        assert process.stdout.readline() == b"caught\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(240) == 137
    wait_for(lambda: not [line for line in machine[0].processes() if "caught" in line])


def test_on_a_terminal(captain):
    line = "stty size; test -t 0 && test -t 1 && cat"
    terminal = Terminal(captain, "exec", V, "ship-0", "bash", "-c", line, rows=33, cols=77)
    terminal.until(r"33 77\r\n")
    terminal.type("words\r")
    terminal.until(r"words\r\nwords\r\n")
    terminal.type("\x03")
    assert terminal.end() == 130


def test_a_connection_that_is_lost_is_255_and_said(captain, machine):
    with start(captain, "sh", "-c", "echo ready; exec sleep 294") as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        machine[0].end_sessions()
        assert process.wait(240) == 255
        said = process.stderr.read()
    assert b"exec on ship-0: exit code 255: the connection failed or was lost, and the command may go on there" in said
