"""What the end of an attempt means: tables of cases."""

from __future__ import annotations

import subprocess

import pytest

from ocaptain.agents.facts import AttemptVerdict
from ocaptain.captain.decide.outcome import (
    MAX_LOSSES,
    MAX_WAITS,
    Decision,
    decide_after_command,
    decide_after_ending,
    decide_after_loss,
    pause_seconds,
)
from ocaptain.protocol.messages import Outcome


@pytest.mark.parametrize(
    ("ending", "waits", "decision"),
    [
        (AttemptVerdict("failed", "x"), 0, Decision("fail", "x", same_ship=True)),
        (AttemptVerdict("hopeless", "x"), 0, Decision("fail", "x", final=True)),
        (AttemptVerdict("denied", "x"), 0, Decision("return", "x", "denied", credential_refused=True)),
        (AttemptVerdict("busy", "x"), 0, Decision("return", "x; retrying in 5 s", "waited", same_ship=True, pause=5.0)),
        (
            AttemptVerdict("busy", "x", wait=42.0),
            1,
            Decision("return", "x; retrying in 42 s", "waited", same_ship=True, pause=42),
        ),
        (AttemptVerdict("busy", "x"), MAX_WAITS, Decision("fail", f"x (gave up after {MAX_WAITS} retries)")),
    ],
)
def test_after_an_ending(ending, waits, decision):
    assert decide_after_ending(ending, waits) == decision


@pytest.mark.parametrize(
    ("losses", "decision"),
    [
        (0, Decision("return", "x")),
        (MAX_LOSSES - 1, Decision("return", "x")),
        (MAX_LOSSES, Decision("fail", f"x; the task was lost {MAX_LOSSES} times before")),
    ],
)
def test_after_a_loss(losses, decision):
    assert decide_after_loss("x", losses) == decision


@pytest.mark.parametrize(
    ("waits", "asked", "pause"),
    [
        (0, 0.0, 5.0),
        (1, 0.0, 10.0),
        (2, 0.0, 20.0),
        (0, 42.0, 42.0),
        (0, 3600.0, 300.0),
        (9, 0.0, 300.0),
        (60, 1.0, None),
    ],
)
def test_how_long_a_busy_service_is_waited_for(waits, asked, pause):
    assert pause_seconds(waits, asked) == pause


def outcome_of(directory, line: str) -> Outcome:
    """Run a line as a ship does, for the words of this machine's own shells."""
    done = subprocess.run(
        ["bash", "-c", line], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return Outcome(code=done.returncode, reason="exit", seconds=0.1, tail=done.stdout)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("no-such-agent --stdin", 127, "`no-such-agent` is not on the ship: commit it or install it by a role"),
        ("echo a; echo b | no-such-agent", 127, "`no-such-agent` is not on the ship"),
        ("./missing.sh", 127, "`./missing.sh` is not on the ship"),
        ("exec no-such-agent", 127, "`no-such-agent` is not on the ship"),
        ("env no-such-agent", 127, "`no-such-agent`, which env runs, is not on the ship"),
        ("bash inner.sh", 127, "`no-such-tool`, which inner.sh runs in its line 2, is not on the ship"),
        ("sh inner.sh", 127, "`no-such-tool`, which inner.sh runs in its line 2, is not on the ship"),
        ("./inner.sh", 126, "`./inner.sh` cannot be executed (Permission denied): give it its executable bit"),
        ("no-such-agent 2> /dev/null", 127, "by which a shell says that a program is not there: if it is not on"),
        ("echo done; exit 127", 127, "by which a shell says that a program is not there: if it is not on the ship"),
        ("exit 126", 126, "by which a shell says that a program is there and cannot be executed"),
    ],
)
def test_what_is_not_on_the_ship_is_not_tried_again(tmp_path, line, code, said):
    (tmp_path / "inner.sh").write_text("echo first\nno-such-tool\n")
    outcome = outcome_of(tmp_path, line)
    assert outcome.code == code
    decision = decide_after_command(outcome)
    assert decision.final
    assert said in decision.reason
    assert "commit it or install it by a role (voyage.json's `setup`" in decision.reason
    assert decision.reason.endswith(outcome.tail.strip())


@pytest.mark.parametrize("line", ["no-such-tool || exit 1", "ls /no/such", "false", "no-such-tool; kill -9 $$"])
def test_another_failure_is_tried_again(tmp_path, line):
    outcome = outcome_of(tmp_path, line)
    decision = decide_after_command(outcome)
    assert (decision.kind, decision.final, decision.same_ship) == ("fail", False, True)
    assert decision.reason.startswith(f"the agent ended with exit code {outcome.code}")


def test_a_first_line_and_a_limit_are_no_missing_program():
    tail = "bash: line 1: ./wrong.sh: cannot execute: required file not found\n"  # since bash 5.2
    said = decide_after_command(Outcome(code=127, reason="exit", seconds=0.1, tail=tail)).reason
    assert "`./wrong.sh` cannot be executed: the program that its first line names is not on the ship" in said
    assert not decide_after_command(Outcome(code=127, reason="timeout", seconds=9.0)).final
    offered = Outcome(code=0, reason="exit", seconds=0.1, snapshot=None)
    assert decide_after_command(offered).reason.startswith("the agent ended, but the ship offered no snapshot")
