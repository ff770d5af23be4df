"""The full screen: what it shows at each size, what each key does, and how it is left."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from rich.cells import cell_len
from rich.text import Text

from ocaptain.cli.watch import keys, rows
from ocaptain.cli.watch.acts import find_task, loss_of
from ocaptain.cli.watch.app import WatchApp
from ocaptain.cli.watch.logs import MAX_LINE, LogTail
from ocaptain.cli.watch.pages import LogPage, Page, Question, Search
from ocaptain.cli.watch.run import run_watch
from ocaptain.cli.watch.seen import Reader, farewell, find_log
from ocaptain.cli.watch.size import is_too_small, share_room
from ocaptain.control import carry_out
from ocaptain.control.listen import listening
from ocaptain.errors import UsageError
from ocaptain.git import Git
from ocaptain.ledger import Ledger
from ocaptain.locks import Lock
from ocaptain.process import captain_lock_path
from ocaptain.query import Query
from tests.helpers import OCAPTAIN, PATIENCE
from tests.scenes import VOYAGE, Scene, make_scene
from tests.unit.test_workspace import commit

SIZES = ((80, 24), (200, 50), (40, 12))
FAILED = Scene(state="failed", landed=48, failed={"7": 'exit 3, said "boom"', "23": "check `false`: exit 1"})
COMPLETE = Scene(state="complete", landed=50, failed={}, retrying={})
MANY = Scene(tasks=1000, ships=50, landed=600, layers=50)
HOSTILE = Scene(
    subjects=("\x1b[31mred\x1b[0m [red]x[/] \u202eabc", "[/] [bold] [/nothing]", "wide 界" * 100, "\x07bell\x9b31m"),
    logs=("\x1b]0;title\x07[/] [red]", "\udcff\udcfe[red]", "界" * 3000, "a\tb\rc"),
    failed={"7": "[/] [red] \x1b[2J\n\n2nd line"},
    retrying={"43": "[/x]\x9bm"},
    lost={"ship-4": "[/] gone \x1b[2J"},
    name="[/x] \x1b[31m",
)


def watch(scene_or_directory, tmp_path, act, *, size=(80, 24), program=("false",), captain=True, **more):
    """Watch a scene without a terminal; return what ``act(app, pilot)`` returned."""
    directory = scene_or_directory
    if isinstance(directory, Scene):
        directory = make_scene(tmp_path, directory)

    async def run():
        app = WatchApp(directory, program=program, **more)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.seen.snapshot is not None or app.seen.fault)
            await until(pilot, lambda: app.seen.log is not None or not any(one.task for one in ships_of(app)))
            await pilot.pause()
            return await act(app, pilot)

    with contextlib.ExitStack() as stack:
        if captain:
            lock = stack.enter_context(Lock(captain_lock_path(directory.path)))
            assert lock.acquire_within(1)
        return asyncio.run(run())


def ships_of(app):
    return app.seen.snapshot.ships if app.seen.snapshot else ()


async def until(pilot, is_so, seconds=PATIENCE):
    """Wait until something is so, and until what follows from it is drawn."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, screen(pilot.app)
        await pilot.pause(0.02)
    await pilot.pause()


def screen(app) -> str:
    """Return the text of the screen, times as they would be at no time."""
    strips = app.screen._compositor.render_strips()
    text = "\n".join(strip.text.rstrip() for strip in strips)
    return re.sub(r"\d+:\d\d", lambda found: "0:00".rjust(len(found[0]), "0"), text)


async def shown(app, pilot):
    return screen(app)


@contextlib.contextmanager
def command(directory):
    """Write the ledger as the captain in command."""
    with Ledger(directory.path / "ledger.db") as ledger:
        ledger.take_command()
        yield ledger


def fake_program(tmp_path, code=0):
    """Return a program that notes its arguments, and the file with them."""
    noted, program = tmp_path / "noted", tmp_path / "ocaptain"
    # At once: who waits for the file finds the line.
    line = f'echo "$@" >> {noted}.all; cp {noted}.all {noted}.new; mv {noted}.new {noted}'
    program.write_text(f"#!/bin/sh\n{line}\nexit {code}\n")
    program.chmod(0o755)
    return (str(program),), noted


# -- the screen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "scene", [Scene(), FAILED, COMPLETE, MANY, HOSTILE], ids=["run", "fail", "done", "many", "bad"]
)
def test_every_scene_fits_every_size_and_says_what_matters(tmp_path, scene, size):
    text = watch(scene, tmp_path, shown, size=size)
    lines = text.splitlines()
    assert len(lines) <= size[1]
    assert max(map(cell_len, lines)) <= size[0]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
    assert VOYAGE in text
    assert "tasks " in text
    assert "ships " in text
    assert "q leave" in lines[-1]
    if scene.failed:
        first = next(line for line in lines if "✗ 7" in line)
        assert "exit 3" in first or "[/] [red]" in first
    if scene.state != "running":
        assert f"{scene.state}" in text
        assert "next: ocaptain " in text


def test_the_screen_of_80_columns(tmp_path):
    text = watch(Scene(subjects=("Add login", "Ship it")), tmp_path, shown)
    lines = text.splitlines()
    assert lines[0].startswith(f"fifty · {VOYAGE} · drydock · 5 ships")
    assert lines[1].startswith("✓ plan 50 tasks  ✓ repo todo@3f2a1c  ✓ ships 5/5")
    assert "38/50  ● 4  ✗ 1  ↻ 1  left ~0:00" in lines[2]
    assert lines[3:10] == [
        "▸ ships 5/5 up                      │  tasks 38/50 landed, 1 failed           ↓7",
        'ship-0 ● #40  0:00 Edit app/login.c…│✗ 7     0:00 exit 3, said "boom"  Add login',
        "ship-1 ● #41  0:00 npm test  Add lo…│↻ 43    0:00 2/3 check `false`: exit 1  Ad…",
        "ship-2 ● #42  0:00 Bash: git diff -…│● 40 ◆  0:00 Ship it",
        "ship-3 ● #43  0:00 ↻2/3 wrote 3 fil…│● 41    0:00 Add login",
        "ship-4 ● #44  0:00 Edit app/login.c…│● 42    0:00 Ship it",
        "                                    │● 44    0:00 Ship it",
    ]
    assert lines[-10:] == [
        "  log of ship-0 #40 Ship it",
        "first line of task 40",
        "Edit app/login.css",
        "",
        "",
        "",
        "",
        "",
        "q leaves; the voyage sails on",
        "⏎ attach  l log  w why  r retry  p pause  c cost  a all  / find  ? help  q leave",
    ]


def test_a_wide_screen_has_subjects_and_what_is_said_of_them_side_by_side(tmp_path):
    text = watch(Scene(subjects=("Add login", "Ship it")), tmp_path, shown, size=(200, 50))
    ship = next(line for line in text.splitlines() if line.startswith("ship-0"))
    assert re.match(r"ship-0 ● #40  0:00 Ship it +Edit app/login.css +│✗ 7 +0:00 ship-1 +Add login +exit 3, said", ship)


def test_a_small_terminal_is_told_so_and_grows(tmp_path):
    async def act(app, pilot):
        small = screen(app)
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "ship-0 ●" in screen(app))
        return small

    small = watch(Scene(), tmp_path, act, size=(30, 8))
    assert " ".join(small.split()) == "this terminal is too small: it has 30x8, watch needs 40x12; q leaves"


def test_only_failures_are_red_and_no_color_has_no_colours(tmp_path, monkeypatch):
    async def colours(app, pilot):
        app.say("a captain's refusal", "red")
        await pilot.pause()
        found = set()
        for strip in app.screen._compositor.render_strips():
            for segment in strip:
                if segment.style and segment.style.color and segment.text.strip():
                    found.add((segment.style.color.name, segment.text.strip()))
        return found

    red = {text for colour, text in watch(Scene(), tmp_path / "a", colours) if colour in {"red", "ansi_red"}}
    assert red
    assert "a captain's refusal" in red
    assert all(re.match(r'✗|━|exit 3, said "boom"|a captain', text) for text in red), red
    monkeypatch.setenv("NO_COLOR", "1")

    async def filters(app, pilot):
        return app.no_color, [type(one).__name__ for one in app._filters]

    assert watch(Scene(), tmp_path / "b", filters) == (True, ["ANSIToTruecolor", "NoColor"])


def test_what_happens_is_shown(tmp_path):
    directory = make_scene(tmp_path, Scene())

    async def act(app, pilot):
        assert "log of ship-0 #40" in screen(app)
        log = directory.path / "logs/ship-0/40.1.log"
        with log.open("a") as file:
            file.write("something new\n")
        await until(pilot, lambda: "something new" in screen(app).split("log of")[1])
        await until(pilot, lambda: "something new" in screen(app).split("log of")[0])  # what the ship does
        with command(directory) as ledger:
            ledger.fail(
                next(row["token"] for row in ledger.rows("attempts", "token") if row["task"] == "41"), "no", final=True
            )
        await until(pilot, lambda: "2 failed" in screen(app))
        await pilot.press("down", "down")
        await until(pilot, lambda: "log of ship-2 #42" in screen(app))

    watch(directory, tmp_path, act)


def test_a_ledger_that_cannot_be_read_for_a_while(tmp_path):
    directory = make_scene(tmp_path, Scene())
    ledger = directory.path / "ledger.db"

    async def act(app, pilot):
        before = ledger.read_bytes()
        ledger.write_bytes(b"no ledger" * 1000)
        await until(pilot, lambda: "ledger.db" in screen(app).replace("\n", ""))
        assert "ship-0 ● #40" in screen(app)  # what is known stays
        await pilot.press("w")  # nor does a key end it
        await pilot.pause()
        ledger.write_bytes(before)
        await until(pilot, lambda: app.seen.fault is None)
        await until(pilot, lambda: "q leaves" in screen(app) or "cannot" in screen(app))

    watch(directory, tmp_path, act)


def test_the_end_is_shown_and_the_screen_stays(tmp_path):
    directory = make_scene(tmp_path, Scene())

    async def act(app, pilot):
        with command(directory) as ledger:
            ledger.set_state("complete")
        await until(pilot, lambda: "\n✓ complete\nnext: " in screen(app))
        await until(pilot, lambda: f"next: ocaptain clone {VOYAGE}" in screen(app))
        with command(directory) as ledger:
            ledger.set_state("sunk")
        await until(pilot, lambda: "\n○ sunk\nnext: " in screen(app))
        assert app.check_action("sink", ()) is False

    watch(directory, tmp_path, act)


def test_without_a_captain_it_says_how_to_go_on(tmp_path):
    text = watch(Scene(), tmp_path, shown, captain=False)
    assert f"no captain is running; resume with: ocaptain sail --resume {VOYAGE}" in text
    assert "p resume" in text


# -- the keys ------------------------------------------------------------------------------------------


def test_enter_attaches_to_the_chosen_ship(tmp_path):
    program, noted = fake_program(tmp_path)

    async def act(app, pilot):
        await pilot.press("down", "enter")
        await pilot.pause()
        await pilot.press("tab", "end", "enter")  # a wave that has landed: nothing to attach to
        await pilot.press("home", "down", "down", "enter")  # the third task: the second at work
        await pilot.pause()

    watch(Scene(), tmp_path, act, program=program)
    assert noted.read_text().splitlines() == [f"shell {VOYAGE} ship-1", f"shell {VOYAGE} ship-0"]


def test_a_program_that_fails_is_told_of(tmp_path):
    program, _ = fake_program(tmp_path, code=3)

    async def act(app, pilot):
        await pilot.press("enter")
        await pilot.pause()
        assert f"`ocaptain shell {VOYAGE} ship-0` ended with exit code 3" in " ".join(screen(app).split())

    watch(Scene(), tmp_path, act, program=program)


def test_l_shows_the_whole_log_of_a_task_as_it_grows(tmp_path):
    directory = make_scene(tmp_path, Scene())
    log = directory.path / "logs/ship-3/43.2.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))

    async def act(app, pilot):
        await pilot.press("down", "down", "down", "l")
        await until(pilot, lambda: "line 99" in screen(app))
        assert isinstance(app.screen, LogPage)
        assert screen(app).startswith("▸ log of #43")
        await pilot.press("home")
        assert "── ship-3 43#1" in screen(app)
        assert "first line of task 43" in screen(app) or "line 0" in screen(app)
        with log.open("a") as file:
            file.write("the last\n")
        await pilot.press("end")
        await until(pilot, lambda: "the last" in screen(app))
        await pilot.press("q")
        assert "ships 5/5" in screen(app)

    watch(directory, tmp_path, act)


def test_w_shows_what_why_shows(tmp_path):
    async def act(app, pilot):
        await pilot.press("tab", "w")
        await until(pilot, lambda: isinstance(app.screen, Page))
        await pilot.pause()
        text = screen(app)
        assert "✗ failed task 7" in text
        assert 'exit 3, said "boom"' in text
        assert f"ocaptain logs {VOYAGE} 7" in text
        await pilot.press("escape")
        assert "ships 5/5" in screen(app)

    watch(Scene(), tmp_path, act)


def test_what_an_agent_has_changed_is_shown_as_text(tmp_path):
    directory = make_scene(tmp_path, Scene())
    subprocess.run(["git", "init", "-q", "--bare", directory.path / "repo.git"], check=True)
    git = Git(directory.path / "repo.git")
    base = commit(git, {"a": "1\n"})
    seen = commit(git, {"a": "1\n", "b": "red \x1b[31m\n"}, base)
    with command(directory) as ledger:
        token = ledger.held_claim("ship-0").token
        ledger.record_start(token, base)
        ledger.note_live(token, {"commit": seen, "at": time.time(), "files": 1})

    async def act(app, pilot):
        await pilot.press("d")
        await until(pilot, lambda: "+red \\x1b[31m" in screen(app))
        assert "diff of ship-0" in screen(app)
        assert "ship-0, task 40, " in screen(app)
        await pilot.press("escape", "down", "d")
        await until(pilot, lambda: "diff of ship-1" in screen(app))
        assert "its files were not fetched yet" in screen(app)

    watch(directory, tmp_path, act)


@pytest.mark.parametrize("key", ["c", "$"])
def test_the_cost_is_what_cost_shows(tmp_path, key):
    async def act(app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, Page))
        await pilot.pause()
        text = screen(app)
        assert re.search(r"SHIP +TRIES +TOKENS IN +CACHED +OUT +AGENTS", text)
        assert "machines: $0.00" in text

    watch(Scene(), tmp_path, act)


def test_a_shows_what_landed_and_slash_finds(tmp_path):
    async def act(app, pilot):
        few = app.tasks.row_count
        await pilot.press("a")
        assert app.tasks.row_count == few + 38
        assert "a fewer" in screen(app)
        await pilot.press("a")
        assert app.tasks.row_count == few
        await pilot.press("slash")
        assert isinstance(app.screen, Search)
        await pilot.press("3", "enter")
        await until(pilot, lambda: app.tasks.chosen == "3")  # it has landed, so all are shown
        assert app.tasks.row_count == few + 38
        await pilot.press("slash", *"OAUTH", "enter")
        await until(pilot, lambda: app.tasks.chosen == "6")
        await pilot.press("slash", "enter")
        await until(pilot, lambda: app.tasks.chosen == "11")
        await pilot.press("slash", *"zzz", "enter")
        await until(pilot, lambda: "no task is found by 'zzz'" in screen(app))
        await pilot.press("slash", "escape")
        assert app.tasks.chosen == "11"

    watch(Scene(), tmp_path, act)


def test_help_names_each_key(tmp_path):
    async def act(app, pilot):
        await pilot.press("question_mark")
        text = screen(app)
        for key in keys.KEYS:
            assert key.about[:30] in text
        for sign, about in keys.SYMBOLS:
            assert sign in text
            assert about in text

    watch(Scene(), tmp_path, act, size=(120, 40))


def with_captain(directory, tmp_path, act, **more):
    """Watch with a captain that does nothing but carry out commands."""

    async def run(app, pilot):
        with command(directory) as ledger:
            async with listening(directory.path, lambda command: carry_out(command, ledger)):
                return await act(app, pilot)

    return watch(directory, tmp_path, run, **more)


def test_p_pauses_by_the_captain_and_resumes_by_sail(tmp_path):
    directory = make_scene(tmp_path, Scene())
    program, noted = fake_program(tmp_path)

    async def act(app, pilot):
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Question))
        assert f"Pause {VOYAGE}?" in screen(app)
        await pilot.press("n")
        await pilot.pause()
        assert Query(directory.path).overview().paused_reason is None
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("y")
        await until(pilot, lambda: f"{VOYAGE} pauses: 5 tasks are finished first" in screen(app))
        assert Query(directory.path).overview().paused_reason == "user"
        await until(pilot, lambda: "p resume" in screen(app))
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("y")
        await until(pilot, noted.exists)

    with_captain(directory, tmp_path, act, program=program)
    assert noted.read_text() == f"sail --resume {VOYAGE}\n"


@pytest.mark.parametrize(("pressed", "back"), [(("tab", "home", "down"), ["23"]), ((), ["7", "23"])])
def test_r_tries_failed_tasks_again(tmp_path, pressed, back):
    directory = make_scene(tmp_path, FAILED)
    program, noted = fake_program(tmp_path)

    async def act(app, pilot):
        await pilot.press(*pressed, "r")
        await until(pilot, lambda: isinstance(app.screen, Question))
        assert ("Try task 23 again?" if pressed else "Try all 2 failed tasks again?") in screen(app)
        await pilot.press("y")
        await until(pilot, lambda: f"retried: task {', '.join(back)}" in screen(app))
        left = set(Query(directory.path).failed_tasks())
        assert left == {"7", "23"} - set(back)

    with_captain(directory, tmp_path, act, program=program)
    assert not noted.exists()  # its captain goes on


def test_r_makes_the_fleet_again_if_no_captain_is_there(tmp_path):
    program, noted = fake_program(tmp_path)

    async def act(app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("y")
        await until(pilot, noted.exists)

    watch(FAILED, tmp_path, act, program=program, captain=False)
    assert noted.read_text() == f"sail --resume {VOYAGE}\n"


def test_what_the_captain_refuses_is_shown(tmp_path):
    directory = make_scene(tmp_path, Scene())

    async def act(app, pilot):
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Question))
        with command(directory) as ledger:
            ledger.set_state("verifying")
        await pilot.press("y")
        await until(pilot, lambda: "cannot be paused: its final verify is running" in screen(app))

    with_captain(directory, tmp_path, act)


def test_a_held_task_is_approved(tmp_path):
    directory = make_scene(tmp_path, Scene())
    with Ledger(directory.path / "ledger.db") as ledger:
        ledger._db.execute(
            "UPDATE tasks SET approved = 0, raw = json_set(raw, '$.metadata.hold', json('true')) WHERE id = '46'"
        )

    async def act(app, pilot):
        assert "waits for approval (A): task 46" in screen(app)
        assert "A approve" not in screen(app)
        await pilot.press("slash", "4", "6", "enter")
        await until(pilot, lambda: "A approve" in screen(app))
        await pilot.press("A")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("y")
        await until(pilot, lambda: "approved: task 46" in screen(app))
        await until(pilot, lambda: not app.seen.snapshot.task["46"].hold)

    with_captain(directory, tmp_path, act)


def test_s_says_what_is_lost_before_it_runs_sink(tmp_path):
    program, noted = fake_program(tmp_path)

    async def act(app, pilot):
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Question))
        text = screen(app)
        assert f"Sink {VOYAGE}?" in text
        assert "destroyed: 5 ships" in text
        assert "kept: what has landed (38 tasks)" in text
        await pilot.press("escape")
        await pilot.pause()
        assert not noted.exists()
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("y")
        await until(pilot, noted.exists)

    watch(Scene(), tmp_path, act, program=program)
    assert noted.read_text() == f"sink {VOYAGE}\n"


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
def test_it_is_left_from_anywhere(tmp_path, key):
    async def act(app, pilot):
        if key == "ctrl+c":
            await pilot.press("question_mark")
        await pilot.press(key)
        await until(pilot, lambda: app._exit)
        return app.fault

    assert watch(Scene(), tmp_path, act) is None


def test_keys_that_do_nothing_now_are_not_shown(tmp_path):
    async def act(app, pilot):
        for action in ("retry", "approve", "pause", "log", "why"):
            assert app.check_action(action, ()) is False, action
        await pilot.press("r", "A", "p", "l", "w")
        assert len(app.screen_stack) == 1
        line = screen(app).splitlines()[-1]
        assert "retry" not in line
        assert "pause" not in line

    watch(COMPLETE, tmp_path, act)


# -- parts ---------------------------------------------------------------------------------------------


def test_hostile_texts_stay_text_on_every_page(tmp_path):
    async def act(app, pilot):
        for key in ("l", "w", "c", "question_mark"):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, Page))
            await pilot.pause(0.1)
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", screen(app)), key
            await pilot.press("escape")
        await pilot.press("tab", "home", "w")
        await until(pilot, lambda: isinstance(app.screen, Page))
        await pilot.pause()
        assert "[/] [red] \\x1b[2J" in screen(app)
        await pilot.press("escape", "r")
        await until(pilot, lambda: isinstance(app.screen, Question))
        assert "#7 wide 界" in screen(app)

    watch(HOSTILE, tmp_path, act)


@pytest.mark.parametrize("width", [10, 40, 44, 60, 110, 200])
def test_no_row_is_wider_than_its_room(tmp_path, width):
    directory = make_scene(tmp_path, HOSTILE)
    snapshot = Reader(directory.path).read(None).snapshot
    found = [*rows.ship_rows(snapshot, {"ship-0": "界" * 300}), *rows.task_rows(snapshot, with_landed=True)]
    assert len(found) > 50
    assert max(row.draw(width, time.time()).cell_len for row in found) <= width


def test_tasks_are_in_the_order_of_what_matters(tmp_path):
    snapshot = Reader(make_scene(tmp_path, Scene()).path).read(None).snapshot
    found = rows.task_rows(snapshot, with_landed=False)
    assert [row.key for row in found[:6]] == ["7", "43", "40", "41", "42", "44"]
    headings = [row.text for row in found if not row.key]
    assert headings == [
        "wave 4: 8 landed, 1 to come",
        "wave 5: 5 to come",
        *(f"wave {number}: {count} landed" for number, count in ((1, 10), (2, 10), (3, 10))),
    ]
    assert sum(row.key != "" for row in rows.task_rows(snapshot, with_landed=True)) == 50


def test_the_room_is_shared_without_rest():
    for width in range(40, 210, 10):
        for height in range(8, 60):
            for ships, tasks in ((1, 1), (5, 17), (50, 1000)):
                for has_log in (True, False):
                    size = share_room(width, height, ships, tasks, has_log=has_log)
                    across = size.ships[1] if size.is_beside else size.ships[1] + size.tasks[1]
                    assert across + size.log == height
                    assert min(size.ships[1], size.tasks[1]) >= 2
                    assert size.log == 0 or (has_log and size.log >= 3)
                    wide = size.ships[0] + size.tasks[0] if size.is_beside else size.tasks[0]
                    assert wide == width
    assert is_too_small(39, 12)
    assert is_too_small(40, 11)
    assert not is_too_small(40, 12)


def test_a_log_is_read_as_it_grows_and_never_all_of_it(tmp_path):
    path = tmp_path / "log"
    tail = LogTail(path, 1000)
    assert tail.read() == []
    path.write_bytes(b"one\n  two\tcolumns\r\npart")
    assert tail.read() == ["one", "  two   columns"]
    assert tail.read() == ["part"]  # it has not grown
    with path.open("ab") as file:
        file.write(b"x" * 50_000 + b"\n" + b"y" * 5000 + b"\nlast \x1b[31m\xff\n")
    assert tail.read() == ["last \\x1b[31m\ufffd"]
    assert tail.is_cut
    path.write_bytes(b"anew\n")
    assert tail.read() == ["anew"]
    path.write_bytes(b"z" * 900 * 1000)
    assert all(len(line) <= MAX_LINE for line in tail.read())


def test_a_task_is_found(tmp_path):
    tasks = Reader(make_scene(tmp_path, Scene()).path).read(None).snapshot.tasks
    assert find_task(tasks, "12", None) == "12"
    assert find_task(tasks, "#12", None) == "12"
    assert find_task(tasks, "oauth2", None) == "1"
    assert find_task(tasks, "oauth2", "1") == "6"
    assert find_task(tasks, "oauth2", "46") == "1"
    assert find_task(tasks, "nothing", None) is None


def test_a_ship_without_a_task_shows_what_it_did_last(tmp_path):
    snapshot = Reader(make_scene(tmp_path, FAILED).path).read(None).snapshot
    assert str(find_log(snapshot, "ship-0")) == "logs/ship-0/46.1.log"
    assert find_log(snapshot, "ship-9") is None
    assert find_log(snapshot, None) is None


def test_keys_leave_out_what_matters_least():
    every = [key.action for key in keys.KEYS]
    for width in range(20, 140):
        line = keys.key_line(every, {}, width)
        assert line.cell_len <= width
        assert "? help" in line.plain
        assert "q leave" in line.plain
    assert isinstance(keys.help_lines()[0], Text)


def test_what_is_lost_by_a_sink_is_told(tmp_path):
    snapshot = Reader(make_scene(tmp_path, Scene()).path).read(None).snapshot
    assert loss_of(snapshot) == [
        "kept: what has landed (38 tasks), all logs and this voyage's directory",
        "stopped: the agents of task 40, 41, 42, 43, 44; the work so far is fetched first",
        "not done: 12 tasks",
        "destroyed: 5 ships, with what else is on them",
        "`ocaptain sink` asks once more.",
    ]
    one = (
        Reader(make_scene(tmp_path, Scene(tasks=2, ships=1, landed=1, failed={}), "voyage-1").path).read(None).snapshot
    )
    assert loss_of(one)[:4] == [
        "kept: what has landed (1 task), all logs and this voyage's directory",
        "stopped: the agent of task 2; the work so far is fetched first",
        "not done: 1 task",
        "destroyed: 1 ship, with what else is on it",
    ]


@pytest.mark.parametrize(
    ("scene", "captain", "words"),
    [
        (Scene(), True, f"{VOYAGE} sails on; next: ocaptain logs {VOYAGE} -f"),
        (Scene(), False, f"{VOYAGE} has no captain; next: ocaptain sail --resume {VOYAGE} --wait"),
        (COMPLETE, False, f"{VOYAGE} is complete; next: ocaptain clone {VOYAGE}"),
    ],
)
def test_the_last_line_says_what_goes_on_and_what_to_type(tmp_path, scene, captain, words):
    directory = make_scene(tmp_path, scene)
    with Lock(captain_lock_path(directory.path)) as lock:
        assert not captain or lock.acquire_within(1)
        assert farewell(Reader(directory.path).read(None), VOYAGE).startswith(words)


# -- the command ---------------------------------------------------------------------------------------


def test_no_other_command_loads_textual():
    line = "import sys, ocaptain.cli.app, ocaptain.cli.views, ocaptain.cli.logs; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0


def test_without_a_terminal_it_names_what_works(tmp_path, monkeypatch):
    make_scene(tmp_path, Scene())
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path / "voyages"))
    done = subprocess.run([OCAPTAIN, "watch"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    for command in ("ocaptain status", "ocaptain logs", "ocaptain events"):
        assert command in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_which_voyage_is_asked_as_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path / "voyages"))
    make_scene(tmp_path, Scene())
    make_scene(tmp_path, Scene(), voyage="voyage-ffffffffffff")
    with pytest.raises(UsageError, match="several voyages are active"):
        run_watch(None)


class Terminal:
    """A terminal with a command in it."""

    def __init__(self, *argv, env, size=(80, 24)) -> None:
        self.output = b""
        pid, self._fd = pty.fork()
        if pid == 0:
            os.execve(argv[0], argv, env)
        self._pid = pid
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait_for(self, words: str, seconds=PATIENCE) -> None:
        """Read until the words came after what was read before."""
        start, end = len(self.output), time.monotonic() + seconds
        while words.encode() not in self.output[start:]:
            assert time.monotonic() < end, self.output[start:]
            if select.select([self._fd], [], [], 0.2)[0]:
                try:
                    self.output += os.read(self._fd, 65536)
                except OSError:
                    assert words.encode() in self.output[start:], self.output[start:]

    def end(self) -> int:
        with contextlib.suppress(OSError):
            while data := os.read(self._fd, 65536):
                self.output += data
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._fd)
        return code


def terminal_env(tmp_path, **more):
    return {**os.environ, "OCAPTAIN_HOME": str(tmp_path / "voyages"), "TERM": "xterm-256color", **more}


def test_in_a_terminal_it_gives_it_away_and_leaves_it_as_it_was(tmp_path):
    make_scene(tmp_path, Scene())
    terminal = Terminal(str(OCAPTAIN), "watch", env=terminal_env(tmp_path))
    terminal.wait_for("ship-4")
    terminal.type("\r")
    terminal.wait_for("Enter goes back to watch")  # there is no drydock
    assert b"drydock is not running" in terminal.output
    terminal.type("\r")
    terminal.wait_for("ended with exit code 1")
    terminal.type("q")
    assert terminal.end() == 0
    last = terminal.output.rpartition(b"\x1b[?1049l")[2]  # on the normal screen
    assert b"voyage-0123456789ab has no captain; next: ocaptain sail --resume" in last
    assert terminal.output.count(b"\x1b[?1049h") == terminal.output.count(b"\x1b[?1049l") == 2
    assert terminal.output.rfind(b"\x1b[?25h") > terminal.output.rfind(b"\x1b[?25l")


def test_a_fault_of_ours_is_handed_on_without_a_page_of_traceback(tmp_path, capfd):
    class Broken(WatchApp):
        def draw(self):
            raise RuntimeError("broken")

    app = Broken(make_scene(tmp_path, Scene()))
    asyncio.run(app.run_async(headless=True, size=(80, 24)))
    assert "broken" in str(app.fault)
    assert "".join(capfd.readouterr()) == ""


def test_a_signal_ends_it_in_order(tmp_path):
    make_scene(tmp_path, Scene())
    terminal = Terminal(str(OCAPTAIN), "watch", env=terminal_env(tmp_path, NO_COLOR="1"))
    terminal.wait_for("ship-4")
    os.kill(terminal._pid, 15)
    assert terminal.end() == 0
    assert b"has no captain; next:" in terminal.output.rpartition(b"\x1b[?1049l")[2]
    assert not re.search(rb"\x1b\[[0-9;]*(3[0-7]|38|48|4[0-7])[0-9;]*m", terminal.output)  # no colour


def test_a_dumb_terminal_is_refused(tmp_path):
    make_scene(tmp_path, Scene())
    terminal = Terminal(str(OCAPTAIN), "watch", env=terminal_env(tmp_path, TERM="dumb"))
    assert terminal.end() == 2
    assert b"TERM is dumb" in terminal.output
    assert b"\x1b" not in terminal.output
