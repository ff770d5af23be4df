"""What ships cost: they sleep when there is nothing for them, and the ledger knows how long they were awake."""

from __future__ import annotations

import os
import time

import pytest

from tests.helpers import PATIENCE, Sailor, run_task, wait_for

IDLE = 3.0


def test_a_fleet_sleeps_and_its_time_is_the_provider_s(tmp_path, plan):
    """600 s put forward on a ship that works are billed as 600; one that has nothing to do sleeps, also at the end."""
    if os.geteuid() != 0:
        pytest.skip("drydock needs root")
    lone = Sailor(tmp_path / "lone")
    lone.home.mkdir()
    go = "~/go"
    work = run_task(f"until test -e {go}; do sleep 0.2; done; echo 1 > a")
    try:
        assert lone.run("drydock", "start", "--idle", IDLE, "--cold", "0").code == 0
        sailed = lone.json("sail", plan([work]), "-n", "2", "--json")
        voyage = sailed["voyage"]

        def states():
            found = lone.api("GET", "/v1/sprites").json()["sprites"]
            return {one["name"].removeprefix(f"{voyage}-"): one["status"] for one in found}

        def until(check, seconds=PATIENCE):
            end = time.monotonic() + seconds
            while not check():
                assert time.monotonic() < end, states()
                time.sleep(0.3)

        def working_alone():
            """Return the ship that has the task, once the other one sleeps."""
            owner = lone.json("tasks", voyage, "--json")["tasks"][0]["owner"]
            found = states()
            return owner if sorted(found.values()) == ["running", "warm"] and found.get(owner) == "running" else None

        working = wait_for(working_alone)
        before = lone.metrics()["awake_seconds"]
        lone.api("POST", "/drydock/clock", {"advance": 600})
        after = lone.metrics()["awake_seconds"]
        assert {name.removeprefix(f"{voyage}-"): after[name] - before[name] > 590 for name in after} == {
            ship: ship == working for ship in states()
        }
        assert states()[working] == "running"
        lone.inside(f"{voyage}-{working}", "touch ~/go")
        until(lambda: lone.json("status", voyage, "--json")["state"] == "complete")
        until(lambda: set(states().values()) == {"warm"})
        until(lambda: not lone.json("status", voyage, "--json")["captain"])
        billed = lone.metrics()["awake_seconds"]
        for line in lone.json("cost", voyage, "--by", "ship", "--json")["lines"]:
            awake = billed[f"{voyage}-{line['name']}"]
            assert line["awake_seconds"] == pytest.approx(awake, abs=2.0, rel=0.02), line["name"]
        assert set(states().values()) == {"warm"}
    finally:
        lone.run("sink", "--all", "--force", "--abandon")
        lone.stop_drydock()
    assert lone.leftovers() == []
