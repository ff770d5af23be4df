"""Text that is made fit to show."""

from __future__ import annotations

import pytest

from ocaptain.text import group_by_reason, plain_reason


def test_equal_reasons_are_said_once():
    reasons = {**{f"ship-{n}": "no credit" for n in range(7)}, "ship-9": "broken"}
    assert group_by_reason(reasons) == [
        "ship-0, ship-1, ship-2, ship-3, ship-4 and 2 more: no credit",
        "ship-9: broken",
    ]


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ("Input should be a valid integer, unable to parse string as an integer", "must be a whole number"),
        (
            "Invalid value for '-n': Input should be greater than or equal to 1.",
            "Invalid value for '-n': must be 1 or more",
        ),
        ("Input should be greater than 0", "must be more than 0"),
        ("Input should be 'clean' or 'any'", "must be 'clean' or 'any'"),
        ("String should match pattern '^a$'", "does not have the right form"),
        ("Value error, the token contains spaces", "the token contains spaces"),
    ],
)
def test_a_validator_speaks_plainly(said, plain):
    assert plain_reason(said).rstrip(".") == plain
