"""Where the final verify runs, and what its end means."""

from __future__ import annotations

import pytest

from ocaptain.captain.decide.verify import (
    Make,
    Making,
    Run,
    Verdict,
    Verified,
    VerifyShip,
    judge,
    next_place,
    try_again,
)

OWN = VerifyShip("ship-verify", used=False)
FIRST = VerifyShip("ship-0", used=True, landed=2)
SECOND = VerifyShip("ship-1", used=True, landed=1)
IDLE = VerifyShip("ship-2", used=False)
LOST = VerifyShip("ship-verify", used=False, usable=False)
CLEAN = Run("ship-verify", fresh=True, clean=True)
ROOM, FULL = Making(possible=True), Making(possible=True, full=True)


@pytest.mark.parametrize(
    ("ships", "making", "place"),
    [
        ([FIRST, SECOND, OWN], ROOM, CLEAN),
        ([FIRST, IDLE, OWN], ROOM, Run("ship-2", fresh=True, clean=True)),  # ship-verify is not woken
        ([FIRST, IDLE], Making(), Run("ship-2", fresh=True, clean=True)),
        ([FIRST, SECOND, LOST], ROOM, Make()),
        ([FIRST, SECOND, LOST], FULL, Make("ship-0")),  # the one that landed last may be needed
        ([FIRST, VerifyShip("ship-1", used=True), LOST], FULL, Make("ship-1")),  # it landed nothing
        ([FIRST, LOST], FULL, Make("ship-0")),
        ([LOST], FULL, Make()),
        ([FIRST, SECOND, LOST], Making(possible=True, begun=2), Run("ship-1")),  # not for ever
        ([FIRST, SECOND, LOST], Making(), Run("ship-1")),
        ([FIRST, SECOND], Making(), Run("ship-1")),
        ([VerifyShip("ship-0", used=True)], Making(), Run(None)),
        ([LOST], Making(), Run(None)),
    ],
)
def test_the_place(ships, making, place):
    assert next_place("clean", ships, making) == place
    assert next_place("any", ships, making) == Run(None)


def test_a_ship_that_does_not_answer_comes_last():
    silent = VerifyShip("ship-3", used=False, silent=True)
    assert next_place("clean", [silent, OWN], ROOM) == CLEAN
    assert next_place("clean", [FIRST, silent], ROOM) == Run("ship-3", fresh=True, clean=True)


def test_a_ship_that_is_awake_comes_first():
    awake = VerifyShip("ship-3", used=False, connected=True)
    assert next_place("clean", [IDLE, awake, OWN], ROOM) == Run("ship-3", fresh=True, clean=True)


def failed(place, ship="ship-verify", **more):
    return Verified(ship, place, 1, **{"fresh": place.fresh, **more})


@pytest.mark.parametrize(
    ("done", "has_setup", "place"),
    [
        (failed(CLEAN), False, Run("ship-1")),
        (failed(CLEAN, timed_out=True), False, Run("ship-1")),
        (failed(CLEAN), True, None),  # what a clean clone needs the plan says itself
        (failed(Run("ship-1")), False, None),  # once
        (failed(Run(None)), False, None),
        (Verified("ship-verify", CLEAN, 0, fresh=True), False, None),
    ],
)
def test_once_more(done, has_setup, place):
    assert try_again(done, [FIRST, SECOND, OWN], has_setup=has_setup) == place


def test_once_more_needs_a_ship_that_landed():
    assert try_again(failed(CLEAN), [VerifyShip("ship-0", used=True), OWN], has_setup=False) is None
    assert try_again(failed(CLEAN), [], has_setup=False) is None


PASSED = Verified("ship-verify", CLEAN, 0, fresh=True)


@pytest.mark.parametrize(
    ("runs", "verify_on", "promised", "state", "clean"),
    [
        ([PASSED], "clean", True, "complete", True),
        ([failed(CLEAN)], "clean", True, "failed", True),
        ([failed(CLEAN), Verified("ship-1", Run("ship-1"), 0)], "clean", True, "complete", False),
        ([failed(CLEAN), Verified("ship-1", Run("ship-1"), 0)], "clean", False, "complete", False),
        ([failed(CLEAN), failed(Run("ship-1"), "ship-1")], "clean", True, "failed", False),
        ([Verified("ship-1", Run("ship-1"), 0)], "clean", True, "complete", False),
        ([Verified("host-1", Run("ship-1"), 0)], "clean", False, "complete", None),  # hosts have no ship-verify
        ([Verified("ship-1", Run(None), 0)], "any", False, "complete", None),
        ([Verified("ship-1", Run(None), 0, fresh=True)], "any", False, "complete", None),  # agents were there
        ([Verified("ship-verify", CLEAN, 0, fresh=False)], "clean", True, "complete", False),  # an older worker
    ],
)
def test_the_verdict(runs, verify_on, promised, state, clean):
    found = judge(runs, verify_on, is_promised=promised)
    assert (found.state, found.clean) == (state, clean)
    assert bool(found.note) == (state == "failed" or clean is False)


def test_what_the_verdict_says():
    late = Verified("ship-verify", CLEAN, 124, timed_out=True, fresh=True)
    setup = Verified("ship-verify", CLEAN, 3, stage="setup", fresh=True)
    log = "on the merged head (logs/verify.log)"
    assert judge([late], "clean", is_promised=True) == Verdict("failed", True, f"verify.sh took too long {log}")
    assert judge([setup], "clean", is_promised=True).note == f"setup ended with exit code 3 {log}"
    advice = judge([late, Verified("ship-1", Run("ship-1"), 0)], "clean", is_promised=True).note
    assert "passed on ship-1" in advice
    assert "`setup`" in advice
    assert "\n" not in advice
