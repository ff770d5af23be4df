"""Durations of Go, as the API has them."""

from __future__ import annotations

import pytest

from ocaptain.drydock.api.common import parse_duration
from ocaptain.drydock.errors import ApiError


@pytest.mark.parametrize(
    ("text", "seconds"), [("5.0s", 5), ("10", 10), ("1m30s", 90), ("500ms", 0.5), ("0", 0), ("1h", 3600)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5x", "-1s", "1s2", "NaN"])
def test_what_is_no_duration(text):
    with pytest.raises(ApiError):
        parse_duration(text)
