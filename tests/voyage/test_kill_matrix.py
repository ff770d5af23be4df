"""The kill matrix: every victim in every phase. The table is printed at the end of the run.

``OCAPTAIN_MATRIX_SEED`` repeats a run; the moments inside a phase are drawn by it.
``OCAPTAIN_MATRIX_ALONE=1`` plays every cell as a voyage of its own, which takes longer. Of the row in
which the provider dies four cells are drawn; ``OCAPTAIN_STORM=1`` (``make storm``) plays them all.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.voyage.matrix import LONG, PHASES, SINKS, VICTIMS, Cell, Cruise, ProviderDies, Sinking, cruises

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]
SEED = int(os.environ.get("OCAPTAIN_MATRIX_SEED", "1"))
MAX_AT_ONCE = 9
STORM = bool(os.environ.get("OCAPTAIN_STORM"))
DRAW = int(os.environ.get("OCAPTAIN_MATRIX_SEED") or random.SystemRandom().randrange(10**6))
ALONE = bool(os.environ.get("OCAPTAIN_MATRIX_ALONE"))
CRUISES = [] if ALONE else cruises()
SINKINGS = () if ALONE else SINKS
TOGETHER = {meet for meets in CRUISES for meet in meets} | {(one, "sink") for victims in SINKINGS for one in victims}
CELLS = [(victim, phase) for victim, phases in VICTIMS.items() for phase in phases if (victim, phase) not in TOGETHER]


PROVIDER_DIES = [(phase, then) for phase in PHASES for then in ("resume", "sink")]
DRAWN = 4


def play(record_property, met, played):
    """Play one voyage, and note what it meets and how it ended."""
    was = "FAILED"
    try:
        was = played.run()
    finally:
        for victim, phase in met:
            record_property("matrix", [victim, phase, was])


def cruise(root, record_property, meets):
    played = Cruise(meets, SEED, root)
    play(record_property, played.met, played)
    assert tuple(played.met) == meets


def cell(root, record_property, meet):
    play(record_property, [meet], Cell(*meet, SEED, root))


@pytest.mark.slow
def test_those_that_mostly_wait_at_the_same_time(tmp_path, record_property):
    plays = [(cruise, meets) for meets in CRUISES if meets[0][0] in LONG]
    plays += [(cell, meet) for meet in CELLS if meet[0] in LONG]
    with ThreadPoolExecutor(min(len(plays), MAX_AT_ONCE)) as pool:
        played = [
            pool.submit(one, tmp_path / str(number), record_property, what) for number, (one, what) in enumerate(plays)
        ]
    if errors := [error for one in played if (error := one.exception())]:
        raise BaseExceptionGroup("they were not all finished or resumed", errors)


def name(meets):
    return meets[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("meets", [meets for meets in CRUISES if meets[0][0] not in LONG], ids=name)
def test_one_voyage_meets_it_again_and_again(tmp_path, record_property, meets):
    cruise(tmp_path / "cruise", record_property, meets)


@pytest.mark.parametrize("victims", SINKINGS, ids=",".join)
def test_one_sink_meets_them_all(tmp_path, record_property, victims):
    play(record_property, [(victim, "sink") for victim in victims], Sinking(victims, SEED, tmp_path / "sinking"))


@pytest.mark.parametrize("meet", [meet for meet in CELLS if meet[0] not in LONG], ids="-".join)
def test_cell(tmp_path, record_property, meet):
    cell(tmp_path / "cell", record_property, meet)


@pytest.mark.slow
def test_the_provider_dies(tmp_path, record_property):
    record_property("matrix seed", DRAW)
    drawn = PROVIDER_DIES if STORM else random.Random(DRAW).sample(PROVIDER_DIES, DRAWN)
    with ThreadPoolExecutor(2) as pool:
        played = {
            (phase, then): pool.submit(
                play,
                record_property,
                [("provider dies", phase)],
                ProviderDies(phase, then, DRAW, tmp_path / f"{number}"),
            )
            for number, (phase, then) in enumerate(drawn)
        }
    errors = {meet: error for meet, one in played.items() if (error := one.exception())}
    for (phase, then), error in errors.items():
        error.add_note(f"phase {phase}, then {then}, OCAPTAIN_MATRIX_SEED={DRAW}")
    if errors:
        raise BaseExceptionGroup("the provider died", list(errors.values()))
