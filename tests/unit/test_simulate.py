"""What fleets make of plans, and who is left out of the line: as data."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocaptain.plan import count_deferrals, critical_paths, deferred_tasks, sufficient_ships
from ocaptain.plan.models import Task
from ocaptain.plan.overlap import MAX_DEFERRALS, may_overlap
from ocaptain.plan.simulate import Job, build_jobs, estimate_seconds, simulate


def task(name, *before, **metadata):
    return Task.model_validate({"id": name, "subject": name, "blockedBy": list(before), "metadata": metadata})


def plan(*tasks):
    return {one.id: one for one in tasks}


# -- the simulation ---------------------------------------------------------------------------


def test_the_longest_remaining_chain_goes_first():
    jobs = [Job("short", 5.0), Job("a", 3.0), Job("b", 3.0, frozenset("a"))]
    run = simulate(jobs, 1)
    assert [turn.task for turn in run.turns] == ["a", "short", "b"]
    assert (simulate(jobs, 2).makespan, run.makespan, run.idle) == (6.0, 11.0, 0.0)


def test_the_overhead_is_of_each_attempt():
    jobs = [Job("a", 1.0), Job("b", 1.0, frozenset("a"))]
    assert simulate(jobs, 2, overhead=0.5).makespan == 3.0
    assert simulate(jobs, 2).idle == 0.5


def test_pins_and_wishes_are_kept_as_by_claims():
    pinned = [Job("a", 2.0, pin="ship-1"), Job("b", 2.0, pin="ship-1"), Job("c", 1.0, pin="ship-7")]
    run = simulate(pinned, 2)
    assert [(turn.task, turn.ship) for turn in run.turns] == [("a", "ship-1"), ("b", "ship-1")]
    assert (run.makespan, run.stuck) == (4.0, ("c",))
    wished = simulate([Job("a", 2.0, wish="ship-1"), Job("b", 2.0, wish="ship-1")], 2)
    # The first is left to the ship that it prefers; that one is busy then, so any will do for the second.
    assert [(turn.task, turn.ship) for turn in wished.turns] == [("a", "ship-1"), ("b", "ship-0")]
    assert wished.makespan == 2.0


def test_tasks_that_write_the_same_files_are_not_at_work_at_one_time_if_others_are_ready():
    jobs = [Job("a", 2.0, paths=("src/**",)), Job("b", 2.0, paths=("src/x.py",)), Job("c", 2.0)]
    assert [(turn.task, turn.begin) for turn in simulate(jobs, 2).turns] == [("a", 0.0), ("c", 0.0), ("b", 2.0)]


def test_what_is_completed_is_not_waited_for_and_estimates_fill_in():
    done = Task.model_validate({"id": "1", "subject": "x", "status": "completed"})
    tasks = plan(done, task("2", "1", estimate={"seconds": 4}), task("3", "2"), task("4", estimate={"seconds": 8}))
    jobs = build_jobs(tasks)
    assert [(job.task, job.seconds, job.waits) for job in jobs] == [
        ("2", 4.0, frozenset()),
        ("3", 6.0, frozenset("2")),
        ("4", 8.0, frozenset()),
    ]
    assert estimate_seconds(plan(task("1")), 30.0) == {"1": 30.0}
    assert estimate_seconds(plan(task("1"), task("2"))) == {"1": 1.0, "2": 1.0}


def test_where_more_ships_stop_paying():
    jobs = [Job(str(number), 10.0) for number in range(4)]
    assert sufficient_ships([simulate(jobs, ships) for ships in range(1, 9)]) == 4
    assert sufficient_ships([simulate([], ships) for ships in range(1, 3)]) == 1


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 12))
    names = [str(number) for number in range(count)]
    seconds = draw(st.lists(st.floats(0.1, 10), min_size=count, max_size=count))
    waits = [frozenset(draw(st.sets(st.sampled_from(names[:n]))) if n else ()) for n in range(count)]
    return [Job(*one) for one in zip(names, seconds, waits, strict=True)]


@given(graphs(), st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_every_run_is_possible_and_within_the_bounds_of_list_scheduling(jobs, ships):
    run = simulate(jobs, ships)
    ended = {turn.task: turn.end for turn in run.turns}
    assert sorted(ended) == sorted(job.task for job in jobs)
    for turn in run.turns:
        waits = next(job.waits for job in jobs if job.task == turn.task)
        assert all(ended[one] <= turn.begin for one in waits)
    for name in {turn.ship for turn in run.turns}:
        own = [turn for turn in run.turns if turn.ship == name]
        assert all(one.end <= other.begin for one, other in itertools.pairwise(own))
    chain = max(critical_paths({job.task: job.waits for job in jobs}, {job.task: job.seconds for job in jobs}).values())
    work = sum(job.seconds for job in jobs)
    least = max(chain, work / ships)
    assert least - 1e-6 <= run.makespan <= work / ships + chain * (1 - 1 / ships) + 1e-6  # Graham's bound


# -- files in common --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("src/**", "src/a.py", True),
        ("src/a*", "src/ab.py", True),
        ("src/a", "src/ab", False),
        ("src/a", "src/a/b.py", True),
        ("src/a.py", "src/a.py", True),
        ("src/*.py", "docs/*.md", False),
        ("**/*.md", "src/a.py", True),
        ("./src/*", "src/a.py", True),
        ("pages/[user-id].tsx", "lib/x.ts", False),
        ("a[!]b", "a[z-a]", True),
    ],
)
def test_literal_beginnings(one, other, meet):
    assert may_overlap((one,), (other,)) is meet
    assert may_overlap((other,), ("x", one)) is meet


def test_who_was_passed_over_often_enough_takes_its_turn():
    paths = {"1": ("a/**",), "2": ("a/x",), "4": ("b",)}
    ready = ["2", "3", "4"]
    assert deferred_tasks(ready, ["1"], paths, {}) == {"2"}
    assert deferred_tasks(ready, ["1"], paths, {"2": MAX_DEFERRALS}) == frozenset()
    assert deferred_tasks(ready, ["3"], paths, {}) == frozenset()
    counts: dict[str, int] = {}
    for _ in range(MAX_DEFERRALS):
        counts = count_deferrals(counts, ready, {"2"}, "3")
    assert counts == {"2": MAX_DEFERRALS}
    assert count_deferrals(counts, ready, (), "2") == {}
    assert count_deferrals({}, ["3", "2"], {"2"}, "3") == {}  # it was not before what was claimed
