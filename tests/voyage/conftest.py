"""What tests of voyages find beside a home."""

from __future__ import annotations

import pytest

from tests.voyage.local import LocalShip


@pytest.fixture
def ships(tmp_path):
    """Return a function that starts workers."""
    made: list[LocalShip] = []

    def make(count=1):
        for _ in range(count):
            made.append(LocalShip(tmp_path / f"s{len(made)}").start())
        return made

    yield make
    for ship in made:
        ship.end()
