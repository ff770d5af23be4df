"""Leases: which task a silent ship loses, whatever the clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.captain.decide.leases import LEASE_SECONDS, MAX_TICK, Leases


@given(st.lists(st.floats(0, 10**6), max_size=40))
def test_a_clock_that_jumps_takes_no_task_away(jumps):
    """However late a tick comes, it ages a lease by two seconds at most."""
    leases, now = Leases({}), 0.0
    for count, jump in enumerate(jumps):
        now += jump
        leases, lapsed = leases.tick(now, {"ship-0"})
        if lapsed:
            assert count * MAX_TICK >= LEASE_SECONDS


def test_a_silent_ship_loses_its_lease_and_one_that_is_heard_starts_afresh():
    leases, now = Leases({}), 100.0
    for _ in range(40):
        now += 1
        leases, lapsed = leases.tick(now, {"ship-0"})
        assert not lapsed
    leases, _ = leases.tick(now + 1, set())
    for second in range(2, 200):
        leases, lapsed = leases.tick(now + second, {"ship-0", "ship-1"})
        if lapsed:
            assert lapsed == {"ship-0", "ship-1"}
            assert second >= LEASE_SECONDS
            return
    pytest.fail("no lease ever lapsed")
