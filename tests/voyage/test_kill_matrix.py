"""The kill matrix: every victim in every phase. The table is printed at the end of the run.

``OCAPTAIN_MATRIX_SEED`` repeats a run; the moments inside a phase are drawn by it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.voyage.matrix import LONG, VICTIMS, Cell

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]
SEED = int(os.environ.get("OCAPTAIN_MATRIX_SEED", "1"))
SHORT = [(victim, phase) for victim, phases in VICTIMS.items() if victim not in LONG for phase in phases]


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


@pytest.mark.parametrize(("victim", "phase"), SHORT)
def test_cell(tmp_path, record_property, victim, phase):
    cell = Cell(victim, phase, SEED, tmp_path / "cell")
    try:
        record_property("matrix", [victim, phase, cell.run()])
    except BaseException:
        record_property("matrix", [victim, phase, "FAILED"])
        raise
