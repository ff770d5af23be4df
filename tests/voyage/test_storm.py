"""Whole voyages under attack: failing calls, interrupts in every phase, ships that cannot be built."""

from __future__ import annotations

import re
import signal
import time

import pytest

from tests.helpers import HELD, PATIENCE, children, run_task, wait_for

pytestmark = pytest.mark.root

#: More than what travels inside of a message: it is read and written by calls of its own.
MUCH = "head -c 100000 /dev/urandom > much"
TASKS = [run_task(f"echo 1 > a; {MUCH}", verify="test -f a"), run_task("echo 2 > b", "1"), run_task("echo 3 > c")]
CALLS = [
    "GET /v1/sprites",
    "POST /v1/sprites",
    "WS /v1/sprites/*/exec",
    "PUT /v1/sprites/*/services/*",
    "PUT /v1/sprites/*/fs/write",
    "GET /v1/sprites/*/fs/read",
]
FAULTS = {
    "429": {"kind": "status", "status": 429, "retry_after": 0.3},
    "500": {"kind": "status", "status": 500},
    "500-done": {"kind": "status", "status": 500, "done": True},
    "hang": {"kind": "hang"},
    "truncated": {"kind": "truncate"},
    "garbage": {"kind": "garbage"},
    "cut": {"kind": "cut"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_of_a_voyage_fails_once_and_again(lone, plan, fault):
    """Each kind of call meets the fault twice, at sail and at sink: the voyage is whole all the same."""
    lone.env["OCAPTAIN_API_TIMEOUT"] = "2"
    directory = plan(TASKS, verify="test -f a -a -f b -a -f c")
    lone.faults(*[{"call": call, "times": 2, **FAULTS[fault]} for call in CALLS])
    voyage = lone.json("sail", directory, "-n", "2", "--wait", "--json")["voyage"]
    seen = {re.sub(r"voyage-[^/]*|ocaptain-worker", "*", one["call"]) for one in lone.injected()}
    assert seen == set(CALLS)
    assert sorted(lone.landed(voyage)) == ["1", "2", "3"]
    assert all(task["attempt"] == 1 for task in lone.json("tasks", voyage, "--json")["tasks"])
    lone.faults(*[{"call": call, "times": 2, **FAULTS[fault]} for call in (*CALLS, "DELETE /v1/sprites/*")])
    sunk = lone.json("sink", voyage, "--force", "--json")
    assert (sunk["state"], sunk["left"]) == ("sunk", [])
    assert lone.sprites() == 0


def test_an_api_that_is_down_for_good_says_so_and_makes_nothing(lone, plan):
    lone.faults({"kind": "status", "status": 503})
    done = lone.run("sail", plan(TASKS), "-n", "2")
    assert (done.code, "503" in done.err) == (1, True)
    lone.faults({"kind": "status", "status": 401})
    done = lone.run("sail", plan(TASKS), "-n", "2")
    assert (done.code, "401" in done.err) == (2, True)
    assert not list(lone.voyages.glob("*")) if lone.voyages.exists() else True


def test_more_ships_than_the_account_allows_sails_with_what_fits(tmp_path, plan, lone):
    lone.run("drydock", "stop")
    lone.json("drydock", "start", "--limit", "2")
    done = lone.run("sail", plan(TASKS), "-n", "3", "--wait", "--json")
    assert done.code == 3, done.err
    assert done.json["state"] == "complete"
    assert re.search(r"ship-[012].*the limit is 2", done.err)


# -- interrupts ---------------------------------------------------------------------------------------

PHASES = {
    "check": {"call": "GET /v1/sprites", "kind": "hold"},
    "provision": {"call": "POST /v1/sprites", "kind": "hold", "after": 1},
    "bootstrap": {"call": "WS /v1/sprites/*/exec", "kind": "hold", "after": 1},
    "service": {"call": "PUT /v1/sprites/*/services/*", "kind": "hold"},
    "launch": {"call": "WS /v1/sprites/*/exec", "kind": "hold", "after": 4},
    "landing": {"call": "GET /v1/sprites/*/fs/read", "kind": "hold"},
}


def ansible_ends(sailor):
    """Nothing of Ansible's may go on after the command that started it."""
    until = time.monotonic() + PATIENCE
    while left := [line for line in sailor.leftovers() if "ansible-playbook" in line]:
        assert time.monotonic() < until, left
        time.sleep(0.05)


@pytest.mark.parametrize(
    "meets",
    [
        [(phase, signal.SIGINT) for phase in PHASES],
        [("provision", signal.SIGHUP), ("bootstrap", signal.SIGTERM), ("landing", signal.SIGHUP)],
    ],
    ids=["SIGINT", "others"],
)
def test_interrupted_once_in_any_phase(lone, plan, meets):
    """Orderly: says what exists, nothing goes on in the background that nobody knows of, resumable."""
    lone.env["OCAPTAIN_API_TIMEOUT"] = "60"
    # Nothing may land before its phase: from "launch" on the captain works, whatever becomes of `sail`.
    made: list[str] = []
    again = [plan([run_task(f"{HELD}; echo 1 > a; {MUCH}"), *TASKS[1:]]), "-n", "2"]
    for phase, number in meets:
        lone.faults(PHASES[phase])
        sailing = lone.popen("sail", *again, "--wait")
        wait_for(lambda pid=sailing.pid: children(pid))
        if phase == "landing":
            lone.go(*(f"{made[0]}-ship-{ship}" for ship in range(2)))
        wait_for(lone.injected)
        sailing.send_signal(number)
        _, err = sailing.communicate(timeout=240)
        assert sailing.returncode == 130, (phase, err)
        ansible_ends(lone)
        made = sorted(path.name for path in lone.voyages.glob("voyage-*"))
        lone.faults()
        if phase == "check":
            assert "nothing was created" in err
            assert (made, lone.sprites()) == ([], 0)
            continue
        (voyage,) = made
        assert re.search(f"ocaptain (sail --resume|watch) {voyage}", err), phase
        assert f"ocaptain sink {voyage}" in err, phase
        assert f"{voyage} sails on" in err or phase != "landing"
        before = lone.sprites()
        time.sleep(0.5)
        assert lone.sprites() == before, phase
        again = ["--resume", voyage]
    assert lone.json("sail", *again, "--wait", "--json")["state"] == "complete"
    assert sorted(lone.landed(voyage)) == ["1", "2", "3"]


def test_interrupted_twice_ends_now(lone, plan):
    lone.env["OCAPTAIN_API_TIMEOUT"] = "800"
    again = [plan(TASKS), "-n", "2"]
    for phase in ("check", "provision", "bootstrap", "landing"):
        lone.faults(PHASES[phase])
        sailing = lone.popen("sail", *again, "--wait")
        wait_for(lambda pid=sailing.pid: children(pid) and lone.injected())
        sailing.send_signal(signal.SIGINT)
        time.sleep(0.05)
        sailing.send_signal(signal.SIGINT)
        sailing.communicate(timeout=240)  # well before the call that is held would be given up
        assert sailing.returncode == 130, phase
        ansible_ends(lone)
        again = ["--resume", made[0].name] if (made := list(lone.voyages.glob("voyage-*"))) else again


def test_an_interrupted_sink_is_finished_by_the_next(lone, plan):
    voyage = lone.json("sail", plan([run_task(f"echo wip > wip; {MUCH}; sleep 300")]), "-n", "2", "--json")["voyage"]
    for call in ("WS /v1/sprites/*/exec", "GET /v1/sprites/*/fs/read", "DELETE /v1/sprites/*"):
        lone.env["OCAPTAIN_API_TIMEOUT"] = "60"
        lone.faults({"call": call, "kind": "hold"})
        sinking = lone.popen("sink", voyage, "--force")
        wait_for(lone.injected)
        sinking.send_signal(signal.SIGTERM)
        _, err = sinking.communicate(timeout=240)
        assert sinking.returncode == 130
        assert f"ocaptain sink {voyage}" in err
        ansible_ends(lone)
    lone.faults()
    sunk = lone.json("sink", voyage, "--force", "--json")
    assert (sunk["state"], sunk["left"]) == ("sunk", [])
    refs = lone.git(voyage, "for-each-ref", "--format=%(refname)", "refs/ocaptain/saved").splitlines()
    assert [lone.git(voyage, "show", f"{ref}:wip") for ref in refs] == ["wip"]


# -- ships that cannot be built -------------------------------------------------------------------------


def test_one_ship_of_five_cannot_be_built(lone, plan):
    """Retried, left out, destroyed; the others land the plan; exit 3 names ship, task and reason."""
    lone.faults({"call": "PUT /v1/sprites/*-ship-1/services/*", "kind": "status", "status": 400})
    done = lone.run("sail", plan(TASKS), "-n", "5", "--wait", "--json")
    assert done.code == 3, done.err
    assert done.json["state"] == "complete"
    assert len(lone.injected()) == 2
    assert re.search(
        r"ship-1: role tmux-agent, task Run the worker as a service of the sprite: .*HTTP 400", done.err
    ), done.err
    assert [ship["id"] for ship in done.json["ships"] if ship["state"] == "gone"] == ["ship-1"]
    assert sorted(lone.landed(done.json["voyage"])) == sorted(str(number) for number, _ in enumerate(TASKS, 1))
    assert lone.sprites() == 4


def test_one_ship_of_three_cannot_be_reached(lone, plan):
    lone.faults({"call": "WS /v1/sprites/*-ship-1/exec", "kind": "status", "status": 404})
    done = lone.run("sail", plan(TASKS), "-n", "3", "--wait", "--json")
    assert done.code == 3, done.err
    assert done.json["state"] == "complete"
    assert re.search(r"ship-1: task Reach the ship: .*HTTP 404", done.err), done.err
    assert lone.sprites() == 2


@pytest.mark.parametrize("kind", ["made", "reached", "built"])
def test_no_ship_can_be_built(lone, plan, kind):
    """Exit 1, and nothing is left over: no sprite, and the plan sails again as if nothing had been."""
    rule = {
        "made": {"call": "POST /v1/sprites", "status": 400},
        "reached": {"call": "WS /v1/sprites/*/exec", "status": 404},
        "built": {"call": "PUT /v1/sprites/*/services/*", "status": 400},
    }[kind]
    lone.faults(rule)
    directory = plan(TASKS)
    done = lone.run("sail", directory, "-n", "2")
    assert done.code == 1, done.err
    assert "no ship could be built" in done.err
    assert re.search(r"ship-0.+\n?.*ship-1.*: .+", done.err), done.err
    assert lone.sprites() == 0
    lone.faults()
    assert lone.json("sail", directory, "-n", "2", "--wait", "--json")["state"] == "complete"


def test_with_keep_what_could_not_be_built_stays(lone, plan):
    lone.faults({"call": "PUT /v1/sprites/*/services/*", "status": 400})
    done = lone.run("sail", plan(TASKS), "-n", "2", "--keep")
    assert done.code == 1
    assert lone.sprites() == 2
    voyage = re.search(r"ocaptain sink (voyage-[0-9a-f]{12})", done.err)[1]
    lone.faults()
    assert lone.json("sink", voyage, "--force", "--json")["left"] == []
    assert lone.sprites() == 0


# -- replacing ---------------------------------------------------------------------------------------------


def test_a_ship_that_is_destroyed_is_made_again(lone, plan):
    # The first attempt would wait for ever; the ship that is made anew has the second.
    line = f"echo started; test $OCAPTAIN_ATTEMPT -ge 2 || {{ {HELD}; }}; echo 1 > a"
    tasks = [run_task(line, pin="ship-1"), run_task("echo 2 > b")]
    sailing = lone.popen("sail", plan(tasks), "-n", "2", "--replace", "--wait", "--json")
    voyage = wait_for(lambda: [path.parent.parent.name for path in lone.voyages.glob("voyage-*/logs/ship-1")])[0]
    lone.api("DELETE", f"/v1/sprites/{voyage}-ship-1")
    _, err = sailing.communicate(timeout=240)
    assert sailing.returncode == 0, err
    assert sorted(lone.landed(voyage)) == ["1", "2"]
    assert {ship["id"]: ship["state"] for ship in lone.json("status", voyage, "--json")["ships"]}.keys() == {
        "ship-0",
        "ship-1",
    }
    assert lone.sprites() == 2


def test_a_broken_ship_that_still_exists_gets_a_stand_in(lone, plan):
    second = f"echo started; test $OCAPTAIN_ATTEMPT -ge 2 || {{ {HELD}; }}; echo 2 > b"
    tasks = [run_task(f"echo started; {HELD}; echo 1 > a", pin="ship-0"), run_task(second)]
    sailing = lone.popen("sail", plan(tasks), "-n", "2", "--replace", "--wait", "--json")
    voyage = wait_for(lambda: list(lone.voyages.glob("voyage-*/logs/ship-1")))[0].parent.parent.name
    # The worker answers no more, and cannot work: what it is asked for fails.
    lone.inside(f"{voyage}-ship-1", "rm -rf ~/.ocaptain/git; touch ~/.ocaptain/git; pkill -KILL -f '[l]auncher'")
    wait_for(lambda: [one for one in lone.json("status", voyage, "--json")["ships"] if one["replaced_by"]])
    lone.go(f"{voyage}-ship-0")
    _, err = sailing.communicate(timeout=240)
    assert sailing.returncode == 0, err
    ships = {ship["id"]: ship for ship in lone.json("status", voyage, "--json")["ships"]}
    assert ships["ship-1"]["replaced_by"] == "ship-2"
    assert sorted(lone.landed(voyage)) == ["1", "2"]


def test_what_is_left_of_a_killed_sail_is_cleared_away(lone, plan):
    lone.voyages.mkdir()
    (lone.voyages / ".voyage-0123456789ab-x").mkdir()
    lone.json("sail", plan(TASKS), "-n", "1", "--wait", "--json")
    assert not list(lone.voyages.glob(".voyage-*"))


def test_one_sail_or_sink_at_a_time(lone, plan):
    """A sink during a sail's provisioning is refused: neither ends with ships that nobody knows of."""
    lone.env["OCAPTAIN_API_TIMEOUT"] = "60"
    lone.faults(PHASES["provision"])
    sailing = lone.popen("sail", plan(TASKS), "-n", "2", "--wait", "--json")
    wait_for(lone.injected)
    (voyage,) = (path.name for path in lone.voyages.glob("voyage-*"))
    for arguments in (["sink", voyage, "--force"], ["sail", "--resume", voyage]):
        done = lone.run(*arguments)
        assert (done.code, "at work on" in done.err) == (1, True), done.err
    lone.faults()
    _, err = sailing.communicate(timeout=240)
    assert sailing.returncode == 0, err


def test_a_sink_that_looks_elsewhere_is_refused(lone, plan):
    """With another drydock's state directory everything would look as if it were gone."""
    voyage = lone.json("sail", plan([run_task(f"echo wip > wip; {MUCH}; sleep 300")]), "-n", "1", "--json")["voyage"]
    done = lone.run("sink", voyage, "--force", env={"XDG_STATE_HOME": str(lone.home / "other")})
    assert (done.code, "sails on" in done.err) == (2, True), done.err
    assert not (lone.home / "other").exists(), "another drydock was started"
    assert lone.sprites() == 1
    assert lone.json("status", voyage, "--json")["state"] == "running"
