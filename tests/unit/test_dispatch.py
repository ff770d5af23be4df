"""Who takes what: tables of cases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ocaptain.captain.decide.dispatch import (
    Reservation,
    ShipStatus,
    Work,
    free_ships,
    open_work,
    reserve,
    ships_to_call,
    valid_reservations,
)

ANY, VERIFY = Work("1"), Work("verify")
ONE, TWO, THREE = (ShipStatus(f"ship-{number}", connected=False) for number in (1, 2, 3))
UP = ShipStatus("ship-3", connected=True)
CALLED = ShipStatus("ship-2", connected=False, called=True)


@pytest.mark.parametrize(
    ("work", "idle", "called"),
    [
        pytest.param([], [ONE, UP], [], id="no work, no call"),
        pytest.param([ANY], [ONE, TWO, THREE], ["ship-1"], id="one task wakes one ship"),
        pytest.param([VERIFY], [ONE, TWO, THREE], ["ship-1"], id="and so does the final verify"),
        pytest.param([ANY], [ONE, TWO, UP], ["ship-3"], id="who is connected need not be woken"),
        pytest.param([ANY], [ONE, CALLED, UP], [], id="who was called counts"),
        pytest.param([ANY, ANY], [ONE, CALLED, UP], ["ship-3"], id="but only for one task"),
        pytest.param([ANY] * 5, [ONE, TWO], ["ship-1", "ship-2"], id="more work than ships"),
        pytest.param([Work("1", "ship-2")], [ONE, TWO, UP], ["ship-2"], id="what only one may have goes to it"),
        pytest.param([Work("1", "ship-9")], [ONE, TWO], [], id="and to nobody else"),
        pytest.param(
            [ANY, Work("2", "ship-1")], [ONE, TWO], ["ship-1", "ship-2"], id="those bound to a ship are served first"
        ),
        pytest.param([Work("1", "ship-2"), Work("2", "ship-2")], [TWO], ["ship-2"], id="no ship is called twice"),
        pytest.param([Work("1", "ship-2"), ANY], [CALLED, ONE], ["ship-1"], id="called, and for what it may have"),
        pytest.param([ANY], [], [], id="no ship"),
    ],
)
def test_ships_to_call(work, idle, called):
    assert ships_to_call(work, idle) == called


SHIP = ShipStatus("ship-1", connected=True)


@pytest.mark.parametrize(
    ("reservation", "ship", "holds"),
    [
        pytest.param(Reservation("ship-1", 10.0), SHIP, True, id="for a moment"),
        pytest.param(Reservation("ship-1", 5.0), SHIP, False, id="no longer"),
        pytest.param(Reservation("ship-2", 10.0), SHIP, False, id="not for a ship that nobody knows"),
        pytest.param(Reservation("ship-1", 10.0), replace(SHIP, gone=True), False, id="nor for one that is gone"),
        pytest.param(Reservation("ship-1", 10.0), replace(SHIP, connected=False), False, id="nor for a silent one"),
        pytest.param(
            Reservation("ship-1", 10.0, may_sleep=True),
            replace(SHIP, connected=False),
            True,
            id="but for one that pauses, and may sleep",
        ),
    ],
)
def test_how_long_a_task_is_reserved(reservation, ship, holds):
    assert valid_reservations({"1": reservation}, {"ship-1": ship}, 5.0) == ({"1": reservation} if holds else {})


@pytest.mark.parametrize(("pause", "seconds", "may_sleep"), [(0.0, 5.0, False), (4.0, 9.0, True), (200.0, 235.0, True)])
def test_until_when_a_task_is_reserved(pause, seconds, may_sleep):
    assert reserve("ship-1", 100.0, pause, 5.0) == Reservation("ship-1", 100.0 + seconds, may_sleep)


@pytest.mark.parametrize(
    ("ship", "holding", "is_start", "free"),
    [
        pytest.param(replace(SHIP, idle=True), (), False, True, id="idle"),
        pytest.param(SHIP, (), True, False, id="at work"),
        pytest.param(replace(SHIP, idle=True, gone=True), (), False, False, id="gone"),
        pytest.param(replace(SHIP, idle=True, is_claiming_paused=True), (), False, False, id="resting"),
        pytest.param(replace(SHIP, reached=False), (), True, True, id="just being reached"),
        pytest.param(replace(SHIP, reached=False), (), False, False, id="not reached for long"),
        pytest.param(replace(SHIP, reached=False), ("ship-1",), True, False, id="being reached, with a task"),
    ],
)
def test_which_ships_can_take_what_prefers_them(ship, holding, is_start, free):
    assert free_ships([ship], holding, is_start=is_start) == ({"ship-1"} if free else set())


@pytest.mark.parametrize(
    ("ready", "preferred", "reserved", "free", "work"),
    [
        ([("1", None)], {}, {}, set(), [Work("1")]),
        ([("1", "ship-2")], {"1": "ship-1"}, {}, {"ship-1"}, [Work("1", "ship-2")]),
        ([("1", None)], {"1": "ship-1"}, {}, {"ship-1"}, [Work("1", "ship-1")]),
        ([("1", None)], {"1": "ship-1"}, {}, {"ship-2"}, [Work("1")]),
        ([("1", None)], {}, {"2": "ship-2"}, set(), [Work("1"), Work("2", "ship-2")]),
    ],
)
def test_what_there_is_to_do(ready, preferred, reserved, free, work):
    assert open_work(ready, preferred, reserved, free) == work
