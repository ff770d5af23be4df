"""Claude Code's task list on a ship: where its files are, what stands in them, and what an agent may change.

::

    ~/.claude/tasks/<voyage>/N.json        a file a task; `ocaptain.worker.task_list` keeps them as they should be
    ~/.claude/tasks/<voyage>/_ocaptain.json   a task that nobody sees and that never ends
    ~/.ocaptain/claude/attempt.json        gets a hook, task_list_hook.py, that refuses changes of others' tasks

Measured with 2.1.330: each call of a task tool reads the files anew, so a change here is seen at once. TaskUpdate is no
claim: it takes another's task without a word. A session in a terminal deletes all files 5 s after the last task is
completed, unless a pending task is left: hence the hidden one. The models of 5.5 have no task tools unless
``CLAUDE_CODE_ENABLE_TODO_TOOLS`` is set.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping

from ocaptain.agents.claude.ship.own import find_problems
from ocaptain.protocol.files import read_json, write_atomic

CLAUDE_DIRECTORY = ".ocaptain/claude"
HOOK = "task_list_hook.py"
#: No plan's task has this id: theirs begin with a letter or a digit.
SENTINEL = "_ocaptain"
STATUSES = frozenset(("pending", "in_progress", "completed"))
#: The hook's own limit is far below the CLI's, after which the CLI would let the call through.
HOOK_SECONDS, CLI_SECONDS = 30, 120
TOOLS = "TaskCreate|TaskUpdate"


def list_folder(home: Path, voyage: str) -> Path:
    """Return the directory of a voyage's list; it is the CLI's own choice, and need not exist.

    Args:
        home: home directory of the worker.
        voyage: id of the voyage, which is the list's name.
    """
    configured = (read_json(home / CLAUDE_DIRECTORY / "env.json") or {}).get("CLAUDE_CONFIG_DIR")
    return Path(configured or Path(os.environ.get("HOME") or home) / ".claude") / "tasks" / voyage


def list_files(tasks: Iterable[Mapping[str, Any]]) -> Dict[str, bytes]:
    """Return the files of a list: content by name.

    Args:
        tasks: entries, with the fields that the CLI knows.
    """
    hidden = {
        "id": SENTINEL,
        "subject": "kept by ocaptain",
        "description": "As long as a task is open, the CLI deletes none.",
        "status": "pending",
        "blocks": [],
        "blockedBy": [],
        "metadata": {"_internal": True},
    }
    return {file_name(str(task["id"])): _json(task) for task in (*tasks, hidden)}


def file_name(task: str) -> str:
    """Return the name of a task's file."""
    return f"{task}.json"


def is_task_file(name: str) -> bool:
    """Whether the CLI takes a file of this name for a task; others are locks and its own notes."""
    return name.endswith(".json") and not name.startswith(".")


def judge_own(wanted: bytes, found: bytes) -> bytes:
    """Return what is to stand in the file of the agent's own task: status, texts and metadata are the agent's.

    Args:
        wanted: the file as the captain would have it.
        found: the file as it is.
    """
    right: Dict[str, Any] = json.loads(wanted)
    try:
        task = json.loads(found)
    except (ValueError, RecursionError):
        return wanted
    if not isinstance(task, dict):
        return wanted
    right.update({key: task[key] for key in ("description", "activeForm") if isinstance(task.get(key), str)})
    if isinstance(task.get("status"), str) and task["status"] in STATUSES:
        right["status"] = task["status"]
    if isinstance(task.get("metadata"), dict) and "_internal" not in task["metadata"]:
        right["metadata"] = task["metadata"]
    try:
        return found if task == right else _json(right)
    except RecursionError:  # nested so deep that it can be read, and not written
        return wanted


def _json(task: Mapping[str, Any]) -> bytes:
    return json.dumps(task, ensure_ascii=False).encode("utf-8", "replace")


def prepare(home: Path, env: Mapping[str, str]) -> Dict[str, str]:
    """Add the hook and the list's variables to our settings for this attempt; return the variables.

    Args:
        home: home directory of the worker.
        env: environment of the CLI, with ``OCAPTAIN_VOYAGE`` and ``OCAPTAIN_TASK_ID``.

    Raises:
        OSError: our settings are missing, or the CLI would reject them.
    """
    own = home / CLAUDE_DIRECTORY
    program = own / HOOK
    write_atomic(program, (files("ocaptain.agents.claude.ship") / HOOK).read_bytes(), 0o600)
    added = {"CLAUDE_CODE_TASK_LIST_ID": env["OCAPTAIN_VOYAGE"], "CLAUDE_CODE_ENABLE_TODO_TOOLS": "1"}
    path = own / "attempt.json"
    settings = read_json(path)
    if not isinstance(settings, dict):
        raise OSError(f"{path} is missing, or is not valid JSON")
    hooks: Dict[str, List[Any]] = dict(settings.get("hooks") or {})
    hooks["PreToolUse"] = [*hooks.get("PreToolUse", []), hook_group(program, env["OCAPTAIN_TASK_ID"])]
    settings = {**settings, "hooks": hooks, "env": {**settings.get("env", {}), **added}}
    settings.pop("disableAllHooks", None)  # ours must run
    if wrong := find_problems(settings):
        raise OSError(f"{path} cannot be used: {'; '.join(wrong)}")
    write_atomic(path, json.dumps(settings, indent=2).encode(), 0o600)
    return added


def hook_group(program: Path, task: str) -> Dict[str, Any]:
    """Return the hook for the settings. It fails closed: a call goes through only if the program says so.

    The CLI lets a call through if a hook fails in any other way than by exit code 2 (measured: exit 1, a missing
    program, a timeout).

    Args:
        program: path of the hook's program.
        task: id of the agent's own task.
    """
    words = ["timeout", str(HOOK_SECONDS), sys.executable, "-I", "-S", str(program), task]
    unknown = "ocaptain could not check this change of the task list, so it was not made; go on without it"
    line = f"{shlex.join(words)} || {{ [ $? = 2 ] || echo {shlex.quote(unknown)} >&2; exit 2; }}"
    return {"matcher": TOOLS, "hooks": [{"type": "command", "command": line, "timeout": CLI_SECONDS}]}
