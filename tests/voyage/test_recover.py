"""When tasks do not land: why, another try, and tasks that wait for approval."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal

import pytest

from ocaptain import process
from ocaptain.captain.ship import actor as actors
from ocaptain.config import load_settings
from ocaptain.control import Command, ask, carry_out
from ocaptain.errors import OcaptainError
from ocaptain.ledger import Ledger
from ocaptain.options import SailOptions
from ocaptain.query import Query
from ocaptain.voyage.home import VoyageDirectory
from ocaptain.voyage.resume import decide_start, resume
from tests.helpers import PATIENCE, run_task, wait_for
from tests.unit.test_ledger import land, make
from tests.voyage.local import VOYAGE, command, landed, make_voyage, sail


def attempts(directory):
    with Ledger(directory / "ledger.db") as ledger:
        return [(row["task"], row["number"], row["state"]) for row in ledger.rows("attempts", "token")]


async def until(check):
    async with asyncio.timeout(PATIENCE):
        while not check():
            await asyncio.sleep(0.02)


# -- another try ---------------------------------------------------------------------------------


def test_a_voyage_that_failed_goes_on_and_what_landed_stays(tmp_path, ships):
    good = tmp_path / "good"
    tasks = [{"run": "echo 1 > a"}, {"run": f"test -e {good} && echo 2 > b"}, {"run": "echo 3 > c", "waits": ["2"]}]
    directory, fleet = make_voyage(tmp_path, tasks, 1), ships(1)
    assert asyncio.run(sail(directory, fleet)) == "failed"
    before = landed(directory), attempts(directory)
    assert [number for task, number, _ in before[1] if task == "2"] == [1, 2, 3]
    found = VoyageDirectory(directory)
    assert decide_start(found, load_settings()) is None  # nothing can be tried
    with pytest.raises(OcaptainError, match=r"^1 failed: ocaptain why 2; ocaptain retry 2$") as refused:
        resume(found, None, SailOptions())
    assert refused.value.exit_code == 1
    good.touch()
    again = Command(name="retry")
    answers = {ask(directory, again) for _ in range(2)}  # repeated, as after an answer that was lost
    assert [(one.said, one.tasks) for one in answers] == [("retried: task 2", ("2",))]
    assert ask(directory, Command(name="retry")).said.endswith("was retried: none has failed permanently")
    assert (found.voyage().state, found.voyage().note) == ("running", None)
    assert asyncio.run(sail(directory, fleet)) == "complete"
    assert decide_start(found, load_settings()) is None
    assert landed(directory) == [*before[0], "2", "3"]
    assert attempts(directory) == [*before[1], ("2", 4, "landed"), ("3", 1, "landed")]
    refused = ask(directory, Command(name="retry"))
    assert (refused.done, refused.said) == (False, f"no task of {VOYAGE} can be retried: it is complete")


def test_a_captain_that_dies_after_a_retry_is_followed_by_one_that_tries_again(tmp_path, ships):
    good, go = tmp_path / "good", tmp_path / "go"
    tasks = [{"run": f"until test -e {go}; do sleep 0.1; done; test -e {good} && echo 1 > a"}, {"run": "false"}]
    directory, fleet = make_voyage(tmp_path, tasks, 1), ships(1)

    async def meanwhile(captain):
        await until(lambda: captain.ledger.count_tasks()["in_progress"] and (directory / "control.sock").exists())
        assert captain.ledger.failed_tasks() == ["2"]
        said = await asyncio.to_thread(ask, directory, Command(name="retry", agent_cmd="echo 2 > b", tasks=("2",)))
        assert said.tasks == ("2",)
        sailing.cancel()

    async def first():
        nonlocal sailing
        sailing = asyncio.current_task()
        await sail(directory, fleet, meanwhile=meanwhile)

    sailing = None
    # The failing task first: the other one holds the ship.
    with command(directory) as ledger:
        ledger.fail(ledger.claim("ship-0", preferred=["2"]).token, "no", final=True)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(first())
    good.touch()
    go.touch()
    assert asyncio.run(sail(directory, fleet)) == "complete"
    assert sorted(landed(directory)) == ["1", "2"]


def test_any_ship_may_have_what_was_pinned_to_one_that_is_gone(tmp_path, ships):
    tasks = [{"run": "echo 1 > a", "pin": "ship-1"}, {"run": "echo 2 > b"}]
    directory, fleet = make_voyage(tmp_path, tasks, 2), ships(2)
    with command(directory) as ledger:
        ledger.set_ship("ship-1", "gone", "destroyed")
    assert asyncio.run(sail(directory, fleet)) == "failed"
    found = VoyageDirectory(directory)
    assert "pinned to ships that are gone" in found.voyage().note
    assert decide_start(found, load_settings()) == "fleet"  # which makes the ship again
    (why,) = Query(directory).why("1", has_captain=True).waits
    assert why == (
        f"it is pinned to ship-1, which does not sail (gone); let any ship have it: ocaptain retry {VOYAGE} 1 --any"
    )
    assert ask(directory, Command(name="retry", any_ship=True)).said == "changed: task 1"
    assert found.voyage().state == "running"
    assert asyncio.run(sail(directory, fleet)) == "complete"
    assert sorted(landed(directory)) == ["1", "2"]


GRAPH = {"1": frozenset(), "2": frozenset({"1"}), "3": frozenset({"2"}), "4": frozenset()}
LINE = {"run": "true"}


@pytest.fixture
def ledger(tmp_path):
    """A ledger whose task 1 landed, 2 failed (it holds 3), and 4 is being worked on."""
    with make(tmp_path / "ledger.db", GRAPH) as found:
        found.set_state("running")
        land(found, found.claim("ship-0", preferred=["1"]))
        found.fail(found.claim("ship-0", preferred=["2"]).token, "no", final=True)
        assert found.claim("ship-1").task == "4"
        yield found


def rows(ledger):
    return {row["id"]: row for row in ledger.rows("tasks", "position")}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"tasks": ("1",), "model": "m"}, "task 1 has landed: it is not done again"),
        ({"tasks": ("4",), "agent_cmd": "true"}, "task 4 is being worked on by ship-1"),
        ({"tasks": ("2",), "model": "m"}, "task 2 is run by a shell line, which has no model"),
        ({"tasks": ("2",), "model": "m", "agent_cmd": "true"}, "give --agent-cmd or --model"),
        ({"tasks": ("2",), "agent_cmd": "a\0b"}, "cannot contain a NUL byte"),
        ({"task_file": {"id": "9", "subject": "x", "metadata": LINE}}, 'the file is of task "9"'),
        ({"task_file": {"id": "2", "metadata": LINE}}, "subject"),
        ({"task_file": {"id": "2", "subject": "x", "metadata": {"run": "true", "pin": "ship-7"}}}, "does not sail"),
        ({"task_file": {"id": "2", "subject": "x", "metadata": LINE, "blockedBy": ["7"]}}, "names task 7, which does"),
        ({"task_file": {"id": "2", "subject": "x", "metadata": LINE, "blockedBy": ["3"]}}, "would wait for each other"),
        ({"task_file": {"id": "2", "subject": "x", "metadata": LINE, "blocks": ["1"]}}, "task 1 has landed: it cannot"),
        ({"task_file": {"id": "2", "subject": "x", "metadata": LINE, "blocks": ["4"]}}, "task 4 is being worked on"),
        ({"task_file": {"id": "2", "subject": "x", "metadata": {"agent": "nobody"}}}, "does not exist in this version"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(ledger, asked, said):
    before = ledger.rows("tasks", "position"), ledger.rows("edges", "task, waits"), ledger.last_event_number()
    answer = carry_out(Command(**{"name": "retry", "tasks": ("2",), **asked}), ledger)
    assert (answer.done, said in answer.said, "\n" in answer.said) == (False, True, False), answer
    assert before == (
        ledger.rows("tasks", "position"),
        ledger.rows("edges", "task, waits"),
        ledger.last_event_number(),
    )


def test_a_corrected_task_takes_the_place_of_the_failed_one(ledger):
    task = {
        "id": "2",
        "subject": "Better",
        "metadata": {"run": "echo 2 > b", "ship": "ship-2", "hold": True},
        "blockedBy": ["1", "4"],
    }
    answer = carry_out(Command(name="retry", tasks=("2",), task_file=task), ledger)
    assert (answer.said, answer.tasks) == ("retried: task 2", ("2",))
    found = rows(ledger)
    two = found["2"]
    assert (two["status"], two["subject"], two["wish"], two["approved"], two["blockers"]) == (
        *("pending", "Better", "ship-2", 0, 1),
    )
    assert json.loads(two["raw"])["metadata"]["run"] == "echo 2 > b"
    assert (found["3"]["held_by"], found["3"]["blockers"]) == (None, 1)
    assert ledger.claim("ship-0") is None
    land(ledger, ledger.held_claim("ship-1"))
    assert ledger.claim("ship-0") is None  # until it is approved
    assert carry_out(Command(name="approve", tasks=("2",)), ledger).said == "approved: task 2"
    claim = ledger.claim("ship-0")
    assert (claim.task, claim.number, claim.raw["subject"]) == ("2", 2, "Better")


def test_a_corrected_estimate_or_order_changes_which_task_goes_first(ledger):
    def change(task, **more):
        file = {"id": task, "subject": "x", "metadata": LINE, **more}
        assert carry_out(Command(name="retry", tasks=(task,), task_file=file), ledger).done
        return {name: row["priority"] for name, row in rows(ledger).items() if row["status"] != "completed"}

    assert change("2", metadata={**LINE, "estimate": {"seconds": 5}}) == {"2": 10_000, "3": 5_000, "4": 5_000}
    assert change("3", metadata={**LINE, "estimate": {"seconds": 7}}) == {"2": 12_000, "3": 7_000, "4": 6_000}
    # The edge from 3 to 2 stands in no file here, so it stays.
    assert change("3", metadata={**LINE, "estimate": {"seconds": 7}}, blockedBy=["4"])["4"] == 13_000


def test_a_task_that_waits_for_a_failed_one_no_more_goes_on(ledger):
    free = {"id": "3", "subject": "Free", "metadata": LINE, "blockedBy": []}
    with ledger._write() as db:
        db.execute("UPDATE tasks SET raw = ? WHERE id = '3'", (json.dumps({**free, "blockedBy": ["2"]}),))
    assert carry_out(Command(name="retry", tasks=("3",), task_file=free), ledger).said == "changed: task 3"
    assert (rows(ledger)["3"]["held_by"], rows(ledger)["2"]["status"]) == (None, "failed")
    assert ledger.claim("ship-0").task == "3"


@pytest.mark.parametrize(
    ("tasks", "state", "done", "said"),
    [
        (("3",), "running", True, "approved: task 3"),
        (("3", "2"), "running", False, "task 2 has no metadata.hold: there is nothing to approve"),
        (("3", "8"), "running", False, "has no task 8"),
        (("3",), "failed", True, "approved: task 3"),
        (("3",), "sunk", False, "can be approved: it is sunk"),
    ],
)
def test_what_an_approval_is_answered_with(tmp_path, tasks, state, done, said):
    with make(tmp_path / "ledger.db", GRAPH, hold=("3",)) as ledger:
        with ledger._write() as db:
            db.execute("UPDATE tasks SET raw = '{\"metadata\": {\"hold\": true}}' WHERE id = '3'")
        ledger.set_state(state)
        answer = carry_out(Command(name="approve", tasks=tasks), ledger)
        assert (answer.done, said in answer.said) == (done, True), answer
        assert bool(rows(ledger)["3"]["approved"]) is done
        ledger.set_state("complete")
        again = carry_out(Command(name="approve", tasks=tasks), ledger)
        assert again.done is done
        assert not done or again.said == "nothing to do: task 3 was approved before"


@pytest.mark.parametrize("way", ["adopted", "landed after all"])
def test_what_waits_for_two_failed_tasks_is_held_until_both_have_landed(tmp_path, way):
    graph = {"1": frozenset(), "2": frozenset(), "3": frozenset({"1", "2"}), "4": frozenset({"3"})}
    with make(tmp_path / "ledger.db", graph) as ledger:
        claims = [ledger.claim(ship) for ship in ("ship-0", "ship-1")]
        assert ledger.begin_landing(claims[0].token, "refs/heads/v", "0" * 40, "c" * 40, {})
        for claim in claims:
            ledger.fail(claim.token, "no", final=True)
        assert [rows(ledger)[task]["held_by"] for task in ("3", "4")] == ["1", "1"]
        if way == "adopted":
            ledger.adopt_landing("1", "ship-0", 1, "c" * 40)
        else:
            ledger.finish_landing(claims[0].token)
        assert [rows(ledger)[task]["held_by"] for task in ("1", "3", "4")] == [None, "2", "2"]
        assert not ledger.has_open_tasks()


def test_a_line_and_a_model_of_all_that_failed_are_those_of_the_voyage(ledger):
    with ledger._write() as db:
        db.execute("UPDATE voyage SET agent_cmd = 'wrong'")
    assert carry_out(Command(name="retry", agent_cmd="right"), ledger).tasks == ("2",)
    assert ledger.voyage().agent_cmd == "right"
    assert json.loads(rows(ledger)["2"]["raw"])["metadata"]["run"] == "right"
    ledger.fail(ledger.claim("ship-0").token, "no", final=True)
    assert carry_out(Command(name="retry", agent_cmd="only this", tasks=("2",)), ledger).tasks == ("2",)
    assert ledger.voyage().agent_cmd == "right"


def test_a_retry_forgets_losses_waits_and_what_was_handed_back(ledger):
    def lose(state):
        ledger.return_task(ledger.claim("ship-0").token, state, "no")

    carry_out(Command(name="retry"), ledger)
    for state in ("conflict", "lost", "waited"):
        lose(state)
    assert (ledger.count_losses("2"), ledger.count_waits("2"), ledger.count_returns_for("2", "no")) == (1, 1, 1)
    ledger.fail(ledger.claim("ship-0").token, "no", final=True)
    carry_out(Command(name="retry"), ledger)
    assert (ledger.count_losses("2"), ledger.count_waits("2"), ledger.count_returns_for("2", "no")) == (0, 0, 0)
    lose("lost")
    assert ledger.count_losses("2") == 1


def test_a_ledger_of_an_earlier_version_gets_its_columns(tmp_path):
    with make(tmp_path / "ledger.db", GRAPH) as ledger:
        ledger._db.execute("ALTER TABLE tasks DROP COLUMN retried")
        ledger._db.execute("DROP INDEX unapproved")
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.held_tasks() == []
        ledger.take_command()
        ledger.fail(ledger.claim("ship-0").token, "no", final=True)
        assert carry_out(Command(name="retry"), ledger).tasks == ("1",)
        assert ledger.count_losses("1") == 0


# -- approval --------------------------------------------------------------------------------------


def test_a_task_on_hold_waits_until_it_is_approved_whoever_dies(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(actors, "SLEEP_AFTER", 0.2)
    tasks = [{"run": "echo 1 > a"}, {"run": "echo 2 > b", "waits": ["1"], "hold": True}, {"run": "echo 3 > c"}]
    directory, fleet = make_voyage(tmp_path, tasks, 1), ships(1)
    sailing = None

    def is_waiting(captain):
        return captain.ledger.count_tasks()["completed"] == 2 and captain.ledger.ships()[0].state == "asleep"

    async def look(captain):
        await until(lambda: is_waiting(captain))
        seen = Query(directory).overview()
        assert (seen.state, seen.held_tasks, seen.note) == ("running", ["2"], None)
        (held,) = [event.text for event in Query(directory).events() if event.kind == "held"]
        assert held == f"waits for approval: ocaptain approve {VOYAGE} 2"
        assert [view.id for view in Query(directory).tasks() if view.hold] == ["2"]
        sailing.cancel()

    async def approve_and_die(captain):
        await until(lambda: is_waiting(captain) and (directory / "control.sock").exists())
        for word in ("approved: task 2", "nothing to do: task 2 was approved before"):
            assert (await asyncio.to_thread(ask, directory, Command(name="approve", tasks=("2",)))).said == word
        refused = await asyncio.to_thread(ask, directory, Command(name="approve", tasks=("2", "3")))
        assert (refused.done, "task 3 has no metadata.hold" in refused.said) == (False, True)
        sailing.cancel()

    async def first(meanwhile):
        nonlocal sailing
        sailing = asyncio.current_task()
        await sail(directory, fleet, meanwhile=meanwhile)

    for meanwhile in (look, approve_and_die):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(first(meanwhile))
    assert asyncio.run(sail(directory, fleet)) == "complete"
    assert landed(directory)[-1] == "2"


def test_what_is_approved_without_a_captain_is_taken_by_the_next_one(tmp_path, ships):
    tasks = [{"run": "echo 1 > a", "hold": True}, {"run": "echo 2 > b", "hold": True, "waits": ["1"]}]
    directory, fleet = make_voyage(tmp_path, tasks, 1), ships(1)
    (why,) = Query(directory).why("1", has_captain=True).waits
    assert why == f"it waits for approval: ocaptain approve {VOYAGE} 1"
    assert len(Query(directory).why("2", has_captain=False).waits) == 3  # task 1, the approval, and a captain
    assert ask(directory, Command(name="approve", tasks=("1", "2"))).said == "approved: task 1, 2"
    assert asyncio.run(sail(directory, fleet)) == "complete"


def test_nothing_waits_for_approval_where_no_ship_is_left(tmp_path):
    directory = make_voyage(tmp_path, [{"run": "echo 1 > a", "hold": True}], 1)
    with command(directory) as ledger:
        ledger.set_ship("ship-0", "gone")
    assert asyncio.run(sail(directory, [])) == "failed"
    assert decide_start(VoyageDirectory(directory), load_settings()) == "fleet"


# -- a voyage on drydock -----------------------------------------------------------------------------


def broken_plan():
    """Twenty tasks; 3 fails by its check, 7 by a program that is not there, 11 by its line, and each holds another."""
    tasks = {str(n): run_task(f"echo {n} > f{n}") for n in range(1, 21)}
    tasks["3"] = run_task("echo 3 > f3", verify="echo looking; test -e ~/cause", pin="ship-0")
    tasks["7"] = run_task("no-such-tool --now > f7")
    tasks["11"] = run_task("cat no-such-file > f11")
    for held, by in (("15", "3"), ("16", "7"), ("17", "11")):
        tasks[held]["blockedBy"] = [by]
    return list(tasks.values())


def is_at(sailor, voyage, state):
    return sailor.json("status", voyage, "--json")["state"] == state


def test_a_voyage_with_three_failures_is_brought_home(lone, plan, tmp_path):
    directory = plan(broken_plan(), verify="for n in $(seq 20); do test -s f$n; done")
    failed = lone.run("sail", directory, "-n", "2", "--wait", "--json")
    assert failed.code == 1
    voyage = failed.json["voyage"]
    assert failed.json["tasks"] == {"total": 20, "completed": 14, "failed": 3, "pending": 3, "in_progress": 0}
    before = {one["id"]: (one["attempt"], one["commit"]) for one in lone.json("tasks", voyage, "--json")["tasks"]}
    stories = {task: lone.json("why", voyage, task, "--json") for task in ("3", "7", "11", "16")}
    check = stories["3"]["attempts"][-1]["check"]
    assert (check["exit_code"], check["tail"].strip()) == (1, "looking")
    (missing,) = stories["7"]["attempts"]
    assert missing["exit_code"] == 127
    assert "`no-such-tool` is not on the ship: commit it or install it by a role" in missing["reason"]
    assert [one["exit_code"] for one in stories["11"]["attempts"]] == [1, 1, 1]
    assert "cat: no-such-file: No such file" in stories["11"]["attempts"][0]["reason"]
    assert stories["16"]["attempts"] == []
    assert "held by task 7" in stories["16"]["waits"][0]
    kept = stories["3"]["attempts"][0]["refs"][0]
    assert "+3" in lone.git(voyage, *kept["command"].split("repo.git ")[1].split())
    shown = lone.run("why", voyage, "3").out
    assert re.search(r"✗ attempts? (1-|2-)?3 on ship-", shown)  # those that ended alike are told once
    assert kept["command"] in shown
    refused = lone.run("sail", "--resume", voyage)
    assert (refused.code, refused.err.splitlines()[-1]) == (1, "3 failed: ocaptain why 3; ocaptain retry 3 7 11")

    corrected = tmp_path / "11.json"
    corrected.write_text(json.dumps({"id": "11", "subject": "Better", "metadata": {"run": "echo 11 > f11"}}))
    assert lone.json("retry", voyage, "--task-file", corrected, "--json")["tasks"] == ["11"]
    again = lone.json("retry", voyage, "7", "--agent-cmd", "echo 7 > f7", "--json")
    assert again["tasks"] == ["7"]
    with contextlib.suppress(ProcessLookupError, TypeError):
        os.kill(process.captain_pid(lone.voyage(voyage)), signal.SIGKILL)
    lone.inside(f"{voyage}-ship-0", "touch ~/cause")
    lone.api("DELETE", f"/v1/sprites/{voyage}-ship-1")  # it is made again
    last = lone.run("retry", voyage)
    assert (last.code, "retried: task 3" in last.out) == (0, True), last.out + last.err
    assert len(lone.api("GET", "/v1/sprites").json()["sprites"]) == 2
    wait_for(lambda: is_at(lone, voyage, "complete"))
    after = {one["id"]: (one["attempt"], one["commit"]) for one in lone.json("tasks", voyage, "--json")["tasks"]}
    assert {task: after[task] for task, (_, commit) in before.items() if commit} == {
        task: found for task, found in before.items() if found[1]
    }
    assert {task: after[task][0] for task in ("3", "7", "11", "15", "16", "17")} == {
        **dict.fromkeys(("15", "16", "17"), 1),
        "3": 4,
        "7": 2,
        "11": 4,
    }
    assert sorted(lone.landed(voyage), key=int) == [str(n) for n in range(1, 21)]
    refused = lone.run("retry", voyage)
    assert (refused.code, len(refused.err.splitlines())) == (2, 1), refused.err
