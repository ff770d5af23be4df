"""What to type next: a line after a command, and after Ctrl-C."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import typer

from ocaptain.cli import plan as plan_commands
from ocaptain.cli.app import app
from ocaptain.cli.log_lines import LogChoice, show_logs
from ocaptain.cli.next_step import (
    Command,
    Standing,
    after_command,
    after_interrupt,
    after_task,
    after_voyage,
    fold_steps,
)
from ocaptain.cli.views import show_status, show_tasks
from ocaptain.cli.why import show_why
from ocaptain.ledger import Ledger
from tests.helpers import write_plan
from tests.unit.test_ledger import make

V = "voyage-0123456789ab"
STATES = ("preparing", "running", "paused", "verifying", "complete", "failed", "sinking", "sunk")


@pytest.mark.parametrize(
    ("at", "line"),
    [
        (Standing(V, "preparing"), f"ocaptain sail --resume {V} · ocaptain sink {V}"),
        (Standing(V, "running"), f"ocaptain logs {V} -f · ocaptain pause {V} · ocaptain sink {V}"),
        (Standing(V, "running", has_captain=False), f"ocaptain sail --resume {V} --wait · ocaptain sink {V}"),
        (Standing(V, "running", is_pausing=True), f"ocaptain status {V} · ocaptain sail --resume {V} (goes on)"),
        (
            Standing(V, "running", held=("5", "6")),
            f"ocaptain approve {V} 5 · ocaptain logs {V} -f · ocaptain pause {V} · ocaptain sink {V}",
        ),
        (Standing(V, "verifying"), f"ocaptain logs {V} -f · ocaptain pause {V} · ocaptain sink {V}"),
        (Standing(V, "paused", ships_up=1), f"ocaptain sail --resume {V} · ocaptain sink {V} (1 ship is still up)"),
        (
            Standing(V, "complete", landed=3, ships_up=5),
            f"ocaptain clone {V} · ocaptain sink {V} (5 ships are still up)",
        ),
        (Standing(V, "complete", landed=3), f"ocaptain clone {V} · ocaptain ls"),
        (
            Standing(V, "failed", ("17", "23"), landed=48, ships_up=5),
            (
                f"ocaptain why {V} 17 · ocaptain retry {V} 17 23 · ocaptain clone {V}"
                f" · ocaptain sink {V} (5 ships are still up)"
            ),
        ),
        (Standing(V, "failed", ("1", "2", "3", "4")), f"ocaptain why {V} 1 · ocaptain retry {V}"),
        (Standing(V, "failed"), f"ocaptain logs {V} -n 50"),
        (Standing(V, "sinking", landed=1), f"ocaptain sink {V}"),
        (Standing(V, "sunk", landed=1), f"ocaptain clone {V} · ocaptain ls"),
        (Standing(V, "sunk"), "ocaptain ls"),
    ],
)
def test_after_a_voyage(at, line):
    assert after_voyage(at) == f"next: {line}"


@pytest.mark.parametrize(
    ("at", "line"),
    [
        (Standing(V, "failed", ("2", "3")), f"ocaptain retry {V} 2 · ocaptain logs {V} 2"),
        (Standing(V, "running", ("2",)), f"ocaptain retry {V} 2 · ocaptain logs {V} 2"),
        (
            Standing(V, "running", ("3",)),
            f"ocaptain logs {V} -f · ocaptain pause {V} · ocaptain why {V} 3 · ocaptain sink {V}",
        ),
        (Standing(V, "sunk", ("2",)), "ocaptain ls"),
    ],
)
def test_after_the_story_of_task_2(at, line):
    assert after_task(at, "2") == f"next: {line}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (after_command("drydock status"), "ocaptain ls"),
        (after_command("drydock status", ok=False), "ocaptain drydock start · ocaptain ls"),
        (after_command("drydock stop"), "ocaptain drydock start · ocaptain ls"),
        (after_command("doctor"), "ocaptain sail PLAN"),
        (after_command("doctor", ok=False), "mend each FAULT, then: ocaptain doctor"),
        (after_command("plan check", place=Path("my plan")), "ocaptain sail 'my plan'"),
        (after_command("plan check", ok=False, place=Path("x\x1b")), "mend these, then: ocaptain plan check 'x\\x1b'"),
        (after_command("plan simulate", place=Path("p"), ships=3), "ocaptain sail p -n 3"),
        (after_command("drydock start"), "ocaptain sail PLAN"),
        (after_command("ls", ok=False), "ocaptain sail PLAN"),
        (after_command("sweep", ok=False), "ocaptain sweep"),
        (after_command("clone", place=Path("there")), "cd there"),
    ],
)
def test_after_any_other_command(line, said):
    assert line == f"next: {said}"


def test_every_command_that_is_named_exists():
    root = typer.main.get_command(app)
    standings = [
        Standing(V, state, failed, landed, ships, captain, pausing)
        for state in STATES
        for failed in ((), ("1",))
        for landed in (0, 1)
        for ships in (0, 2)
        for captain in (True, False)
        for pausing in (True, False)
    ]
    lines = [line for at in standings for line in (after_voyage(at), after_task(at, "1"))]
    lines += ["\n".join(after_interrupt(at, "drydock")) for at in standings]
    lines += [after_command(command, ok=ok) for command in get_args(Command) for ok in (True, False)]
    named = {found for line in lines for found in re.findall(r"ocaptain ((?:plan )?[a-z]+)((?: -[-a-z]+)*)", line)}
    assert len(named) > 8
    for words, options in named:
        command = root
        for word in words.split():
            command = command.commands[word]
        known = {flag for one in command.params for flag in one.opts}
        assert set(options.split()) <= known, (words, options)
    assert all(line.startswith("next: ") and len(line) > 7 and "\n" not in line for line in lines if "next" in line)


def test_ctrl_c_says_whether_the_voyage_sails_on():
    first, *rest = after_interrupt(Standing(V, "running", ships_up=3), "drydock")
    assert first == f"watching has ended: {V} sails on, with 3 ships on drydock"
    assert [line.split(": ")[1].strip() for line in rest] == [
        f"ocaptain watch {V}",
        f"ocaptain pause {V}",
        f"ocaptain sink {V}",
    ]
    for at in (Standing(V, "running", has_captain=False), Standing(V, "preparing", ships_up=1)):
        said = "\n".join(after_interrupt(at, "drydock"))
        assert "sails on" not in said
        assert f"ocaptain sail --resume {V}\n" in said
        assert f"ocaptain sink {V}" in said


def test_people_get_the_line_and_programs_do_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path))
    directory = tmp_path / V
    directory.mkdir()
    with make(directory / "ledger.db", {"1": frozenset()}) as ledger:
        ledger.fail(ledger.claim("ship-0").token, "no", final=True)
        ledger.set_state("failed")
    show_why(V, "1", as_json=False)
    assert capsys.readouterr().err == f"next: ocaptain retry {V} 1 · ocaptain logs {V} 1\n"
    show_logs(V, LogChoice(), follow=False)
    assert capsys.readouterr().err.startswith(f"next: ocaptain why {V} 1 · ")
    for show in (lambda as_json: show_status(V, as_json=as_json), lambda as_json: show_tasks(V, None, as_json=as_json)):
        show(False)
        captured = capsys.readouterr()
        assert "next:" not in captured.out
        assert captured.err.startswith(f"next: ocaptain why {V} 1 · ocaptain retry {V} 1 · ocaptain sink {V} (")
        monkeypatch.setattr("ocaptain.cli.render._json_printed", False)
        show(True)
        assert capsys.readouterr().err == ""
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("sunk")
    show_status(V, as_json=False)
    assert "next: ocaptain ls" in capsys.readouterr().err
    made = write_plan(tmp_path / "a plan", [{"subject": "x", "metadata": {"run": "true"}}])
    assert plan_commands.check_plan(made, as_json=False) == 0
    assert capsys.readouterr().err.endswith(f"next: ocaptain sail '{made}'\n")
    assert plan_commands.check_plan(tmp_path / "no", as_json=False) == 2
    assert f"then: ocaptain plan check {tmp_path}/no\n" in capsys.readouterr().err


def test_a_long_line_is_broken_between_commands_alone():
    line = f"next: ocaptain why {V} 7 · ocaptain retry {V} · ocaptain ls"
    assert fold_steps(line, 200) == [line]
    assert fold_steps(line, 60) == [f"next: ocaptain why {V} 7", f"      ocaptain retry {V} · ocaptain ls"]
    assert fold_steps(line, 20) == [f"next: ocaptain why {V} 7", f"      ocaptain retry {V}", "      ocaptain ls"]


def test_after_the_story_of_a_held_task_comes_the_one_that_holds_it():
    at = Standing(V, "running", ("17",))
    assert after_task(at, "48", "17") == f"next: ocaptain why {V} 17 · ocaptain retry {V} 17"
    assert after_task(at, "48", "16") == after_task(at, "48")
