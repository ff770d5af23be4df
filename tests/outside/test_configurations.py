"""Every pair of lines of others' configurations: sail, sail again, sink. Takes a quarter of an hour, and PyPI."""

from __future__ import annotations

import os

import pytest

from tests.configurations import FACTORS, pairwise, sail_and_sink
from tests.tools import package_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif("OCAPTAIN_OUTSIDE" not in os.environ, reason="takes a quarter of an hour (make outside)"),
    pytest.mark.timeout(3600),
]
ROWS = pairwise(FACTORS)


@pytest.fixture(scope="session")
def community():
    """The collections of the PyPI package ``ansible``, some of which a line needs."""
    return package_of("ansible==12.3.0")


@pytest.mark.parametrize("row", ROWS, ids=[" - ".join(row.values()) for row in ROWS])
def test_a_voyage_under_each_configuration(sailor, plan, tmp_path, community, row):
    sail_and_sink(sailor, plan, tmp_path, row, community)
