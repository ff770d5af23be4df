"""The kill matrix: every victim in every phase. The table is printed at the end of the run.

``OCAPTAIN_MATRIX_SEED`` repeats a run; the moments inside a phase are drawn by it.
``OCAPTAIN_MATRIX_ALONE=1`` plays every cell as a voyage of its own, which takes longer.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.voyage.matrix import AGAIN, LONG, VICTIMS, Cell, Cruise

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]
SEED = int(os.environ.get("OCAPTAIN_MATRIX_SEED", "1"))
MOST_AT_ONCE = 9
CRUISING = {} if os.environ.get("OCAPTAIN_MATRIX_ALONE") else AGAIN
CRUISES = [
    (victim, part)
    for victim, phases in CRUISING.items()
    for part in ([phases[:3], phases[3:]] if victim == LONG[0] else [phases])
]
CELLS = [
    (victim, phase) for victim, phases in VICTIMS.items() for phase in phases if phase not in CRUISING.get(victim, ())
]


def short(cases):
    return [(victim, what) for victim, what in cases if victim not in LONG]


def long(cases):
    return [(victim, what) for victim, what in cases if victim in LONG]


def cruise(root, record_property, victim, phases):
    """Play one voyage that meets ``victim`` in all ``phases``."""
    played = Cruise(victim, phases, SEED, root)
    was = "FAILED"
    try:
        was = played.run()
    finally:
        for phase in played.met:
            record_property("matrix", [victim, phase, was])
    assert tuple(played.met) == phases


def cell(root, record_property, victim, phase):
    """Play one voyage that meets ``victim`` in ``phase``."""
    was = "FAILED"
    try:
        was = Cell(victim, phase, SEED, root).run()
    finally:
        record_property("matrix", [victim, phase, was])


@pytest.mark.slow
def test_those_that_mostly_wait_at_the_same_time(tmp_path, record_property):
    plays = [(cruise, *case) for case in long(CRUISES)] + [(cell, *case) for case in long(CELLS)]
    with ThreadPoolExecutor(min(len(plays), MOST_AT_ONCE)) as pool:
        played = [
            pool.submit(play, tmp_path / str(number), record_property, victim, what)
            for number, (play, victim, what) in enumerate(plays)
        ]
    if errors := [error for one in played if (error := one.exception())]:
        raise BaseExceptionGroup("they were not all finished or resumed", errors)


@pytest.mark.parametrize(("victim", "phases"), short(CRUISES))
def test_one_voyage_meets_it_again_and_again(tmp_path, record_property, victim, phases):
    cruise(tmp_path / "cruise", record_property, victim, phases)


@pytest.mark.parametrize(("victim", "phase"), short(CELLS))
def test_cell(tmp_path, record_property, victim, phase):
    cell(tmp_path / "cell", record_property, victim, phase)
