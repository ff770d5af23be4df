"""``exec``: which words are ours, and which are the command's."""

from __future__ import annotations

import base64
import os
import signal
import subprocess

import pytest

from ocaptain.captain.transport.target import SshTarget, terminal_argv
from ocaptain.cli.exec_words import ExecArguments, parse_exec
from ocaptain.cli.remote import _START, host_line, pack_words
from ocaptain.cli.remote_host import environment_of_ssh, signal_line
from ocaptain.errors import UsageError
from ocaptain.ledger import Ledger
from tests.helpers import OCAPTAIN, new_voyage, wait_for

V = "voyage-0123456789ab"
HOSTILE = [
    "",
    " ",
    "two  words",
    "'\"`$(id)`\\",
    "a\nb\n\n",
    "--",
    "-n",
    "*",
    "修复\udcff",
    "=x",
    "~",
    "!",
    "x" * 100_000,
]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["ship-0", "--", "ls", "-la"], (None, "ship-0", ["ls", "-la"])),
        (["ship-0", "ls", "-la"], (None, "ship-0", ["ls", "-la"])),
        ([V, "ship-0", "--", "ls"], (V, "ship-0", ["ls"])),
        ([V, "ship-0", "ls"], (V, "ship-0", ["ls"])),
        ([V, "--", "ls"], (V, None, ["ls"])),
        (["voyage-01", "ship-0", "ls"], ("voyage-01", "ship-0", ["ls"])),
        ([f"{V}-ship-1", "ls"], (V, "ship-1", ["ls"])),
        ([f"{V}-ship-1", "--", "ls", "--", "x"], (V, "ship-1", ["ls", "--", "x"])),
        (["ship-0", "grep", "--", "-x", "file"], (None, "ship-0", ["grep", "--", "-x", "file"])),
        (["ship-0", "--", "--", "x"], (None, "ship-0", ["--", "x"])),
        (["ship-0", "--", "printf", "", " ", "--json"], (None, "ship-0", ["printf", "", " ", "--json"])),
        (["host.example", "uname"], (None, "host.example", ["uname"])),
    ],
)
def test_words(words, meant):
    assert parse_exec(words) == ExecArguments(meant[0], meant[1], tuple(meant[2]))


@pytest.mark.parametrize(
    "words",
    [[], ["ship-0"], ["ship-0", "--"], [V], [V, "ship-0"], [V, "--"], [V, "ls"], ["", "ls"], ["ship-0", "--", ""]],
)
def test_without_a_ship_or_a_command_the_form_is_said(words):
    with pytest.raises(UsageError) as caught:
        parse_exec(words)
    assert "ocaptain exec [ID] SHIP -- COMMAND…" in str(caught.value) or "is empty" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is no command to run; the form is: ocaptain exec [ID] SHIP -- COMMAND…"),
        (("ship-0",), "there is no command"),
        (("--nope", "ship-0", "ls"), "No such option"),
        (("voyage-ffff", "ship-0", "--", "x", "--json"), "voyage-ffff"),
        (("voyage-ffff", "ship-0", "x", "--json"), "voyage-ffff"),
    ],
)
def test_wrong_input_is_exit_2_and_nothing_on_standard_output(words, said):
    done = subprocess.run([OCAPTAIN, "exec", *words], capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def run_there(argv, data=b"", *, as_argument=False):
    """Run what a ship runs, here."""
    words = pack_words(argv)
    line = b"" if as_argument else words.encode() + b"\n"
    start = ["bash", "-c", _START, "bash", words if as_argument else ""]
    return subprocess.run(start, input=line + data, capture_output=True, check=False, timeout=240)


@pytest.mark.parametrize("as_argument", [False, True])
def test_words_arrive_as_they_are_and_the_input_behind_them(as_argument):
    words = HOSTILE[:-1] if as_argument else HOSTILE
    done = run_there(["bash", "-c", 'printf "%s\\0" "$@"; cat', "x", *words], b"\0in\nput", as_argument=as_argument)
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in words) + b"\0in\nput"
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["no-such-command"], 127),
        (["/"], 126),
        (["bash", "-c", "exit 7"], 7),
        (["-x"], 127),
        (["sh", "-c", "kill -9 $$"], -9),
    ],
)
def test_the_exit_code_is_the_command_s(argv, code):
    assert run_there(argv).returncode == code


def test_the_command_has_no_child_and_no_variable_of_ours():
    done = run_there(["bash", "-c", "cat /proc/$$/task/*/children; echo; env; exit 0"])
    children, *rest = done.stdout.decode().splitlines()
    assert len(children.split()) <= 1, "at most `cat` itself"
    assert not [one for one in rest if one.startswith(("words=", "line=", "home="))]
    assert base64.b64encode(b"bash\0").decode()[:4] not in "\n".join(rest)


# -- hosts --------------------------------------------------------------------------------------------


def test_words_reach_a_host_through_two_shells():
    target = SshTarget(host="h", home="/tmp")
    argv = terminal_argv(target, host_line(["printf", "%s|", *HOSTILE[:-1]]), is_terminal=False)
    there = " ".join(argv[argv.index("--") + 2 :])  # sshd gives it to the user's shell
    done = subprocess.run(["sh", "-c", os.fsencode(there)], capture_output=True, check=False, timeout=240)
    assert done.stdout == b"".join(os.fsencode(word) + b"|" for word in HOSTILE[:-1])


def test_ssh_gets_no_secret_of_ours():
    given = {
        "SPRITES_TOKEN": "x",
        "ANTHROPIC_API_KEY": "x",
        "GH_TOKEN": "x",
        "OCAPTAIN_HOME": "y",
        "SSH_AUTH_SOCK": "z",
    }
    assert environment_of_ssh(given) == {"OCAPTAIN_HOME": "y", "SSH_AUTH_SOCK": "z"}


def test_an_interrupt_ends_all_that_a_command_started_and_nothing_else():
    marked = {**os.environ, "OCAPTAIN_EXEC": "0123456789abcdef"}
    command = subprocess.Popen(["sh", "-c", "sleep 300 & wait"], env=marked)
    other = subprocess.Popen(["sleep", "300"], env={**marked, "OCAPTAIN_EXEC": "0123456789abcdef0"})
    try:
        while (
            "sleep"
            not in subprocess.run(
                ["ps", "--ppid", str(command.pid)], capture_output=True, text=True, check=False
            ).stdout
        ):
            assert command.poll() is None
        subprocess.run(["sh", "-c", signal_line("0123456789abcdef", "TERM")], check=True, timeout=240)
        assert command.wait(240) == -15
        assert other.poll() is None
    finally:
        for one in (command, other):
            one.kill()
            one.wait()


def test_the_third_interrupt_ends_a_connection_on_which_nothing_helps(tmp_path):
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\ncase $* in *"kill -"*) echo >> {tmp_path}/told;; *) echo up; exec sleep 300;; esac\n')
    ssh.chmod(0o755)
    directory = tmp_path / "voyages" / V
    directory.mkdir(parents=True)
    target = SshTarget(host="h", executable=str(ssh)).model_dump_json()
    ships, targets = [("ship-0", "h")], {"ship-0": target}
    new = new_voyage(id=V, provider="hosts", tasks=[], edges={}, ships=ships, targets=targets)
    Ledger.create(directory / "ledger.db", new)
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("running")
    told = tmp_path / "told"
    told.touch()
    run = subprocess.Popen(
        [OCAPTAIN, "exec", "ship-0", "--", "sleep", "300"],
        env={**os.environ, "OCAPTAIN_HOME": str(tmp_path / "voyages")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stdout.readline() == "up\n"
        for count in (1, 2):
            run.send_signal(signal.SIGINT)
            wait_for(lambda count=count: len(told.read_text()) == count)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=240)
    finally:
        run.kill()
    assert (run.returncode, said) == (137, "exec on ship-0: given up; the command may go on there\n")
