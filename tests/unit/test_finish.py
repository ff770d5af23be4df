"""How a voyage ends: a table of cases."""

from __future__ import annotations

import pytest

from ocaptain.captain.decide.finish import Finish, Standing, finish

WAIT = Finish("wait")


@pytest.mark.parametrize(
    ("now", "found"),
    [
        ({}, Finish("verify")),
        ({"working": 1, "denied": "no credit", "paused": True}, WAIT),  # what is under way is brought home
        ({"denied": "no credit", "paused": True, "claimable": True, "pending": 3}, Finish("failed", "no credit")),
        ({"paused": True, "claimable": True, "pending": 3}, Finish("paused")),
        ({"paused": True, "failed": ("1",)}, Finish("paused")),
        ({"claimable": True, "pending": 2, "failed": ("1",)}, WAIT),  # the rest goes on
        ({"pending": 2, "failed": ("1", "7")}, Finish("failed", "failed for good: task 1, 7")),
        ({"pending": 2, "sails": False, "hopes": True}, WAIT),
        (
            {"pending": 2, "sails": False},
            Finish("failed", "no ship is left; `ocaptain sail --resume v` makes new ones"),
        ),
        ({"pending": 1}, Finish("failed", "the tasks that are left are pinned to ships that are gone")),
        ({"sails": False}, Finish("verify")),  # which says itself that no ship is left
    ],
)
def test_what_becomes_of_a_voyage(now, found):
    assert finish(Standing("v", **now)) == found
