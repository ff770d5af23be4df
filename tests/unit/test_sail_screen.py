"""What a waiting ``sail`` shows: how its steps, the voyage's events and its end are told, and how often it is drawn."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from ocaptain.ansible.runner import Event as AnsibleEvent
from ocaptain.cli import progress
from ocaptain.cli.board import Extras, board
from ocaptain.cli.building import BUILT_TASK, LAUNCH_TASK, Building, building_lines, with_steps
from ocaptain.cli.fold import fold
from ocaptain.cli.progress import SailProgress, describe_fleet, live_height, wrapped_rows
from ocaptain.cli.reason import brief_reason
from ocaptain.cli.style import format_time
from ocaptain.cli.voyage_end import MAX_FAILURES, end_lines
from ocaptain.cli.voyage_news import SHOWN_EVENTS, event_line, event_symbol, format_event, tell_states
from ocaptain.git import Git
from ocaptain.ledger import Ledger
from ocaptain.ledger.views import Sum
from ocaptain.query import Event, LandedLine, Phase, ShipLine, TaskLine
from ocaptain.query.watch import Diffstat
from ocaptain.voyage.home import VoyageDirectory
from tests.scenes import Scene, make_scene
from tests.unit.test_board import BEGAN, NOW, SEEN, V, hostile, texts, voyage

COMMIT = "4f73232" + "0" * 33


# -- before it sails -------------------------------------------------------------------------


def ansible(kind, task, host="localhost"):
    return AnsibleEvent(kind, task, host, {})


def prepared():
    state = Building("fifty", BEGAN)
    state.begin_ships([{"sprite": f"{V}-ship-{n}", "id": f"ship-{n}", "role": "work"} for n in (0, 1)])
    return state


def test_until_there_is_a_voyage_its_step_is_shown():
    state = Building("fifty", NOW - 4)
    assert texts(building_lines(state, NOW, 60, 9)) == [
        "fifty" + " " * 51 + "0:04",
        "● plan and repository 0:04  ○ ships  ○ work  ○ verify",
        "checks plan and repository …",
    ]
    state.note(ansible("runner_on_start", "Check everything"))
    assert texts(building_lines(state, NOW, 60, 9))[2] == "Check everything …"
    assert len(building_lines(state, NOW, 20, 1)) == 1


def test_ships_are_counted_as_they_are_built():
    state = prepared()
    ships = (ShipLine("ship-0", "work", "provisioning"), ShipLine("ship-1", "work", "provisioning"))
    seen = voyage(SEEN.tasks, ships, state="preparing")
    seen = replace(seen, phases=(Phase("ships", "now", "0/2", BEGAN), Phase("verify", "next")))
    for task in ("Build the ship", "tmux_agent : Put the worker in place", "Validating arguments against arg spec"):
        state.note(ansible("runner_on_start", task, f"{V}-ship-0"))
    state.note(ansible("runner_on_ok", BUILT_TASK, f"{V}-ship-1"))
    shown, steps = with_steps(seen, state)
    lines = texts(board(shown, Extras(steps), NOW, 80, 18))
    assert lines[1] == "● ships 1/2 4:12  ○ verify"
    assert lines[4:6] == [
        "ship-0  ● is being built: Put the worker in place",
        "ship-1  ● is built, and waits for the captain",
    ]
    state.note(ansible("runner_on_ok", LAUNCH_TASK))
    assert with_steps(seen, state) == (seen, {})


# -- events ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (
            ("claim", "ship-0", "46", "attempt 1"),
            "● #46 → ship-0  修复登录页面在移动设备上的布局问题使其在小屏幕上可以正…",
        ),
        (("claim", "ship-2", "23", "attempt 3"), "● #23 → ship-2 (attempt 3)  Add OAuth2 login"),
        (("landed", "ship-3", "41", COMMIT), "✓ #41 landed 4f73232 ship-3 1:02 +120 -8  Add OAuth2 login"),
        (
            ("failed", "ship-3", "17", "the agent ended with exit code 3; the end of its output:\nx\nboom"),
            '✗ #17 Réécrire l\'exposé: failed for good on ship-3: exit 3, said "boom"',
        ),
        (("ship", "ship-1", None, "bootstrapping"), "✓ ship-1 is built"),
        (("ship", "ship-1", None, "lost: no answer"), "✗ ship-1 is lost: no answer"),
        (("voyage", None, None, "failed: why"), "✗ voyage: failed"),
        (("verify", "ship-1", None, f"passed at {COMMIT}"), "✓ final verify: passed at 4f73232000"),
        (("gate:passes", "ship-1", None, "verify.sh passes"), "! verify.sh passes"),
        (("again", None, "17", "x"), "↻ #17 Réécrire l'exposé: is tried again"),
    ],
)
def test_an_event_has_a_time_a_symbol_and_a_subject(event, told):
    kind, ship, task, text = event
    seen = replace(SEEN, landed=(LandedLine(NOW, "41", "Add OAuth2 login", "ship-3", COMMIT, 62.0),))
    line = event_line(Event(1, NOW, kind, ship, task, text), seen, Diffstat(120, 8), NOW, 80)
    assert line.plain == f"{format_time(NOW)} {told}"


def test_a_long_reason_goes_on_below_itself():
    line = event_line(Event(1, NOW, "retry", "ship-2", "23", "a long reason " * 30), SEEN, None, NOW, 80).plain
    first, second = line.splitlines()
    assert first[9:] == "↻ #23 Add OAuth2 login: failed on ship-2 and is tried again: a long"
    assert (second[:15], second[-1], cell_len(second) <= 80) == (" " * 9 + "reason", "…", True)


@settings(deadline=None)
@given(st.sampled_from(sorted(SHOWN_EVENTS)), hostile, hostile, st.integers(20, 250))
def test_no_event_is_wider_than_the_terminal(kind, text, subject, width):
    seen = voyage([TaskLine("7", subject, "pending")])
    for task in ("7", None, text):
        lines = event_line(Event(1, NOW, kind, text, task, text), seen, None, NOW, width).plain.split("\n")
        assert len(lines) <= 2
        assert all(cell_len(line) <= width and "\x1b" not in line for line in lines)


def test_red_is_for_failure_alone():
    red = {kind for kind in SHOWN_EVENTS if event_symbol(Event(1, NOW, kind, None, None, "passed")).style == "red"}
    assert red == {"failed"}


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("the agent ended with exit code 3; the end of its output:\na\nboom\n\n", 'exit 3, said "boom"'),
        ("the agent ended with exit code 3", "exit 3"),
        (
            "the agent was silent for too long and was ended; the end of its output:\nx",
            "the agent was silent for too long",
        ),
        ("the check `grep -q a b` ended with exit code 2: x\ngrep: no file", 'check exit 2, said "grep: no file"'),
        ("the check `false` ended with exit code 1", "check `false`: exit 1"),
        (
            "the agent took longer than its time limit (1 s); the end of its output:\nwaits",
            'took longer than 1 s, said "waits"',
        ),
        ("check `false`: exit 1", "check `false`: exit 1"),
        ("the check `a; b` ended with exit code 1:\nTraceback:\nError: 5\n", 'check exit 1, said "Error: 5"'),
        ("the check `test -f a` ended with exit code 1:\n", "check `test -f a`: exit 1"),
        ("the check `make test` took too long:\n3 of 9 run", 'check took too long, said "3 of 9 run"'),
        ("the check `make test` took too long:\n", "check `make test`: took too long"),
        ("", ""),
    ],
)
def test_a_reason_in_few_words(reason, told):
    assert brief_reason(reason).startswith(told)


@settings(deadline=None)
@given(hostile.map(lambda text: Text(" ".join(text.split()))), st.integers(2, 90), st.integers(0, 9), st.integers(0, 4))
def test_what_is_folded_fits(line, width, indent, most):
    lines = fold(line, width, indent=indent, most=most).plain.split("\n")
    assert all(cell_len(one) <= width for one in lines)
    assert not most or len(lines) <= most
    if not most:
        assert "".join(lines).replace(" ", "") == line.plain.replace(" ", "")


@pytest.mark.parametrize(
    ("roles", "told"),
    [(["work"], "1 ship"), (["work"] * 3 + ["verify"], "3 + 1 for verify"), (["verify"], "1 for verify")],
)
def test_how_many_ships_sail(roles, told):
    assert describe_fleet([{"role": role} for role in roles]) == told


# -- the end ---------------------------------------------------------------------------------


def at_end(tasks, state, verify=None, proves=None, counts=None, **more):
    seen = voyage(
        tasks,
        [ShipLine(f"ship-{number}", "work", "idle") for number in range(5)],
        state=state,
        counts=counts or {"total": 50, "completed": 48, "failed": 2, "in_progress": 0, "pending": 0},
        verify=verify,
        proves=proves,
        spent=Sum(cost_nano=21 * 10**8),
        **more,
    )
    phases = tuple(replace(one, began=NOW, ended=NOW + 343) if one.name == "work" else one for one in seen.phases)
    return replace(seen, ended=BEGAN + 340, phases=phases)


def told_at_end(seen, kept=None):
    return texts(end_lines(seen, kept or {}, lambda _: 0, Path("/home/v"), NOW + 10**6))


def test_the_end_of_a_voyage_that_failed():
    tasks = [
        TaskLine("17", "Réécrire", "failed", reason="the agent ended with exit code 3; the end of its output:\nboom"),
        TaskLine("23", "Add OAuth2 login", "failed", reason=None),
        TaskLine("48", "Draw", "pending", held_by="17"),
        TaskLine("49", "Write", "pending"),
    ]
    assert told_at_end(at_end(tasks, "failed"), {"17": ["refs/1", "refs/ocaptain/tasks/17/3/work"]}) == [
        "✗ failed: 48 of 50 landed in 5:40 on 5 ships (12 min of work, 2.1x) · $2.10",
        '✗ #17 Réécrire: exit 3, said "boom"',
        "  its work is kept: refs/ocaptain/tasks/17/3/work",
        "✗ #23 Add OAuth2 login: no reason is known",
        "○ 1 task was held by them",
        "○ 1 task is still open",
        "○ verify.sh was not run, since 2 tasks did not land",
        "  /home/v/workspace",
    ]


def test_the_end_of_a_voyage_that_is_complete_says_what_that_proves():
    counts = {"total": 50, "completed": 50, "failed": 0, "in_progress": 0, "pending": 0}
    verify = {"ok": True, "exit_code": 0, "stage": "verify", "clean": True, "commit": COMMIT}
    proves = "verify.sh passed in a fresh clone"
    assert told_at_end(at_end([], "complete", verify, proves, counts)) == [
        "✓ complete: 50 of 50 landed in 5:40 on 5 ships (12 min of work, 2.1x) · $2.10",
        "✓ verify.sh passed in a fresh clone (4f73232000)",
        "  /home/v/workspace",
    ]


def test_a_verify_that_failed_is_told_with_what_else_must_be_known():
    verify = {"ok": False, "exit_code": 7, "stage": "verify", "clean": True, "commit": COMMIT}
    gate = {"outcome": "passes", "text": "verify.sh passes before any work", "ship": "ship-0"}
    notices = [{"task": "3", "text": ".claude/settings.json"}]
    assert told_at_end(at_end([], "failed", verify, gate=gate, notices=notices))[1:4] == [
        "✗ verify.sh failed with exit code 7 on the merged head (4f73232000)",
        "  verify.sh passes before any work",
        "  #3 landed settings: .claude/settings.json",
    ]


@pytest.mark.parametrize(("state", "colour"), [("failed", "red"), ("complete", "green")])
def test_the_end_is_red_if_the_voyage_failed_alone(state, colour):
    verify = {"ok": state == "complete", "exit_code": 7, "stage": "verify", "clean": True, "commit": COMMIT}
    counts = {"total": 2, "completed": 2, "failed": 0, "in_progress": 0, "pending": 0}
    first, *rest = end_lines(at_end([], state, verify, counts=counts), {}, lambda _: 0, Path("/v"), NOW)
    assert {str(span.style) for line in (first, rest[0]) for span in line.spans} == {colour}
    assert [first.plain[span.start : span.end][2:] for span in first.spans] == [state]
    sunk = end_lines(at_end([], "sunk", verify, counts=counts), {}, lambda _: 0, Path("/v"), NOW)[0]
    assert {str(span.style) for span in sunk.spans} == {"dim"}


def test_of_many_failures_the_end_names_the_rest():
    tasks = [TaskLine(str(number), "", "failed", reason="no") for number in range(1, 31)]
    lines = told_at_end(at_end(tasks, "failed"))
    assert sum(line.startswith("✗ #") for line in lines) == MAX_FAILURES - 1
    assert "✗ 21 more failed for good: 10, 11, 12" in "\n".join(lines)


@settings(deadline=None)
@given(hostile, hostile, hostile)
def test_no_text_of_others_acts_upon_the_terminal_at_the_end(subject, reason, name):
    seen = at_end([TaskLine(name, subject, "failed", reason=reason)], "failed", name=name)
    for line in told_at_end(seen, {name: [reason]}):
        assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 or sign in "\u202e\u2066\u2028" for sign in line)


# -- drawing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("terminal", "lines"), [(1, 1), (3, 1), (10, 8), (24, 18), (50, 38)])
def test_the_live_screen_leaves_room_for_what_scrolls(terminal, lines):
    assert live_height(terminal) == lines


END = "\x00end"


class Terminal:
    """A terminal as standard error, and what was written to it."""

    def __init__(self, monkeypatch, **environment):
        self.leader, follower = os.openpty()
        self.file = os.fdopen(follower, "w")
        for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stderr", self.file)

    def read(self):
        """Return what was written since the last time: a mark tells where that ends, since a terminal may be late."""
        self.file.write(END)
        self.file.flush()
        seen = b""
        while not seen.endswith(END.encode()):
            seen += os.read(self.leader, 65536)
        return seen.decode().removesuffix(END)

    def close(self):
        self.file.close()
        os.close(self.leader)


@pytest.fixture
def open_terminal(monkeypatch):
    """Opens the terminal when the test runs: until then pytest has a standard error of its own."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(progress, "FRAME_SECONDS", 0.0)
    opened = []

    def opens(**environment):
        opened.append(Terminal(monkeypatch, **environment))
        return opened[0]

    yield opens
    for one in opened:
        one.close()


@pytest.fixture
def sailing(tmp_path):
    return make_scene(tmp_path, Scene(tasks=8, ships=2, landed=3, failed={}, retrying={}))


def test_nothing_is_drawn_while_nothing_changes_but_each_second(open_terminal, sailing):
    terminal = open_terminal()
    now = [float(int(time.time()) + 100)]
    with SailProgress("fifty", clock=lambda: now[0]) as shown:
        shown.directory = sailing
        shown._skip_old_events(sailing)
        shown.on_idle()
        assert "3/8" in terminal.read()
        for _ in range(5):
            now[0] += 0.1
            shown.on_idle()
        assert terminal.read() == ""
        now[0] += 1
        shown.on_idle()
        assert "3/8" in terminal.read()
    assert "\x1b[?25h" in terminal.read()  # the cursor is back


def test_an_event_scrolls_above_though_git_knows_no_such_commit(open_terminal, sailing):
    terminal = open_terminal()
    Git(sailing.path).run("init", "--quiet", "--bare", "repo.git")
    with SailProgress("fifty") as shown:
        shown.directory = VoyageDirectory(sailing.path)
        shown._skip_old_events(sailing)
        shown.on_idle()
        terminal.read()
        task = land(sailing, "ship-0")
        shown.finish()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.read())
    assert f"✓ #{task} landed 4f73232 ship-0" in plain


def test_a_narrower_terminal_keeps_nothing_of_the_last_frame(open_terminal, sailing):
    assert wrapped_rows([Text("x" * 80), Text("x" * 81), Text("")], 40) == 3
    terminal = open_terminal(COLUMNS="100")
    with SailProgress("fifty") as shown:
        shown.directory = sailing
        shown._skip_old_events(sailing)
        shown.on_idle()
        terminal.read()
        extra = wrapped_rows(shown._drawn, 60)
        shown._console.width = 60
        shown.on_idle()
        assert extra >= 2
        assert terminal.read().startswith("\r" + "\x1b[2K\x1b[1A" * extra + "\r\x1b[2K")


def land(sailing, ship):
    """Land what a ship works on; return the task."""
    with Ledger(sailing.path / "ledger.db") as ledger:
        ledger.take_command()
        claim = ledger.held_claim(ship)
        ledger.begin_landing(claim.token, "refs/heads/x", "0" * 40, COMMIT, {})
        ledger.finish_landing(claim.token)
    return claim.task


def test_a_commit_that_git_is_long_at_stops_no_clock(open_terminal, sailing, tmp_path, monkeypatch):
    slow = tmp_path / "bin/git"
    slow.parent.mkdir()
    slow.write_text(f"#!/bin/sh\nuntil [ -e {tmp_path}/go ]; do sleep 0.05; done\necho ' 3 insertions(+)'\n")
    slow.chmod(0o755)
    (sailing.path / "repo.git").mkdir()
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(progress, "_DIFF_SECONDS", 10**9)
    now = [float(int(time.time()))]
    terminal = open_terminal()
    with SailProgress("fifty", clock=lambda: now[0]) as shown:
        shown.directory = sailing
        shown._skip_old_events(sailing)
        shown.on_idle()
        task = land(sailing, "ship-0")
        for _ in range(3):
            terminal.read()
            now[0] += 1
            shown.on_idle()
            seen = terminal.read()
            assert ("4/8" in seen, "landed" in seen) == (True, False)
        (tmp_path / "go").touch()
        while COMMIT not in shown._diffs.known:
            time.sleep(0.05)
        shown.on_idle()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.read())
    assert re.search(rf"✓ #{task} landed 4f73232 ship-0 [0-9:]+ \+3 -0", plain)


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {}])
def test_without_a_terminal_that_can_be_drawn_on_there_are_lines_alone(open_terminal, capsys, sailing, environment):
    found = open_terminal(**environment) if environment else None
    with SailProgress("fifty") as shown:
        shown.directory = sailing
        shown.finish()
    told = found.read() if found else capsys.readouterr().err
    assert "\x1b" not in told
    lines = told.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d .", line) for line in lines)
    assert sum(" landed as " in line for line in lines) == 3


def test_without_colours_only_the_cursor_moves(open_terminal, sailing):
    found = open_terminal(NO_COLOR="1")
    with SailProgress("fifty") as shown:
        shown.directory = sailing
        shown.finish()
        shown.on_idle()
    told = found.read()
    assert "3/8" in told
    assert not re.search(r"\x1b\[[0-9;]*m", told)


def test_that_a_voyage_runs_is_said_once():
    running, paused = Event(1, NOW, "voyage", None, None, "running"), Event(2, NOW, "voyage", None, None, "paused")
    told, state = tell_states([running, running, paused, running], "")
    assert [format_event(one) for one in told] == ["work begins", "voyage: paused", "work goes on"]
    assert tell_states([running], state) == ([], state)
    resumed, _ = tell_states([running, running], "paused")
    assert [format_event(one) for one in resumed] == ["work goes on"]
    assert event_symbol(resumed[0]).plain == "●"
