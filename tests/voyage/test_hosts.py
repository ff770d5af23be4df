"""Hosts of an inventory as ships: ssh all the way, three machines, no sprite anywhere."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.helpers import REPO, Sailor, run_task, wait_for, write_plan
from tests.voyage.hosts import Machines

pytestmark = pytest.mark.root
PLAN = REPO / "examples/plans/lighthouse"


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Three machines that have little in common."""
    found = Machines(tmp_path_factory.mktemp("machines"))
    try:
        found.add("alpha", "deck", "/srv/deck")
        found.add("beta", "mate", "/home/mate", port=2022)
        found.add("gamma", "cook", "/opt/crew/cook")
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def captain(tmp_path_factory):
    """A user without a drydock."""
    return Sailor(tmp_path_factory.mktemp("captain"))


def recap(out):
    """Return the numbers of the play's recap by host."""
    lines = re.findall(r"^(\S+)\s+: (ok=.*)$", out, re.M)
    return {host: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", rest)} for host, rest in lines}


def nothing_left(machine):
    """Whether a machine is as it was before any voyage."""
    there = machine.inside(f"ls -A {machine.home}").split()
    ours = [line for line in machine.processes() if not line.startswith("sshd")]
    return ours == [] and not {".ocaptain", "voyage"} & set(there)


def test_the_lighthouse_lands_on_hosts_and_gives_them_back(machines, captain):
    inventory = machines.inventory()
    sail = ("-i", inventory, "playbooks/sail.yml", "-e", f"plan={PLAN}", "-e", "ocaptain_hosts=crew")
    first = captain.playbook(*sail)
    assert first.code == 0, first.out + first.err
    (directory,) = captain.voyages.glob("voyage-*")
    voyage = directory.name
    seen = captain.json("status", voyage, "--json")
    assert seen["provider"] == "hosts"
    assert [(ship["id"], ship["sprite"]) for ship in seen["ships"]] == [
        ("ship-0", "alpha"),
        ("ship-1", "beta"),
        ("ship-2", "gamma"),
    ]
    for machine in machines.all:
        lock = machine.inside(f"cat {machine.home}/.ocaptain/voyage.lock")
        assert lock.startswith(f"{voyage} from ")
    # Again, while it sails: nothing is changed, and it goes on to the end.
    again = captain.playbook(*sail, "-e", "wait=true")
    assert again.code == 0, again.out + again.err
    assert {host: row["changed"] for host, row in recap(again.out).items()} == dict.fromkeys(
        ("localhost", "alpha", "beta", "gamma"), 0
    )
    seen = captain.json("status", voyage, "--json")
    assert seen["state"] == "complete", seen
    assert seen["verify"]["ok"]
    assert sorted(captain.landed(voyage), key=int) == [str(number) for number in range(1, 11)]
    # Another voyage finds them taken, says by whom, and leaves them alone.
    other = captain.playbook(*sail, "-e", "on_active=new")
    assert other.code != 0
    assert f"alpha is held by {voyage} from " in other.out
    for machine in machines.all:
        assert machine.inside(f"cat {machine.home}/.ocaptain/voyage.lock").startswith(voyage)
    assert [row["voyage"] for row in [captain.json("status", "--json")]] == [voyage], "the other one is over"
    sunk = captain.run("sink", voyage, "--force")
    assert sunk.code == 0, sunk.err
    assert captain.json("status", voyage, "--json")["state"] == "sunk"
    assert all(map(nothing_left, machines.all)), [machine.processes() for machine in machines.all]
    once_more = captain.playbook("playbooks/sink.yml", "-e", f"voyage={voyage}")
    assert once_more.code == 0, once_more.out
    assert "changed=0" in once_more.out
