"""A voyage at one moment: of each state, made by the ledger's own methods, and of rows that nobody would make."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import tarfile
from pathlib import PurePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocaptain.ledger import Ledger, store
from ocaptain.query import Query
from ocaptain.query.phases import Course, repo_name
from ocaptain.query.snapshot import TaskLine
from tests.helpers import REPO, new_voyage
from tests.scenes import Scene, make_scene

VOYAGE = "voyage-0123456789ab"
CREATED = 1000.0


class Sea:
    """A voyage whose clock is ours."""

    def __init__(self, path, monkeypatch, graph, *, ships=2, done=(), raw=None, hold=()):
        self.directory = path / VOYAGE
        self.directory.mkdir()
        self.now = CREATED
        monkeypatch.setattr(store.time, "time", lambda: self.now)
        rows = [
            {
                "id": task,
                "position": at,
                "subject": f"Task {task}",
                "raw": (raw or {}).get(task, "{}"),
                "agent": "command",
                "pin": None,
                "approved": int(task not in hold),
                "priority": len(graph) - at,
                "status": "completed" if task in done else "pending",
            }
            for at, task in enumerate(graph)
        ]
        names = [*(f"ship-{number}" for number in range(ships)), "ship-verify"]
        edges = {task: frozenset(waits) for task, waits in graph.items()}
        new = new_voyage(
            id=VOYAGE, repo="git@host:me/todo.git", root="3f2a1c" + "0" * 34, tasks=rows, edges=edges,
            ships=[(name, f"{VOYAGE}-{name}") for name in names],
        )  # fmt: skip
        Ledger.create(self.directory / "ledger.db", new)
        self.ledger = Ledger(self.directory / "ledger.db")
        self.ledger.take_command()

    def at(self, seconds):
        """Let so many seconds pass since it was made."""
        self.now = CREATED + seconds
        return self

    def build(self, *ships):
        for ship in ships:
            self.ledger.set_ship(ship, "bootstrapping")
            self.ledger.set_ship(ship, "idle")

    def land(self, claim):
        commit = f"{claim.token:07x}".ljust(40, "0")
        self.ledger.begin_landing(claim.token, "refs/heads/x", "0" * 40, commit, {})
        self.ledger.finish_landing(claim.token)

    def verify(self, ok):
        self.ledger.record_verify(ok=ok, code=int(not ok), clean=True, commit="c" * 40, tail="", ship="ship-verify")

    def seen(self):
        return Query(self.directory).snapshot(self.now)

    def states(self):
        return {phase.name: phase.state for phase in self.seen().phases}

    def spans(self):
        """Return when each phase began and ended, in seconds since the voyage was made."""
        found = {phase.name: (phase.began, phase.ended) for phase in self.seen().phases}
        return {name: tuple(at if at is None else at - CREATED for at in span) for name, span in found.items()}


@pytest.fixture
def sea(tmp_path, monkeypatch):
    made = []

    def make(graph, **more):
        made.append(Sea(tmp_path, monkeypatch, graph, **more))
        return made[-1]

    yield make
    for one in made:
        one.ledger.close()


CHAIN = {"1": (), "2": ("1",), "3": ("2",)}


# -- the life of a voyage --------------------------------------------------------------------------


def test_a_voyage_from_its_beginning_to_its_end(sea):
    one = sea({"1": (), "2": ("1",)})
    seen = one.at(3).seen()
    assert one.states() == {"plan": "done", "repo": "done", "ships": "now", "work": "next", "verify": "next"}
    assert [phase.text for phase in seen.phases] == ["2 tasks", "todo@3f2a1c", "0/2", "", ""]
    assert (seen.started, seen.ended, seen.paused, seen.speed_up, seen.elapsed(one.now)) == (None, None, None, None, 3)
    one.at(5).build("ship-0")
    assert (one.states()["ships"], one.seen().phases[2].text) == ("now", "1/2")
    one.at(9).build("ship-1")
    one.ledger.set_ship("ship-verify", "asleep")
    one.at(10).ledger.set_state("running")
    assert (one.states()["ships"], one.spans()["ships"]) == ("done", (0, 9))
    first = one.at(12).ledger.claim("ship-0")
    seen = one.at(20).seen()
    assert (one.states()["work"], seen.task["1"].elapsed(one.now), seen.started) == ("now", 8, CREATED + 10)
    assert (seen.ships[0].log, seen.ships[0].began) == (PurePath("logs/ship-0/1.1.log"), CREATED + 12)
    assert (seen.task["2"].waits, seen.task["2"].wave) == (("1",), 2)
    one.at(32).land(first)
    second = one.at(40).ledger.claim("ship-1")
    one.at(52).land(second)
    assert [(line.task, line.seconds, line.ship) for line in one.seen().landed] == [
        ("1", 20, "ship-0"),
        ("2", 12, "ship-1"),
    ]
    one.at(60).ledger.set_state("verifying")
    assert (one.states()["work"], one.states()["verify"], one.spans()["work"]) == ("done", "now", (12, 60))
    one.at(70).verify(ok=True)
    one.ledger.set_state("complete")
    assert set(one.states().values()) == {"done"}
    assert one.spans() == {
        "plan": (None, None),
        "repo": (None, None),
        "ships": (0, 9),
        "work": (12, 60),
        "verify": (60, 70),
    }
    seen = one.at(500).seen()
    assert (seen.elapsed(one.now), seen.work_seconds, seen.speed_up) == (70, 32, pytest.approx(32 / 48))
    was = seen.phases
    one.at(600).ledger.set_state("sinking")
    for ship in ("ship-0", "ship-1", "ship-verify"):
        one.ledger.set_ship(ship, "gone")
    one.at(700).ledger.set_state("sunk")
    seen = one.at(9000).seen()
    assert (seen.phases, seen.elapsed(one.now)) == (was, 70)  # that it was sunk undoes nothing
    assert not any(ship.is_up for ship in seen.ships)


def test_what_stood_still_does_not_count(sea):
    one = sea({"1": (), "2": ()}, ships=1)
    one.at(10).build("ship-0")
    one.ledger.set_state("running")
    claim = one.at(20).ledger.claim("ship-0")
    one.ledger.pause("user")
    one.at(50).land(claim)
    one.at(60).ledger.set_state("paused")
    seen = one.at(10_000).seen()
    assert (seen.elapsed(one.now), seen.paused, seen.ended, seen.forecast.left) == (60, CREATED + 60, None, None)
    one.at(20_000).ledger.clear_pause()
    one.ledger.set_state("running")
    one.ledger.set_state("running")  # a captain that was started again
    assert (one.at(20_010).seen().elapsed(one.now), one.seen().paused) == (70, None)
    one.land(one.ledger.claim("ship-0"))
    one.at(20_020).ledger.set_state("verifying")
    one.at(20_030).verify(ok=True)
    one.ledger.set_state("complete")
    seen = one.at(30_000).seen()
    assert (seen.elapsed(one.now), seen.started, seen.still_at_work) == (90, CREATED + 10, 19_940)
    assert seen.speed_up == pytest.approx(0.5)


def test_a_voyage_that_is_sunk_while_it_is_paused_ended_when_it_paused(sea):
    one = sea(CHAIN, ships=1)
    one.build("ship-0")
    one.ledger.set_state("running")
    one.land(one.at(20).ledger.claim("ship-0"))
    one.at(30).ledger.set_state("paused")
    one.at(5000).ledger.set_state("sinking")
    one.ledger.set_ship("ship-0", "gone")
    one.at(5010).ledger.set_state("sunk")
    assert one.at(9000).seen().elapsed(one.now) == 30
    assert one.states() == {"plan": "done", "repo": "done", "ships": "done", "work": "next", "verify": "next"}
    assert one.spans()["work"] == (20, 30)


def test_after_a_retry_what_an_earlier_end_showed_does_not_count(sea):
    one = sea({"1": (), "2": ()}, ships=1)
    one.at(5).build("ship-0")
    one.ledger.set_state("running")
    one.at(10).ledger.fail(one.ledger.claim("ship-0").token, "boom", final=True)
    one.at(20).land(one.ledger.claim("ship-0"))
    one.at(30).ledger.set_state("verifying")
    one.at(35).verify(ok=False)
    one.ledger.set_state("failed", "1 task failed: boom")
    seen = one.seen()
    assert (one.states()["work"], one.states()["verify"]) == ("failed", "failed")
    assert [task.id for task in seen.failed] == ["1"]
    assert one.spans()["verify"] == (30, 35)
    one.at(1000).ledger.retry_failed([])
    seen = one.seen()
    assert (one.states()["work"], one.states()["verify"], one.spans()["verify"]) == ("now", "next", (None, None))
    assert (seen.task["1"].tries, seen.failed, seen.retrying) == (0, (), ())
    assert (seen.ended, seen.elapsed(one.now)) == (None, 35)
    one.at(1010).land(one.ledger.claim("ship-0"))
    one.at(1020).ledger.set_state("verifying")
    one.at(1030).verify(ok=True)
    one.ledger.set_state("complete")
    assert one.spans()["verify"] == (1020, 1030)
    assert (one.seen().elapsed(one.now), one.seen().still_at_work) == (65, 965)


def test_a_voyage_that_failed_while_preparing(sea):
    one = sea(CHAIN)
    one.at(5).ledger.set_ship("ship-0", "failed", "no room")
    one.at(7).ledger.set_state("failed", "no ship could be built")
    seen = one.at(900).seen()
    assert one.states() == {"plan": "done", "repo": "done", "ships": "failed", "work": "next", "verify": "next"}
    assert (seen.elapsed(one.now), seen.phases[2].text, one.spans()["ships"]) == (7, "0/2", (0, None))
    assert (seen.forecast.left, seen.speed_up, seen.started) == (None, None, None)


def test_a_gate_that_can_never_run_is_a_failure_of_verify(sea):
    one = sea(CHAIN)
    one.build("ship-0", "ship-1")
    one.ledger.set_state("running")
    one.ledger.add_event("gate:interpreter", "verify.sh names no program", ship="ship-0")
    one.at(9).ledger.set_state("failed", "verify.sh names no program")
    assert one.states() == {"plan": "done", "repo": "done", "ships": "done", "work": "next", "verify": "failed"}


def test_a_verify_that_gave_no_answer_failed(sea):
    one = sea({"1": ()}, done=["1"])
    one.build("ship-0", "ship-1")
    one.ledger.set_state("running")
    one.at(5).ledger.set_state("verifying")
    one.at(9).ledger.set_state("failed", "no ship could verify")
    assert (one.states()["work"], one.states()["verify"]) == ("done", "failed")


# -- ships -------------------------------------------------------------------------------------------


def test_ships_that_are_lost_and_replaced(sea):
    one = sea(CHAIN)
    one.at(5).build("ship-0", "ship-1")
    one.at(6).ledger.set_state("running")
    claim = one.at(10).ledger.claim("ship-1")
    one.at(50).ledger.return_task(claim.token, "lost", "it is gone", ship_state="lost")
    assert (one.states()["ships"], one.seen().phases[2].text) == ("done", "2/2")
    assert [(ship.id, ship.lost_task, ship.lost_at) for ship in one.seen().ships if ship.lost_task] == [
        ("ship-1", "1", CREATED + 50)
    ]
    one.ledger.note_late_result(claim.token, "it came late")
    assert one.seen().ships[1].lost_task == "1"
    task = one.seen().task["1"]
    assert (task.status, task.ship, task.attempt, task.tries, task.elapsed(one.now)) == ("pending", None, 1, 0, 40)
    one.at(60).ledger.replace_ships([], ["ship-1"])
    seen = one.seen()
    assert (one.states()["ships"], seen.phases[2].text) == ("now", "1/2")
    assert {ship.id: (ship.is_up, ship.replaced_by) for ship in seen.ships} == {
        "ship-0": (True, None),
        "ship-1": (False, "ship-2"),
        "ship-verify": (True, None),
        "ship-2": (True, None),
    }
    one.at(90).build("ship-2")
    assert one.seen().phases[2].text == "2/2"
    assert one.spans()["ships"] == (0, 5)  # building took what it took before the work


def test_the_ship_for_the_verify_is_none_of_the_crew(sea):
    one = sea(CHAIN, ships=1)
    one.build("ship-0")
    one.ledger.set_ship("ship-verify", "failed", "no room")
    one.ledger.set_state("running")
    one.ledger.claim("ship-0")
    seen = one.seen()
    assert (one.states()["ships"], seen.phases[2].text, [ship.role for ship in seen.ships]) == (
        "done",
        "1/1",
        ["work", "verify"],
    )


def test_a_ship_that_could_not_be_built_is_a_failure_of_that_phase(sea):
    one = sea(CHAIN)
    one.build("ship-0")
    one.ledger.set_ship("ship-1", "failed", "no room")
    one.ledger.set_state("running")
    assert (one.states()["ships"], one.seen().phases[2].text) == ("failed", "1/2")


# -- tasks -------------------------------------------------------------------------------------------


def test_tasks_that_fail_are_retried_held_and_wait_for_approval(sea):
    one = sea({**CHAIN, "4": (), "5": (), "6": ("4",)}, hold=["5"])
    one.build("ship-0", "ship-1")
    one.ledger.set_state("running")
    one.at(1).ledger.fail(one.ledger.claim("ship-0").token, "boom", final=True)
    claim = one.at(10).ledger.claim("ship-0")
    one.at(15).ledger.fail(claim.token, "exit 1")
    seen = one.seen()
    lines = {line.id: (line.status, line.tries, line.held_by, line.hold, line.waits, line.wave) for line in seen.tasks}
    assert lines == {
        "1": ("failed", 1, None, False, (), 1),
        "2": ("pending", 0, "1", False, ("1",), 2),
        "3": ("pending", 0, "1", False, ("2",), 3),
        "4": ("pending", 1, None, False, (), 1),
        "5": ("pending", 0, None, True, (), 1),
        "6": ("pending", 0, None, False, ("4",), 2),
    }
    assert [line.id for line in seen.retrying] == ["4"]
    assert (seen.task["4"].reason, seen.task["4"].elapsed(99999), TaskLine.max_tries) == ("exit 1", 5, 3)
    assert set(seen.forecast.chain) <= {"4", "5", "6"}
    one.at(20).ledger.claim("ship-1")
    assert (one.at(27).seen().task["4"].elapsed(one.now), one.seen().task["4"].is_retrying) == (7, True)


def test_plans_with_completed_tasks(sea):
    one = sea(CHAIN, done=["1", "2"])
    seen = one.seen()
    assert (seen.about.tasks["completed"], seen.task["3"].waits, seen.task["3"].wave) == (2, (), 3)
    assert (seen.task["1"].attempt, seen.task["1"].elapsed(one.now), seen.task["1"].commit) == (0, None, None)
    assert (seen.landed, seen.work_seconds) == ((), 0)


@pytest.mark.parametrize("back", [400, 5000])
def test_clocks_that_go_backwards(sea, back):
    one = sea({"1": (), "2": ()}, ships=1)
    one.at(500).build("ship-0")
    one.ledger.set_state("running")
    claim = one.at(600).ledger.claim("ship-0")
    one.at(600 - back).land(claim)
    one.ledger.claim("ship-0")
    seen = one.at(500 - back).seen()
    assert (seen.landed[0].seconds, seen.work_seconds, seen.task["1"].elapsed(one.now)) == (0, 0, 0)
    assert seen.task["2"].elapsed(one.now) == 0
    one.ledger.set_state("failed", "x")  # at an earlier time than it began to run
    seen = one.seen()
    assert (seen.ended, one.states()["work"], seen.elapsed(one.now)) == (one.now, "next", max(0, 500 - back))
    assert all(phase.ended is None or phase.ended >= phase.began for phase in seen.phases)
    assert seen.forecast.left is None


def test_a_landing_that_was_adopted(sea):
    """An older ledger lacks an attempt: what is known of it has its end alone, or its beginning."""
    one = sea({"1": (), "2": ()})
    one.build("ship-0", "ship-1")
    one.ledger.set_state("running")
    held = one.at(10).ledger.claim("ship-0")
    one.at(50).ledger.adopt_landing("1", "ship-1", 7, "a" * 40)
    seen = one.at(80).seen()
    line = seen.task["1"]
    assert (line.status, line.ship, line.attempt, line.elapsed(one.now)) == ("completed", "ship-1", 7, 0)
    assert [(landed.task, landed.ship, landed.seconds) for landed in seen.landed] == [("1", "ship-1", 0)]
    assert held.task == "1"
    with contextlib.closing(sqlite3.connect(one.directory / "ledger.db")) as db, db:
        db.execute("UPDATE attempts SET ended = NULL")
    assert one.at(9999).seen().task["1"].elapsed(one.now) is None  # nobody works on it


# -- what only reading it tells ------------------------------------------------------------------------


def test_estimates_weigh_the_forecast(sea):
    estimate = '{{"metadata": {{"estimate": {{"seconds": {}}}}}}}'
    raw = {"1": estimate.format(60), "2": estimate.format(30), "3": "{}"}
    one = sea(CHAIN, raw=raw)
    one.build("ship-0", "ship-1")
    one.ledger.set_state("running")
    one.ledger.claim("ship-0")
    seen = one.at(20).seen()
    assert (seen.forecast.left, seen.forecast.chain) == (pytest.approx(40 + 30 + 45), ("1", "2", "3"))
    assert seen.forecast.left_at(one.now + 1e6) == pytest.approx(6 + 30 + 45)


@pytest.mark.parametrize("value", ['"5m"', "-3", "0", "null", "[]", "1e999", "{}"])
def test_estimates_that_are_none(sea, value):
    one = sea({"1": ()}, raw={"1": f'{{"metadata": {{"estimate": {{"seconds": {value}}}}}}}'})
    one.build("ship-0", "ship-1")
    one.ledger.set_state("running")
    seen = one.seen()
    assert (seen.task["1"].estimate, seen.forecast.left) == (None, None)


@pytest.mark.parametrize("raw", ["", "{", "[1]", '"x"', '{"metadata": 3}', '{"metadata": {"estimate": []}}'])
def test_a_task_whose_text_is_damaged(sea, raw):
    assert sea({"1": ()}, raw={"1": raw}).seen().task["1"].estimate is None


def test_rows_that_contradict_each_other(sea):
    """Nobody writes such a ledger; who changed it by hand gets a screen nevertheless."""
    one = sea({**CHAIN, "4": ("3",)})
    one.build("ship-0", "ship-1")
    one.ledger.set_state("running")
    one.ledger.claim("ship-0")
    with contextlib.closing(sqlite3.connect(one.directory / "ledger.db")) as db, db:
        db.execute("INSERT INTO edges VALUES ('3', '4'), ('4', 'none'), ('none', '1')")
        db.execute("INSERT INTO landings (kind, task, token, commit_id, at) VALUES ('task', NULL, 99, 'x', 1e308)")
        db.execute("UPDATE tasks SET token = 77, reason = NULL WHERE id = '2'")
        db.execute("UPDATE ships SET reason = NULL, replaced_by = 'nobody' WHERE id = 'ship-1'")
        db.execute("UPDATE attempts SET started = -1e308")
        db.execute("INSERT INTO events (at, kind, text) VALUES (-5, 'voyage', ''), (1e308, 'voyage', 'what')")
    seen = one.seen()
    assert [line.wave for line in seen.tasks] == [1, 2, 1, 1]
    assert seen.forecast.left is None
    assert seen.landed[0].commit == "x"
    assert seen.elapsed(one.now) >= 0


def test_a_voyage_without_events(sea):
    one = sea({"1": (), "2": ()})
    one.build("ship-0", "ship-1")
    one.ledger.set_state("running")
    one.at(30).land(one.at(10).ledger.claim("ship-0"))
    claim = one.at(40).ledger.claim("ship-1")
    one.at(44).land(claim)
    one.at(50).ledger.set_state("complete")
    one.verify(ok=True)
    with contextlib.closing(sqlite3.connect(one.directory / "ledger.db")) as db, db:
        db.execute("DELETE FROM events")
    seen = one.at(9000).seen()
    assert set(one.states().values()) == {"done"}
    assert (seen.ended, seen.phases[2].text, seen.started) == (CREATED + 44, "2/2", None)
    assert one.spans()["ships"] == (0, None)


def test_a_voyage_of_an_older_version(tmp_path):
    with tarfile.open(REPO / "tests/fixtures/format-3.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    directory = tmp_path / "voyage-00000000f003"
    before = (directory / "ledger.db").read_bytes()
    seen = Query(directory).snapshot(2e9)
    assert [(line.status, line.tries, line.waits) for line in seen.tasks] == [
        ("completed", 0, ()),
        ("in_progress", 1, ()),
        ("pending", 0, ("2",)),
    ]
    assert [line.task for line in seen.landed] == ["1"]
    assert {phase.name: phase.state for phase in seen.phases}["ships"] == "done"
    assert (directory / "ledger.db").read_bytes() == before


@pytest.mark.parametrize("columns", [[("tasks", "retried"), ("voyage", "verify_stage")]])
def test_a_voyage_without_the_columns_that_came_later(sea, columns):
    one = sea(CHAIN)
    one.ledger.close()
    with contextlib.closing(sqlite3.connect(one.directory / "ledger.db")) as db, db:
        for table, column in columns:
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    one.ledger = Ledger(one.directory / "ledger.db")
    assert len(one.seen().tasks) == 3


def test_a_snapshot_is_of_one_moment(sea, monkeypatch):
    """A captain that writes in the middle of the reading is seen whole, or not at all."""
    one = sea({"1": (), "2": ()})
    one.build("ship-0", "ship-1")
    one.ledger.set_state("running")
    brief = Ledger.brief_attempts

    def in_between(ledger):
        if not one.seen_late:
            one.seen_late = True
            one.land(one.ledger.claim("ship-0"))
        return brief(ledger)

    one.seen_late = False
    monkeypatch.setattr(Ledger, "brief_attempts", in_between)
    seen = one.seen()
    assert (seen.about.tasks["completed"], seen.landed, seen.work_seconds) == (0, (), 0)
    assert [line.status for line in seen.tasks] == ["pending", "pending"]
    assert one.seen().about.tasks["completed"] == 1


# -- the course of a voyage, any -------------------------------------------------------------------------

STATES = ("preparing", "running", "paused", "verifying", "complete", "failed", "sinking", "sunk")


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e9), st.sampled_from(STATES)), max_size=12), st.sampled_from(STATES))
def test_any_course_of_a_voyage_has_times_that_can_be(changes, state):
    course = Course(5.0, state, tuple(changes))
    known = {at for at, _ in changes}
    assert {course.started, course.verifying, course.ended, course.paused} <= {*known, None}
    assert course.still(5.0, course.ended) >= 0
    assert course.ended is None or course.is_over
    assert course.verdict in {"complete", "failed", None}


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(STATES)), min_size=1, max_size=12))
def test_what_stood_still_is_at_most_all_of_it(steps):
    at, changes = 0.0, []
    for wait, state in steps:
        at += wait
        changes.append((at, state))
    course = Course(0.0, changes[-1][1], tuple(changes))
    until = next(one for one in (course.ended, course.paused, at) if one is not None)
    assert 0 <= course.still(0.0, course.ended) <= until + 1e-6


@pytest.mark.parametrize(
    ("repo", "name"),
    [
        ("", "new"),
        ("/source/todo", "todo"),
        ("/source/todo/", "todo"),
        ("https://host/me/todo.git", "todo"),
        ("git@host:me/todo.git", "todo"),
        ("git@host:todo.git", "todo"),
        ("https://user:secret@host", "host"),
        ("https://secret@host/", "host"),
        (".", "."),
        ("/", "repo"),
    ],
)
def test_the_name_of_a_source(repo, name):
    assert repo_name(repo) == name


# -- scenes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scene",
    [
        Scene(),
        Scene(state="complete", landed=50, failed={}),
        Scene(state="failed"),
        Scene(lost={"ship-4": "it is gone"}),
        Scene(tasks=0, ships=1, landed=0, failed={}),
    ],
)
def test_the_scenes_of_the_screens_hold_together(tmp_path, scene):
    seen = Query(make_scene(tmp_path, scene).path).snapshot(4e9)
    counts = {status: sum(line.status == status for line in seen.tasks) for status in seen.about.tasks}
    assert {**counts, "total": len(seen.tasks)} == seen.about.tasks
    assert [line.commit for line in seen.landed] == [
        seen.task[line.task].commit for line in seen.landed
    ]  # each that landed is a task of it
    working = {ship.task for ship in seen.ships if ship.task}
    assert working == {line.id for line in seen.tasks if line.status == "in_progress"}
    assert all(ship.log for ship in seen.ships if ship.task)
    assert dataclasses.is_dataclass(seen)
