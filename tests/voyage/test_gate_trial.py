"""verify.sh is tried on the start commit while the first agents work, and only what no work can mend stops them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ocaptain.captain.ship import trial
from ocaptain.cli.status_view import Beside, status_records
from ocaptain.query import Query
from tests.helpers import run_task, wait_for
from tests.voyage.local import LocalShip, landed, make_voyage, sail
from tests.voyage.test_captain import run, until
from tests.voyage.test_faults import Rows


def gate_events(directory):
    return [(row["kind"], row["ship"]) for row in Rows(directory).events if row["kind"].startswith("gate:")]


def processes(word):
    """Return the command lines of this machine's processes that hold a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [line] if word in line.split() else []
    return found


def status(directory):
    records = status_records(Query(directory).snapshot(0.0), Beside(has_captain=True, directory=""), 0.0)
    return "\n".join(" ".join(record) for record in records)


def test_it_runs_beside_the_first_agent_in_a_clone_of_its_own(tmp_path, ships):
    """The task waits for the trial: if a claim waited for it, or it for the task, neither would end well."""
    where = tmp_path / "where"
    # What it leaves in its clone must not come into the workspace.
    verify = f"echo x > untracked; git rev-parse HEAD > head; pwd >> {where}; test -e a"
    task = f"until grep -q trial {where}; do sleep 0.1; done; test ! -e untracked; echo 1 > a"
    setup = f"echo $PWD >> {tmp_path}/setups"
    directory = make_voyage(tmp_path, [{"run": task, "wish": "ship-0"}], 2, verify=verify, setup=setup)
    made = ships(2)
    assert run(sail(directory, made)) == "complete"
    homes = [ship.home / "voyage" for ship in made]
    assert where.read_text().split() == [f"{homes[0]}/trial", f"{homes[1]}/workspace"]
    assert len((tmp_path / "setups").read_text().split()) == 2
    kinds = [row["kind"] for row in Rows(directory).events]
    assert kinds.index("claim") < kinds.index("gate:expected") < kinds.index("landed")
    assert kinds.count("claim") == 1
    assert "before any work" not in status(directory)
    assert not (homes[0] / "trial").exists()
    assert not (made[0].home / ".ocaptain/trial.git").exists()


def test_what_passes_before_any_work_is_said_once_a_voyage(tmp_path, ships):
    """An older worker is not asked; a captain that comes later asks no more."""

    class Older(LocalShip):
        async def open(self):
            inner = await super().open()

            class Stream:
                send, close = inner.send, inner.close

                async def __aiter__(self):
                    async for data in inner:
                        yield data.replace(b'"trial"', b'"other"')

            return Stream()

    tried = f"echo $OCAPTAIN_SHIP >> {tmp_path}/tried"
    until_tried = f"until test -e {tmp_path}/tried; do sleep 0.1; done; echo 1 > a"
    tasks = [{"run": "echo 1 > old", "pin": "ship-0"}, {"run": until_tried, "pin": "ship-1", "waits": ["1"]}]
    tasks.append({"run": f"until test -e {tmp_path}/go; do sleep 0.1; done; echo 2 > b", "waits": ["2"]})
    directory = make_voyage(tmp_path, tasks, 2, verify=tried)
    made = [Older(tmp_path / "older").start(), *ships(1)]

    async def stop(captain):
        await until(lambda: gate_events(directory) and len(landed(directory)) == 2)
        captain._main_task.cancel()

    try:
        run(_ignoring_cancel(sail(directory, made, meanwhile=stop)))
        assert "verify.sh passes before any work: it proves nothing" in status(directory)
        (tmp_path / "go").touch()
        assert run(sail(directory, made)) == "complete"
    finally:
        made[0].end()
    assert gate_events(directory) == [("gate:passes", "ship-1")]
    assert len((tmp_path / "tried").read_text().split()) == 2  # the trial, and the final verify


async def _ignoring_cancel(coroutine):
    await asyncio.gather(coroutine, return_exceptions=True)


def test_what_takes_too_long_is_killed_whole(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(trial, "TRIAL_SECONDS", 1.0)
    hang = "test -e a || { env -i setsid sleep 98765 & setsid sleep 98765 & sleep 98765; }"
    task = f"until test -e {tmp_path}/go; do sleep 0.1; done; echo 1 > a"
    directory = make_voyage(tmp_path, [{"run": task}], verify=hang)

    async def meanwhile(_captain):
        await until(lambda: gate_events(directory))
        await until(lambda: processes("98765") == [])
        (tmp_path / "go").touch()

    assert run(sail(directory, ships(), meanwhile=meanwhile)) == "complete"
    assert gate_events(directory) == [("gate:late", "ship-0")]
    assert "had not ended on the start commit after 1 s" in status(directory)


def test_the_end_of_all_work_does_not_wait_for_it(tmp_path, ships):
    """The final verify, on the same ship, finds nothing of it."""
    tried = tmp_path / "tried"
    verify = f"test -e a || {{ touch {tried}; exec sleep 98764; }}; ! pgrep -f 'sleep 9876[4]'; test ! -e ../trial"
    directory = make_voyage(
        tmp_path, [{"run": f"until test -e {tried}; do sleep 0.1; done; echo 1 > a"}], verify=verify
    )
    assert run(sail(directory, ships())) == "complete"
    assert gate_events(directory) == []


def test_a_worker_that_dies_of_it_leaves_nothing_and_is_asked_again(tmp_path, ships):
    tried = tmp_path / "tried"
    verify = f"echo x >> {tried}; test $(wc -l < {tried}) -gt 1 || exec sleep 98763; test -e a"
    task = f"touch {tmp_path}/begun; until test -e {tmp_path}/go; do sleep 0.1; done; echo 1 > a"
    directory = make_voyage(tmp_path, [{"run": task}], verify=verify)
    made = ships()

    async def meanwhile(_captain):
        await until(lambda: processes("98763") and (tmp_path / "begun").exists())
        made[0].kill()
        made[0].start()
        await until(lambda: gate_events(directory))
        await until(lambda: processes("98763") == [])
        (tmp_path / "go").touch()

    assert run(sail(directory, made, meanwhile=meanwhile)) == "complete"
    found = Rows(directory)
    assert gate_events(directory) == [("gate:expected", "ship-0")]
    assert (found.tasks["1"]["attempts"], found.tasks["1"]["tries"]) == (1, 0)


def test_an_interpreter_that_is_not_there_ends_the_voyage_and_its_agents(tmp_path, ships):
    """Once somebody has brought it, a resume goes on."""
    there = tmp_path / "interpreter"
    task = f"test -e {there} || exec sleep 98762; echo $OCAPTAIN_TASK_ID > a$OCAPTAIN_TASK_ID"
    tasks = [{"run": task, "wish": f"ship-{n}"} for n in range(2)]
    directory = make_voyage(tmp_path, tasks, 2, verify_script=f"#!{there} -e\ntest -e a1\n".encode())
    made = ships(2)
    assert run(sail(directory, made)) == "failed"
    found = Rows(directory)
    assert [name for name, _ in gate_events(directory)] == ["gate:interpreter"]
    assert found.voyage.note.startswith(
        f"not on the ship: `{there}`, which verify.sh's first line names; mend verify.sh"
    )
    assert {(row["status"], row["tries"]) for row in found.tasks.values()} == {("pending", 0)}
    assert {row["state"] for row in found.attempts} <= {"sunk"}
    assert {row["state"] for row in found.ships.values()} <= {"idle", "asleep"}
    wait_for(lambda: processes("98762") == [])
    there.symlink_to("/bin/sh")
    with_note_cleared(directory)
    assert run(sail(directory, made)) == "complete"
    assert {name for name, _ in gate_events(directory)[1:]} <= {"gate:expected"}
    assert sorted(landed(directory)) == ["1", "2"]


def with_note_cleared(directory):
    """What a resume does before it starts a captain."""
    from tests.voyage.local import command

    with command(directory) as ledger:
        ledger.set_note(None)


def test_sail_says_what_is_not_on_the_ship_and_ends_with_2(lone, plan):
    made = plan([run_task("sleep 600")])
    (made / "verify.sh").write_text("#!/usr/bin/env python3.99\nprint()\n")
    done = lone.run("sail", made, "-n", "1", "--wait", "--json")
    assert done.code == 2, (done.out, done.err)
    message = done.json["error"]["message"]
    assert "not on the ship: `python3.99`, which verify.sh's first line names" in message
    assert f"ocaptain sink {done.json['voyage']}" in message
    assert done.json["gate"]["outcome"] == "interpreter"
    assert lone.run("status", done.json["voyage"]).out.count("not on the ship") == 1
    assert lone.run("sink", done.json["voyage"], "--force").code == 0
