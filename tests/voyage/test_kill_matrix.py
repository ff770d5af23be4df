"""The kill matrix: every victim in every phase. The table is printed at the end of the run.

``OCAPTAIN_MATRIX_SEED`` repeats a run; the moments inside a phase are drawn by it.
``OCAPTAIN_MATRIX_ALONE=1`` plays every cell as a voyage of its own, which takes three times as long.
"""

from __future__ import annotations

import os

import pytest

from tests.voyage.matrix import AGAIN, LONG, VICTIMS, Cell, Cruise

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]
SEED = int(os.environ.get("OCAPTAIN_MATRIX_SEED", "1"))
CRUISING = {} if os.environ.get("OCAPTAIN_MATRIX_ALONE") else AGAIN
CRUISES = [
    pytest.param(victim, part, marks=[pytest.mark.slow] if victim in LONG else [])
    for victim, phases in CRUISING.items()
    for part in ([phases[:3], phases[3:]] if victim == LONG[0] else [phases])
]
SHORT = [
    (victim, phase) for victim, phases in VICTIMS.items() for phase in phases if phase not in CRUISING.get(victim, ())
]


@pytest.mark.parametrize(("victim", "phases"), CRUISES)
def test_one_voyage_meets_it_again_and_again(tmp_path, record_property, victim, phases):
    cruise = Cruise(victim, phases, SEED, tmp_path / "cruise")
    was = "FAILED"
    try:
        was = cruise.run()
    finally:
        for phase in cruise.met:
            record_property("matrix", [victim, phase, was])
    assert tuple(cruise.met) == phases


@pytest.mark.parametrize(("victim", "phase"), SHORT)
def test_cell(tmp_path, record_property, victim, phase):
    cell = Cell(victim, phase, SEED, tmp_path / "cell")
    try:
        record_property("matrix", [victim, phase, cell.run()])
    except BaseException:
        record_property("matrix", [victim, phase, "FAILED"])
        raise
