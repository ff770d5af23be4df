"""Tables and what is piped: exact text for scenes, and that no text of others breaks a line or a record."""

from __future__ import annotations

import datetime as dt
import io
import re
import sys
import types
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from ocaptain.cli import drydock, render
from ocaptain.cli.cost import cost_lines, cost_records
from ocaptain.cli.doctor import doctor_lines
from ocaptain.cli.ls import voyage_lines
from ocaptain.cli.next_step import fold_steps
from ocaptain.cli.shell import choose_ship
from ocaptain.cli.sink import sink_facts, sink_lines
from ocaptain.cli.status_view import Beside, head_lines, status_lines, status_records
from ocaptain.cli.style import tsv_line, wrap
from ocaptain.cli.sweep import leftover_lines, sweep_question
from ocaptain.cli.tables import UNBOUNDED, lay_out, share
from ocaptain.cli.task_table import task_lines, task_records
from ocaptain.cli.views import machine_cost, shortest_name
from ocaptain.cli.why import story_lines
from ocaptain.drydock.server import ServerRecord
from ocaptain.errors import UsageError
from ocaptain.ledger import Ledger
from ocaptain.prices import load_prices
from ocaptain.query import Query
from ocaptain.text import escape_control
from ocaptain.voyage.doctor import Finding
from ocaptain.voyage.home import VoyageDirectory
from ocaptain.voyage.listing import cells, read_rows
from ocaptain.voyage.sweep import Leftover
from tests.helpers import as_documented
from tests.scenes import VOYAGE, Scene, make_scene
from tests.unit.test_streams import on_terminal

CHECK = "the check `pytest -q tests/test_login.py` ended with exit code 1: expected 302, got 200 on /login"
BRIEF = 'check exit 1, said "expected 302, got 200 on /login"'
SMALL = Scene(
    tasks=14,
    ships=4,
    landed=6,
    failed={"2": 'exit 3, said "boom"', "4": CHECK},
    retrying={"9": "check `false`: exit 1"},
    lost={"ship-3": "no power"},
    layers=3,
)
BESIDE = Beside(
    has_captain=False,
    directory=f"/home/sailor/voyages/{VOYAGE}",
    home="/home/sailor",
    machine_nano=123_456_789,
    hour_nano=455_000_000,
)


def seen_of(root, scene):
    """Return a scene's snapshot, and a time at which no duration in it is near a whole number of seconds."""
    directory = make_scene(root, scene)
    now = Query(directory.path).snapshot(0.0).created + scene.seconds + 0.37
    return Query(directory.path).snapshot(now), now


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return seen_of(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    lost = {f"ship-{number}": "fell silent" for number in (3, 17)}
    failed = {str(number): f"reason {number}, which is long enough to be cut" for number in range(1, 12)}
    return seen_of(tmp_path_factory.mktemp("large"), Scene(tasks=1000, ships=50, landed=700, failed=failed, lost=lost))


def plain(lines):
    return "\n".join(line.plain for line in lines)


# -- exact text ------------------------------------------------------------------------------------

STATUS_80 = """\
voyage-0123456789ab  ● running, but no captain 4:12  fifty on drydock
✓ plan 14 tasks  ✓ repo todo@3f2a1c  ✓ ships 4/4 (57 s)  ● work 3:23  ○ verify
━━━━━━─────────  6/14 landed  ● 2 working  ↻ 1 retrying  ✗ 2 failed  ○ 3 waiting
✗ 2  修复登录页面在移动设备上的布局问题使…  exit 3, said "boom"
✗ 4  Ship the family emoji picker 👨👩👧👦  check exit 1, said "expected 302, g…
↻ 9  Ship the family emoji picker 👨👩👧👦  check `false`: exit 1
ship-0  ↻ 9     2/3  0:49  Ship the family emoji picker 👨👩👧👦
ship-1  ● 10    1/3  0:41  データベースの移行スクリプトを書く
ship-2  ● 11    1/3  0:32  Add OAuth2 login
ship-3  ✗ lost             no power
! no captain is running; resume with: ocaptain sail --resume voyage-0123456789ab
cost    machines $0.1235 · now $1.36 an hour
branch  voyage-0123456789ab in ~/voyages/voyage-0123456789ab/workspace"""

TASKS_80 = """\
  TASK  SHIP    TRY  TIME  SUBJECT
✗ 2     ship-1  1/3  0:40  修复登录页面在移动设备上的布局问题使其在小屏幕上可以…
                             exit 3, said "boom"
✗ 4     ship-0  1/3  0:40  Ship the family emoji picker 👨👩👧👦
                             check exit 1, said "expected 302, got 200 on
                             /login"
↻ 9     ship-0  2/3  0:49  Ship the family emoji picker…   check `false`: exit 1
● 10    ship-1  1/3  0:41  データベースの移行スクリプトを書く
● 11    ship-2  1/3  0:32  Add OAuth2 login
○ 12                       修复登录页面在移动设备上的布…   after 9
○ 13                       Réécrire l'exposé of a page t…  after 10
○ 14                       Ship the family emoji picker…   after 11
✓ 6 landed (ocaptain tasks voyage-0123456789ab --all)"""

RECORDS = """\
voyage	voyage-0123456789ab
state	running
plan	fifty
provider	drydock
elapsed	4:12
left	0:48
tasks	14
landed	6
working	2
retrying	1
failed	2
waiting	3
cost	machines $0.1235 · now $1.36 an hour
captain	no captain is running; resume with: ocaptain sail --resume voyage-0123456789ab
branch	voyage-0123456789ab
directory	/home/sailor/voyages/voyage-0123456789ab
task	2	failed	ship-1	1/3	修复登录页面在移动设备上的布局问题使其在小屏幕上可以正常使用	exit 3, said "boom"
task	4	failed	ship-0	1/3	Ship the family emoji picker 👨\u200d👩\u200d👧\u200d👦	CHECK
task	9	retrying	ship-0	2/3	Ship the family emoji picker 👨\u200d👩\u200d👧\u200d👦	check `false`: exit 1
ship	ship-0	working	9	2/3	0:49	Ship the family emoji picker 👨\u200d👩\u200d👧\u200d👦
ship	ship-1	working	10	1/3	0:41	データベースの移行スクリプトを書く
ship	ship-2	working	11	1/3	0:32	Add OAuth2 login
ship	ship-3	lost				no power""".replace("CHECK", CHECK)


def test_status_at_80_columns(small):
    seen, now = small
    assert plain(status_lines(seen, BESIDE, now, 80, 24)) == STATUS_80


def test_tasks_at_80_columns(small):
    seen, now = small
    assert plain(task_lines(seen, now, 80)) == TASKS_80


def test_200_columns_show_reasons_in_a_line_and_subjects_whole(small):
    seen, now = small
    tasks = plain(task_lines(seen, now, 200)).splitlines()
    status = plain(status_lines(seen, BESIDE, now, 200, 50)).splitlines()
    assert tasks[1].endswith(f'小屏幕上可以正常使用{" " * 22}exit 3, said "boom"')
    assert tasks[2].endswith(f"  {BRIEF}")
    assert any(line.endswith(f"{BRIEF}  → ocaptain why 4") for line in status)
    assert not [line for line in [*tasks, *status] if "…" in line]


def test_status_on_a_pipe(small):
    seen, now = small
    assert "\n".join(tsv_line(*record) for record in status_records(seen, BESIDE, now)) == RECORDS


def test_tasks_on_a_pipe_are_all_in_the_plans_order(small):
    seen, now = small
    records = task_records(seen, now)
    assert [record[0] for record in records] == [str(number + 1) for number in range(14)]
    commit, subject = f"{1:07x}".ljust(40, "0"), "Add OAuth2 login"
    assert records[0] == ("1", "completed", "ship-0", "1/3", "0:40", "", commit, subject, "")
    assert records[3] == ("4", "failed", "ship-0", "1/3", "0:40", "", "", SMALL.subjects[3], CHECK)
    assert records[11] == ("12", "pending", "", "", "", "after 9", "", SMALL.subjects[1], "")
    assert [record[0] for record in task_records(seen, now, "failed")] == ["2", "4"]


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({}, "2 4 9 10 11 12 13 14"),
        ({"show_all": True}, "2 4 9 10 11 12 13 14 1 3 5 6 7 8"),
        ({"status": "completed"}, "1 3 5 6 7 8"),
        ({"status": "in_progress"}, "9 10 11"),
    ],
)
def test_worst_first_and_what_landed_only_where_it_is_asked_for(small, given, ids):
    seen, now = small
    lines = [line.plain for line in task_lines(seen, now, 200, **given)[1:]]
    shown = [line[2:8].split()[0] for line in lines if line[0] != " " and "landed" not in line]
    assert shown == ids.split()
    assert ("6 landed" in lines[-1]) is (not given)


def test_a_large_voyage_fits_a_small_terminal(large):
    seen, now = large
    lines = status_lines(seen, BESIDE, now, 80, 24)
    assert len(lines) == 21
    text = plain(lines)
    for part in ("700/1000 landed", "and 7 more failed: ocaptain tasks", "ship-3   ✗ lost", "ship-17  ✗ lost"):
        assert part in text, part
    assert "○ 38 idle" in next(line for line in text.splitlines() if line.startswith("and "))
    whole = plain(status_lines(seen, BESIDE, now, 80, 24, show_all=True))
    assert all(f"\nship-{number} " in whole for number in range(50))
    assert "→ ocaptain why " not in whole
    assert plain(status_lines(seen, BESIDE, now, 120, 24, show_all=True)).count("→ ocaptain why ") == 11
    tasks = plain(task_lines(seen, now, 80))
    assert "○ 267 more wait (ocaptain tasks" in tasks
    assert len(task_lines(seen, now, 80, show_all=True)) > 1000


def test_no_captain_means_no_forecast(small):
    seen, now = small
    head, *_ = status_lines(seen, replace(BESIDE, has_captain=True), now, 80, 24)
    assert head.plain == "voyage-0123456789ab  ● running 4:12, left ~0:48  fifty on drydock"
    assert head_lines(seen, now, 50, has_captain=False)[0].plain == "voyage-0123456789ab  ● running, no captain 4:12"


def test_status_does_not_repeat_which_tasks_failed(small):
    seen, now = small
    noted = replace(seen, about=replace(seen.about, state="failed", note="failed for good: task 2, 4"))
    assert "failed for good" not in plain(status_lines(noted, BESIDE, now, 80, 24))
    assert ("note", "failed for good: task 2, 4") in status_records(noted, BESIDE, now)


@pytest.mark.parametrize(("width", "count"), [(60, 4), (80, 2), (UNBOUNDED, 1)])
def test_what_to_type_next_is_broken_between_commands(width, count):
    steps = [f"ocaptain {verb} {VOYAGE}" for verb in ("why", "retry", "clone", "sink")]
    lines = fold_steps(f"next: {' · '.join(steps)}", width)
    assert len(lines) == count
    assert max(map(cell_len, lines)) <= width
    assert all(line.startswith("      ") for line in lines[1:])
    assert " · ".join(line.strip() for line in lines) == f"next: {' · '.join(steps)}"


def test_what_a_task_waits_for(tmp_path):
    directory = make_scene(tmp_path, replace(SMALL, lost={}, failed={}, retrying={}))
    with Ledger(directory.path / "ledger.db") as ledger:
        ledger._db.execute("UPDATE tasks SET approved = 0 WHERE id IN ('12', '13')")
        ledger._db.execute("DELETE FROM edges WHERE task = '12'")
        ledger._db.execute("UPDATE tasks SET blockers = 0 WHERE id = '12'")
        ledger._db.execute("UPDATE tasks SET held_by = '9' WHERE id = '14'")
        ledger._db.executemany("INSERT INTO edges (task, waits) VALUES ('13', ?)", [("7",), ("8",), ("9",), ("11",)])
    seen = Query(directory.path).snapshot(0.0)
    lines = {line.plain[2:4]: line.plain for line in task_lines(seen, 0.0, 200)}
    assert lines["12"].endswith("  waits for approval")
    assert lines["13"].endswith("  after 10, 11, 7, 8 and 1 more, then approval")
    assert lines["14"].endswith("  held by 9")
    status = plain(status_lines(seen, replace(BESIDE, named="voyage-4f59 "), 0.0, 200, 50))
    assert "waits for approval  → ocaptain approve voyage-4f59 12" in status


def test_what_an_end_shows(tmp_path):
    scene = Scene(tasks=6, ships=5, landed=6, failed={}, retrying={}, layers=0, state="complete")
    seen, now = seen_of(tmp_path, scene)
    lines = plain(status_lines(seen, replace(BESIDE, has_captain=True), now, 80, 24)).splitlines()
    assert lines[0].startswith(f"{VOYAGE}  ✓ complete 4:12 (")
    assert re.fullmatch(r"✓ plan  ✓ repo \S+  ✓ ships 5/5 \(\d+ s\)  ✓ work \(.+\)  ✓ verify \(\d+ s\)", lines[1])
    assert lines[2] == f"{'━' * 40}  6/6 landed"
    assert lines[3] == f"5 ships: 5 idle  (ocaptain status {VOYAGE} --all)"
    assert lines[4].startswith("✓ verify.sh passed in a fresh clone of the merged head on verify")
    assert "an hour" not in "\n".join(lines)  # nothing goes on


# -- ls --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    make_scene(root, SMALL, "voyage-4f59aabbccdd")
    done = Scene(tasks=3, ships=2, landed=3, failed={}, retrying={}, state="complete", seconds=7300, name="my-plan")
    make_scene(root, done, "voyage-92300a1b2c3d")
    (root / "voyages/voyage-aa0000000000").mkdir()
    return read_rows((root / "voyages").iterdir())


def test_ls_at_80_columns(rows):
    now = rows[-1].created + 7300
    broken = next(row for row in rows if row.summary is None)
    shown = voyage_lines([row for row in rows if row is not broken], now, 80)
    assert plain(shown) == (
        "ID                   PLAN     STATE       DONE  SHIPS   AGE\n"
        "voyage-4f59aabbccdd  fifty    ● running   6/14  3/4 up   4m\n"
        "  no captain runs, 2 failed, 1 retrying\n"
        "voyage-92300a1b2c3d  my-plan  ✓ complete  3/3   2 up     2h\n"
        "  not sunk"
    )
    narrow = plain(voyage_lines(rows, now, 60)).splitlines()
    assert any(line.startswith("voyage-4f59  fifty    ● running") for line in narrow)
    assert max(map(cell_len, narrow)) <= 60


def test_ls_on_a_pipe_has_no_symbols(rows):
    now = rows[-1].created + 7300
    found = {row.directory.name: cells(row, now) for row in rows}
    assert found["voyage-92300a1b2c3d"] == (
        *("voyage-92300a1b2c3d", "my-plan", "complete", "3/3", "2 up", "2h", "-", "not sunk"),
    )
    assert found["voyage-aa0000000000"][2] == "unreadable"
    assert {len(one) for one in found.values()} == {8}


@pytest.mark.parametrize(
    ("provider", "note"), [("sprites", "not sunk: ships still cost"), ("drydock", "not sunk"), ("hosts", "not sunk")]
)
def test_ships_that_cost_are_said_to(rows, provider, note):
    row = next(row for row in rows if row.summary and row.summary.state == "complete")
    assert cells(replace(row, summary=replace(row.summary, provider=provider)), 0.0)[-1] == note


# -- the others ------------------------------------------------------------------------------------


def test_cost_without_usage_is_not_nothing(tmp_path):
    directory = make_scene(tmp_path, SMALL)
    for by, parts in (("ship", 4), ("task", 14), ("model", 0)):
        costs = Query(directory.path).costs(by, lambda _: 0)
        records = cost_records(costs)
        assert [record[1:6] for record in records] == [("-",) * 5] * (parts + 1)
        assert {len(record) for record in records} == {9}
        assert records[-1][0] == "total"
        assert all(line.cell_len <= 80 for line in cost_lines(costs, 80))


def test_doctor_ends_with_what_to_do():
    ok = Finding("git", "ok", "2.39.5")
    warning = Finding("ansible settings", "warning", "word " * 20, "mend " * 20)
    fault = Finding("drydock", "fault", "is not there", "install it")
    text = plain(doctor_lines([ok, warning, fault], 80))
    assert text == (
        "✓ ok     git               2.39.5\n"
        "! warn   ansible settings  word word word word word word word word word word\n"
        "                           word word word word word word word word word word\n"
        "                           → mend mend mend mend mend mend mend mend mend mend\n"
        "                             mend mend mend mend mend mend mend mend mend mend\n"
        "✗ FAULT  drydock           is not there\n"
        "                           → install it\n"
        "not ready: mend drydock"
    )
    assert plain(doctor_lines([ok], 80)).endswith("\nready: a voyage can sail from here")
    assert "with less than it could have: see ansible settings" in plain(doctor_lines([ok, warning], 200))


def test_why_gives_reasons_in_full(tmp_path):
    reason = f"{CHECK}\n    indented output \x1b[31m\n" + "修" * 100
    directory = make_scene(tmp_path, replace(SMALL, failed={"2": reason}))
    story = Query(directory.path).why("2", has_captain=True)
    lines = [line.plain for line in story_lines(story, VOYAGE, 80)]
    assert lines[0] == "✗ failed task 2  修复登录页面在移动设备上的布局问题使其在小屏幕上可以正常使用"
    assert lines[2].startswith("  ✗ attempt 1 on ship-1 failed (at ")
    assert "        indented output \\x1b[31m" in lines
    assert sum(line.count("修") for line in lines[3:]) == 100
    later = [line.plain for line in story_lines(story, VOYAGE, 200, story.attempts[0].started + 2 * 86400)]
    assert re.search(r"failed \(at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, for ", later[2])
    assert max(map(cell_len, [lines[0], *lines[2:-1]])) <= 80
    assert lines[-1] == f"  the agents' output: ocaptain logs {VOYAGE} 2"


def test_why_tells_a_failed_check_once(tmp_path):
    command = f"test -f {'long/' * 9}name"
    reason = f"the check `{command}` ended with exit code 1:\n    it said this"
    directory = make_scene(tmp_path, replace(SMALL, failed={"2": reason}))
    story = Query(directory.path).why("2", has_captain=True)
    checked = {"command": command, "exit_code": 1, "tail": "    it said this"}
    story = replace(story, attempts=tuple(replace(one, check=checked) for one in story.attempts))
    lines = [line.plain for line in story_lines(story, VOYAGE, 80)]
    assert not [line for line in lines if line.startswith("    check: ")]
    at = lines.index("        it said this")
    assert " ".join(line.strip() for line in lines[at - 2 : at]) == reason.partition("\n")[0]


def test_a_plan_of_one_task_is_said_to_be(tmp_path):
    seen, now = seen_of(tmp_path, Scene(tasks=1, ships=1, landed=0, failed={}, retrying={}, layers=0))
    assert "plan 1 task  " in plain(status_lines(seen, BESIDE, now, 80, 24))


def test_why_tells_attempts_that_ended_alike_once(tmp_path):
    directory = make_scene(tmp_path, replace(SMALL, failed={"2": CHECK}))
    story = Query(directory.path).why("2", has_captain=True)
    (one,) = story.attempts
    tries = [replace(one, attempt=number) for number in (1, 2, 3)]
    lines = [line.plain for line in story_lines(replace(story, attempts=tuple(tries)), VOYAGE, 80)]
    assert next(line for line in lines if " attempt" in line).startswith(
        "  ✗ attempts 1-3 on ship-1 failed (the last at "
    )
    assert "\n".join(lines).count("ended with exit code 1") == 1
    tries[1] = replace(one, attempt=2, ship="ship-0")
    lines = [line.plain for line in story_lines(replace(story, attempts=tuple(tries)), VOYAGE, 80)]
    assert sum(line.startswith("  ✗ attempt ") for line in lines) == 3
    long = replace(story, subject="word " * 500, attempts=())
    assert len(story_lines(long, VOYAGE, 80)) == 3 + len(long.waits)


def test_sink_says_what_is_kept_and_what_is_lost(small):
    seen, now = small
    assert sink_facts(seen, BESIDE, abandon=False) == [
        "3 agents are in the middle of tasks 9, 10, 11: their state is fetched first",
        "6 tasks landed, and stay here in its branch; 8 are not done",
        "3 ships on drydock will be destroyed, which saves up to $1.36 an hour",
    ]
    ships = tuple(replace(ship, task=None) if ship.id != "ship-0" else ship for ship in seen.ships)
    one = replace(seen, ships=ships, about=replace(seen.about, provider="hosts"))
    assert sink_facts(one, BESIDE, abandon=True)[::2] == [
        "1 agent is in the middle of task 9: its state is fetched first, and lost if it cannot be",
        "3 hosts stay, without what ocaptain put there",
    ]
    for landed, told in (
        (0, "no task has landed; 14 are not done"),
        (1, "1 task landed, and stays here in its branch"),
    ):
        counts = {**seen.about.tasks, "completed": landed}
        about = replace(seen.about, tasks=counts)
        assert sink_facts(replace(seen, about=about), BESIDE, abandon=False)[1].startswith(told)
    lines = sink_lines(seen, BESIDE, now, 80, abandon=False)
    assert all(line.cell_len <= 80 for line in lines)
    assert len(lines) < 24
    assert len(sink_lines(seen, BESIDE, now, 80, abandon=False, is_one=False)) == 5


@pytest.mark.parametrize(("provider", "is_known"), [("drydock", False), ("hosts", False), ("sprites", True)])
def test_prices_are_read_only_where_machines_may_cost(monkeypatch, tmp_path, provider, is_known):
    for name, value in {"HOME": str(tmp_path), "OCAPTAIN_DOTENV_DIR": str(tmp_path), "OCAPTAIN_PRICES": ""}.items():
        monkeypatch.setenv(name, value)
    loaded = []
    monkeypatch.setattr("ocaptain.prices.load_prices", lambda path: loaded.append(path) or load_prices(path))
    assert (machine_cost(provider)(3600) > 0) is is_known
    assert bool(loaded) is is_known
    own = tmp_path / "prices.toml"
    own.write_text(f"[machines.{provider}]\ncpus = 1\nmemory_gb = 0\ncpu_hour = 2\nmemory_gb_hour = 0\n")
    monkeypatch.setenv("OCAPTAIN_PRICES", str(own))
    assert machine_cost(provider)(1800) == 10**9


def test_a_command_names_a_voyage_where_there_are_others(tmp_path):
    names = ["voyage-4f59aabbccdd", "voyage-4f59aaccccdd", "voyage-92300a1b2c3d"]
    found = {}
    for count in (1, 3):
        for name in names[:count]:
            (tmp_path / name).mkdir(exist_ok=True)
        found[count] = [shortest_name(VoyageDirectory(tmp_path / name)) for name in names[:count]]
    assert found == {1: [""], 3: ["voyage-4f59aab ", "voyage-4f59aac ", "voyage-9230 "]}


def test_sweep_asks_with_what_it_saves():
    assert sweep_question(1, 0) == "Destroy this ship? Its work will be lost."
    assert sweep_question(3, 735_000_000) == (
        "Destroy these 3 ships? Their work will be lost. It saves up to $2.21 an hour."
    )
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    found = [
        Leftover(f"{VOYAGE}-ship-{n}", VOYAGE, "2025-12-31T21:00:00Z", "its voyage is sunk", n == 1) for n in (0, 1)
    ]
    assert plain(leftover_lines(found, now, 100)).splitlines() == [
        f"  {VOYAGE}-ship-0  3 h  its voyage is sunk",
        f"  {VOYAGE}-ship-1  3 h  its voyage is sunk; a captain elsewhere commands it",
    ]


def test_drydock_tells_people_where_it_is():
    record = ServerRecord("http://127.0.0.1:4000", "/state/token", 7)
    tally = {"calls": {"one": {"GET": 1999, "WS": 1}}, "bytes": {"one": {"sent": 5, "received": 1_000_000}}}
    metrics = {"sprites": 1, "states": {"running": 1, "cold": 0}, **tally, "awake_seconds": {"one": 61.2}}
    assert plain(drydock.server_lines(record, metrics, 80)) == (
        "● drydock is running\n"
        "  at       http://127.0.0.1:4000\n"
        "  process  7\n"
        "  token    in /state/token\n"
        "  sprites  1 (1 running)\n"
        "  SPRITE  CALLS  SENT   RECEIVED  AWAKE\n"
        "  one     2,000     5  1,000,000   1:01"
    )
    assert plain(drydock.server_lines(record, {}, 80)).count("\n") == 3


@pytest.mark.parametrize(("is_terminal", "as_json"), [(True, False), (True, True), (False, False), (False, True)])
def test_drydock_is_json_on_a_pipe_or_where_it_is_asked_for(monkeypatch, is_terminal, as_json):
    monkeypatch.setattr(render, "_json_printed", False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(drydock.server, "running_server", lambda: None)
    out = io.StringIO()
    out.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stdout", out)
    assert drydock.status(as_json=as_json) == 1
    if is_terminal and not as_json:
        assert out.getvalue() == "○ drydock is not running\n"
    else:
        assert as_documented(out.getvalue())["running"] is False


# -- terminals -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    make_scene(root, SMALL)
    return root


@pytest.mark.parametrize("more", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}], ids=["dumb", "no colour"])
@pytest.mark.parametrize("words", ["status", "tasks", "ls"])
def test_no_colours_no_escapes_and_nothing_wraps(home, words, more):
    code, seen = on_terminal(home, words, cols=80, **more)
    lines = [line for line in seen.splitlines() if line]
    after = next(at for at, line in enumerate(lines) if "next: " in line)
    assert code == 0
    assert max(map(cell_len, lines[:after])) <= 80
    assert "\x1b" not in seen


# -- any text --------------------------------------------------------------------------------------

hostile = st.text(
    st.one_of(
        st.characters(exclude_categories=()),
        st.sampled_from("\t\n\r\x1b\x07\x9b\x85\u2028\u202e\u200d\ufe0f\\修👨é́ "),
    ),
    max_size=200,
)
no_deadline = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def with_texts(seen, text):
    """Return a snapshot in which all that others wrote is this text."""
    about = replace(seen.about, name=text, note=text, notices=[{"task": "1", "text": text}])
    tasks = tuple(replace(one, subject=text, reason=text) for one in seen.tasks)
    ships = tuple(replace(one, reason=text) for one in seen.ships)
    return replace(seen, about=about, tasks=tasks, ships=ships)


@no_deadline
@given(hostile, st.integers(50, 200))
@example("x" * 1000, 50)
@example("修" * 500, 51)
def test_no_text_breaks_a_line(small, text, width):
    seen, now = with_texts(small[0], text), small[1]
    shown = [
        *status_lines(seen, BESIDE, now, width, 24),
        *status_lines(seen, BESIDE, now, width, 24, show_all=True),
        *task_lines(seen, now, width, show_all=True),
        *sink_lines(seen, BESIDE, now, width, abandon=True),
    ]
    commands = ("! no captain", "and ", "branch", "  in ", "✓ 6 landed")
    for line in shown:
        assert line.plain == escape_control(line.plain).replace("\n", " ").replace("\t", " ")
        if not line.plain.startswith(commands):
            assert line.cell_len <= width, line.plain


@no_deadline
@given(hostile)
@example("a\tb\nc\\d")
def test_no_text_breaks_a_record(small, text):
    seen, now = with_texts(small[0], text), small[1]
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "sys", types.SimpleNamespace(stdout=out))
        render.print_records(task_records(seen, now))
        render.print_records(status_records(seen, BESIDE, now))
    lines = out.getvalue().splitlines()
    assert len(lines) == out.getvalue().count("\n")
    assert {line.count("\t") for line in lines[:14]} == {8}
    counts = {line.split("\t")[0]: line.count("\t") for line in lines[14:]}
    assert {counts.pop(key) for key in ("task", "ship")} == {6}
    assert set(counts.values()) == {1}
    subject = lines[0].split("\t")[7]
    if text == "a\tb\nc\\d":
        assert subject == r"a\tb\nc\\d"


@given(hostile, st.integers(2, 40), st.integers(0, 4))
def test_wrapped_lines_fit_and_lose_nothing(text, width, most):
    lines = wrap(text, width, most=most)
    assert all(cell_len(line) <= width for line in lines)
    assert not most or len(lines) <= most
    if not most:
        assert "".join(lines).replace(" ", "") == "".join(wrap(text, 10_000)).replace(" ", "")


@given(st.lists(st.integers(0, 60), min_size=1, max_size=5), st.integers(0, 200))
def test_room_is_shared(wanted, room):
    given_ = share(wanted, room)
    assert all(one <= most for one, most in zip(given_, wanted, strict=True))
    if room >= 8 * len(wanted):
        assert sum(given_) == min(room, sum(wanted))
    if sum(wanted) <= room:
        assert given_ == wanted


def test_an_empty_column_is_left_out_and_numbers_stand_right():
    lines = lay_out([("a", "", "1"), ("bbb", "", "22")], 80, right=[2])
    assert plain(lines) == "a     1\nbbb  22"


def test_shell_without_a_ship_names_those_at_work(tmp_path):
    query = Query(make_scene(tmp_path, replace(SMALL, lost={})).path)
    with pytest.raises(UsageError) as caught:
        choose_ship(query.overview(), None, query.subjects())
    first, *lines = str(caught.value).splitlines()
    assert first == f"which ship of {VOYAGE}?"
    assert "ship-2  ● task 11  Add OAuth2 login" in lines
    assert lines[-1] == "type: ocaptain shell ship-0"
    with pytest.raises(UsageError) as asked:
        choose_ship(query.overview(), None, command="ocaptain exec {} -- COMMAND")
    assert str(asked.value).splitlines()[-1] == "type: ocaptain exec ship-0 -- COMMAND"
