"""What the end of an attempt means: tables of cases."""

from __future__ import annotations

import pytest

from ocaptain.agents.facts import AttemptVerdict
from ocaptain.captain.decide.outcome import (
    MAX_LOSSES,
    MAX_WAITS,
    Decision,
    decide_after_ending,
    decide_after_loss,
    pause_seconds,
)


@pytest.mark.parametrize(
    ("ending", "waits", "decision"),
    [
        (AttemptVerdict("failed", "x"), 0, Decision("fail", "x", same_ship=True)),
        (AttemptVerdict("hopeless", "x"), 0, Decision("fail", "x", final=True)),
        (AttemptVerdict("denied", "x"), 0, Decision("return", "x", "denied", credential_refused=True)),
        (AttemptVerdict("busy", "x"), 0, Decision("return", "x; retrying in 5 s", "waited", same_ship=True, pause=5.0)),
        (
            AttemptVerdict("busy", "x", wait=42.0),
            1,
            Decision("return", "x; retrying in 42 s", "waited", same_ship=True, pause=42),
        ),
        (AttemptVerdict("busy", "x"), MAX_WAITS, Decision("fail", f"x (gave up after {MAX_WAITS} retries)")),
    ],
)
def test_after_an_ending(ending, waits, decision):
    assert decide_after_ending(ending, waits) == decision


@pytest.mark.parametrize(
    ("losses", "decision"),
    [
        (0, Decision("return", "x")),
        (MAX_LOSSES - 1, Decision("return", "x")),
        (MAX_LOSSES, Decision("fail", f"x; the task was lost {MAX_LOSSES} times before")),
    ],
)
def test_after_a_loss(losses, decision):
    assert decide_after_loss("x", losses) == decision


@pytest.mark.parametrize(
    ("waits", "asked", "pause"),
    [
        (0, 0.0, 5.0),
        (1, 0.0, 10.0),
        (2, 0.0, 20.0),
        (0, 42.0, 42.0),
        (0, 3600.0, 300.0),
        (9, 0.0, 300.0),
        (60, 1.0, None),
    ],
)
def test_how_long_a_busy_service_is_waited_for(waits, asked, pause):
    assert pause_seconds(waits, asked) == pause
