"""Where the final verify runs, and what its end means."""

from __future__ import annotations

import pytest

from ocaptain.captain.decide.verify import (
    CandidateShip,
    CreateShip,
    CreationStatus,
    Place,
    Verdict,
    VerifyRun,
    is_clean_place_coming,
    judge_runs,
    next_place,
    place_to_retry,
)

OWN = CandidateShip("ship-verify", used=False)
FIRST = CandidateShip("ship-0", used=True, landed=2)
SECOND = CandidateShip("ship-1", used=True, landed=1)
IDLE = CandidateShip("ship-2", used=False)
LOST = CandidateShip("ship-verify", used=False, usable=False)
CLEAN = Place("ship-verify", fresh=True, clean=True)
ROOM, FULL = CreationStatus(possible=True), CreationStatus(possible=True, is_account_full=True)


@pytest.mark.parametrize(
    ("ships", "making", "place"),
    [
        ([FIRST, SECOND, OWN], ROOM, CLEAN),
        ([FIRST, IDLE, OWN], ROOM, Place("ship-2", fresh=True, clean=True)),  # ship-verify is not woken
        ([FIRST, IDLE], CreationStatus(), Place("ship-2", fresh=True, clean=True)),
        ([FIRST, SECOND, LOST], ROOM, CreateShip()),
        ([FIRST, SECOND, LOST], FULL, CreateShip("ship-0")),  # the one that landed last may be needed
        ([FIRST, CandidateShip("ship-1", used=True), LOST], FULL, CreateShip("ship-1")),  # it landed nothing
        ([FIRST, LOST], FULL, CreateShip("ship-0")),
        ([LOST], FULL, CreateShip()),
        ([FIRST, SECOND, LOST], CreationStatus(possible=True, times_made=2), Place("ship-1")),  # not for ever
        ([FIRST, SECOND, LOST], CreationStatus(), Place("ship-1")),
        ([FIRST, SECOND], CreationStatus(), Place("ship-1")),
        ([CandidateShip("ship-0", used=True)], CreationStatus(), Place(None)),
        ([LOST], CreationStatus(), Place(None)),
    ],
)
def test_the_place(ships, making, place):
    assert next_place("clean", ships, making) == place
    assert next_place("any", ships, making) == Place(None)


@pytest.mark.parametrize(
    ("ships", "to_come", "waits"),
    [
        ([FIRST, LOST], {"ship-verify"}, True),
        ([FIRST, CandidateShip("ship-2", used=False, usable=False)], {"ship-2"}, True),
        ([FIRST, LOST], set(), False),
        ([FIRST, IDLE, LOST], {"ship-verify"}, False),  # one is there
        ([FIRST, CandidateShip("ship-1", used=True, usable=False)], {"ship-1"}, False),  # an agent was there before
    ],
)
def test_whether_a_clean_place_is_waited_for(ships, to_come, waits):
    assert is_clean_place_coming("clean", ships, to_come) is waits
    assert not is_clean_place_coming("any", ships, to_come)


def test_a_ship_that_does_not_answer_comes_last():
    silent = CandidateShip("ship-3", used=False, silent=True)
    assert next_place("clean", [silent, OWN], ROOM) == CLEAN
    assert next_place("clean", [FIRST, silent], ROOM) == Place("ship-3", fresh=True, clean=True)


def test_a_ship_that_is_awake_comes_first():
    awake = CandidateShip("ship-3", used=False, connected=True)
    assert next_place("clean", [IDLE, awake, OWN], ROOM) == Place("ship-3", fresh=True, clean=True)


def failed(place, ship="ship-verify", **more):
    return VerifyRun(ship, place, 1, **{"fresh": place.fresh, **more})


@pytest.mark.parametrize(
    ("done", "has_setup", "place"),
    [
        (failed(CLEAN), False, Place("ship-1")),
        (failed(CLEAN, timed_out=True), False, Place("ship-1")),
        (failed(CLEAN), True, None),  # what a clean clone needs the plan says itself
        (failed(Place("ship-1")), False, None),  # once
        (failed(Place(None)), False, None),
        (VerifyRun("ship-verify", CLEAN, 0, fresh=True), False, None),
    ],
)
def test_once_more(done, has_setup, place):
    assert place_to_retry(done, [FIRST, SECOND, OWN], has_setup=has_setup) == place


def test_once_more_needs_a_ship_that_landed():
    assert place_to_retry(failed(CLEAN), [CandidateShip("ship-0", used=True), OWN], has_setup=False) is None
    assert place_to_retry(failed(CLEAN), [], has_setup=False) is None


PASSED = VerifyRun("ship-verify", CLEAN, 0, fresh=True)


@pytest.mark.parametrize(
    ("runs", "verify_on", "promised", "state", "clean"),
    [
        ([PASSED], "clean", True, "complete", True),
        ([failed(CLEAN)], "clean", True, "failed", True),
        ([failed(CLEAN), VerifyRun("ship-1", Place("ship-1"), 0)], "clean", True, "complete", False),
        ([failed(CLEAN), VerifyRun("ship-1", Place("ship-1"), 0)], "clean", False, "complete", False),
        ([failed(CLEAN), failed(Place("ship-1"), "ship-1")], "clean", True, "failed", False),
        ([VerifyRun("ship-1", Place("ship-1"), 0)], "clean", True, "complete", False),
        ([VerifyRun("host-1", Place("ship-1"), 0)], "clean", False, "complete", None),  # hosts have no ship-verify
        ([VerifyRun("ship-1", Place(None), 0)], "any", False, "complete", None),
        ([VerifyRun("ship-1", Place(None), 0, fresh=True)], "any", False, "complete", None),  # agents were there
        ([VerifyRun("ship-verify", CLEAN, 0, fresh=False)], "clean", True, "complete", False),  # an older worker
    ],
)
def test_the_verdict(runs, verify_on, promised, state, clean):
    found = judge_runs(runs, verify_on, is_promised=promised)
    assert (found.state, found.clean) == (state, clean)
    assert bool(found.note) == (state == "failed" or clean is False)


def test_what_the_verdict_says():
    late = VerifyRun("ship-verify", CLEAN, 124, timed_out=True, fresh=True)
    setup = VerifyRun("ship-verify", CLEAN, 3, stage="setup", fresh=True)
    log = "on the merged head (logs/verify.log)"
    assert judge_runs([late], "clean", is_promised=True) == Verdict("failed", True, f"verify.sh took too long {log}")
    assert judge_runs([setup], "clean", is_promised=True).note == f"setup ended with exit code 3 {log}"
    advice = judge_runs([late, VerifyRun("ship-1", Place("ship-1"), 0)], "clean", is_promised=True).note
    assert "passed on ship-1" in advice
    assert "`setup`" in advice
    assert "\n" not in advice
