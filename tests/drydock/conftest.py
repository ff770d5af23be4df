"""What tests of drydock share."""

from __future__ import annotations

import pytest


@pytest.fixture
def own(tmp_path):
    """Return a function that starts a drydock of the test's own; the last one is ended."""
    from tests.drydock.test_life import Dock

    made = []

    def start(*options):
        made.append(Dock(tmp_path, *options))
        return made[-1]

    yield start
    for one in made[-1:]:
        one.end()
