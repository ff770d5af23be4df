"""A ship joins its voyage when it is built: the others work meanwhile, and no decision forgets one that is to come."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

from ocaptain import process
from ocaptain.captain.arrivals import decide_arrival
from ocaptain.captain.transport.base import ShipGone
from ocaptain.config import load_settings
from ocaptain.control import Command, ask
from ocaptain.errors import OcaptainError
from ocaptain.ledger import Ledger
from ocaptain.voyage import launch as launching
from ocaptain.voyage.launch import BuildResult, join, launch
from tests.helpers import HELD, PLAYBOOK, REPO, make_directory, run_task, wait_for
from tests.voyage.local import VOYAGE, command, landed, make_voyage, sail

JOINED = Command(name="built", ready=("ship-1",), created=("ship-1",))


@pytest.mark.parametrize(
    ("former", "is_new", "what"),
    [
        ("none", True, "add"),
        ("none", False, "add"),
        ("gone", True, "add"),
        ("gone", False, "add"),
        ("in service", True, "late"),
        ("in service", False, "keep"),
    ],
)
def test_what_a_captain_does_with_a_ship_that_was_built(former, is_new, what):
    assert decide_arrival(former, is_new=is_new) == what


def unbuilt(directory, ship="ship-1"):
    """Have a ship be one that is still being built, by this process."""
    with command(directory) as ledger:
        ledger.set_ship(ship, "provisioning")
    process.record_build(directory, os.getpid())


def states(directory):
    with Ledger(directory / "ledger.db") as ledger:
        return {ship.id: (ship.state, ship.reason) for ship in ledger.ships()}


async def until(found):
    while not found():
        await asyncio.sleep(0.02)


def test_one_ship_works_while_another_is_built_and_its_own_task_waits_for_it(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "true"}, {"run": "true", "pin": "ship-1"}], 2)
    unbuilt(directory)

    async def build(captain):
        await until(lambda: landed(directory) == ["1"])
        await asyncio.sleep(1.5)  # a tick: the captain must not give up what is being built
        assert captain.ledger.voyage().state == "running"
        assert (await asyncio.to_thread(ask, directory, JOINED)).done

    assert asyncio.run(sail(directory, ships(2), meanwhile=build)) == "complete"
    assert landed(directory) == ["1", "2"]


def test_the_first_ship_is_lost_before_the_second_is_built(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "true"}], 2)
    unbuilt(directory)
    fleet = ships(2)

    async def refuse():
        raise ShipGone("the provider has no such sprite")

    fleet[0].open = refuse

    async def build(captain):
        await until(lambda: "ship-0" in captain.actors and captain.actors["ship-0"].gone)
        await asyncio.sleep(1.5)
        await asyncio.to_thread(ask, directory, JOINED)

    assert asyncio.run(sail(directory, fleet, meanwhile=build)) == "complete"
    assert states(directory)["ship-0"][0] == "lost"


def test_what_nobody_builds_any_more_has_failed_and_ends_the_voyage(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "true", "pin": "ship-1"}], 2)
    unbuilt(directory)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as builder:
        process.end_build(directory, os.getpid())
        process.record_build(directory, builder.pid)
        assert process.is_building(directory)

        async def kill(captain):
            await until(lambda: "ship-0" in captain.actors and captain.actors["ship-0"].idle)
            assert captain.ledger.voyage().state == "running"
            builder.kill()
            await asyncio.to_thread(builder.wait)

        assert asyncio.run(sail(directory, ships(2), meanwhile=kill)) == "failed"
    state, reason = states(directory)["ship-1"]
    assert state == "failed"
    assert reason.endswith(f"`ocaptain sail --resume {VOYAGE}` builds it")


def test_the_final_verify_waits_for_a_clean_place_that_is_being_built(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "true"}], 1, verify_ship=True)
    unbuilt(directory, "ship-verify")

    async def build(captain):
        await until(lambda: captain.ledger.voyage().state == "verifying")
        await asyncio.sleep(1.5)
        await asyncio.to_thread(ask, directory, Command(name="built", ready=("ship-verify",)))

    assert asyncio.run(sail(directory, ships(2), meanwhile=build)) == "complete"
    with Ledger(directory / "ledger.db") as ledger:
        assert [one["ship"] for one in ledger.events_after(0) if one["kind"] == "verify"] == ["ship-verify"]


def test_what_could_not_be_built_is_recorded_by_the_captain(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "true"}, {"run": "true", "pin": "ship-1"}], 2)
    unbuilt(directory)

    async def report(captain):
        await until(lambda: landed(directory) == ["1"])
        failed = {"ship-1": "no python", "ship-0": "it is in service, whatever this says"}
        await asyncio.to_thread(ask, directory, Command(name="built", failed=failed, gone=("ship-1",)))

    assert asyncio.run(sail(directory, ships(2), meanwhile=report)) == "failed"
    assert states(directory)["ship-1"] == ("gone", "no python")
    assert states(directory)["ship-0"][0] != "failed"


def test_what_could_not_be_built_can_confirm_no_refusal(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "true", "pin": "ship-1"}], 2)
    unbuilt(directory)
    paused = []

    async def report(captain):
        await until(lambda: "ship-0" in captain.actors and captain.actors["ship-0"].idle)
        captain.pool._refusals["claude"] = {"ship-0"}
        captain.actors["ship-0"].pause_claiming(3600)
        built = Command(name="built", failed={"ship-1": "no python"})
        paused.append(captain.actors["ship-0"].status().is_claiming_paused)
        assert captain._carry_out(built).done
        paused.append(captain.actors["ship-0"].status().is_claiming_paused)

    asyncio.run(sail(directory, ships(2), meanwhile=report))
    assert paused == [True, False]


def test_a_command_that_is_repeated_has_no_further_effect(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "true", "pin": "ship-1"}], 2)
    unbuilt(directory)

    async def build(captain):
        await until(lambda: "ship-0" in captain.actors and captain.actors["ship-0"].idle)
        first = captain._carry_out(JOINED)
        assert first.done
        assert captain._carry_out(JOINED) == first  # though it is new, and an actor follows it by now

    assert asyncio.run(sail(directory, ships(2), meanwhile=build)) == "complete"


def test_a_ship_that_was_made_anew_is_for_the_next_captain(tmp_path, ships):
    go = tmp_path / "go"
    directory = make_voyage(tmp_path, [{"run": f"until [ -e {go} ]; do sleep 0.1; done"}], 2)

    async def build(captain):
        await until(lambda: captain.ledger.count_tasks()["in_progress"])
        answer = captain._carry_out(JOINED)
        assert (answer.done, answer.is_late) == (False, True)
        assert captain._carry_out(JOINED.model_copy(update={"created": ()})).done  # it is there: nothing to do
        go.touch()

    assert asyncio.run(sail(directory, ships(2), meanwhile=build)) == "complete"


@pytest.fixture
def no_captain(monkeypatch):
    """Note which captains are started instead of starting them."""
    started = []
    monkeypatch.setattr(launching.process, "start_captain", started.append)
    return started


def built_directory(tmp_path):
    return make_directory(tmp_path, VOYAGE, "hosts", [("ship-0", "a"), ("ship-1", "b"), ("ship-verify", "v")])


def test_the_first_ship_to_join_starts_the_captain_and_ship_verify_does_not(tmp_path, no_captain):
    directory = built_directory(tmp_path)
    join(directory, "v", is_new=True)
    assert not no_captain
    assert states(directory.path)["ship-verify"] == ("asleep", None)
    join(directory, "b", is_new=True)
    assert no_captain == [directory.path]
    assert {ship: state for ship, (state, _) in states(directory.path).items()} == {
        "ship-0": "provisioning",
        "ship-1": "bootstrapping",
        "ship-verify": "asleep",
    }


def test_a_ship_that_comes_when_all_is_done_sleeps(tmp_path, no_captain):
    directory = built_directory(tmp_path)
    for state in ("complete", "failed"):
        with command(directory.path) as ledger:
            ledger.set_state(state)
        join(directory, "a", is_new=True)
        assert states(directory.path)["ship-0"] == ("asleep", None)
        assert directory.voyage().state == state
    assert not no_captain


def test_a_ship_of_a_voyage_that_was_sunk_meanwhile_is_refused(tmp_path, no_captain):
    directory = built_directory(tmp_path)
    with command(directory.path) as ledger:
        ledger.set_state("sunk")
    with pytest.raises(OcaptainError, match="was sunk meanwhile"):
        join(directory, "a", is_new=True)
    with pytest.raises(OcaptainError, match="has no ship on c"):
        join(directory, "c", is_new=True)
    assert not no_captain


def test_the_launch_leaves_a_voyage_that_failed_since_its_ships_joined(tmp_path, no_captain, monkeypatch):
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path / "voyages"))
    directory = built_directory(tmp_path)
    join(directory, "a", is_new=True)
    with command(directory.path) as ledger:
        ledger.set_state("failed", "a reason")
    found = launch(directory, BuildResult(ready=["a", "v"], joined=["a"], created=["a", "v"]), load_settings())
    assert (found.state, found.note) == ("failed", "a reason")
    assert no_captain == [directory.path]  # the one of the first ship


def test_a_voyage_that_failed_goes_on_once_the_user_has_it_resumed(tmp_path, no_captain):
    directory = built_directory(tmp_path)
    with command(directory.path) as ledger:
        ledger.set_state("failed", "a reason")
        launching.note_resume(directory, ledger.last_event_number())
    join(directory, "a", is_new=False)
    assert directory.voyage().state == "running"
    assert no_captain == [directory.path]


def test_a_voyage_whose_sink_has_begun_gets_no_ship_any_more(tmp_path, no_captain):
    directory = built_directory(tmp_path)
    with command(directory.path) as ledger:
        ledger.set_state("running")
        ledger.set_state("sinking")
    with pytest.raises(OcaptainError, match="was sunk meanwhile"):
        join(directory, "a", is_new=True)
    assert states(directory.path)["ship-0"][0] == "provisioning"
    with command(directory.path) as ledger:
        launching.note_resume(directory, ledger.last_event_number())
    join(directory, "a", is_new=True)  # the sink was interrupted, and the user had the voyage resumed
    assert directory.voyage().state == "running"
    assert no_captain == [directory.path]


def test_who_builds_is_known_by_more_than_its_number(tmp_path):
    assert not process.is_building(tmp_path)
    own = tmp_path / f"{process.BUILD_PREFIX}{os.getpid()}"
    process.record_build(tmp_path, os.getpid())
    assert process.is_building(tmp_path)
    for other in (f"{os.getpid()} 12345", f"{2**22 + 1} {process.UNKNOWN}", "", "x", "\xff"):
        own.write_text(other)
        assert not process.is_building(tmp_path), other
        assert not own.exists()
    # Where the system does not say when a process began, its number alone must do.
    own.write_text(f"{os.getpid()} {process.UNKNOWN}")
    assert process.is_building(tmp_path)
    process.end_build(tmp_path, os.getpid())
    assert not process.is_building(tmp_path)


def test_one_that_has_built_ends_no_other(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        process.record_build(tmp_path, other.pid)
        process.record_build(tmp_path, os.getpid())
        process.end_build(tmp_path, os.getpid())
        assert process.is_building(tmp_path)
    assert not process.is_building(tmp_path)


def test_a_ship_that_takes_long_to_build_delays_no_other(lone, plan, tmp_path):
    """With `ansible-playbook` alone; the role of one ship waits until all tasks have landed without it."""
    role = tmp_path / "roles/slow/tasks"
    role.mkdir(parents=True)
    (role / "main.yml").write_text(
        "- name: Take long\n"
        f"  ansible.builtin.raw: {json.dumps(HELD)}\n"
        "  changed_when: false\n"
        "  when: ocaptain_ship == 'ship-1'\n"
    )
    directory = plan([run_task("true"), run_task("true")])
    argv = [PLAYBOOK, "playbooks/sail.yml", "-e", f"plan={directory}", "-e", "ships=2", "-e", "provider=drydock"]
    env = {**lone.env, "ANSIBLE_ROLES_PATH": f"{tmp_path / 'roles'}:{REPO / 'roles'}"}
    with (tmp_path / "out").open("wb") as out:
        sailing = subprocess.Popen(
            [*argv, "-e", '{"ocaptain_pre_roles": ["slow"]}'], cwd=REPO, env=env, stdout=out, stderr=out
        )
        try:

            def made():
                assert sailing.poll() is None, (tmp_path / "out").read_text()
                return [one.parent.name for one in lone.voyages.glob("voyage-*/ledger.db")]

            (voyage,) = wait_for(made)
            wait_for(lambda: sorted(lone.landed(voyage)) == ["1", "2"])
            assert sailing.poll() is None  # it still builds
            found = lone.json("status", voyage, "--json")
            assert {ship["id"]: ship["state"] for ship in found["ships"]}["ship-1"] == "provisioning"
            wait_for(lambda: lone.json("status", voyage, "--json")["state"] == "complete")
            lone.go(f"{voyage}-ship-1")
            assert sailing.wait(240) == 0, (tmp_path / "out").read_text()
        finally:
            sailing.kill()
            sailing.wait()
    found = lone.json("status", voyage, "--json")
    assert {ship["id"]: ship["state"] for ship in found["ships"]}["ship-1"] == "asleep"
    lone.scuttle()
