"""Whom the captain calls: a table of cases."""

from __future__ import annotations

import pytest

from ocaptain.captain.decide.dispatch import Idle, Work, whom_to_call

ANY, VERIFY = Work("1"), Work("verify")
ONE, TWO, THREE = (Idle(f"ship-{number}", connected=False) for number in (1, 2, 3))
UP = Idle("ship-3", connected=True)
CALLED = Idle("ship-2", connected=False, called=True)


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
        pytest.param([ANY, Work("2", "ship-1")], [ONE, TWO], ["ship-1", "ship-2"], id="the choosy are served first"),
        pytest.param([Work("1", "ship-2"), Work("2", "ship-2")], [TWO], ["ship-2"], id="no ship is called twice"),
        pytest.param([Work("1", "ship-2"), ANY], [CALLED, ONE], ["ship-1"], id="called, and for what it may have"),
        pytest.param([ANY], [], [], id="no ship"),
    ],
)
def test_whom_to_call(work, idle, called):
    assert whom_to_call(work, idle) == called
