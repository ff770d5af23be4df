"""``exec`` and ``open`` on a real ship: streams, exit codes, signals and terminals, as if the command ran here."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from ocaptain.ledger import Ledger
from ocaptain.locks import Lock
from ocaptain.process import captain_lock_path
from tests.helpers import OCAPTAIN, new_voyage, wait_for
from tests.voyage.test_shell_doctor import Terminal

pytestmark = pytest.mark.root
V = "voyage-0123456789ee"
SPRITES = [(f"ship-{n}", f"{V}-ship-{n}") for n in range(2)]


@pytest.fixture(scope="module")
def voyage(fleet):
    """A voyage of one ship that exists and one that does not; no agent and no captain."""
    directory = fleet.voyages / V
    directory.mkdir(parents=True)
    Ledger.create(directory / "ledger.db", new_voyage(id=V, tasks=[], edges={}, ships=SPRITES))
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("running")
        for ship, _ in SPRITES:
            ledger.set_ship(ship, "idle")
    assert fleet.api("POST", "/v1/sprites", {"name": SPRITES[0][1]}).status_code < 300
    yield V
    fleet.api("DELETE", f"/v1/sprites/{SPRITES[0][1]}")
    shutil.rmtree(directory)  # tests of another module may come in between


def run(fleet, *words, data=b"", before=(), **more):
    argv = [OCAPTAIN, "exec", *before, V, "ship-0", "--", *words]
    options = {"env": fleet.env, "capture_output": True, "timeout": 120, **more}
    return subprocess.run(argv, input=data, check=False, **options)


def test_three_streams_and_an_exit_code(fleet, voyage):
    done = run(fleet, "sh", "-c", "cat; echo err >&2; exit 7", data=b"\x00\xff\r\n\x04in")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"\x00\xff\r\n\x04in", b"err\n")


def test_every_word_arrives(fleet, voyage):
    words = ["", " ", "two  words", "'\"`$(id)`\\", "a\nb\n", "--", "-n", "*", "修复\udcff", "x" * 100_000]
    done = run(fleet, "printf", "%s\\0", *words)
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in words)
    assert (done.returncode, done.stderr) == (0, b"")


def test_without_dashes_and_as_the_only_ship_s_sprite(fleet, voyage):
    argv = [OCAPTAIN, "exec", f"{V}-ship-0", "echo", "--json", "-t"]
    done = subprocess.run(argv, env=fleet.env, capture_output=True, check=False, timeout=240, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, b"--json -t\n")


def test_it_runs_where_the_agent_works(fleet, voyage):
    assert run(fleet, "pwd").stdout == b"/home/sprite\n"
    assert run(fleet, "mkdir", "-p", "voyage/workspace").returncode == 0
    assert run(fleet, "pwd").stdout == b"/home/sprite/voyage/workspace\n"
    assert run(fleet, "id", "-un").stdout == b"sprite\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["no-such-command"], 127, b"not found"),
        (["/etc/passwd"], 126, b"denied"),
        (["sh", "-c", "kill -9 $$"], 137, b""),
        (["false"], 1, b""),
    ],
)
def test_exit_codes(fleet, voyage, words, code, said):
    done = run(fleet, *words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_a_hundred_megabytes_both_ways(fleet, voyage, tmp_path):
    block = random.Random(7).randbytes(1024 * 1024)
    source, copy = tmp_path / "source", tmp_path / "copy"
    with source.open("wb") as file:
        for _ in range(100):
            file.write(block)
    with source.open("rb") as stdin, copy.open("wb") as stdout:
        argv = [OCAPTAIN, "exec", V, "ship-0", "--", "cat"]
        code = subprocess.run(argv, env=fleet.env, stdin=stdin, stdout=stdout, check=False, timeout=240).returncode
    assert code == 0
    assert copy.stat().st_size == 100 * 1024 * 1024
    assert [hashlib.sha256(path.read_bytes()).digest() for path in (source, copy)] == [
        hashlib.sha256(block * 100).digest()
    ] * 2


def test_input_that_nobody_reads_and_output_that_nobody_wants(fleet, voyage):
    assert run(fleet, "true", data=b"x" * 3_000_000).returncode == 0
    line = f"{OCAPTAIN} exec {V} ship-0 -- yes | head -n 2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=fleet.env, capture_output=True, check=False, timeout=240)
    assert (done.stdout, done.stderr) == (b"y\ny\n141\n", b"")
    wait_for(lambda: run(fleet, "sh", "-c", "pgrep -x yes || echo none").stdout == b"none\n")


def start(fleet, *words, **more):
    argv = [OCAPTAIN, "exec", V, "ship-0", "--", *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(argv, env=fleet.env, **{**pipes, **more})


def test_ctrl_c_reaches_the_command_and_its_own_answer_comes_back(fleet, voyage):
    with start(fleet, "sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done") as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(240) == 5


def test_a_second_ctrl_c_gives_it_up(fleet, voyage):
    line = "trap 'echo told' INT; echo ready; while :; do sleep 0.1; done; : number-297"
    with start(fleet, "sh", "-c", line) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"told\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(240) == 130
        assert process.stderr.read() == b"interrupted: the command on ship-0 is ended\n"
    wait_for(lambda: run(fleet, "sh", "-c", "pgrep -f '[n]umber-297' || echo none").stdout == b"none\n")


def test_a_process_that_is_killed_leaves_no_command_behind(fleet, voyage):
    with start(fleet, "sh", "-c", "echo ready; sleep 296") as process:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    wait_for(lambda: run(fleet, "sh", "-c", "pgrep -f '[s]leep 296' || echo none").stdout == b"none\n")


def test_the_end_of_the_input_is_passed_on_while_output_goes_on(fleet, voyage):
    with start(fleet, "sh", "-c", "echo first; read -r line; echo $line; cat; echo end") as process:
        assert process.stdout.readline() == b"first\n"
        process.stdin.write(b"second\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"second\n"
        process.stdin.close()
        assert process.stdout.read() == b"end\n"
        assert process.wait(240) == 0


def test_no_secret_of_ours_is_there(fleet, voyage):
    secret = {"SPRITES_TOKEN": "canary-sprites", "ANTHROPIC_API_KEY": "canary-key", "GH_TOKEN": "canary-gh"}
    show = "env; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"
    done = run(fleet, "sh", "-c", show, env={**fleet.env, **secret})
    token = (fleet.home / "state/ocaptain/drydock/token").read_bytes()
    assert b"PATH=" in done.stdout
    assert b"canary" not in done.stdout
    assert token not in done.stdout


def test_on_a_terminal(fleet, voyage):
    terminal = Terminal(
        fleet, "exec", V, "ship-0", "bash", "-c", "stty size; test -t 0 && test -t 1 && cat", rows=33, cols=77
    )
    terminal.until(r"33 77\r\n")
    terminal.type("words\r")
    terminal.until(r"words\r\nwords\r\n")
    terminal.type("\x03")
    assert terminal.end() == 130


def test_the_size_of_a_terminal_follows_ours(fleet, voyage):
    terminal = Terminal(
        fleet,
        "exec",
        V,
        "ship-0",
        "--",
        "bash",
        "-c",
        "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done",
    )
    terminal.until("ready")
    terminal.resize(20, 61)
    os.kill(terminal.process.pid, signal.SIGWINCH)
    terminal.until("20 61")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == 130


def test_a_terminal_where_there_is_none(fleet, voyage):
    done = run(
        fleet, "sh", "-c", "test -t 1 && stty size", before=("-t",), env={**fleet.env, "COLUMNS": "99", "LINES": "44"}
    )
    assert (done.returncode, done.stdout) == (0, b"44 99\r\n")
    assert run(fleet, "sh", "-c", "test -t 1").returncode == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([V, "ship-9", "--", "ls"], 2, "no ship 'ship-9'; it has ship-0, ship-1"),
        ([V, "--", "ls"], 2, "which ship of"),
        ([V, "ship-1", "--", "ls"], 255, "ship-1 does not exist any more; see `ocaptain status`"),
        ([V, "ship-0"], 2, "the form is: ocaptain exec [ID] SHIP -- COMMAND…"),
    ],
)
def test_what_cannot_be_reached(fleet, voyage, words, code, said):
    done = fleet.run("exec", *words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def fetch(url, path):
    """Return what a browser gets: a name below localhost is this machine, whatever a name server says."""
    address = httpx.URL(url)
    return httpx.get(address.copy_with(host="127.0.0.1", path=path), headers={"Host": address.netloc.decode()})


def test_open_serves_a_port_until_its_ship_sleeps(fleet, voyage):
    with Lock(captain_lock_path(fleet.voyages / V)) as captain:
        assert captain.acquire_within(10)  # as one that is in command
        done = fleet.run("open", V, "ship-0", 8123)
        assert (done.code, done.out, "port 8123" in done.err) == (1, "", True), done
        fleet.inside(SPRITES[0][1], "mkdir -p ~/www && head -c 3000000 /dev/urandom > ~/www/big && echo mine > ~/www/a")
        serve = "cd ~/www && setsid python3 -m http.server 8123 --bind 127.0.0.1 > /dev/null 2>&1 < /dev/null &"
        fleet.inside(SPRITES[0][1], f"{serve} sleep 1")
        wait_for(lambda: fleet.inside(SPRITES[0][1], "curl -sf 127.0.0.1:8123/a || true").strip() == "mine")
        with fleet.popen("open", V, "ship-0", 8123) as process:
            url = process.stdout.readline().strip()
            assert re.fullmatch(r"http://ship-0\.localhost:\d+", url), process.stderr.read()
            assert "by the agent on ship-0: give it no password" in process.stderr.readline()
            port = int(url.rpartition(":")[2])
            addresses = Path("/proc/net/tcp").read_text().split()
            assert f"0100007F:{port:04X}" in addresses  # and at no other address of this machine
            assert f"00000000:{port:04X}" not in addresses
            sizes = {len(fetch(url, "/big").content) for _ in range(3)}
            assert (fetch(url, "/a").text, sizes) == ("mine\n", {3_000_000})
            with Ledger(fleet.voyages / V / "ledger.db") as ledger:
                ledger.take_command()
                ledger.set_ship("ship-0", "asleep")
            assert process.wait(120) == 1
            assert "the preview has ended: ship-0 is asleep" in process.stderr.read()
        done = fleet.run("open", V, "ship-0", 8123)
        assert (done.code, done.out, "ship-0 is asleep, and a preview would wake it" in done.err) == (2, "", True)
        with Ledger(fleet.voyages / V / "ledger.db") as ledger:
            ledger.take_command()
            ledger.set_ship("ship-0", "idle")
        with fleet.popen("open", V, "ship-0", 8123) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 130
            assert "port 8123 of ship-0 is not served here any more" in process.stderr.read()
        done = fleet.run("open", V, "ship-1", 8123)
        assert (done.code, "ship-1 does not exist any more" in done.err) == (1, True), done
    done = fleet.run("open", V, "ship-0", 8123)
    assert (done.code, "the voyage does not sail" in done.err) == (2, True), done


def test_a_sunk_voyage_has_no_ships(fleet, voyage):
    sunk = "voyage-0123456789ef"
    (fleet.voyages / sunk).mkdir()
    Ledger.create(fleet.voyages / sunk / "ledger.db", new_voyage(id=sunk, tasks=[], edges={}, ships=[("ship-0", "x")]))
    with Ledger(fleet.voyages / sunk / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("sunk")
    done = fleet.run("exec", sunk, "ship-0", "--", "ls")
    assert (done.code, f"ocaptain clone {sunk}" in done.err) == (2, True)


def test_a_ship_that_sleeps_is_woken_and_that_is_said(lone):
    """It is frozen, not slow: a command goes on as soon as it is awake."""
    name = f"{V}-ship-0"
    lone.stop_drydock()
    lone.json("drydock", "start", "--idle", "1s")
    directory = lone.voyages / V
    directory.mkdir(parents=True)
    Ledger.create(directory / "ledger.db", new_voyage(id=V, tasks=[], edges={}, ships=SPRITES[:1]))
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("running")
        ledger.set_ship("ship-0", "asleep")
    assert lone.api("POST", "/v1/sprites", {"name": name}).status_code < 300
    wait_for(lambda: lone.api("GET", f"/v1/sprites/{name}").json()["status"] in {"warm", "cold"})
    done = lone.run("exec", V, "ship-0", "--", "echo", "here")
    assert (done.code, done.out, done.err) == (0, "here\n", "ship-0 is asleep: it is woken\n")


def test_a_connection_that_is_lost_is_255_and_said(lone):
    name = f"{V}-ship-0"
    directory = lone.voyages / V
    directory.mkdir(parents=True)
    Ledger.create(directory / "ledger.db", new_voyage(id=V, tasks=[], edges={}, ships=SPRITES[:1]))
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("running")
        ledger.set_ship("ship-0", "idle")
    assert lone.api("POST", "/v1/sprites", {"name": name}).status_code < 300
    with start(lone, "sh", "-c", "echo ready; sleep 295", text=True) as process:
        assert process.stdout.readline() == "ready\n"
        lone.api("DELETE", f"/v1/sprites/{name}")
        code = process.wait(240)
        said = process.stderr.read()
    assert (code, "ship-0 was lost; it is not known whether the command has ended" in said) in {
        (255, True),
        (137, False),
    }
    lone.stop_drydock()
    done = lone.run("exec", V, "ship-0", "--", "true")
    assert (done.code, "drydock is not running" in done.err) == (255, True)
