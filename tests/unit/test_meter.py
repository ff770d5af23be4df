"""How long a ship was awake: cases, and any life of a ship against what was billed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.captain.decide.meter import Meter, Sample, advance_meter


@pytest.mark.parametrize(
    ("meter", "sample", "after", "added"),
    [
        pytest.param(Meter(), Sample(True, 100, None, 130), Meter(100, 130), 30, id="the bootstrap counts"),
        pytest.param(Meter(100, 130), Sample(True, 100, 90, 150), Meter(100, 150), 20, id="it runs on"),
        pytest.param(Meter(100, 130), Sample(False, 100, 141, 150), Meter(None, 141), 11, id="it was paused"),
        pytest.param(Meter(100, 145), Sample(False, 100, 141, 150), Meter(None, 141), -4, id="too much was counted"),
        pytest.param(Meter(None, 141), Sample(False, 100, 141, 900), Meter(None, 141), 0, id="it sleeps"),
        pytest.param(Meter(None, 141), Sample(True, 200, 141, 210), Meter(200, 210), 10, id="it was woken"),
        pytest.param(Meter(100, 130), Sample(True, 200, 141, 210), Meter(200, 210), 21, id="paused and woken unseen"),
        pytest.param(Meter(None, 141), Sample(False, 200, 260, 300), Meter(None, 260), 60, id="a run nobody saw"),
        pytest.param(Meter(100, 130), Sample(False, None, None, 150), Meter(None, 130), 0, id="no times are told"),
        pytest.param(Meter(), Sample(True, None, None, 150), Meter(150, 150), 0, id="not even when it began"),
        pytest.param(Meter(100, 130), Sample(True, 120, 90, 150), Meter(100, 150), 20, id="a start told anew"),
    ],
)
def test_cases(meter, sample, after, added):
    assert advance_meter(meter, sample) == (after, added)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=1, max_size=8), st.data())
def test_whoever_looks_at_each_change_counts_what_is_billed(runs, data):
    """Runs and pauses of any length; looked at when it changes, and at any time between."""
    meter, total, now, billed = Meter(), 0.0, 1000.0, 0.0
    began = paused = None
    for awake, asleep in runs:
        began = now
        for at in sorted(data.draw(st.lists(st.integers(0, awake), max_size=3))):
            meter, added = advance_meter(meter, Sample(True, began, paused, began + at))
            total += added
        now, paused = now + awake, now + awake
        billed += awake
        for at in sorted(data.draw(st.lists(st.integers(0, asleep - 1), min_size=1, max_size=3))):
            meter, added = advance_meter(meter, Sample(False, began, paused, now + at))
            total += added
        assert total == pytest.approx(billed)
        now += asleep
