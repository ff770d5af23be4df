"""What is asked of a voyage: to pause, to try again, to be left by its captain."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from ocaptain import process
from ocaptain.cli.control import RetryArguments, _retry_command
from ocaptain.config import load_settings
from ocaptain.control import Answer, Command, ask, carry_out, socket_location, stop_captain
from ocaptain.control.listen import listening
from ocaptain.control.socket_location import socket_path
from ocaptain.errors import OcaptainError
from ocaptain.ledger import Ledger, LedgerUnwritable
from ocaptain.options import SailOptions
from ocaptain.voyage.launch import BuildResult, _record_fleet
from ocaptain.voyage.resume import resume
from tests.helpers import OCAPTAIN, Sailor, make_directory, run_task
from tests.unit.test_ledger import make
from tests.voyage.local import VOYAGE, command, landed, make_voyage, sail

PAUSE = Command(name="pause")


@pytest.mark.parametrize(
    ("state", "done", "said"),
    [
        ("running", True, "is paused; resume with: ocaptain sail --resume"),
        ("paused", True, "is paused"),
        ("verifying", False, "cannot be paused: its final verify is running"),
        ("complete", False, "cannot be paused: it is complete"),
        ("failed", False, "it is failed"),
        ("sinking", False, "it is sinking"),
        ("sunk", False, "it is sunk"),
    ],
)
def test_what_a_pause_is_answered_with(tmp_path, state, done, said):
    with make(tmp_path / "ledger.db", {"1": frozenset()}) as ledger:
        ledger.set_state(state)
        for _ in range(2):
            answer = carry_out(PAUSE, ledger)
            assert answer.done is done
            assert said in answer.said
        assert (ledger.voyage().paused_reason == "user") is done


def test_what_runs_lands_and_nothing_more_is_handed_out(tmp_path, ships):
    go = tmp_path / "go"
    tasks = [{"run": f"until test -e {go}; do sleep 0.1; done; echo 1 > a"}, {"run": "echo 2 > b", "waits": ["1"]}]
    directory, fleet = make_voyage(tmp_path, tasks, 2), ships(2)

    async def meanwhile(captain):
        while not captain.ledger.count_tasks()["in_progress"]:
            await asyncio.sleep(0.02)
        with socket_path(directory) as path:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        said = [(await asyncio.to_thread(ask, directory, PAUSE)).said for _ in range(2)]
        assert all("pauses: 1 task is finished first" in one for one in said)
        with socket.socket(socket.AF_UNIX) as joined, socket_path(directory) as path:  # garbage does no harm
            joined.connect(str(path))
            joined.sendall(b'{"name": "destroy"}\n')
            assert b'"done":false' in await asyncio.to_thread(joined.recv, 1000)
        go.touch()

    assert asyncio.run(sail(directory, fleet, meanwhile=meanwhile)) == "paused"
    assert landed(directory) == ["1"]
    with socket_path(directory) as path:
        assert not path.exists()
    assert asyncio.run(sail(directory, fleet)) == "paused"  # a captain alone does not go on
    assert ask(directory, PAUSE).done
    with command(directory) as ledger:
        ledger.clear_pause()
        ledger.set_state("running")
    assert asyncio.run(sail(directory, fleet)) == "complete"
    assert landed(directory) == ["1", "2"]


def test_a_captain_that_is_killed_while_it_pauses_is_followed_by_one_that_pauses(tmp_path, ships):
    go = tmp_path / "go"
    tasks = [{"run": f"until test -e {go}; do sleep 0.1; done; echo 1 > a"}, {"run": "echo 2 > b"}]
    directory, fleet = make_voyage(tmp_path, tasks, 1), ships(1)

    async def stop(captain):
        while not captain.ledger.count_tasks()["in_progress"]:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(ask, directory, PAUSE)
        raise_in.cancel()

    async def first():
        nonlocal raise_in
        raise_in = asyncio.current_task()
        await sail(directory, fleet, meanwhile=stop)

    raise_in = None
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(first())
    go.touch()
    assert asyncio.run(sail(directory, fleet)) == "paused"
    assert len(landed(directory)) == 1


def test_a_pause_that_comes_while_ships_are_built_holds_until_the_user_resumes(tmp_path, monkeypatch):
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path / "voyages"))
    directory = make_directory(tmp_path, VOYAGE, "hosts", [("ship-0", "a")], {"ship-0": '{"host": "a"}'})

    def launch() -> tuple[str, str | None]:
        with Ledger(directory.path / "ledger.db") as ledger:
            ledger.take_command()
            _record_fleet(directory, ledger, BuildResult(ready=["a"]), load_settings())
            return ledger.ships()[0].state, ledger.voyage().paused_reason

    assert ask(directory.path, PAUSE).done
    for _ in range(2):  # the second is that of a replacement, which the captain asked for
        assert launch() == ("bootstrapping", "user")
        assert directory.voyage().state == "paused"
    resume(directory, load_settings(), SailOptions(), check=True)  # which changes nothing
    assert launch() == ("bootstrapping", "user")
    resume(directory, load_settings(), SailOptions())
    assert launch() == ("bootstrapping", None)
    assert directory.voyage().state == "running"


def fail_for_good(ledger: Ledger, task: str) -> None:
    """Let the task that is next fail until it is given up."""
    while (claim := ledger.claim("ship-0")) is not None and claim.task == task:
        ledger.fail(claim.token, "it broke")
        if ledger.task_rows([task])[0]["status"] == "failed":
            return


GRAPH = {"1": frozenset(), "2": frozenset({"1"}), "3": frozenset({"2"}), "4": frozenset(), "5": frozenset({"3", "4"})}


def test_what_failed_is_put_back_and_what_it_held_is_held_no_more(tmp_path):
    with make(tmp_path / "ledger.db", GRAPH) as ledger:
        ledger.set_state("running")
        fail_for_good(ledger, "1")
        fail_for_good(ledger, "4")
        rows = {row["id"]: row for row in ledger.rows("tasks", "position")}
        assert {name: row["held_by"] for name, row in rows.items()} == {
            "1": None,
            "2": "1",
            "3": "1",
            "4": None,
            "5": "1",
        }
        ledger.pop_changed_tasks()
        answer = carry_out(Command(name="retry", tasks=("1",)), ledger)
        assert (answer.done, answer.said) == (True, "retried: task 1")
        assert sorted(ledger.pop_changed_tasks()) == ["1", "2", "3", "5"]
        rows = {row["id"]: row for row in ledger.rows("tasks", "position")}
        assert {name: row["held_by"] for name, row in rows.items()} == {
            "1": None,
            "2": None,
            "3": None,
            "4": None,
            "5": "4",
        }
        assert (rows["1"]["status"], rows["1"]["tries"], rows["1"]["attempts"]) == ("pending", 0, 3)
        assert rows["4"]["status"] == "failed"
        claim = ledger.claim("ship-0")
        assert (claim.task, claim.number) == ("1", 4)
        assert carry_out(Command(name="retry"), ledger).said == "retried: task 4"
        again = carry_out(Command(name="retry"), ledger)
        assert (again.done, "no task" in again.said) == (True, True)


@pytest.mark.parametrize(
    ("state", "tasks", "done", "said"),
    [
        ("running", ("9", "1"), False, "has no task 9"),
        ("failed", (), True, "retried: task 1"),
        ("paused", ("1",), True, "is paused; resume with: ocaptain sail --resume"),
        ("running", ("2",), True, "no task of"),
        ("complete", (), False, "it is complete"),
        ("verifying", (), False, "it is verifying"),
        ("sunk", ("1",), False, "it is sunk"),
    ],
)
def test_what_a_retry_is_answered_with(tmp_path, state, tasks, done, said):
    with make(tmp_path / "ledger.db", {"1": frozenset(), "2": frozenset()}) as ledger:
        fail_for_good(ledger, "1")
        if state == "paused":
            ledger.pause("user")
        ledger.set_state(state)
        answer = carry_out(Command(name="retry", tasks=tasks), ledger)
        assert (answer.done, said in answer.said) == (done, True), answer
        assert ledger.voyage().state == ("running" if state == "failed" else state)


def test_a_task_is_tried_again_while_its_voyage_sails(tmp_path, ships):
    """A captain at work takes it up at once; its voyage is complete in the end."""
    good, go = tmp_path / "good", tmp_path / "go"
    tasks = [{"run": f"test -e {good} && echo 1 > a"}, {"run": f"until test -e {go}; do sleep 0.1; done; echo 2 > b"}]
    directory, fleet = make_voyage(tmp_path, tasks, 2), ships(2)

    async def meanwhile(captain):
        while not captain.ledger.count_tasks()["failed"]:
            await asyncio.sleep(0.02)
        good.touch()
        assert (await asyncio.to_thread(ask, directory, Command(name="retry"))).said == "retried: task 1"
        while not captain.ledger.count_tasks()["completed"]:
            await asyncio.sleep(0.02)
        go.touch()

    assert asyncio.run(sail(directory, fleet, meanwhile=meanwhile)) == "complete"
    assert landed(directory) == ["1", "2"]


def test_a_captain_ends_when_it_is_told_and_another_goes_on(tmp_path, ships):
    go = tmp_path / "go"
    directory = make_voyage(tmp_path, [{"run": f"until test -e {go}; do sleep 0.1; done; echo 1 > a"}], 1)
    fleet = ships(1)

    async def meanwhile(captain):
        while not captain.ledger.count_tasks()["in_progress"]:
            await asyncio.sleep(0.02)
        assert (await asyncio.to_thread(ask, directory, Command(name="stop"))).done

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(sail(directory, fleet, meanwhile=meanwhile))
    go.touch()
    assert stop_captain(directory)  # none runs: done
    assert asyncio.run(sail(directory, fleet)) == "complete"
    with Ledger(directory / "ledger.db") as ledger:
        assert [row["number"] for row in ledger.rows("attempts", "token")] == [1]


@pytest.mark.parametrize(("state", "said"), [("running", "approved: task 1"), ("verifying", "it is verifying")])
def test_a_captain_that_cannot_write_or_does_not_know_is_no_refusal(tmp_path, monkeypatch, state, said):
    directory = tmp_path / VOYAGE
    directory.mkdir()
    with make(directory / "ledger.db", {"1": frozenset()}, hold=("1",)) as ledger:
        ledger.set_state(state)
    started = []
    monkeypatch.setattr(process, "start_captain", started.append)
    monkeypatch.setattr(process, "stop_captain", lambda _: lock.release())
    approve = Command(name="approve", tasks=("1",))

    def full(_):
        raise LedgerUnwritable("ledger.db cannot be written: disk is full")

    async def answers():
        async with listening(directory, full):
            with pytest.raises(OcaptainError, match="disk is full") as failed:
                await asyncio.to_thread(ask, directory, PAUSE)
            assert failed.value.exit_code == 1

    async def an_earlier_version():
        async def serve(reader, writer):
            await reader.readline()
            known = lock.is_held  # it is stopped then
            writer.write(b'{"done": false, "said": "this captain does not know that command"}\n' if known else b"")
            writer.close()

        async with await asyncio.start_unix_server(serve, str(directory / "control.sock")):
            return await asyncio.to_thread(ask, directory, approve)

    with process.Lock(process.captain_lock_path(directory)) as lock:
        assert lock.acquire()
        asyncio.run(answers())
        assert said in asyncio.run(an_earlier_version()).said
    assert started == [directory]


@pytest.mark.parametrize(
    ("given", "name"),
    [({}, "retry"), ({"tasks": ("1",)}, "retry"), ({"any_ship": True}, "change"), ({"model": "m"}, "change")],
)
def test_a_retry_that_changes_tasks_is_a_command_that_no_earlier_captain_takes(given, name):
    assert _retry_command(RetryArguments(**given)).name == name
    with pytest.raises(ValidationError):
        Command(name="retry", of_a_later_version=True)


def test_where_a_captain_listens(tmp_path):
    with socket_path(Path("/short") / VOYAGE) as path:
        assert path == Path("/short") / VOYAGE / "control.sock"
    directory = tmp_path / ("x" * 200) / ("y" * 200) / VOYAGE
    directory.mkdir(parents=True)
    with socket_path(directory) as path:
        path.touch()
    assert (directory / "control.sock").exists()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A system where a socket cannot be reached by an open directory; yields a long voyage directory."""
    monkeypatch.setattr(socket_location, "OPEN_DIRECTORIES", tmp_path / "nothing")
    directory = tmp_path / ("x" * 100) / VOYAGE
    directory.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="run-") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        yield directory


def test_a_private_place_is_found_again_without_the_environment(elsewhere, monkeypatch):
    runtime = Path(os.environ["XDG_RUNTIME_DIR"])
    with pytest.raises(FileNotFoundError), socket_path(elsewhere):
        pass

    async def listen_and_ask():
        async with listening(elsewhere, lambda command: Answer(done=True, said=command.name)):
            (private,) = runtime.iterdir()
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
            assert stat.S_IMODE((private / "control.sock").stat().st_mode) == 0o600
            monkeypatch.delenv("XDG_RUNTIME_DIR")  # by ssh, say, or by cron
            assert (await asyncio.to_thread(ask, elsewhere, PAUSE)).said == "pause"

    asyncio.run(listen_and_ask())
    assert list(runtime.iterdir()) == list(elsewhere.iterdir()) == []
    with socket_path(elsewhere, fresh=True) as path:  # one that was killed leaves it; the next one has its own
        path.touch()
    with socket_path(elsewhere, fresh=True) as again:
        assert again != path
        assert not path.parent.exists()
    socket_location.remove_private_directory(elsewhere)


@pytest.mark.parametrize("squatted", ["symlink", "open", "file", "foreign", "named"])
def test_a_place_that_is_not_ours_alone_is_not_used(elsewhere, squatted):
    with socket_path(elsewhere, fresh=True) as path:
        private = path.parent
    if squatted == "open":
        private.chmod(0o755)
    elif squatted == "foreign" and os.geteuid() == 0:
        os.chown(private, 12345, -1)
    elif squatted == "named":
        other = private.rename(private.with_name("other"))
        (elsewhere / socket_location.POINTER_NAME).write_text(str(other))
    else:
        private.rename(private.with_name("moved"))
        if squatted == "symlink":
            private.symlink_to("moved")
        else:
            private.touch(0o600)
    with pytest.raises(PermissionError), socket_path(elsewhere):
        pass
    socket_location.remove_private_directory(elsewhere)
    assert not (elsewhere / socket_location.POINTER_NAME).exists()


def test_no_place_is_short_enough(elsewhere, monkeypatch):
    monkeypatch.setattr(socket_location, "MAX_PATH_BYTES", 10)
    with pytest.raises(OcaptainError, match="XDG_RUNTIME_DIR"), socket_path(elsewhere, fresh=True):
        pass


@pytest.fixture
def far(sailor):
    """The same user, with voyages at the end of as long a path as may be: sockets and ledger must work there."""
    found = Sailor(sailor.home)
    found.move_far()
    yield found
    shutil.rmtree(found.voyages, ignore_errors=True)


def test_a_user_pauses_and_goes_on(far, plan):
    """`pause` ends at once with 0, a waiting `sail` with 4; `sail --resume` goes on."""
    chain = [run_task("until test -e ~/go; do sleep 0.2; done; echo 1 > a"), run_task("echo 2 > b", "1")]
    waiting = subprocess.Popen(
        [OCAPTAIN, "sail", plan(chain), "-n", "1", "--wait"],
        env=far.env,
        cwd=far.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until, voyage = time.monotonic() + 120, None
    known = {one.name for one in far.voyages.glob("voyage-*")}
    while voyage is None or far.json("status", voyage, "--json")["tasks"]["in_progress"] == 0:
        assert time.monotonic() < until
        assert waiting.poll() is None, waiting.stdout.read()
        time.sleep(0.3)
        voyage = next((one.name for one in far.voyages.glob("voyage-*") if one.name not in known), None)
    paused = far.run("pause", voyage)
    assert (paused.code, "1 task is finished first" in paused.out) == (0, True), paused.out + paused.err
    far.inside(f"{voyage}-ship-0", "touch ~/go")
    out, _ = waiting.communicate(timeout=240)
    assert waiting.returncode == 4, out
    assert f"resume with `ocaptain sail --resume {voyage}`" in out
    with Ledger(far.voyage(voyage) / "ledger.db") as ledger:
        assert (ledger.voyage().state, ledger.voyage().paused_reason) == ("paused", "user")
        assert ledger.count_tasks()["pending"] == 1
        brought = {row["path"]: row["data"] for row in ledger.rows("plan_files", "path")}
        assert brought.keys() == {"spec.md", "verify.sh", "voyage.json", "tasks/1.json", "tasks/2.json"}
        assert brought["verify.sh"] == ledger.voyage().verify_script
        assert json.loads(ledger.voyage().options) == {"ships": 1, "verify_on": "any"}
    assert "Bootstrap the ships …" in out
    assert "once more" not in out  # nothing was
    directory = far.voyage(voyage)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    directory.chmod(0o755)  # as an earlier version, or a copy, may have left it
    result = far.json("sail", "--resume", voyage, "--wait", "--json")
    assert result["state"] == "complete"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    refused = far.run("pause", voyage)
    assert (refused.code, len(refused.err.splitlines())) == (2, 1), refused.err
