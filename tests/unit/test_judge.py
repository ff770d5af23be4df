"""The captain's own bounds: whatever ships say, every attempt ends; and whose fault something is."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.captain.decide.compare import (
    LOCAL,
    BranchLanding,
    Comparison,
    HighestNumbers,
    compare_branch_and_ledger,
    highest_numbers,
    parse_trailers,
)
from ocaptain.captain.decide.judge import (
    GRACE_SECONDS,
    MAX_BREAKS,
    AttemptWatch,
    ChannelBreaks,
    RunningAttempt,
    count_break,
    is_ship_to_blame,
)
from ocaptain.captain.decide.leases import LEASE_SECONDS, TICK, Leases
from ocaptain.captain.decide.pause import temporary_pause
from ocaptain.captain.decide.refusals import is_refusal_confirmed
from ocaptain.captain.ship.context import ShipFault
from ocaptain.captain.ship.faults import classify_fault
from ocaptain.captain.transport.base import CutShort, FileFault, ShipGone, TransportError
from ocaptain.git import BadBundle, GitError
from ocaptain.sprites import ConnectionFailed

TIMEOUT, STALL = 100.0, 30.0


def working(records=0, token=1):
    return RunningAttempt(token, "ship-0", records, TIMEOUT, STALL)


#: What a ship does in a second: whether its channel is open, whether a record comes, whether it breaks.
SECOND = st.tuples(st.booleans(), st.booleans(), st.booleans())


@given(st.lists(SECOND, min_size=1, max_size=40), st.booleans())
def test_every_attempt_leaves_its_state_whatever_its_ship_does(seconds, others):
    """The ship repeats what was drawn for ever; lease, judge and breaks are ticked as the captain does."""
    judge, leases, breaks, records = AttemptWatch({}), Leases({}), None, 0
    bound = TIMEOUT + GRACE_SECONDS + 3 * LEASE_SECONDS
    for tick in range(int(bound / TICK) + 1):
        now = tick * TICK
        is_open, record, broke = seconds[tick % len(seconds)]
        records += is_open and record
        leases, lapsed = leases.tick(now, set() if is_open else {"ship-0"})
        judge, over = judge.tick(now, [working(records)])
        if is_open and broke:
            breaks = count_break(breaks, records, now)
        benched = breaks is not None and is_ship_to_blame(breaks, now, another_is_connected=others)
        if lapsed or over or benched:
            return
    raise AssertionError("it is held for ever")


def test_the_bounds_are_those_of_the_task_and_a_minute():
    judge = AttemptWatch({})
    for tick in range(1000):
        judge, over = judge.tick(float(tick), [working(records=tick)])
        if over:
            assert tick == TIMEOUT + GRACE_SECONDS
            assert "may take 100 s" in over["ship-0"]
            break
    judge = AttemptWatch({})
    for tick in range(1000):
        judge, over = judge.tick(float(tick), [working()])
        if over:
            assert tick == STALL + GRACE_SECONDS
            assert "stall limit is 30 s" in over["ship-0"]
            break


def test_a_tick_that_comes_late_adds_two_seconds_and_one_while_nothing_can_be_heard_none():
    judge, _ = AttemptWatch({}).tick(0.0, [working()])
    judge, over = judge.tick(10_000.0, [working()])
    assert (over, judge.ages[1].worked) == ({}, 2.0)
    judge, _ = judge.tick(10_001.0, [working()], clock_stopped=True)
    assert judge.ages[1].worked == 2.0
    judge, _ = judge.tick(10_002.0, [working(token=2)])
    assert 1 not in judge.ages
    leases, _ = Leases({}).tick(0.0, {"a"})
    leases, _ = leases.tick(1.0, {"a"}, clock_stopped=True)
    assert leases.silent["a"] == 0.0


def test_a_ship_that_only_breaks():
    breaks = None
    for number in range(MAX_BREAKS):
        assert breaks is None or not is_ship_to_blame(breaks, 1.0, another_is_connected=True)
        breaks = count_break(breaks, 7, float(number))
    assert is_ship_to_blame(breaks, 3.0, another_is_connected=True)
    assert not is_ship_to_blame(breaks, 3.0, another_is_connected=False), "the way may be broken"
    assert is_ship_to_blame(breaks, LEASE_SECONDS, another_is_connected=False)
    assert count_break(breaks, 8, 9.0) == ChannelBreaks(8, 9.0, 1), "a record came between"


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (ShipGone("x"), "gone"),
        (CutShort("x"), "way"),
        (TransportError("x"), "way"),
        (FileFault("x"), "way"),
        (ConnectionFailed("x"), "way"),
        (GitError("x"), "ours"),
        (BadBundle("x"), "ship"),
        (MemoryError(), "ours"),
        (OSError(errno.ENOSPC, "full"), "ours"),
        (OSError(errno.EMFILE, "too many"), "ours"),
        (OSError(errno.ENOENT, "none"), "ship"),
        (ShipFault("x"), "ship"),
        (KeyError("what a ship said"), "ship"),
    ],
)
def test_whose_fault_it_is(error, whose):
    assert classify_fault(error) == whose


@pytest.mark.parametrize(
    ("ours", "absent", "reached", "reason"),
    [
        (None, None, True, None),
        (None, None, False, None),
        (None, "no answer", True, None),
        (None, "no answer", False, "provider"),
        ("full", None, True, "ours"),
        ("full", "no answer", False, "ours"),
    ],
)
def test_what_pauses_by_itself(ours, absent, reached, reason):
    found = temporary_pause(ours, absent, is_any_ship_connected=reached)
    assert (found and found.reason) == reason


def test_what_a_ledger_lacks_is_adopted_and_what_contradicts_it_is_said():
    tasks = {"1": "completed", "2": "pending", "a/b": "in_progress"}
    one, two, three = (
        BranchLanding("c1", "1", "s", 1),
        BranchLanding("c2", "2", "s", 3),
        BranchLanding("c3", "a/b", "s", 1),
    )
    commits = ["c1", "x", "c2", "c3"]
    assert compare_branch_and_ledger(commits, [one, two, three], ["c1"], tasks) == Comparison((two, three))
    assert compare_branch_and_ledger(commits, [one], ["c1"], tasks) == Comparison()
    assert (
        "c9 landed, but the branch, at c3"
        in compare_branch_and_ledger(commits, [one], ["c1", "c9"], tasks).contradiction
    )
    assert (
        "no such task"
        in compare_branch_and_ledger(commits, [one, BranchLanding("x", "9", "s", 1)], ["c1"], tasks).contradiction
    )
    assert "first commit" in compare_branch_and_ledger([], [], ["c1"], tasks).contradiction


def test_commits_of_the_users_are_adopted_in_their_place_on_the_branch():
    trailers = [("2", "s", "1"), ("", "local", ""), ("", "", ""), ("", "ship-0", ""), ("", "local", "3")]
    lines = ["\0".join((f"c{number}", *one)) for number, one in enumerate(trailers, 1)]
    commits, found = parse_trailers(lines)
    mine = BranchLanding("c2", "", LOCAL, 0)
    assert found == [BranchLanding("c1", "2", "s", 1), mine]
    assert compare_branch_and_ledger(commits, found, [], {"2": "pending"}) == Comparison(tuple(found))
    assert compare_branch_and_ledger(commits, found, ["c1", "c2"], {"2": "completed"}) == Comparison()


def test_numbers_that_refs_tell_of():
    below = "refs/ocaptain"
    refs = [f"{below}/tasks/1/2/work", f"{below}/tasks/1/11/work", f"{below}/tasks/a/b/3/head", f"{below}/stale/7"]
    refs += [f"{below}/stale/9-0a1b", f"{below}/saved/ship-0/4", f"{below}/attempts/1/99", "refs/heads/x"]
    assert highest_numbers(refs) == HighestNumbers({"1": 11, "a/b": 3}, 9, 4)
    assert highest_numbers([*refs, f"{below}/saved/ship-1/lost-12", f"{below}/live/ship-0"]).token == 12
    assert highest_numbers([*refs, f"{below}/local/7", f"{below}/local/11", f"{below}/local/x"]).local == 11


def test_trailers_of_a_log():
    lines = ["c1\0" + "1\0ship-0\0" + "2", "c2\0\0\0", "c3\0" + "1,2\0ship-0\0x", "c4"]
    assert parse_trailers(lines) == (["c1", "c2", "c3", "c4"], [BranchLanding("c1", "1", "ship-0", 2)])


@pytest.mark.parametrize(
    ("before", "sailing", "pin", "stops"),
    [
        (set(), {"a"}, None, True),
        (set(), {"a", "b"}, None, False),
        ({"a"}, {"a", "b"}, None, False),
        ({"b"}, {"a", "b"}, None, True),
        ({"b"}, {"a", "b", "c"}, None, True),
        (set(), {"a", "b"}, "a", True),
    ],
)
def test_one_ship_that_says_that_a_credential_was_refused_stops_no_fleet(before, sailing, pin, stops):
    assert is_refusal_confirmed("a", before, sailing, pin) is stops


def test_what_a_provider_said_is_shown_safely_and_leaves_room_for_what_to_do():
    found = temporary_pause(None, "\x1b[2J" + "x" * 5000, is_any_ship_connected=False)
    assert "\x1b" not in found.note
    assert len(found.note) < 400
    assert found.note.endswith("goes on by itself when it answers")
