"""The agent's task list over real workers: it follows the ledger, agents cannot spoil it, and it decides nothing."""

from __future__ import annotations

import asyncio
import json
import sys

from ocaptain.ledger import task_views
from tests.voyage import claude
from tests.voyage.local import VOYAGE, landed, make_voyage, sail

#: What the agents run: it waits until the list is as it should be, then does harm to it.
TOOLS = """import json, os, pathlib, subprocess, sys, time
home = pathlib.Path(os.environ["HOME"])
folder = home / ".claude/tasks" / os.environ.get("CLAUDE_CODE_TASK_LIST_ID", "none")
def read():
    try:
        files = [json.loads(path.read_text()) for path in folder.glob("[!.]*.json")]
    except (OSError, ValueError):  # it is being mended
        return {}
    return {one["id"]: (one["status"], one.get("owner")) for one in files if "_internal" not in one["metadata"]}
def wait(name, check):
    until = time.monotonic() + 60
    while not check(read()) and time.monotonic() < until:
        time.sleep(0.02)
    with open(home / "seen.jsonl", "a") as seen:
        seen.write(json.dumps([name, read()]) + "\\n")
def write(task, **fields):
    (folder / f"{task}.json").write_text(json.dumps({**json.loads((folder / "3.json").read_text()), **fields}))
def ask(tool, **given):
    settings = json.loads((home / ".ocaptain/claude/attempt.json").read_text())
    (group,) = settings["hooks"]["PreToolUse"]
    call = json.dumps({"tool_name": tool, "tool_input": given})
    done = subprocess.run(["sh", "-c", group["hooks"][0]["command"]], input=call, capture_output=True, text=True)
    with open(home / "asked.jsonl", "a") as asked:
        asked.write(json.dumps([done.returncode, done.stderr]) + "\\n")
"""
#: Task 2 is another ship's, and lands meanwhile; 3 waits for 1.
FIRST = [
    "wait('begun', lambda seen: seen.get('1') == ('in_progress', 'ship-0') and '3' in seen)",
    "wait('landed', lambda seen: seen.get('2', ('',))[0] == 'completed')",
    "right = read()",
    "write('3', status='completed'); wait('marked', lambda seen: seen == right)",
    "[path.unlink() for path in folder.iterdir()]; wait('deleted', lambda seen: seen == right)",
    "write('9', id='9'); wait('created', lambda seen: seen == right)",
    "ask('TaskUpdate', taskId='3', status='completed'); ask('TaskCreate', subject='s'); ask('TaskUpdate', taskId='1')",
    "write('1', id='1', status='completed', owner='ship-0')",
    "(home / 'one').touch(); wait('killed', lambda seen: (home / 'two').exists() and len(seen) == 3)",
]


def seen(ship):
    return dict(map(json.loads, (ship.home / "seen.jsonl").read_text().splitlines()))


def agents(ship, lines):
    """Return a play that runs lines of Python, and leaves a file."""
    (ship.home / "tools.py").write_text(TOOLS)
    (ship.home / "run.py").write_text("\n".join(["from tools import *", *lines]))
    return claude.turn("done", sh=f"{sys.executable} $HOME/run.py; echo $OCAPTAIN_TASK_ID > f$OCAPTAIN_TASK_ID")


def fleet_with(ships, lines):
    """Return two ships; the agents of the first one do what ``lines`` say."""
    fleet = ships(2)
    for ship, said in zip(fleet, (lines, ["pass"]), strict=True):
        play = agents(ship, said)
        claude.install(ship.home, {"1": play, "2": play, "3": claude.turn("done", sh="echo 3 > f3")})
    return fleet


def plan(tmp_path, choice):
    tasks = [{"pin": "ship-0"}, {"pin": "ship-1"}, {"pin": "ship-0", "waits": ["1"]}]
    return make_voyage(
        tmp_path, [{"agent": "claude", **task} for task in tasks], 2, options={"task_list": choice} if choice else {}
    )


def test_an_agent_sees_the_plan_and_cannot_spoil_it(tmp_path, ships):
    fleet = fleet_with(ships, FIRST)
    directory, (ship, _) = plan(tmp_path, "on"), fleet
    views = {}

    async def meanwhile(captain):
        while not (ship.home / "one").exists():
            await asyncio.sleep(0.02)
        views.update({view.id: (view.status, view.attempt) for view in task_views(captain.ledger)})
        ship.cut()  # no captain can help now
        ship.kill()
        for path in (ship.home / ".claude/tasks" / VOYAGE).glob("[!1]*.json"):
            path.unlink()
        ship.start()
        (ship.home / "two").touch()
        while "killed" not in seen(ship):
            await asyncio.sleep(0.02)
        ship.down = False

    assert asyncio.run(sail(directory, fleet, seconds=180, meanwhile=meanwhile)) == "complete"
    shown = seen(ship)
    right = {"1": ["in_progress", "ship-0"], "2": ["completed", "ship-1"], "3": ["pending", None]}
    assert [shown[name] for name in ("landed", "marked", "deleted", "created")] == [right] * 4
    assert shown["killed"] == {**right, "1": ["completed", "ship-0"]}  # its own mark, which decides nothing:
    assert views == {"1": ("in_progress", 1), "2": ("completed", 1), "3": ("pending", 0)}
    asked = [json.loads(line) for line in (ship.home / "asked.jsonl").read_text().splitlines()]
    assert [code for code, _ in asked] == [2, 2, 0]
    assert "Task 3 is not yours" in asked[0][1]
    assert "no agent adds to" in asked[1][1]
    assert "TaskList" in claude.calls(ship.home)[0]["prompt"]
    assert landed(directory) == ["2", "1", "3"]
    assert not (ship.home / ".claude/tasks" / VOYAGE / "9.json").exists()


def test_a_headless_run_gets_no_list_unless_it_is_asked_for(tmp_path, ships):
    fleet = fleet_with(ships, ["(home / 'env').write_text(str(sorted(os.environ)))"])
    directory, (ship, _) = plan(tmp_path, None), fleet
    assert asyncio.run(sail(directory, fleet)) == "complete"
    assert "TASK_LIST" not in (ship.home / "env").read_text()
    assert not (ship.home / ".claude/tasks").exists()
    assert "hooks" not in json.loads((ship.home / ".ocaptain/claude/attempt.json").read_text())
    assert "TaskList" not in claude.calls(ship.home)[0]["prompt"]
