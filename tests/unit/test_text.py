"""Text that is made fit to show."""

from __future__ import annotations

from ocaptain.text import group_by_reason


def test_equal_reasons_are_said_once():
    reasons = {**{f"ship-{n}": "no credit" for n in range(7)}, "ship-9": "broken"}
    assert group_by_reason(reasons) == [
        "ship-0, ship-1, ship-2, ship-3, ship-4 and 2 more: no credit",
        "ship-9: broken",
    ]
