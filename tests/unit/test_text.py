"""Text that is made fit to show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.errors import OcaptainError
from ocaptain.text import clean_bytes, clean_line, escape_control, group_by_reason, plain_reason


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


def test_a_carriage_return_is_shown_only_where_it_would_act():
    assert clean_line("gamma: no route\r\nto host\r") == "gamma: no route to host"
    assert clean_line("a\rb") == "a\\x0db"


def test_no_message_announces_what_does_not_follow():
    assert str(OcaptainError("it failed:")) == "it failed: no reason was given"
    assert str(OcaptainError("it failed:", ["why"])) == "it failed:\nwhy"


@given(st.text())
def test_clean_text_holds_nothing_that_a_terminal_acts_upon(text):
    assert not any((ord(one) < 32 and one not in "\t\n") or 127 <= ord(one) < 160 for one in escape_control(text))
    assert "\n" not in clean_line(text)
    escape_control(text).encode()


@given(st.binary())
def test_clean_bytes_keep_their_length(data):
    found = clean_bytes(data)
    assert len(found) == len(data)
    assert not any((byte < 32 and byte not in b"\t\n") or byte == 127 for byte in found)


def test_a_long_line_is_cut():
    assert clean_line("x" * 50, 10) == "x" * 9 + "…"
