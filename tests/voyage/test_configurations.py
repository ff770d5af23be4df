"""Sail, sail again, sink: under configurations of Ansible that are others', and of which nothing is ours.

The whole table, in which each line meets each, is in :mod:`tests.outside.test_configurations`.
"""

from __future__ import annotations

import pytest

from tests.configurations import sail_and_sink

pytestmark = pytest.mark.root

#: What each of these did when nothing of ours named what it relies on.
RED = {
    # add_host is refused, with the sprites made.
    "free": {"strategy": "free", "callback": "minimal", "transfer": "diff", "become": "option"},
    # No play begins at all.
    "not installed": {"strategy": "not installed", "gathering": "smart", "variables": "merge", "vault": "encrypted"},
}


@pytest.mark.parametrize("row", RED.values(), ids=RED)
def test_a_voyage_under_somebody_elses_configuration(sailor, plan, tmp_path, row):
    sail_and_sink(sailor, plan, tmp_path, row)
