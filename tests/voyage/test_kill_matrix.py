"""The kill matrix: every victim in every phase. The table is printed at the end of the run.

``OCAPTAIN_MATRIX_SEED`` repeats a run; the moments inside a phase are drawn by it.
``OCAPTAIN_MATRIX_ALONE=1`` plays every cell as a voyage of its own, which takes twice as long.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.voyage.matrix import AGAIN, LONG, SAILING, VICTIMS, Cell, Cruise

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]
SEED = int(os.environ.get("OCAPTAIN_MATRIX_SEED", "1"))
CRUISING = () if os.environ.get("OCAPTAIN_MATRIX_ALONE") else AGAIN
SHORT = [
    (victim, phase)
    for victim, phases in VICTIMS.items()
    for phase in phases
    if victim not in LONG and not (victim in CRUISING and phase in SAILING)
]


@pytest.mark.parametrize("victim", LONG)
def test_cells_that_mostly_wait(tmp_path, record_property, victim):
    """All phases at the same time."""

    def play(phase):
        name = phase.replace(": ", "-")
        try:
            return phase, Cell(victim, phase, SEED, tmp_path / name).run(), None
        except BaseException as error:
            return phase, "FAILED", error

    with ThreadPoolExecutor(len(VICTIMS[victim])) as pool:
        played = list(pool.map(play, VICTIMS[victim]))
    for phase, was, _ in played:
        record_property("matrix", [victim, phase, was])
    if errors := [error for *_, error in played if error]:
        raise BaseExceptionGroup(f"cells of {victim}", errors)


@pytest.mark.parametrize("victim", CRUISING)
def test_one_voyage_meets_it_in_every_phase(tmp_path, record_property, victim):
    cruise = Cruise(victim, SEED, tmp_path / "cruise")
    was = "FAILED"
    try:
        was = cruise.run()
    finally:
        for phase in cruise.met:
            record_property("matrix", [victim, phase, was])
    assert tuple(cruise.met) == SAILING


@pytest.mark.parametrize(("victim", "phase"), SHORT)
def test_cell(tmp_path, record_property, victim, phase):
    cell = Cell(victim, phase, SEED, tmp_path / "cell")
    try:
        record_property("matrix", [victim, phase, cell.run()])
    except BaseException:
        record_property("matrix", [victim, phase, "FAILED"])
        raise
