"""The plan as the agent's own task list: what is sent, what stands on the ship, what an agent may change of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocaptain.agents import ADAPTERS, Briefing
from ocaptain.agents.claude.ship import task_list as agent
from ocaptain.agents.claude.ship.task_list_hook import refusal_reason
from ocaptain.captain.decide import task_list as decide
from ocaptain.captain.ship import task_list as sending
from ocaptain.captain.ship.task_list import TaskBoard, TaskListSender
from ocaptain.options import TASK_LISTS
from ocaptain.protocol import MAX_LINE, decode_line, encode_line
from ocaptain.protocol.envelope import TaskList, pack, unpack
from ocaptain.worker import task_list as keeping
from ocaptain.worker.places import Places
from ocaptain.worker.task_list import TaskListKeeper, look_after
from tests.helpers import REPO, wait_for

VOYAGE = "voyage-0000000f1157"


def task(number, status="pending", **more):
    return {
        "id": str(number),
        "subject": f"Do {number}",
        "description": "",
        "status": status,
        "blocks": [],
        "blockedBy": [],
        **more,
    }


def entry(number, status="pending", **more):
    return {"metadata": {}, **task(number, status), **more}


# -- what is sent -----------------------------------------------------------------------------


@pytest.mark.parametrize("choice", TASK_LISTS)
@pytest.mark.parametrize("has_list", [True, False])
@pytest.mark.parametrize("is_watched", [True, False])
def test_who_gets_the_list(choice, has_list, is_watched):
    kept = decide.is_list_kept(choice, has_list=has_list, is_watched=is_watched)
    assert kept is (has_list and {"on": True, "off": False, "auto": is_watched}[choice])


#: A task's file, and what its entry has otherwise.
ENTRIES = {
    "as it is": (task(1, owner="ship-0", activeForm="Doing"), {"owner": "ship-0", "activeForm": "Doing"}),
    "at work, by its ship": (
        task(1, "in_progress", owner="ship-1"),
        {"status": "in_progress", "owner": "ship-1", "activeForm": "ship-1: Do 1"},
    ),
    "edges": (task(1, blocks=["2"], blockedBy=["0"]), {"blocks": ["2"], "blockedBy": ["0"]}),
    "failed is no status": (task(1, "failed"), {"status": "pending", "subject": "Do 1 (failed)"}),
    "others' fields": (task(1, x_note=1, title="t"), {}),
    "cannot hide itself": (
        task(1, metadata={"_internal": True, "verify": "make"}),
        {"metadata": {"verify": "make"}},
    ),
    "long texts": (
        task(1, description="x" * 2001, metadata={"run": "y" * 500, "ok": "y" * 498}),
        {"description": "x" * 2000 + "…", "metadata": {"ok": "y" * 498}},
    ),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_task_becomes_an_entry(name):
    given, otherwise = ENTRIES[name]
    assert decide.list_entry(given) == {**entry(1), **otherwise}


def test_only_what_changed_is_sent():
    sent = {str(n): entry(n) for n in range(3)}
    now = {**sent, "1": entry(1, "completed"), "3": entry(3)}
    assert decide.changed_entries(sent, sent) == []
    assert decide.changed_entries(sent, now) == [entry(1, "completed"), entry(3)]
    assert decide.changed_entries(now, sent) is None  # one of them is no more


def test_a_long_list_goes_in_messages_that_a_worker_reads():
    assert decide.split_list([], whole=False) == []
    assert decide.split_list([], whole=True) == [TaskList((), whole=True)]
    long = [entry(n, description="\N{SNOWMAN}" * 2000) for n in range(200)]
    messages = decide.split_list(long, whole=True)
    assert [one for message in messages for one in message.tasks] == long
    assert [message.whole for message in messages] == [True] + [False] * (len(messages) - 1)
    assert [message.more for message in messages] == [True] * (len(messages) - 1) + [False]
    lines = [encode_line(pack(message)) for message in messages]
    assert len(lines) > 5
    assert max(map(len, lines)) < MAX_LINE / 8
    assert [unpack(decode_line(line)) for line in lines] == messages


def test_the_oddest_plan_goes_in_lines_that_a_worker_reads():
    odd = "\ud800\N{PILE OF POO}\0\x1b" * 300_000
    metadata = {odd: 1, "deep": odd, "": 2, **{f"\ud800{number}": "\N{PILE OF POO}" * 400 for number in range(20_000)}}
    given = task(1, "in_progress", owner="ship-0", subject=odd, description=odd, activeForm=odd, metadata=metadata)
    lines = [encode_line(pack(one)) for one in decide.split_list([decide.list_entry(given)] * 9, whole=True)]
    assert max(map(len, lines)) < MAX_LINE / 8
    (entries,) = {json.dumps(one) for line in lines for one in unpack(decode_line(line)).tasks}
    (name,) = (one for one in agent.list_files([json.loads(entries)]) if not one.startswith("_"))
    assert name == "1.json"


def test_a_ship_at_work_is_sent_what_changed_and_no_other(monkeypatch):
    monkeypatch.setattr(sending, "GATHER_SECONDS", 0.0)
    sent: list[TaskList] = []

    class Channel:
        async def send(self, message):
            sent.append(message)

    async def settle():
        for _ in range(20):
            await asyncio.sleep(0)

    async def play():
        board, channel = TaskBoard(), Channel()
        board.update({"1": task(1), "2": task(2)})
        sender = TaskListSender(board)
        await settle()
        assert sent == []  # it has nothing to do
        sender.begin(channel)
        await settle()
        assert sent == [TaskList((entry(1), entry(2)), whole=True)]
        board.update({"2": task(2)})
        await settle()
        assert len(sent) == 1, "nothing changed"
        board.update({"1": task(1, "in_progress")})
        board.update({"2": task(2, "completed")})
        await settle()
        assert sent[1:] == [TaskList((entry(1, "in_progress"), entry(2, "completed")))]
        sender.end()
        board.update({"1": task(1, "completed")})
        await settle()
        assert len(sent) == 2
        sender.begin(channel)  # the next attempt brings what it missed
        await settle()
        assert sent[2:] == [TaskList((entry(1, "completed"),))]
        sender.begin(Channel())  # another channel: what of the last one arrived is not known
        await settle()
        assert sent[3:] == [TaskList((entry(1, "completed"), entry(2, "completed")), whole=True)]
        sender.end()

    asyncio.run(play())


# -- what an agent may change -----------------------------------------------------------------

#: Calls, and whether they are refused to the agent of task 3.
CALLS = {
    "its own": ("TaskUpdate", {"taskId": "3", "status": "completed", "metadata": {"a": 1}}, False),
    "its own, taken": ("TaskUpdate", {"taskId": "3", "owner": "me", "status": "in_progress"}, False),
    "its own, deleted": ("TaskUpdate", {"taskId": "3", "status": "deleted"}, True),
    "its own, before another's": ("TaskUpdate", {"taskId": "3", "addBlocks": ["4"]}, True),
    "its own, after another's": ("TaskUpdate", {"taskId": "3", "addBlockedBy": ["4"]}, True),
    "its own, with no change of the order": ("TaskUpdate", {"taskId": "3", "addBlocks": [], "addBlockedBy": []}, False),
    "another's": ("TaskUpdate", {"taskId": "4", "status": "completed"}, True),
    "another's, of a like name": ("TaskUpdate", {"taskId": "03"}, True),
    "nobody's": ("TaskUpdate", {"status": "completed"}, True),
    "the hidden one": ("TaskUpdate", {"taskId": agent.SENTINEL, "status": "completed"}, True),
    "a new one": ("TaskCreate", {"subject": "s", "description": "d"}, True),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_refused_with_the_reason(name):
    tool, given, refused = CALLS[name]
    reason = refusal_reason(tool, given, "3")
    assert (reason is not None) is refused
    if reason:
        assert "3" in reason


def run_hook(line, call):
    return subprocess.run(
        ["sh", "-c", line], input=call, capture_output=True, text=True, check=False, timeout=60, cwd="/"
    )


def test_the_hook_fails_closed(tmp_path):
    """By the line that the CLI runs: whatever is wrong with the program or the call, it is refused."""
    program = tmp_path / "it's a hook.py"
    program.write_bytes((REPO / "ocaptain/agents/claude/ship/task_list_hook.py").read_bytes())
    line = agent.hook_group(program, "3")["hooks"][0]["command"]
    own = json.dumps({"tool_name": "TaskUpdate", "tool_input": {"taskId": "3"}})
    assert (run_hook(line, own).returncode, run_hook(line, own).stderr) == (0, "")
    other = run_hook(line, own.replace('"3"', '"4"'))
    assert other.returncode == 2
    assert other.stderr.startswith("Task 4 is not yours")
    assert "could not check" not in other.stderr
    for broken in ("", "[]", "{}", own[:-5], '{"tool_name": "TaskUpdate", "tool_input": 3}'):
        assert run_hook(line, broken).returncode == 2, broken
    for content in (
        "import sys; sys.exit(1)",
        "raise SystemExit(77)",
        "import os; os.kill(os.getpid(), 9)",
        "syntax error",
    ):
        program.write_text(content)
        done = run_hook(line, own)
        assert (done.returncode, "could not check" in done.stderr) == (2, True), content
    program.unlink()
    assert run_hook(line, own).returncode == 2
    gone = line.replace(sys.executable, "/nowhere/python3")
    assert run_hook(gone, own).returncode == 2


def test_settings_get_hook_and_variables_beside_what_is_there(tmp_path):
    own = tmp_path / agent.CLAUDE_DIRECTORY
    own.mkdir(parents=True)
    theirs = {"matcher": "Bash", "hooks": [{"type": "command", "command": "true"}]}
    before = {"env": {"A": "1"}, "hooks": {"PreToolUse": [theirs], "Stop": [theirs]}, "availableModels": ["m"]}
    (own / "attempt.json").write_text(json.dumps({**before, "disableAllHooks": True}))
    env = {"OCAPTAIN_VOYAGE": VOYAGE, "OCAPTAIN_TASK_ID": "3"}
    added = agent.prepare(tmp_path, env)
    assert added == {"CLAUDE_CODE_TASK_LIST_ID": VOYAGE, "CLAUDE_CODE_ENABLE_TODO_TOOLS": "1"}
    after = json.loads((own / "attempt.json").read_text())
    assert after == {
        **before,
        "env": {"A": "1", **added},
        "hooks": {"PreToolUse": [theirs, agent.hook_group(own / agent.HOOK, "3")], "Stop": [theirs]},
    }
    assert (own / agent.HOOK).is_file()
    (own / "attempt.json").write_text("{")
    with pytest.raises(OSError, match=r"attempt\.json is missing, or is not valid JSON"):
        agent.prepare(tmp_path, env)
    (own / "attempt.json").write_text('{"hooks": {"PreToolUse": ["what the CLI does not take"]}}')
    with pytest.raises(OSError, match="cannot be used: hooks of PreToolUse"):
        agent.prepare(tmp_path, env)


def test_the_adapter_names_the_list_only_where_it_is_kept():
    for kept in (True, False):
        briefing = Briefing("v", "ship-0", 1, task(1), "", session="s", task_list=kept)
        run = ADAPTERS["claude"].build_run(briefing)
        assert run.task_list == (agent.__name__ if kept else None)
        assert not any("TASK_LIST" in name for name in run.env)


# -- what stands on the ship ------------------------------------------------------------------


def shown(folder):
    """Return the tasks that the CLI would show, by id."""
    read = [json.loads(path.read_text()) for path in folder.glob("[!.]*.json")]
    return {one["id"]: one for one in read if not one["metadata"].get("_internal")}


class Ship:
    """A keeper, and the folder that it keeps."""

    def __init__(self, home, monkeypatch):
        monkeypatch.setenv("HOME", str(home))
        self.places = Places(home)
        self.places.make()
        self.keeper = TaskListKeeper(self.places)
        self.folder = home / ".claude/tasks" / VOYAGE

    def look(self, own="2"):
        self.keeper._look(agent, self.folder, own)

    def change(self, number, **fields):
        path = self.folder / f"{number}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def ship(tmp_path, monkeypatch):
    found = Ship(tmp_path, monkeypatch)
    found.keeper.take(TaskList((entry(1), entry(2, "in_progress", owner="ship-0"), entry(3)), whole=True))
    found.keeper.begin(agent.__name__, VOYAGE)
    return found


RIGHT = {"1": entry(1), "2": entry(2, "in_progress", owner="ship-0"), "3": entry(3)}


def test_the_list_stands_as_the_cli_reads_it(ship):
    assert shown(ship.folder) == RIGHT
    hidden = json.loads((ship.folder / f"{agent.SENTINEL}.json").read_text())
    assert (hidden["status"], hidden["metadata"]) == ("pending", {"_internal": True})
    assert sorted(path.name for path in ship.folder.iterdir()) == ["1.json", "2.json", "3.json", "_ocaptain.json"]


def replace(path, make):
    path.rename(path.with_name("away"))
    make(path)


#: What an agent does to the folder of the list.
HARM = {
    "marks another's as done": lambda ship: ship.change(1, status="completed"),
    "takes another's": lambda ship: ship.change(3, owner="me"),
    "deletes one": lambda ship: (ship.folder / "3.json").unlink(),
    "deletes its own": lambda ship: (ship.folder / "2.json").unlink(),
    "deletes all": lambda ship: [path.unlink() for path in ship.folder.iterdir()],
    "deletes the hidden one": lambda ship: (ship.folder / "_ocaptain.json").unlink(),
    "ends the hidden one": lambda ship: ship.change("_ocaptain", status="completed"),
    "creates one": lambda ship: (ship.folder / "4.json").write_text(json.dumps(entry(4))),
    "creates half of one": lambda ship: (ship.folder / "4.json").write_text('{"id": "4", "sub'),
    "leaves half of one": lambda ship: (ship.folder / "1.json").write_text('{"id": "1", "sub'),
    "leaves half of its own": lambda ship: (ship.folder / "2.json").write_text('{"id": "2", "sub'),
    "empties its own": lambda ship: (ship.folder / "2.json").write_text("[]"),
    "nests its own": lambda ship: (ship.folder / "2.json").write_text("[" * 100_000),
    "fills one": lambda ship: (ship.folder / "1.json").write_bytes(b" " * 2_000_000),
    "renumbers its own": lambda ship: ship.change(2, id="7", subject="mine", owner="me", blocks=["1"]),
    "hides its own": lambda ship: ship.change(2, metadata={"_internal": True}),
    "gives its own no status": lambda ship: ship.change(2, status="deleted"),
    "puts a folder in one's place": lambda ship: replace(ship.folder / "1.json", lambda at: os.makedirs(at / "x")),
    "puts a pipe in its own's place": lambda ship: replace(ship.folder / "2.json", os.mkfifo),
    "puts a link in one's place": lambda ship: replace(ship.folder / "1.json", lambda at: at.symlink_to("2.json")),
    "swaps two": lambda ship: os.rename(ship.folder / "1.json", ship.folder / "3.json"),
    "moves the folder away": lambda ship: replace(ship.folder, lambda at: None),
    "puts a file in the folder's place": lambda ship: replace(ship.folder, Path.touch),
    "puts a file in the parent's place": lambda ship: replace(ship.folder.parent, Path.touch),
    "shuts the folder": lambda ship: ship.folder.chmod(0o500),
    "leaves a lock for ever": lambda ship: [(ship.folder / "1.json.lock").mkdir(), ship.change(1, status="completed")],
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_the_next_look_makes_it_right_again(name, ship):
    HARM[name](ship)
    ship.look()
    assert shown(ship.folder) == RIGHT
    assert json.loads((ship.folder / f"{agent.SENTINEL}.json").read_text())["status"] == "pending"


def test_no_depth_of_its_own_file_ends_the_looking(ship):
    own = json.dumps({**RIGHT["2"], "owner": "me", "metadata": {"a": "NESTED"}})
    for depth in range(850, 1010):
        (ship.folder / "2.json").write_text(own.replace('"NESTED"', '{"a":' * depth + "1" + "}" * depth))
        ship.change(1, status="completed")
        ship.look()
        assert json.loads((ship.folder / "1.json").read_text()) == RIGHT["1"], depth


def test_a_link_in_place_of_the_folder_costs_what_it_leads_to_nothing(ship, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "package.json").write_text("{}")
    ship.folder.rename(tmp_path / "away")
    ship.folder.symlink_to(other)
    ship.look()
    assert [path.name for path in other.iterdir()] == ["package.json"]
    assert not ship.folder.is_symlink()
    assert shown(ship.folder) == RIGHT


def test_what_it_marks_of_its_own_task_stays_until_the_attempt_ends(ship):
    marks = {"status": "completed", "activeForm": "Doing", "metadata": {"a": [1]}, "description": "of mine"}
    ship.change(2, **marks)
    written = (ship.folder / "2.json").read_bytes()
    for _ in range(2):
        ship.look()
        assert (ship.folder / "2.json").read_bytes() == written  # not even rewritten
    ship.keeper.take(TaskList((entry(2, "in_progress", owner="ship-0", blocks=["3"]), entry(1, "completed"))))
    ship.look()
    assert shown(ship.folder) == {
        **RIGHT,
        "1": entry(1, "completed"),
        "2": {**RIGHT["2"], **marks, "blocks": ["3"]},
    }
    ship.keeper.begin(agent.__name__, VOYAGE)  # the next attempt
    assert shown(ship.folder)["2"] == {**RIGHT["2"], "blocks": ["3"]}


def test_a_list_is_replaced_a_part_is_not_shown_before_its_last(ship):
    ship.keeper.take(TaskList((entry(8),), whole=True, more=True))
    ship.look()
    assert shown(ship.folder) == RIGHT
    ship.keeper.take(TaskList((entry(2), entry(9))))
    ship.look()
    ship.keeper.begin(agent.__name__, VOYAGE)
    assert shown(ship.folder) == {"8": entry(8), "2": entry(2), "9": entry(9)}
    ship.keeper.take(TaskList((entry(9, "completed"),)))
    ship.look()
    assert sorted(shown(ship.folder)) == ["2", "8", "9"]
    again = TaskListKeeper(ship.places)  # the worker is started again, its captain is away
    (ship.folder / "8.json").unlink()
    again._look(agent, ship.folder, "2")
    assert shown(ship.folder) == {"8": entry(8), "2": entry(2), "9": entry(9, "completed")}


def test_a_look_at_a_right_list_writes_and_reads_no_file(ship, monkeypatch):
    wanted, known = agent.list_files(RIGHT.values()), {}
    look_after(ship.folder, agent, wanted, "2.json", known)
    before = {path: path.stat().st_ctime_ns for path in ship.folder.iterdir()}
    monkeypatch.setattr(keeping, "_read", lambda *_: pytest.fail("it was read"))
    assert look_after(ship.folder, agent, wanted, "2.json", known) == []
    assert {path: path.stat().st_ctime_ns for path in ship.folder.iterdir()} == before


def test_what_cannot_be_written_is_tried_again(ship, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    (ship.folder / "1.json").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(keeping, "_write", full)
        ship.look()
        ship.look()
    assert capsys.readouterr().err.count("Traceback") == 1
    ship.look()
    assert shown(ship.folder) == RIGHT


def test_it_looks_while_an_attempt_runs_and_never_otherwise(ship, monkeypatch):
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.01)
    attempt = ship.places.attempts / "5"
    attempt.mkdir()
    (attempt / "task.json").write_text('{"id": "2"}')
    (attempt / "job.json").write_text(json.dumps({"task_list": agent.__name__}))
    lost = ship.folder / "1.json"

    async def until(there):
        while lost.exists() is not there:
            await asyncio.sleep(0.01)

    async def play():
        async with ship.keeper.kept(attempt, VOYAGE):
            for _ in range(3):
                lost.unlink()
                await until(True)
        looks = []
        monkeypatch.setattr(ship.keeper, "_look", lambda *_: looks.append(1))
        (attempt / "job.json").write_text("{}")  # an agent that shows no list
        async with ship.keeper.kept(attempt, VOYAGE):
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
        assert looks == []

    asyncio.run(asyncio.wait_for(play(), 30))


WRITER = """import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from ocaptain.agents.claude.ship import task_list as agent
from ocaptain.worker.task_list import look_after
folder = Path({folder!r})
print("begun", flush=True)
for number in range(10**9):
    tasks = [{{"id": str(n), "subject": f"{{number}} " * 2000, "description": "", "status": "pending", "blocks": [],
              "blockedBy": [], "metadata": {{}}}} for n in range(4)]
    look_after(folder, agent, agent.list_files(tasks), None, {{}})
"""


def test_a_worker_that_is_killed_at_any_moment_leaves_whole_files(tmp_path):
    folder, chance = tmp_path / "tasks" / VOYAGE, random.Random(7)
    names = {f"{one}.json" for one in ("0", "1", "2", "3", agent.SENTINEL)}
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER.format(root=str(REPO), folder=str(folder))], stdout=subprocess.PIPE
        )
        assert writer.stdout.readline() == b"begun\n"
        wait_for(lambda: folder.is_dir() and names <= set(os.listdir(folder)), 20)
        time.sleep(chance.random() * 0.02)
        writer.send_signal(signal.SIGKILL)
        writer.wait(20)
        writer.stdout.close()
        seen = {path.name: json.loads(path.read_text()) for path in folder.glob("[!.]*")}
        assert seen.keys() == names
        assert len([name for name in os.listdir(folder) if name.startswith(".")]) <= 1
    look_after(folder, agent, agent.list_files([entry(1)]), None, {})
    assert sorted(os.listdir(folder)) == ["1.json", f"{agent.SENTINEL}.json"]
