"""100 claimers, 20,000 tasks, random kills: no double, none lost."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import claims
from ocaptain.ledger import Ledger
from tests.helpers import REPO


def test_claimers_under_kill(tmp_path):
    done = subprocess.run(
        [sys.executable, REPO / "benchmarks/claims.py"],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=True,
        timeout=840,
    )
    found = json.loads(done.stdout)
    assert (found["tasks"], found["claimers"]) == (20_000, 100)
    assert (found["doubles"], found["lost"], found["wrong"]) == (0, 0, 0)
    assert found["tokens_unique"]
    assert found["tokens_growing"]
    assert found["killed"] >= 10


def steps_of_a_claim(path, tasks):
    """How many of SQLite's instructions ten claims take, half of the tasks being claimed already."""
    epoch = claims.make(path, tasks)
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    with Ledger(path, epoch=epoch) as ledger:
        for _ in range(tasks // 2):
            ledger.claim("ship-0")
        ledger._db.set_progress_handler(count, 1)
        for _ in range(10):
            assert ledger.claim("ship-0")
    return steps


def test_a_claim_costs_the_same_at_any_size(tmp_path):
    """The planner once took another index, and a claim read every pending task."""
    few, many = steps_of_a_claim(tmp_path / "few.db", 40), steps_of_a_claim(tmp_path / "many.db", 2000)
    assert few <= many <= 1.2 * few
