"""The work of the action ``tree``: write a tree of small files with modes, in one remote call.

The files are sent on stdin, so that their content is never in an argv; a small program on the host
compares, writes what differs (each file completely or not at all) and reports what it changed.
"""

from __future__ import annotations

import base64
import json
import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ocaptain.ansible.action import SpriteMissing
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.tree import TreeFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_TREE_BYTES = 16 * 1024 * 1024
REPLY_MARK = "OCAPTAIN-TREE:"
DEFAULT_PYTHON = "/usr/bin/python3"
NO_PYTHON = 127  # of a shell that did not find the program
STATES = ("present", "merged", "absent")

#: Runs on the ship: Python 3 and its standard library are all that it needs.
PROGRAM = """
import base64, json, os, stat, sys
job = json.load(sys.stdin)
root = os.path.expanduser(job["dest"])
changed = []
def differs(path, data, mode):
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) != mode:
            return True
        with open(path, "rb") as file:
            return file.read() != data
    except OSError:
        return True
def merge(old, new):
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: merge(old.get(key), value) for key, value in new.items()}}
def merged(path, data):
    try:
        with open(path, "rb") as file:
            raw = file.read()
        old = json.loads(raw)
    except (OSError, ValueError):
        return data
    new = merge(old, json.loads(data))
    return raw if new == old else (json.dumps(new, indent=2) + "\\n").encode()
for item in job["files"]:
    path = os.path.join(root, item["path"])
    if item["state"] == "absent":
        if os.path.lexists(path):
            changed.append(item["path"])
            job["check"] or os.unlink(path)
        continue
    data, mode = base64.b64decode(item["data"]), item["mode"]
    if item["state"] == "merged":
        data = merged(path, data)
    if not differs(path, data, mode):
        continue
    changed.append(item["path"])
    if job["check"]:
        continue
    os.makedirs(os.path.dirname(path), exist_ok=True)
    scratch = path + ".ocaptain-new"
    if os.path.lexists(scratch):
        os.unlink(scratch)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    os.chmod(scratch, mode)
    os.replace(scratch, path)
print("MARK" + json.dumps({"changed": changed}))
""".replace("MARK", REPLY_MARK)


def parse_files(items: Sequence[dict[str, Any]], read_src: Any) -> list[TreeFile]:
    """Parse the files of a task.

    Args:
        items: each has ``path``, ``mode`` (octal text), ``state``, and either ``content`` (text) or ``src``
            unless its state is ``absent``.
        read_src: returns the bytes of a ``src`` on the controller.

    Raises:
        UsageError: an item is wrong; names it.
    """
    files = []
    for number, item in enumerate(items):
        where = f"files[{number}]"
        path = str(item.get("path") or "")
        pure = PurePosixPath(path)
        if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
            raise UsageError(f"{where}.path: {path!r} must be relative and stay below dest")
        state = str(item.get("state") or "present")
        if state not in STATES:
            raise UsageError(f"{where}.state ({path}): {state!r} must be one of {', '.join(STATES)}")
        if state == "absent":
            files.append(TreeFile(path, state=state))
            continue
        if (item.get("content") is None) == (item.get("src") is None):
            raise UsageError(f"{where} ({path}): give either content or src")
        try:
            mode = int(str(item.get("mode", "0644")), 8)
        except ValueError:
            raise UsageError(f"{where}.mode: {item.get('mode')!r} is not octal") from None
        data = str(item["content"]).encode() if item.get("content") is not None else read_src(str(item["src"]))
        if state == "merged" and not _is_json_object(data):
            raise UsageError(f"{where} ({path}): only a JSON object can be merged")
        files.append(TreeFile(path, data, mode, state))
    if sum(len(file.data) for file in files) > MAX_TREE_BYTES:
        raise UsageError(f"the files are larger than {MAX_TREE_BYTES // 2**20} MB in total: a tree is for small files")
    return files


def _is_json_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def build_payload(dest: str, files: Sequence[TreeFile], *, check: bool) -> bytes:
    """Build the input of the program."""
    listed = [{**vars(file), "data": base64.b64encode(file.data).decode()} for file in files]
    return json.dumps({"dest": dest, "check": check, "files": listed}).encode()


def parse_reply(stdout: str) -> list[str] | None:
    """Parse the program's output; return the changed paths, None if it has no valid reply (other output is ignored)."""
    for line in stdout.splitlines():
        _, mark, rest = line.partition(REPLY_MARK)
        if mark:
            try:
                return [str(path) for path in json.loads(rest)["changed"]]
            except (ValueError, KeyError, TypeError):
                return None
    return None


def python_interpreter(host_vars: Mapping[str, Any], template: Callable[[Any], Any]) -> str:
    """Return the host's Python by its variables: the configured, else the discovered, else the default one.

    Args:
        host_vars: the host's variables.
        template: renders a value that is a template.
    """
    named = str(template(host_vars.get("ansible_python_interpreter")) or "")
    if named and not named.startswith("auto"):
        return named
    return str((host_vars.get("ansible_facts") or {}).get("discovered_interpreter_python") or DEFAULT_PYTHON)


def send_files(action: Any, task_vars: Mapping[str, Any], dest: str, files: Sequence[TreeFile]) -> dict[str, Any]:
    """Write files on an action's host; return the task's result.

    Args:
        action: the action plugin, whose connection is used.
        task_vars: the variables of its task.
        dest: directory that the paths are relative to.
        files: the files.

    Raises:
        OcaptainError: they were not written; the message contains nothing of their content.
    """
    python = python_interpreter(task_vars, action._templar.template)  # noqa: SLF001 - as Ansible's own actions do
    try:
        done = action._low_level_execute_command(  # noqa: SLF001 - how actions reach their host
            f"{shlex.quote(python)} -c {shlex.quote(PROGRAM)}",
            in_data=build_payload(dest, files, check=action.check),
            executable="/bin/sh",
        )
    except SpriteMissing:
        if not action.check:
            raise
        done = {"rc": NO_PYTHON}
    changed = parse_reply(done["stdout"]) if done["rc"] == 0 else None
    if action.check and done["rc"] == NO_PYTHON:  # what is to be made, or to get its Python, has no file yet
        changed = [file.path for file in files if file.state != "absent"]
    if changed is None:
        output = (done["stderr"] or done["stdout"] or "no reply").strip()[-500:]
        raise OcaptainError(f"the files below {dest} were not written (exit {done['rc']}): {output}")
    diff = [{"before_header": path, "after_header": path, "before": "", "after": "(differs)\n"} for path in changed]
    return {"changed": bool(changed), "paths": changed, "diff": diff}
