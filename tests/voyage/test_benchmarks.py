"""The benchmarks run, and what they count is right; how fast this machine is today is nobody's fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.helpers import REPO


def bench(home, name, *arguments):
    environment = {**os.environ, "HOME": str(home)}
    argv = [sys.executable, str(REPO / "benchmarks" / f"{name}.py"), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_two_random_graphs_beside_their_simulation(tmp_path):
    size = ("--graphs", "2", "--tasks", "12", "--ships", "4", "--only", "short")
    found = bench(tmp_path, "makespan", *size, "--max-load", "1000")  # the rest of the suite runs beside it
    rows = found["short"]["rows"]
    assert len(rows) == 2
    for row in rows:
        assert row["seconds"] > row["simulated"] * 0.99, "a fleet cannot be faster than without any overhead"
        assert row["overhead"] > 0


@pytest.mark.slow
def test_what_a_queue_of_checks_lands_is_right(tmp_path):
    found = bench(tmp_path, "landing", "--ships", "3", "--tasks", "6", "--seconds", "0.5", "--alone", "2")
    assert (found["together"]["landings"], found["together"]["attempts"], found["together"]["wrong"]) == (6, 6, [])
    assert (found["failing"]["landings"], found["failing"]["attempts"], found["failing"]["wrong"]) == (6, 7, [])


def test_what_screens_cost(tmp_path):
    size = ("--tasks", "60", "--ships", "4", "--rounds", "2", "--frames", "3", "--seconds", "0.5")
    found = bench(tmp_path, "screens", *size)
    assert set(found["start"]["ratio"]) == {"--help", "status"}
    assert found["reader"]["changed"]["p50_ms"] > found["reader"]["unchanged"]["p50_ms"]
    assert {"board", "watch"} <= set(found)


def test_claims_of_many_ships(tmp_path):
    found = bench(tmp_path, "scale", "--only", "claims", "--tasks", "1500")
    assert {"10", "1000", "growth"} <= set(found["claims"])


def test_frames_of_watch(tmp_path):
    found = bench(tmp_path, "watch", "--tasks", "60", "--ships", "4", "--frames", "2", "--seconds", "0.5")
    assert [one["size"] for one in found["sizes"]] == ["80x24", "200x50"]
    assert all(one["landed_one_by_one"]["changed_frame_ms"]["median"] > 0 for one in found["sizes"])


def test_looks_at_a_running_attempt(tmp_path):
    found = bench(tmp_path, "live", "--files", "300", "--rounds", "2")
    assert found["bytes"] < 1000
    assert found["nothing_new"] > 0
