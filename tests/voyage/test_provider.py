"""The provider dies: absent is not gone, nothing is lost, and what is left is known."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ocaptain import process
from tests.helpers import HELD, in_a_ship, make_directory, run_task, wait_for

pytestmark = pytest.mark.root
AT_WORK = f"date > began; mkdir -p ~/out; touch ~/out/$OCAPTAIN_TASK_ID; {HELD}; date > made"


def kill_drydock(sailor):
    """End it as the kernel does when memory is short; return how it was reached."""
    record = sailor.drydock()
    os.kill(record.pid, signal.SIGKILL)
    wait_for(lambda: (found := sailor.drydock()) is None or found.pid != record.pid)  # a captain starts it again
    return record


def at_work(sailor, voyage, tasks):
    """Wait until every task is at work."""
    ships = [f"{voyage}-ship-{number}" for number in range(len(tasks))]
    wait_for(lambda: sorted("".join(sailor.inside(ship, "ls ~/out 2>/dev/null") for ship in ships).split()) == tasks)
    return ships


def test_a_captain_that_lives_starts_it_again_and_goes_on(lone, plan):
    made = lone.json("sail", plan([run_task(AT_WORK), run_task("date > b", "1")]), "-n", "1", "--json")
    voyage = made["voyage"]
    ships = at_work(lone, voyage, ["1"])
    before = kill_drydock(lone)
    after = wait_for(lone.drydock)
    assert (after.url, after.token, after.pid != before.pid) == (before.url, before.token, True)
    at_work(lone, voyage, ["1"])
    lone.go(*ships)
    wait_for(lambda: lone.json("status", voyage, "--json")["state"] == "complete")
    assert lone.landed(voyage) == ["1", "2"]
    done = lone.json("sink", voyage, "--force", "--json")
    assert (done["state"], done["left"], lone.drydock() is None or lone.sprites() == 0) == ("sunk", [], True)


def test_a_sink_brings_home_what_is_on_the_disks_of_one_that_died(lone, plan):
    voyage = lone.json("sail", plan([run_task(AT_WORK)]), "-n", "1", "--json")["voyage"]
    at_work(lone, voyage, ["1"])
    process.stop_captain(lone.voyage(voyage))
    kill_drydock(lone)
    done = lone.json("sink", voyage, "--force", "--json")
    assert (done["state"], done["left"]) == ("sunk", [])
    [saved] = done["rescued"]
    assert lone.git(voyage, "show", f"{saved['ref']}:began")
    assert lone.sprites() == 0
    assert lone.run("sweep").out.startswith("nothing is left over")


def test_a_machine_that_shuts_down_keeps_the_disks(lone, plan):
    """It ends every process by SIGTERM first; only ``drydock stop`` means its ships."""
    voyage = lone.json("sail", plan([run_task(AT_WORK)]), "-n", "1", "--json")["voyage"]
    at_work(lone, voyage, ["1"])
    process.stop_captain(lone.voyage(voyage))
    os.kill(lone.drydock().pid, signal.SIGTERM)
    wait_for(lambda: lone.drydock() is None)
    looked = lone.run("sweep", "--dry-run")  # it is a voyage's, which is not sunk
    assert (looked.code, "nothing is left over" in looked.out) == (0, True)
    resumed = lone.popen("sail", "--resume", voyage, "--wait")
    at_work(lone, voyage, ["1"])
    lone.go(f"{voyage}-ship-0")
    resumed.communicate(timeout=240)
    assert resumed.returncode == 0
    assert lone.landed(voyage) == ["1"]
    lone.run("drydock", "stop", "--force")
    assert not (lone.home / "state/ocaptain/drydock/sprites").exists()


def test_it_answers_nothing_while_a_resume_builds(lone, plan):
    """Every call fails from the first command on: what exists is not known, so nothing is over."""
    voyage = lone.json("sail", plan([run_task(AT_WORK)]), "-n", "1", "--json")["voyage"]
    at_work(lone, voyage, ["1"])
    process.stop_captain(lone.voyage(voyage))
    lone.faults(
        {"call": "* /v1/sprites/*", "kind": "status", "status": 500}, {"call": "WS *", "kind": "status", "status": 500}
    )
    failed = lone.run("sail", "--resume", voyage, "--json")
    assert failed.code == 1
    assert lone.json("status", voyage, "--json")["state"] in {"paused", "failed", "running"}
    assert lone.run("sink", voyage, "--force").code != 0
    assert lone.json("status", voyage, "--json")["state"] != "sunk"
    lone.faults()
    done = lone.json("sink", voyage, "--force", "--json")
    assert (done["state"], len(done["rescued"])) == ("sunk", 1)


def test_a_provider_that_answers_nothing_pauses_the_voyage_and_it_goes_on_by_itself(lone, plan):
    """Every call fails, and every open channel is cut: nobody is blamed, nothing ends."""
    voyage = lone.json("sail", plan([run_task(AT_WORK)]), "-n", "1", "--json")["voyage"]
    ships = at_work(lone, voyage, ["1"])
    lone.faults({"kind": "status", "status": 503})
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"worker.pyz\0channel" in path.read_bytes() and in_a_ship(path.parent, lone.home):
                os.kill(int(path.parent.name), signal.SIGKILL)
    wait_for(lambda: lone.json("status", voyage, "--json")["paused_reason"] == "provider")
    shown = lone.run("status", voyage).out
    assert ("paused: provider" in shown, "goes on by itself" in shown) == (True, True), shown
    lone.faults()
    wait_for(lambda: lone.json("status", voyage, "--json")["paused_reason"] is None)
    lone.go(*ships)
    wait_for(lambda: lone.json("status", voyage, "--json")["state"] == "complete")
    (task,) = lone.json("tasks", voyage, "--json")["tasks"]
    assert (task["attempt"], lone.landed(voyage)) == (1, ["1"])


LAUNCH = """
import sys
from pathlib import Path
from ocaptain.config import load_settings
from ocaptain.errors import OcaptainError
from ocaptain.voyage.home import VoyageDirectory
from ocaptain.voyage.launch import BuildResult, launch
directory = VoyageDirectory(Path(sys.argv[1]))
try:
    launch(directory, BuildResult(), load_settings())
except OcaptainError as error:
    print(directory.voyage().state, error)
"""


def test_a_launch_that_is_told_of_no_ship_at_all_looks_before_it_ends_anything(lone):
    """Ansible may have skipped every host: that nothing is said to have failed does not mean that nothing is there."""
    voyage = "voyage-0000000000ab"
    directory = make_directory(lone.home, voyage, "drydock", [("ship-0", f"{voyage}-ship-0")])
    assert (
        lone.api("POST", "/v1/sprites", {"name": f"{voyage}-ship-0", "labels": ["ocaptain", voyage]}).status_code == 201
    )
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, directory.path], env=lone.env, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("failed no ship could be built"), done.stdout
    assert f"{voyage}-ship-0" in done.stdout
    lone.api("DELETE", f"/v1/sprites/{voyage}-ship-0")


def test_a_damaged_record_of_a_ship_is_no_missing_ship(lone, plan):
    voyage = lone.json("sail", plan([run_task(AT_WORK)]), "-n", "1", "--json")["voyage"]
    at_work(lone, voyage, ["1"])
    process.stop_captain(lone.voyage(voyage))
    kill_drydock(lone)
    [record] = (lone.home / "state/ocaptain/drydock/sprites").glob("*/sprite.json")
    whole = record.read_text()
    record.write_text(whole[:20])
    refused = lone.run("sink", voyage, "--force")
    assert (refused.code, "cannot be read" in refused.err) == (3, True), refused.err
    assert json.loads(lone.run("status", voyage, "--json").out)["state"] != "sunk"
    process.stop_captain(lone.voyage(voyage))
    kill_drydock(lone)
    record.write_text(whole)
    assert lone.json("sink", voyage, "--force", "--json")["state"] == "sunk"
