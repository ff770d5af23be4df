"""100 claimers, 20,000 tasks, random kills: no double, none lost."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.helpers import REPO


def test_claimers_under_kill(tmp_path):
    done = subprocess.run(
        [sys.executable, REPO / "benchmarks/claims.py"],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=True,
        timeout=280,
    )
    found = json.loads(done.stdout)
    assert (found["tasks"], found["claimers"]) == (20_000, 100)
    assert (found["doubles"], found["lost"], found["wrong"]) == (0, 0, 0)
    assert found["tokens_unique"]
    assert found["tokens_growing"]
    assert found["killed"] >= 10
    assert found["ratio"] >= 1 / 3
