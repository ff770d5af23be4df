"""The captain against real workers under attack: cut channels, lost leases, broken ships, rescues."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time

import pytest

from ocaptain.captain import channel as channels
from ocaptain.captain import pool
from ocaptain.captain.cursors import Cursors
from ocaptain.captain.decide import dispatch, leases
from ocaptain.captain.landing import Lander
from ocaptain.captain.rescue import rescue
from ocaptain.captain.ship import actor as actors
from ocaptain.captain.ship.context import Context
from ocaptain.captain.ship.link import Link
from ocaptain.captain.transport import ShipGone, TransportError
from ocaptain.git import Git
from ocaptain.ledger import task_views
from ocaptain.protocol.messages import Start
from tests.helpers import PATIENCE, wait_for
from tests.voyage.local import VOYAGE, LocalShip, command, landed, make_voyage, sail


def run(coroutine):
    return asyncio.run(coroutine)


async def until(check, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.02)


def test_a_plain_voyage(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a"}, {"run": "cp a b", "waits": ["1"], "verify": "test -f b"}])
    assert run(sail(directory, ships(2))) == "complete"
    assert landed(directory) == ["1", "2"]


def test_a_final_verify_may_outlast_the_time_after_which_ships_sleep(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(actors, "SLEEP_AFTER", 0.3)
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a"}], 2, verify="sleep 2")
    assert run(sail(directory, ships(2))) == "complete"


def test_an_asleep_ship_is_woken_for_work_and_for_the_verify(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(actors, "SLEEP_AFTER", 0.2)
    first = f"until test -e {tmp_path}/go; do sleep 0.1; done; echo 1 > a"
    tasks = [{"run": first, "pin": "ship-0"}, {"run": "echo 2 > b", "waits": ["1"], "pin": "ship-1"}]
    directory = make_voyage(tmp_path, tasks, 2)
    seen = set()

    async def watch(captain):
        await until(lambda: captain.ledger.ship_row("ship-1").state == "asleep")
        seen.add(("ship-1", "asleep"))
        (tmp_path / "go").touch()

    assert run(sail(directory, ships(2), meanwhile=watch)) == "complete"
    assert ("ship-1", "asleep") in seen


def test_as_many_ships_are_woken_as_there_is_work_for(tmp_path, ships, monkeypatch):
    """One task that became ready, and the final verify, once woke every ship that slept."""
    monkeypatch.setattr(actors, "SLEEP_AFTER", 0.2)
    first = f"until test -e {tmp_path}/go; do sleep 0.1; done; echo 1 > a"
    chain = [{"run": first}, {"run": "echo 2 > b; sleep 1", "waits": ["1"]}]
    fork = [{"run": f"sleep 1; echo {n} > f{n}", "waits": ["2"]} for n in (3, 4)]
    fleet = ships(4)

    async def go(captain):
        await until(lambda: [row.state for row in captain.ledger.ships()].count("asleep") == 3)
        monkeypatch.setattr(actors, "SLEEP_AFTER", 3600.0)  # a slow machine's last ship slept before the verify
        (tmp_path / "go").touch()

    directory = make_voyage(tmp_path, [*chain, *fork], 4, options={"verify_on": "any"})
    assert run(sail(directory, fleet, meanwhile=go)) == "complete"
    # Each is reached once; one more is woken when two tasks become ready, none for the chain or the verify.
    assert sorted(ship.opened for ship in fleet) == [1, 1, 1, 2]


def test_what_is_left_to_a_ship_that_is_being_reached_calls_nobody_else(tmp_path, ships, monkeypatch):
    """Its wish is kept for a moment; then any ship may have the task, which is asked once, not all the time."""
    for module in (dispatch, pool):
        monkeypatch.setattr(module, "START_SECONDS", 1.5)
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a", "wish": "ship-1"}], 2)
    fleet = ships(2)
    fleet[1].cut()
    asked = []
    real = pool.Pool.next_job
    monkeypatch.setattr(pool.Pool, "next_job", lambda self, ship: asked.append(ship) or real(self, ship))
    assert run(sail(directory, fleet)) == "complete"
    assert landed(directory) == ["1"]
    assert len(asked) <= 8


def test_a_ship_that_was_woken_answers_at_once_however_often(tmp_path, ships, monkeypatch):
    """Each call once doubled the pause before the next answer."""
    monkeypatch.setattr(actors, "SLEEP_AFTER", 0.1)
    monkeypatch.setattr(actors, "FIRST_RECONNECT", 3600.0)
    directory = make_voyage(tmp_path, [{"run": "until test -e " + str(tmp_path / "end") + "; do sleep 0.1; done"}], 2)
    fleet = ships(2)

    async def call_in_vain(captain):
        sleeper = next(iter(captain.actors.values()))
        for _ in range(6):
            await until(lambda: sleeper.idle and captain.ledger.ship_row(sleeper.ship).state == "asleep")
            opened = sum(ship.opened for ship in fleet)
            sleeper.call()
            await until(lambda opened=opened: sum(ship.opened for ship in fleet) > opened)
        (tmp_path / "end").touch()

    async def meanwhile(captain):
        await until(lambda: any(actor.idle for actor in captain.actors.values()))
        captain.pool.actors = dict(sorted(captain.actors.items(), key=lambda one: not one[1].idle))
        await call_in_vain(captain)

    assert run(sail(directory, fleet, meanwhile=meanwhile)) == "complete"


@pytest.mark.parametrize("back", [True, False])
def test_a_lapsed_lease_hands_the_task_on_and_the_late_result_is_kept(tmp_path, ships, monkeypatch, back):
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    fleet = ships(2)
    # The first attempt is on the ship that is cut; it ends while nobody listens. The second one
    # ends when the first one's result has come, if it is to come.
    there, is_cut, seen = (tmp_path / name for name in ("there", "is-cut", "seen"))
    first = f"touch {there}; until test -e {is_cut}; do sleep 0.1; done; echo late > late"
    second = f"until test -e {seen}; do sleep 0.1; done" if back else "true"
    line = f'if [ "$OCAPTAIN_ATTEMPT" = 1 ]; then {first}; else echo 2 > a; {second}; fi'
    directory = make_voyage(tmp_path, [{"run": line}, {"run": "sleep 0.2; echo b > b"}], 2)
    git = Git(directory / "repo.git")

    def holder(captain):
        for number, ship in enumerate(fleet):
            held = captain.ledger.held_claim(f"ship-{number}")
            if held and held.task == "1":
                return ship
        return None

    async def cut(captain):
        await until(there.exists)
        ship = holder(captain)
        ship.cut()
        is_cut.touch()
        if back:
            await until(lambda: captain.ledger.count_losses("1"))
            ship.down = False
            await until(lambda: git.resolve("refs/ocaptain/stale/1"))
            seen.touch()
        await asyncio.sleep(60)

    assert run(sail(directory, fleet, meanwhile=cut)) == "complete"
    assert sorted(landed(directory)) == ["1", "2"]
    assert git.resolve(f"{VOYAGE}:late") is None
    if back:
        assert git.text("show", "refs/ocaptain/stale/1:late") == "late"


class Wedged(LocalShip):
    """One whose sprite can be wedged: its stream falls silent, and no other one opens."""

    wedged = False

    async def open(self):
        if self.wedged:
            await asyncio.sleep(0.5)
            raise TransportError("no WebSocket handshake in 0.5 s")
        ship, inner = self, await super().open()

        class Stream:
            async def send(self, data):
                if not ship.wedged:
                    await inner.send(data)

            async def __aiter__(self):
                async for data in inner:
                    while ship.wedged:
                        await asyncio.sleep(0.1)
                    yield data

            async def close(self):
                await inner.close()

        return Stream()


def test_wedged_ships_cost_only_themselves(tmp_path, ships, monkeypatch):
    """One is wedged while it works, another before it was reached: the third does it all, and both count as lost."""
    monkeypatch.setattr(channels, "PING_SECONDS", 0.5)
    monkeypatch.setattr(channels, "SILENCE_SECONDS", 2.0)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(leases, "UNREACHED_SECONDS", 4.0)
    at_work, never = Wedged(tmp_path / "at-work").start(), Wedged(tmp_path / "never").start()
    there, end = tmp_path / "there", tmp_path / "end"
    line = (
        f'test "$OCAPTAIN_SHIP" != ship-0 || {{ touch {there}; sleep 300; }}; until test -e {end}; do sleep 0.1; done'
    )
    directory = make_voyage(tmp_path, [{"run": f"{line}; echo a > a", "wish": "ship-0"}, {"run": "echo b > b"}], 3)
    never.wedged = True

    async def wedge(captain):
        await until(there.exists)
        at_work.wedged = True
        states = captain.ledger.ship_row
        await until(lambda: {states(name).state for name in ("ship-0", "ship-2")} == {"lost"})
        assert "could not be reached" in states("ship-2").reason
        end.touch()
        await asyncio.sleep(60)

    try:
        assert run(sail(directory, [at_work, *ships(1), never], meanwhile=wedge)) == "complete"
    finally:
        at_work.end()
        never.end()
    assert sorted(landed(directory)) == ["1", "2"]


def test_a_lapsed_agent_that_still_runs_is_ended_when_its_ship_returns(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    (ship,) = ships()
    line = 'echo x > a; test "$OCAPTAIN_ATTEMPT" != 1 || { echo wip > wip; sleep 300; }'
    directory = make_voyage(tmp_path, [{"run": line}, {"run": "echo b > b"}])

    async def cut(captain):
        await until(lambda: (ship.home / "voyage/workspace/wip").exists())
        ship.cut()
        await until(lambda: captain.ledger.count_losses("1"))
        ship.down = False
        await asyncio.sleep(60)

    assert run(sail(directory, [ship], meanwhile=cut)) == "complete"
    assert sorted(landed(directory)) == ["1", "2"]
    assert Git(directory / "repo.git").text("show", "refs/ocaptain/stale/1:wip") == "wip"


def test_a_channel_that_is_cut_again_and_again(tmp_path, ships):
    (ship,) = ships()
    tasks = [
        {"run": f"for n in $(seq 30); do echo line $n; sleep 0.02; done; echo {n} > f{n}", "verify": "sleep 0.3"}
        for n in range(3)
    ]
    directory = make_voyage(tmp_path, tasks)

    async def cut(_):
        for _ in range(20):  # then it is left in peace: a machine that is busy gets nothing done in between
            await asyncio.sleep(0.35)
            ship.cut()
            ship.down = False
        await asyncio.sleep(60)

    assert run(sail(directory, [ship], meanwhile=cut)) == "complete"
    assert sorted(landed(directory)) == ["1", "2", "3"]
    log = (directory / "logs/ship-0/1.1.log").read_text()
    assert log == "".join(f"line {n}\n" for n in range(1, 31))


@pytest.mark.parametrize("moment", ["agent", "check", "verify"])
def test_the_worker_is_killed_at_every_stage(tmp_path, ships, moment):
    (ship,) = ships()
    task = {"run": "touch ~/at-agent; sleep 1; echo 1 > a", "verify": "touch ~/at-check; sleep 1; test -f a"}
    directory = make_voyage(tmp_path, [task], verify="test -f a || exit 1; touch ~/at-verify; sleep 1")

    async def kill(_):
        await until(lambda: (ship.home / f"at-{moment}").exists())
        ship.kill()
        await asyncio.sleep(0.3)
        ship.start()
        await asyncio.sleep(60)

    assert run(sail(directory, [ship], meanwhile=kill)) == "complete"
    with command(directory) as ledger:
        assert task_views(ledger)[0].attempt == 1


def test_a_supervisor_that_is_killed_costs_one_attempt_and_leaves_nothing(tmp_path, ships):
    (ship,) = ships()
    line = 'echo $OCAPTAIN_ATTEMPT > n; test "$OCAPTAIN_ATTEMPT" != 1 || { touch ~/there; sleep 347; }'
    directory = make_voyage(tmp_path, [{"run": line}])

    async def kill(_):
        await until(lambda: (ship.home / "there").exists())
        (job,) = (ship.home / ".ocaptain" / "attempts").glob("*/supervisor.json")
        os.kill(json.loads(job.read_text())["pid"], signal.SIGKILL)
        await asyncio.sleep(60)

    assert run(sail(directory, [ship], meanwhile=kill)) == "complete"
    assert Git(directory / "repo.git").text("show", f"{VOYAGE}:n") == "2"
    wait_for(lambda: subprocess.run(["pgrep", "-f", "sleep 347"], capture_output=True, check=False).returncode == 1)


def test_an_agent_that_ends_its_own_tmux_fails_and_is_not_tried_for_ever(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "tmux kill-server; sleep 60"}])
    assert run(sail(directory, ships())) == "failed"
    with command(directory) as ledger:
        assert task_views(ledger)[0].attempt <= 4


@pytest.mark.parametrize(
    "damage",
    [
        "rm -rf .ocaptain/out .ocaptain/git",
        "rm -rf voyage/workspace; touch voyage/workspace",
        "chmod 0555 voyage/workspace",
    ],
)
def test_a_ship_repairs_what_an_agent_broke(tmp_path, ships, damage):
    tasks = [
        {"run": f'cd "$OCAPTAIN_WORKSPACE/../.."; test "$OCAPTAIN_ATTEMPT" != 1 || {{ {damage}; exit 1; }}'},
        {"run": "echo b > b", "waits": ["1"]},
    ]
    directory = make_voyage(tmp_path, tasks)
    assert run(sail(directory, ships())) == "complete"
    assert landed(directory) == ["1", "2"]


def test_a_broken_ship_is_benched_and_costs_no_task_its_tries(tmp_path, ships):
    broken, _ = ships(2)
    (broken.home / ".ocaptain/git").write_text("no directory")
    wait = f"until test -e {tmp_path}/benched; do sleep 0.1; done"
    directory = make_voyage(tmp_path, [{"run": f"{wait}; echo {n} > f{n}"} for n in range(4)], 2)

    async def look(captain):
        await until(lambda: captain.ledger.ship_row("ship-0").state == "failed")
        (tmp_path / "benched").touch()

    assert run(sail(directory, ships(0), meanwhile=look)) == "complete"
    with command(directory) as ledger:
        assert {row.id: row.state for row in ledger.ships()}["ship-0"] == "failed"
        assert all(row["tries"] == 0 for row in ledger.rows("tasks", "position"))


def test_a_task_that_no_ship_can_start_fails_and_a_child_that_never_stops_talking_holds_up_nothing(tmp_path, ships):
    chatter = "(while :; do echo x; sleep 0.05; done) & echo x > f"
    directory = make_voyage(tmp_path, [{"run": "true", "subject": "x" * 200_000}, {"run": chatter}])
    assert run(sail(directory, ships())) == "failed"
    assert landed(directory) == ["2"]
    with command(directory) as ledger:
        assert ledger.voyage().note == "failed for good: task 1"
        assert "Argument list too long" in ledger.rows("tasks", "position")[0]["reason"]
        assert ledger.ships()[0].state == "idle"


def test_a_claim_of_a_ship_that_does_not_sail_any_more_goes_to_another(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a"}], 2)
    with command(directory) as ledger:
        assert ledger.claim("ship-1")
        ledger.set_ship("ship-1", "failed", "could not be built")
    assert run(sail(directory, ships(2))) == "complete"
    assert landed(directory) == ["1"]


def test_a_failed_check_leaves_its_exit_code_as_evidence(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a", "verify": "exit 77"}])
    assert run(sail(directory, ships())) == "failed"
    with command(directory) as ledger:
        assert task_views(ledger)[0].check["exit_code"] == 77


def test_a_prompt_that_cannot_be_rendered_fails_the_task_not_the_captain(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "true"}], prompt="{{ 1 / 0 }}")
    assert run(sail(directory, ships())) == "failed"


def test_the_captain_dies_between_the_moved_branch_and_the_mark(tmp_path, ships, monkeypatch):
    """What moved is landed once, by the next captain, whatever the ship still says."""
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a"}, {"run": "echo 2 > b", "waits": ["1"]}])
    (ship,) = ships()

    class Death(BaseException):
        pass

    real = Lander._land

    async def die(self, entry):
        monkeypatch.setattr(self._ledger, "finish_landing", lambda token: (_ for _ in ()).throw(Death()))
        await real(self, entry)

    monkeypatch.setattr(Lander, "_land", die)
    with pytest.RaisesGroup(Death):
        run(sail(directory, [ship]))
    monkeypatch.setattr(Lander, "_land", real)
    assert landed(directory) == ["1"]
    assert run(sail(directory, [ship])) == "complete"
    assert landed(directory) == ["1", "2"]


# -- rescue ------------------------------------------------------------------------------------


async def saved(directory, ships):
    with command(directory) as ledger:
        return await rescue(directory, ledger, lambda row: ships[int(row.id.removeprefix("ship-"))])


async def interrupted(directory, ships, ready):
    """Sail until ``ready``, then leave the ships to themselves."""
    sailing = asyncio.create_task(sail(directory, ships))
    await until(ready)
    sailing.cancel()
    await asyncio.gather(sailing, return_exceptions=True)


def test_a_rescue_brings_everything(tmp_path, ships):
    (ship,) = ships()
    line = "mkdir -p sub; git init -q sub; echo in > sub/in; echo w > wip; head -c 60000000 /dev/zero > big"
    line += "; touch ~/there; sleep 300"
    directory = make_voyage(tmp_path, [{"run": line}])

    async def both():
        await interrupted(directory, [ship], lambda: (ship.home / "there").exists())
        return await saved(directory, [ship])

    (found,) = run(both())
    assert (found.ok, found.ref) == (True, f"refs/ocaptain/saved/ship-0/{found.ref.rpartition('/')[2]}")
    names = Git(directory / "repo.git").text("ls-tree", "-r", "--name-only", found.ref).splitlines()
    assert {"wip", "big", "sub/in"} <= set(names)
    with command(directory) as ledger:
        assert ledger.count_tasks()["pending"] == 1


@pytest.mark.parametrize("state", ["lost", "bootstrapping", "failed", "idle"])
def test_a_ship_that_had_a_task_is_never_given_up_silently(tmp_path, ships, state):
    """Unreachable in its first attempt, whatever the ledger calls it: its sprite must not be destroyed."""
    (ship,) = ships()
    directory = make_voyage(tmp_path, [{"run": "echo precious > wip; touch ~/there; sleep 300"}])

    async def both(monkeypatch_down):
        await interrupted(directory, [ship], lambda: (ship.home / "there").exists())
        with command(directory) as ledger:
            claim = ledger.held_claim("ship-0")
            if claim:
                ledger.return_task(claim.token, "lost", "silent", ship_state=state)
            ledger.set_ship("ship-0", state)
        ship.down = monkeypatch_down
        return await saved(directory, [ship])

    (found,) = run(both(True))
    assert not found.ok
    ship.down = False
    (found,) = run(saved(directory, [ship]))
    assert found.ok
    assert Git(directory / "repo.git").text("show", f"{found.ref}:wip") == "precious"


def test_a_ship_that_never_had_a_task_has_nothing_to_lose(tmp_path, ships):
    (ship,) = ships()
    directory = make_voyage(tmp_path, [{"run": "true"}])
    ship.down = True
    (found,) = run(saved(directory, [ship]))
    assert found.ok


def test_a_rescue_while_a_check_runs(tmp_path, ships):
    (ship,) = ships()
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a", "verify": "touch ~/there; sleep 300"}])

    async def both():
        await interrupted(directory, [ship], lambda: (ship.home / "there").exists())
        return await saved(directory, [ship])

    (found,) = run(both())
    assert found.ok
    refs = Git(directory / "repo.git").text("for-each-ref", "--format=%(refname)")
    assert "refs/ocaptain/tasks/1/1/work" in refs


# -- the worker's own deaths -----------------------------------------------------------------------


def test_a_worker_that_is_asked_to_end_ends_at_once_and_the_agent_goes_on(tmp_path, ships):
    (ship,) = ships()
    line = f"touch ~/there; until test -e {tmp_path}/ended; do sleep 0.1; done; echo 1 > a"
    directory = make_voyage(tmp_path, [{"run": line}])

    async def kill(_):
        await until(lambda: (ship.home / "there").exists())
        await asyncio.to_thread(ship.kill, signal.SIGTERM)  # which waits for its end
        (tmp_path / "ended").touch()
        ship.start()

    assert run(sail(directory, [ship], meanwhile=kill)) == "complete"
    with command(directory) as ledger:
        assert task_views(ledger)[0].attempt == 1


def test_a_stopped_captain_takes_nothing_away(tmp_path, ships, monkeypatch):
    """SIGSTOP for longer than a lease: nothing is lost, since leases age by ticks."""
    monkeypatch.setattr(leases, "LEASE_SECONDS", 3.0)
    (ship,) = ships()
    there = tmp_path / "there"
    directory = make_voyage(tmp_path, [{"run": f"touch {there}; sleep 6; echo 1 > a"}])
    pid = os.fork()
    if pid == 0:
        try:
            state = run(sail(directory, [ship]))
        except BaseException:
            os._exit(2)
        os._exit(0 if state == "complete" else 1)
    wait_for(there.exists)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(pid, signal.SIGCONT)
    assert os.waitpid(pid, 0)[1] == 0
    with command(directory) as ledger:
        assert task_views(ledger)[0].attempt == 1


class Noted:
    """A hook that notes what it is told, and fails at each of it: that must change nothing."""

    def __init__(self):
        self.seen = []

    def __getattr__(self, moment):
        def note(ship, *about):
            self.seen.append((moment, ship))
            raise RuntimeError(moment)

        return note


def test_hooks_are_told_the_moments_of_a_ships_life(tmp_path, ships, caplog):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a"}], 1)
    hook = Noted()
    assert run(sail(directory, ships(1), hooks=[hook])) == "complete"
    assert [moment for moment, ship in hook.seen if ship == "ship-0"] == [
        "channel_opened",
        "attempt_begins",
        "attempt_ended",
        "voyage_ended",
        "lets_go",
        "channel_closed",
    ]
    assert "a hook failed at 'voyage_ended'" in caplog.text


def test_hooks_are_told_of_a_ship_that_is_lost(tmp_path, ships):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a"}], 2)
    fleet = ships(2)

    async def gone():
        raise ShipGone("ship-0 is gone")

    fleet[0].open = gone
    hook = Noted()
    assert run(sail(directory, fleet, hooks=[hook])) == "complete"
    assert ("ship_lost", "ship-0") in hook.seen


def barrier(directory, ships):
    """Return a check that passes when so many checks run at one time, and fails after a minute or more."""
    directory.mkdir()
    wait = f"touch {directory}/$OCAPTAIN_SHIP; for i in $(seq 1200); do"
    return f'({wait} test "$(ls {directory} | wc -l)" -ge {ships} && exit 0; sleep 0.05; done; exit 9)'


def test_checks_of_several_ships_run_at_one_time_and_all_land(tmp_path, ships):
    check = barrier(tmp_path / "barrier", 3)
    tasks = [{"run": f"echo {n} > f{n}", "verify": f"test -f f{n} && {check}"} for n in range(3)]
    directory = make_voyage(tmp_path, tasks, 3)
    assert run(sail(directory, ships(3))) == "complete"
    assert sorted(landed(directory)) == ["1", "2", "3"]


def test_one_failing_check_ends_those_on_top_of_it_and_they_are_checked_anew(tmp_path, ships):
    """A check that was ended is no verdict: neither told as one, nor remembered on the ship."""
    check = barrier(tmp_path / "barrier", 3)
    times = tmp_path / "times"

    def wait_for_offer(task):
        return f"until test -e {tmp_path}/offered-{task}; do sleep 0.1; done"

    tasks = [
        {"run": "echo 0 > f0", "verify": f"{check} && sleep 0.5"},
        {"run": f"echo 1 > f1; {wait_for_offer(1)}", "verify": f"{check} && test -f never"},
        {"run": f"echo 2 > f2; {wait_for_offer(2)}", "verify": f"echo $(ls) >> {times}; {check} && sleep 1.5"},
    ]
    directory = make_voyage(tmp_path, tasks, 3)

    async def offer_in_turn(captain):
        def is_offered(task):
            return any(row["work"] for row in captain.ledger.rows("attempts", "token") if row["task"] == task)

        for task in ("1", "2"):
            await until(lambda task=task: is_offered(task))
            (tmp_path / f"offered-{task}").touch()

    assert run(sail(directory, ships(3), meanwhile=offer_in_turn)) == "failed"
    assert landed(directory) == ["1", "3"]
    seen = times.read_text().splitlines()
    assert "f0 f1 f2" in seen[0]
    assert "f0 f2" in seen[1]
    assert len(seen) == 2


def test_tasks_that_write_the_same_files_come_last(tmp_path, ships):
    """Two that overlap are not at work at one time while something else is ready."""
    log = tmp_path / "log"
    line = "echo begin {n} >> {log}; sleep 0.7; echo end {n} >> {log}"
    tasks = [{"run": line.format(n=n, log=log)} for n in range(1, 5)]
    both = f"until test $(grep -c begin {log}) -ge 2; do sleep 0.1; done"  # the other ship may come late
    tasks[0]["run"] = tasks[0]["run"].replace("sleep 0.7", both)
    tasks[0]["paths"], tasks[1]["paths"] = ["src/**"], ["src/a.py"]
    assert run(sail(make_voyage(tmp_path, tasks, 2), ships(2))) == "complete"
    lines = log.read_text().splitlines()
    assert lines.index("begin 3") < lines.index("begin 2")
    assert lines.index("end 1") < lines.index("begin 2")


def test_what_is_small_travels_inside_of_messages(tmp_path, ships, monkeypatch):
    """No call for it, and no wait for one; what is larger goes in parts."""
    calls = []
    for name in ("get", "put"):
        real = getattr(LocalShip, name)

        async def counted(self, path, *rest, real=real, name=name):
            calls.append((name, path))
            return await real(self, path, *rest)

        monkeypatch.setattr(LocalShip, name, counted)
    tasks = [{"run": "echo 1 > a"}, {"run": "cat a; head -c 100000 /dev/urandom > b", "waits": ["1"]}]
    directory = make_voyage(tmp_path, tasks)
    assert run(sail(directory, ships())) == "complete"
    assert [name for name, path in calls if "/out/" in path] == ["get"]
    assert [name for name, path in calls if "/in/" in path] == ["put"]  # for the final verify


def test_an_attempt_that_is_cancelled_while_it_is_launched_is_stopped_not_killed_later(tmp_path, ships):
    directory, (ship,) = make_voyage(tmp_path, [{"run": "true"}]), ships()

    async def talk():
        with command(directory) as ledger:
            link = await Link.open("ship-0", Context.of(directory, ledger), ship, Cursors(None, {}), lambda *_: None)
            root = ledger.voyage().root
            start = Start(1, root, VOYAGE, "1.1", argv=("sleep", "600"), timeout=900.0, stall=900.0)
            answer = asyncio.create_task(link.call_with_commit(root, "start:1", start))
            await until((ship.home / ".ocaptain/attempts/1").exists)
            await link.cancel(1)
            await link.channel.close()
            return (await answer).data["reason"]

    assert run(talk()) == "stopped"
