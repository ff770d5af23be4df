"""The live screen of a voyage as text: what is shown in which room, and that nothing ever breaks it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from ocaptain.cli.board import (
    Extras,
    bar,
    board,
    failure_lines,
    foot_line,
    head_line,
    landed_line,
    money_of,
    phases_line,
    progress_line,
)
from ocaptain.cli.board_ships import idle_reason, ship_lines
from ocaptain.cli.style import pad
from ocaptain.ledger import Overview
from ocaptain.ledger.views import Sum
from ocaptain.query.forecast import Forecast
from ocaptain.query.snapshot import LandedLine, Phase, ShipLine, Snapshot, TaskLine
from ocaptain.query.watch import Diffstat, Watcher
from tests.scenes import Scene, make_scene

V = "voyage-0123456789ab"
NOW = 1_700_000_252.0
BEGAN = NOW - 252


def voyage(tasks=(), ships=(), *, state="running", landed=(), counts=None, **about):
    """A voyage of these tasks and ships, 4:12 after it was made."""
    number = {name: sum(one.status == name for one in tasks) for name in ("pending", "in_progress", "completed")}
    number["failed"] = sum(one.status == "failed" for one in tasks)
    counts = counts or {"total": len(tasks), **number}
    facts = {
        "voyage": V,
        "name": "fifty",
        "state": state,
        "paused_reason": None,
        "provider": "drydock",
        "note": None,
        "tasks": counts,
        "held_tasks": [],
        "ships": [],
        "verify": None,
        "proves": None,
        "is_less_proven": False,
        "spent": Sum(),
        "awake_seconds": 0.0,
        "notices": [],
        "gate": None,
    }
    phases = (
        Phase("plan", "done", f"{counts['total']} tasks"),
        Phase("repo", "done", "todo@3f2a1c"),
        Phase("ships", "done", "5/5", BEGAN, BEGAN + 9),
        Phase("work", "now", "", BEGAN + 10),
        Phase("verify", "next"),
    )
    return Snapshot(
        about=Overview(**{**facts, **about}),
        created=BEGAN,
        started=BEGAN + 10,
        ended=None,
        phases=phases,
        ships=tuple(ships),
        tasks=tuple(tasks),
        landed=tuple(landed),
        work_seconds=720.0,
        forecast=Forecast(NOW, 65.0),
    )


def working(number, subject="Add OAuth2 login", since=31.0, **more):
    return TaskLine(str(number), subject, "in_progress", f"ship-{number}", 1, began=NOW - since, **more)


def texts(lines):
    return [line.plain for line in lines]


FLEET = (
    ShipLine("ship-0", "work", "working", task="46"),
    ShipLine("ship-1", "work", "working", task="47"),
    ShipLine("ship-2", "work", "working", task="23"),
    ShipLine("ship-3", "work", "idle"),
    ShipLine("ship-4", "work", "lost", "no answer for 60 s", lost_task="42", lost_at=NOW - 20),
)
TASKS = (
    TaskLine("17", "Réécrire l'exposé", "failed", "ship-3", 3, 3, NOW - 60, NOW - 56, reason='exit 3, said "boom"'),
    TaskLine("23", "Add OAuth2 login", "in_progress", "ship-2", 3, 2, NOW - 4, reason="check `false`: exit 1"),
    replace(working(46, "修复登录页面在移动设备上的布局问题使其在小屏幕上可以正常使用"), ship="ship-0"),
    replace(working(47, "Ship the family emoji picker", since=12.0), ship="ship-1"),
    TaskLine("42", "Migrate", "in_progress", "ship-0", 2, began=NOW - 3),
    TaskLine("48", "Write", "pending", waits=("47",)),
    TaskLine("49", "Draw", "pending", held_by="17"),
)
SEEN = voyage(TASKS, FLEET, counts={"total": 50, "completed": 38, "in_progress": 5, "failed": 1, "pending": 6})
ACTIONS = {"ship-0": "Edit app/login.css", "ship-1": "npm test"}


def test_a_voyage_at_work_fits_into_80_columns():
    assert texts(board(SEEN, Extras(ACTIONS), NOW, 80, 18)) == [
        "fifty · voyage-0123456789ab · drydock · 5 ships                verify.sh ○  4:12",
        "✓ plan 50 tasks  ✓ repo todo@3f2a1c  ✓ ships 5/5 (9 s)  ● work 4:02  ○ verify",
        "━━━━━━━━━━━━━━━━━━━━━─────  38/50  ● 3  ✗ 1  ↻ 1  left ~1:05  $0.00",
        '✗ #17 (holds 1) exit 3, said "boom"                            → ocaptain why 17',
        "ship-0  #46 ● 0:31      修复登录页面在移动设备上的布局…  Edit app/login.css",
        "ship-1  #47 ● 0:12      Ship the family emoji picker     npm test",
        "ship-2  #23 ↻ 3/3 0:04  Add OAuth2 login                 again: check `false`:…",
        "ship-3  ○ idle: waits for #47",
        "ship-4  ✗ lost 0:20 ago: no answer for 60 s; #42 went to ship-0",
        "Ctrl-C stops watching, the voyage sails on · ocaptain watch · ocaptain sink",
    ]


def test_200_columns_show_more_of_each():
    lines = texts(board(SEEN, Extras(ACTIONS), NOW, 200, 40))
    assert lines[3] == '✗ #17 (holds 1) Réécrire l\'exposé  exit 3, said "boom"'.ljust(183) + "→ ocaptain why 17"
    subject = "修复登录页面在移动设备上的布局问题使其在小屏幕上可以正常使用"
    assert lines[4] == f"ship-0  #46 ● 0:31      {pad(subject, 70)}  Edit app/login.css"


@pytest.mark.parametrize(
    ("width", "told"),
    [
        (40, "fifty · voyage-0123456789ab         4:12"),
        (60, "fifty · voyage-0123456789ab · drydock      verify.sh ○  4:12"),
        (25, "voyage-0123456789ab  4:12"),
    ],
)
def test_the_head_keeps_the_id_longest(width, told):
    assert head_line(SEEN, NOW, width).plain == told


def test_the_head_says_where_the_voyage_does_not_sail_as_usual():
    assert "pausing (user)  verify.sh" in head_line(voyage(paused_reason="user"), NOW, 100).plain
    assert "○ paused (budget)" in head_line(voyage(state="paused", paused_reason="budget"), NOW, 100).plain
    assert "○ paused  verify.sh" in head_line(voyage(state="paused"), NOW, 100).plain
    assert "paused (ours)  verify.sh" in head_line(voyage(paused_reason="ours"), NOW, 100).plain
    assert "✗ failed" in head_line(voyage(state="failed"), NOW, 100).plain


@pytest.mark.parametrize(
    ("width", "told"),
    [
        (76, "✓ plan  ✓ repo todo@3f2a1c  ✓ ships 5/5 (9 s)  ● work 4:02  ○ verify"),
        (60, "✓ plan  ✓ repo  ✓ ships 5/5 (9 s)  ● work 4:02  ○ verify"),
        (50, "✓ plan  ✓ repo  ✓ ships  ● work 4:02  ○ verify"),
        (40, "● work 4:02"),
        (8, "● work …"),
    ],
)
def test_the_phases_lose_what_matters_least(width, told):
    assert phases_line(SEEN, NOW, width).plain == told


def test_money_is_agents_and_machines_and_their_pace():
    seen = replace(SEEN, about=replace(SEEN.about, spent=Sum(cost_nano=2 * 10**9, unknown=1), awake_seconds=3600.0))
    money = money_of(seen, lambda seconds: round(seconds / 3600 * 10**9))
    assert (money.nano, money.hour, money.is_more) == (3 * 10**9, 34 * 10**9, True)  # 3 at work, 4 of them up
    assert progress_line(seen, money, NOW, 80).plain.endswith("left ~1:05  $3.00+ ($34.00/h)")
    assert progress_line(seen, money, NOW, 50).plain.endswith("left ~1:05  $3.00+")
    assert progress_line(replace(seen, ended=NOW), money, NOW, 80).plain.endswith("  $3.00+")


@pytest.mark.parametrize(
    ("counts", "drawn"),
    [
        ((0, 0, 10), "──────────"),
        ((5, 0, 10), "━━━━━─────"),
        ((999, 0, 1000), "━━━━━━━━━╸"),
        ((10, 0, 10), "━━━━━━━━━━"),
        ((5, 1, 10), "━━━━━━────"),
        ((0, 1, 1000), "━─────────"),
        ((0, 10, 10), "━━━━━━━━━━"),
        ((0, 0, 0), "──────────"),
    ],
)
def test_the_bar_is_full_at_the_end_alone(counts, drawn):
    assert bar(*counts, 10).plain == drawn


def test_the_bar_is_red_where_tasks_failed_alone():
    assert "red" not in [span.style for span in bar(5, 0, 10, 10).spans]
    assert [
        bar(5, 1, 10, 10).plain[span.start : span.end] for span in bar(5, 1, 10, 10).spans if span.style == "red"
    ] == ["━"]


def test_of_many_ships_the_most_important_are_shown():
    tasks = [replace(working(number), began=NOW - number) for number in range(40)]
    tasks[3] = replace(tasks[3], tries=1)
    ships = [ShipLine(f"ship-{number}", "work", "working", task=str(number)) for number in range(40)]
    ships += [ShipLine("ship-40", "work", "idle"), ShipLine("ship-41", "work", "lost", "gone away")]
    lines = texts(ship_lines(voyage(tasks, ships), {}, NOW, 80, 5))
    assert [line.split()[0] for line in lines[:4]] == ["ship-3", "ship-38", "ship-39", "ship-41"]
    assert lines[4] == "+ 38 ships: 37 working, 1 idle"
    assert texts(ship_lines(voyage(tasks, ships), {}, NOW, 80, 1)) == ["42 ships: 40 working, 1 idle, 1 lost"]
    assert ship_lines(voyage(tasks, ships), {}, NOW, 80, 0) == []


@pytest.mark.parametrize(
    ("ship", "told"),
    [
        (ShipLine("s", "work", "provisioning"), "s  ● is being built"),
        (ShipLine("s", "work", "bootstrapping"), "s  ● is built, and waits for the captain"),
        (ShipLine("s", "work", "asleep"), "s  ○ asleep"),
        (ShipLine("s", "work", "idle", "its disk is full"), "s  ○ idle: its disk is full"),
        (ShipLine("s", "work", "failed", "no disk", replaced_by="t"), "s  ✗ failed: no disk; t sails in its place"),
        (
            ShipLine("s", "work", "lost", "x", lost_task="48", lost_at=NOW - 20),
            "s  ✗ lost 0:20 ago: x; #48 waits for a ship",
        ),
        (ShipLine("s", "work", "lost", "x", lost_task="17"), "s  ✗ lost: x; #17 failed"),
        (ShipLine("s", "work", "lost", "y" * 90, lost_task="23"), f"s  ✗ lost: {'y' * 45}…; #23 went to ship-2"),
    ],
)
def test_a_ship_says_why_it_does_not_work(ship, told):
    assert texts(ship_lines(replace(SEEN, ships=(ship,)), {}, NOW, 77, 9)) == [told]


def test_a_ship_for_the_verify_is_shown_while_it_verifies():
    ship = ShipLine("verify", "verify", "idle")
    assert ship_lines(replace(SEEN, ships=(ship,)), {}, NOW, 80, 9) == []
    told = texts(ship_lines(voyage(TASKS, [ship], state="verifying"), {}, NOW, 80, 9))
    assert told == ["verify  ● runs verify.sh on the merged head"]


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ([TaskLine("1", "", "pending", waits=("8", "9"))], "waits for #8 and 1 more"),
        ([TaskLine("1", "", "pending")], "gets a task next"),
        ([TaskLine("1", "", "pending", hold=True)], "#1 waits for approval"),
        ([TaskLine("1", "", "pending", held_by="7")], "what is left is held by #7, which failed"),
        ([TaskLine("1", "", "completed")], "no task is left"),
    ],
)
def test_an_idle_ship_says_what_it_waits_for(tasks, told):
    assert idle_reason(voyage(tasks)) == told
    assert idle_reason(voyage(tasks, state="failed")) == "the voyage is over"
    assert idle_reason(voyage(tasks, state="paused")) == "no new task: paused"
    assert idle_reason(voyage(tasks, paused_reason="user")) == "no new task: paused (user)"


def test_of_many_failures_the_rest_is_a_count():
    failed = [TaskLine(str(number), "", "failed", reason="boom") for number in range(1, 6)]
    assert texts(failure_lines(voyage(failed), 50, 3)) == [
        f"✗ #1 boom{' ' * 25}→ ocaptain why 1",
        f"✗ #2 boom{' ' * 25}→ ocaptain why 2",
        "✗ 3 more failed for good: 3, 4, 5",
    ]
    assert texts(failure_lines(voyage(failed[:1]), 60, 3, "voyage-4f59 "))[0].endswith("→ ocaptain why voyage-4f59 1")


def test_landings_say_what_they_changed():
    one = LandedLine(NOW - 5, "41", "Add OAuth2 login", "ship-3", "4f73232" + "0" * 33, 62.0)
    told = landed_line(one, Diffstat(120, 8), NOW, 80).plain
    assert told[8:] == " ✓ #41 landed 4f73232 ship-3 1:02 +120 -8  Add OAuth2 login"
    assert landed_line(one, None, NOW, 80).plain[8:] == " ✓ #41 landed 4f73232 ship-3 1:02  Add OAuth2 login"


@pytest.mark.parametrize(
    ("state", "width", "told"),
    [
        ("running", 60, "Ctrl-C stops watching, the voyage sails on · ocaptain watch"),
        ("verifying", 30, "Ctrl-C: the voyage sails on"),
        ("preparing", 80, f"Ctrl-C stops this; go on with: ocaptain sail --resume {V}"),
        ("complete", 80, f"Ctrl-C stops this; its result: ocaptain status {V}"),
    ],
)
def test_the_foot_says_what_ctrl_c_does(state, width, told):
    assert foot_line(voyage(state=state), width).plain == told


hostile = st.one_of(
    st.text(max_size=60),
    st.text("\x1b[2J\x07\r\n\t\u202e\u2066\u200d\ufe0f👨👩界é\u0301x\u0085 ", max_size=60),
    st.binary(max_size=40).map(lambda data: data.decode(errors="surrogateescape")),
    st.sampled_from(["y" * 5000, "界" * 900, "\u0301" * 300, ""]),
)


@st.composite
def voyages(draw):
    """Any voyage, with any text of others in it."""
    text = hostile.map(lambda one: one)
    tasks, ships = [], []
    for number in range(draw(st.integers(0, 6))):
        status = draw(st.sampled_from(["pending", "in_progress", "completed", "failed"]))
        name = draw(st.one_of(st.just(str(number)), st.text(min_size=1, max_size=40)))
        tasks.append(
            TaskLine(
                name,
                draw(text),
                status,
                f"ship-{number}",
                tries=draw(st.integers(0, 2)),
                began=draw(st.sampled_from([None, NOW - 400_000, NOW - 1, NOW + 50])),
                reason=draw(st.none() | text),
                held_by=draw(st.none() | text),
                hold=draw(st.booleans()),
                waits=tuple(draw(st.lists(text, max_size=2))),
            )
        )
    states = ["idle", "working", "asleep", "provisioning", "bootstrapping", "draining", "lost", "failed", "gone"]
    for number in range(draw(st.integers(0, 60))):
        task = tasks[number].id if number < len(tasks) else None
        reason = draw(st.none() | text) if number < 4 else None
        lost = draw(st.none() | st.sampled_from([one.id for one in tasks])) if tasks and number < 4 else None
        state = draw(st.sampled_from(states)) if number < 8 else "idle"
        role = "verify" if number == 7 else "work"
        ships.append(ShipLine(f"ship-{number}", role, state, reason, task, NOW, PurePath("x"), None, lost))
    landed = [LandedLine(NOW, draw(text), draw(text), draw(st.none() | text), draw(text), 5.0)]
    seen = voyage(
        tasks,
        ships,
        landed=landed,
        state=draw(st.sampled_from(["preparing", "running", "verifying", "paused", "failed", "complete"])),
        name=draw(text),
        provider=draw(text),
        paused_reason=draw(st.none() | text),
        spent=Sum(cost_nano=draw(st.integers(0, 10**15))),
    )
    phases = tuple(replace(one, text=draw(text)) for one in seen.phases)
    return replace(seen, phases=phases), {f"ship-{number}": draw(text) for number in range(3)}


@settings(deadline=None)
@given(voyages(), st.integers(20, 250), st.integers(1, 60))
def test_no_text_of_others_breaks_the_screen(given_voyage, width, height):
    seen, actions = given_voyage
    lines = board(seen, Extras(actions, lambda seconds: round(seconds * 10**9)), NOW, width, height)
    assert 1 <= len(lines) <= height
    landed = [landed_line(one, Diffstat(10**9, 10**9), NOW, width) for one in seen.landed]
    for line in [*lines, *landed]:
        assert cell_len(line.plain) <= width
        assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 or sign in "\u202e\u2066\u2028" for sign in line.plain)
        line.plain.encode()  # no half of a pair


def test_a_voyage_as_the_ledger_tells_it(tmp_path: Path):
    made = make_scene(tmp_path, Scene(tasks=1000, ships=50, landed=200, lost={"ship-7": "no answer"}))
    watcher = Watcher(made.path)
    seen = watcher.snapshot()
    lines = texts(board(seen, Extras(watcher.actions()), seen.forecast.at, 80, 18))
    assert len(lines) == 18
    assert lines[0].startswith("fifty · voyage-0123456789ab · drydock · 50 ships")
    assert any(line.startswith("ship-7   ✗ lost: no answer") for line in lines)
    assert any(line.startswith("+ ") for line in lines)
