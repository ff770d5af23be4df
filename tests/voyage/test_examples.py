"""Every plan of examples/generated-plans sails, with a shell script in the place of the agent."""

from __future__ import annotations

import json

import pytest

from tests.examples import GENERATED, NAMES, stand_in, start_of
from tests.helpers import wait_for

pytestmark = pytest.mark.root
SLOW = {"todo-web", "refactoring"}
PLANS = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NAMES]


@pytest.mark.parametrize("name", PLANS)
def test_an_example_lands_and_verifies(sailor, tmp_path, name):
    tasks = {path.stem: json.loads(path.read_text("utf-8")) for path in (GENERATED / name / "tasks").glob("*.json")}
    held = [task for task, content in tasks.items() if content["metadata"].get("hold")]
    start = start_of(name, tmp_path / "start")
    repo = ("--repo", start) if start else ()
    options = ("-n", "2", "--agent", "command", "--agent-cmd", stand_in(name), *repo)
    voyage = sailor.json("sail", GENERATED / name, *options, *(() if held else ("--wait",)), "--json")["voyage"]
    if held:
        # Held means held: everything else lands, and the voyage waits for a person.
        rest = len(tasks) - len(held)
        wait_for(lambda: len(sailor.landed(voyage)) == rest, 240)
        assert sailor.json("status", voyage, "--json")["state"] == "running"
        assert not set(held) & set(sailor.landed(voyage))
        assert sailor.run("approve", voyage, *held).code == 0
        wait_for(lambda: sailor.json("status", voyage, "--json")["state"] not in {"running", "verifying"}, 240)
    status = sailor.json("status", voyage, "--json")
    assert status["state"] == "complete", sailor.run("why", voyage).out
    assert status["verify"]["ok"] is True
    landed = sailor.landed(voyage)
    assert sorted(landed, key=int) == sorted(tasks, key=int)
    for task, content in tasks.items():
        for before in content["blockedBy"]:
            assert landed.index(before) < landed.index(task)
    checks = {task["id"]: task["check"] for task in sailor.json("tasks", voyage, "--json")["tasks"]}
    assert all(check and check["ok"] for check in checks.values()), checks
    sunk = sailor.json("sink", voyage, "--force", "--json")
    assert (sunk["state"], sunk["left"]) == ("sunk", [])
    assert sailor.sprites() == 0
