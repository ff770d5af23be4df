"""How a voyage ends: a table of cases."""

from __future__ import annotations

import pytest

from ocaptain.captain.decide.finish import NextStep, VoyageStatus, next_step

WAIT = NextStep("wait")


@pytest.mark.parametrize(
    ("now", "found"),
    [
        ({}, NextStep("verify")),
        ({"working": 1, "denied": "no credit", "paused": True}, WAIT),  # what is under way is brought home
        ({"denied": "no credit", "paused": True, "claimable": True, "pending": 3}, NextStep("failed", "no credit")),
        ({"paused": True, "claimable": True, "pending": 3}, NextStep("paused")),
        ({"paused": True, "failed": ("1",)}, NextStep("paused")),
        ({"claimable": True, "pending": 2, "failed": ("1",)}, WAIT),  # the rest goes on
        ({"pending": 2, "failed": ("1", "7")}, NextStep("failed", "failed for good: task 1, 7")),
        ({"pending": 2, "failed": ("1",), "held": True}, WAIT),  # for the user's approval
        ({"paused": True, "pending": 2, "held": True}, NextStep("paused")),
        ({"pending": 2, "has_ships": False, "may_replace": True}, WAIT),
        (
            {"pending": 2, "has_ships": False},
            NextStep("failed", "no ship is left; `ocaptain sail --resume v` makes new ones"),
        ),
        ({"pending": 1}, NextStep("failed", "the tasks that are left are pinned to ships that are gone")),
        ({"has_ships": False}, NextStep("verify")),  # which says itself that no ship is left
    ],
)
def test_what_becomes_of_a_voyage(now, found):
    assert next_step(VoyageStatus("v", **now)) == found
