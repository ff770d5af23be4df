"""How long a voyage has still to go."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocaptain.plan.graph import critical_paths, heaviest_chain, waves
from ocaptain.query.forecast import OVERTIME, Forecast, OpenTask, expected_seconds, forecast

NOW = 1_000_000.0


@st.composite
def graphs(draw, most=12):
    """Return a graph without a circle: a task waits for some of those before it."""
    names = [f"t{number}" for number in range(draw(st.integers(0, most)))]
    return {
        name: frozenset(draw(st.lists(st.sampled_from(names[:at]), max_size=4, unique=True)) if at else ())
        for at, name in enumerate(names)
    }


@st.composite
def open_tasks(draw):
    estimates = st.none() | st.floats(0, 1e6)
    since = st.none() | st.floats(NOW - 1e6, NOW + 1e3)  # a clock went backwards
    return [OpenTask(task, waits, draw(estimates), draw(since)) for task, waits in draw(graphs()).items()]


DONE = st.lists(st.tuples(st.none() | st.floats(0, 1e5), st.floats(0, 1e5)), max_size=6)


# -- waves and chains ----------------------------------------------------------------------------


def naive_wave(graph, task):
    return 1 + max((naive_wave(graph, one) for one in graph[task]), default=0)


@settings(deadline=None)
@given(graphs())
def test_waves_are_what_they_are_said_to_be(graph):
    assert waves(graph) == {task: naive_wave(graph, task) for task in graph}


def test_waves_of_tasks_that_wait_in_a_circle():
    graph = {"a": frozenset(), "b": frozenset({"a", "c"}), "c": frozenset({"b"}), "d": frozenset({"a"})}
    assert waves(graph) == {"a": 1, "b": 1, "c": 1, "d": 2}


@settings(deadline=None)
@given(graphs(), st.data())
def test_the_heaviest_chain_is_a_chain_and_none_is_heavier(graph, data):
    weights = {task: data.draw(st.floats(0, 100)) for task in graph}
    paths = critical_paths(graph, weights)
    chain = heaviest_chain(graph, paths)
    assert bool(chain) == bool(graph)
    assert all(before in graph[after] for before, after in itertools.pairwise(chain))
    if chain:
        assert not graph[chain[0]]
        assert not any(chain[-1] in before for before in graph.values())
        assert sum(weights[task] for task in chain) == pytest.approx(max(paths.values()))


@pytest.mark.parametrize(
    "graph",
    [
        {"a": {"a"}},
        {"a": {"b"}, "b": {"a"}},
        {"a": set(), "b": {"a", "c"}, "c": {"b"}},
        {"a": set(), "b": {"a", "c"}, "c": {"b"}, "d": {"a"}},
    ],
)
def test_tasks_that_wait_in_a_circle_are_no_forecast(graph):
    tasks = [OpenTask(task, frozenset(waits), 10.0) for task, waits in graph.items()]
    made = forecast(tasks, [], 2, NOW)
    assert made.left is None
    assert all(not graph[one] or set(graph[one]) <= set(made.chain) for one in made.chain)


# -- expected seconds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimates", "done", "expected"),
    [
        ([None], [], None),
        ([10, None, 30], [], [10, 20, 30]),  # without an estimate: the mean of the others
        ([None, None], [(None, 8), (None, 12)], [10, 10]),
        ([10, None], [(5, 10), (5, 20)], [30, 15]),  # estimates were three times too short
        ([10, None], [(None, 4)], [10, 4]),  # nothing is known of how wrong estimates are
        ([10], [(0, 4)], [10]),  # an estimate of nothing says nothing
        ([0], [], [0]),
        ([10], [(5, 0)], [0]),  # it took no time at all
    ],
)
def test_what_a_task_is_expected_to_take(estimates, done, expected):
    tasks = [OpenTask(str(at), estimate=one) for at, one in enumerate(estimates)]
    found = expected_seconds(tasks, done)
    assert (found and [found[task.id] for task in tasks]) == expected


# -- forecasts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "done", "ships", "expected"),
    [
        ([], [], 0, Forecast(NOW, 0.0)),
        ([OpenTask("a", estimate=10)], [], 0, Forecast(NOW, None, ("a",))),
        ([OpenTask("a")], [], 3, Forecast(NOW, None, ("a",))),
        ([OpenTask("a", estimate=10)], [], 3, Forecast(NOW, 10, ("a",), 10)),
        ([OpenTask(name, estimate=10) for name in "abc"], [], 2, Forecast(NOW, 15, ("a",), 15)),
        (
            [OpenTask("a", estimate=10, since=NOW - 4), OpenTask("b", frozenset("a"), 20)],
            [],
            2,
            Forecast(NOW, 26, ("a", "b"), 21),
        ),
        ([OpenTask("a", estimate=10, since=NOW - 400)], [], 1, Forecast(NOW, 1, ("a",), 1)),
        ([OpenTask("a", estimate=10, since=NOW + 400)], [], 1, Forecast(NOW, 10, ("a",), 1)),  # a clock went back
    ],
)
def test_forecasts(tasks, done, ships, expected):
    assert forecast(tasks, done, ships, NOW) == expected


@settings(deadline=None)
@given(open_tasks(), DONE, st.integers(1, 8))
def test_a_forecast_is_never_below_what_no_fleet_can_beat(tasks, done, ships):
    made = forecast(tasks, done, ships, NOW)
    expected = expected_seconds(tasks, done)
    if not tasks or expected is None:
        assert made.left == (None if tasks else 0.0)
        return
    took = {task.id: 0.0 if task.since is None else max(0.0, NOW - task.since) for task in tasks}
    least = {task.id: max(OVERTIME * expected[task.id], expected[task.id] - took[task.id]) for task in tasks}
    rest = {task.id: expected[task.id] if task.since is None else least[task.id] for task in tasks}
    chains = critical_paths({task.id: task.waits for task in tasks}, rest)
    bound = max(*chains.values(), sum(rest.values()) / ships)
    assert made.left == pytest.approx(bound)
    assert sum(rest[task] for task in made.chain) == pytest.approx(max(chains.values()))


@settings(deadline=None)
@given(open_tasks(), DONE, st.integers(1, 8), st.lists(st.floats(0, 2e6), max_size=5))
def test_while_nothing_happens_what_is_left_only_gets_less_and_is_what_a_new_forecast_says_at_last(
    tasks, done, ships, waits
):
    made = forecast(tasks, done, ships, NOW)
    if made.left is None:
        assert made.left_at(NOW + 5) is None
        return
    left = [made.left_at(NOW + wait) for wait in sorted(waits)]
    assert left == sorted(left, reverse=True)
    assert made.left_at(NOW) == made.left
    assert made.left_at(NOW - 100) == made.left  # a clock that went back adds nothing
    assert all(made.least <= one <= made.left for one in left)
    at_last = forecast(tasks, done, ships, NOW + 1e12)
    assert made.left_at(NOW + 1e12) == pytest.approx(at_last.left)


@settings(max_examples=30, deadline=None)
@given(open_tasks(), DONE)
def test_more_ships_are_never_slower(tasks, done):
    left = [forecast(tasks, done, ships, NOW).left for ships in (1, 2, 5, 100)]
    if left[0] is not None:
        assert left == sorted(left, reverse=True)
        assert math.isfinite(left[0])
