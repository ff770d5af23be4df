"""A plan of a few tasks that were typed on the command line, for a repository that is there already.

    texts of tasks, command that proves them ──plan_of_tasks──> files of a plan ──write_plan──> directory ──> `sail`

The command is the user's (``--verify``), else what the repository itself names for its tests: :func:`guess_verify`.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.errors import UsageError
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MAX_TASKS = 100
_MAX_SUBJECT = 200
_MAX_NAME = 60
_MAX_READ = 1024 * 1024
#: What npm writes into a new package.json; it proves nothing.
_NO_TEST = "no test specified"


@dataclass(frozen=True)
class Verify:
    """The command that proves the work.

    Attributes:
        command: a shell line, run in a fresh clone of the merged work.
        setup: a shell line to run before it, None if nothing is needed.
        source: the file of the repository that names it, None if the user did.
    """

    command: str
    setup: str | None = None
    source: str | None = None


def plan_of_tasks(texts: Sequence[str], verify: Verify, max_ships: int) -> dict[str, str]:
    """Return the files of a plan, by path. Its tasks do not wait for each other.

    Args:
        texts: what is to be done, a task each; the first line is the task's subject.
        verify: proves that it is done.
        max_ships: how many ships sail if there are as many tasks.

    Raises:
        UsageError: a text is empty, or there are too many.
    """
    if len(texts) > MAX_TASKS:
        raise UsageError(f"--task was given {len(texts)} times; {MAX_TASKS} are possible, write a plan for more")
    tasks: dict[str, dict[str, object]] = {}
    for number, text in enumerate(texts, 1):
        subject = clean_line(text.strip().partition("\n")[0], _MAX_SUBJECT)
        if not subject:
            raise UsageError(f"--task {text!r}: say what is to be done")
        tasks[str(number)] = {
            "id": str(number),
            "subject": subject,
            "description": text.strip(),
            "status": "pending",
            "blocks": [],
            "blockedBy": [],
        }
    first = clean_line(str(tasks["1"]["subject"]), _MAX_NAME)
    name = first if len(tasks) == 1 else f"{first} (and {len(tasks) - 1} more)"
    manifest = {
        "name": name,
        "recommended_ships": min(len(tasks), max_ships),
        **({"setup": verify.setup} if verify.setup else {}),
    }
    wanted = "\n".join(f"{number}. {task['subject']}" for number, task in tasks.items())
    spec = (
        f"# {name}\n\nThe repository is there already; keep to its style. Several agents may be at work, a task each,"
        " in clones of their own: change only what your task needs.\n\n"
        f"## Tasks\n\n{wanted}\n\n## Proof\n\nThis command must pass in a fresh clone of the merged work:\n\n"
        + "".join(f"    {line}\n" for line in verify.command.splitlines())
    )
    return {
        "spec.md": spec,
        "verify.sh": f"#!/usr/bin/env bash\nset -euo pipefail\n{verify.command}\n",
        "voyage.json": json.dumps(manifest, indent=2, ensure_ascii=False) + "\n",
        **{
            f"tasks/{number}.json": json.dumps(task, indent=2, ensure_ascii=False) + "\n"
            for number, task in tasks.items()
        },
    }


def write_plan(directory: Path, files: Mapping[str, str | bytes]) -> None:
    """Write a plan's files into a directory, which is made if it does not exist.

    Raises:
        OSError: it cannot be written.
    """
    for path, content in files.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    script = directory / "verify.sh"
    script.chmod(script.stat().st_mode | 0o111)


def guess_verify(repository: Path) -> Verify | None:
    """Return the command that a repository names for its tests, None if it names none.

    Args:
        repository: its working tree.
    """

    def read(name: str) -> str | None:
        try:
            with (repository / name).open("rb") as file:
                return file.read(_MAX_READ).decode("utf-8", "replace")
        except OSError:
            return None

    for guess in (_of_make, _of_node, _of_python, _of_others):
        if found := guess(read):
            return found
    return None


def _of_make(read: Callable[[str], str | None]) -> Verify | None:
    for name in ("GNUmakefile", "makefile", "Makefile"):
        if (text := read(name)) is not None:
            for target in ("test", "check"):
                if re.search(rf"^{target}\s*:(?!=)", text, re.MULTILINE):
                    return Verify(f"make {target}", source=name)
            return None  # make reads no other
    return None


def _of_node(read: Callable[[str], str | None]) -> Verify | None:
    try:
        package = json.loads(read("package.json") or "{}")
        test = package.get("scripts", {}).get("test")
    except (ValueError, AttributeError, RecursionError):
        return None
    if not isinstance(test, str) or not test.strip() or _NO_TEST in test:
        return None
    return Verify("npm test", "npm ci" if read("package-lock.json") is not None else "npm install", "package.json")


def _of_python(read: Callable[[str], str | None]) -> Verify | None:
    try:
        tools = tomllib.loads(read("pyproject.toml") or "").get("tool", {})
    except (tomllib.TOMLDecodeError, RecursionError):
        tools = {}
    if isinstance(tools, dict) and "pytest" in tools:
        return Verify("python3 -m pytest", source="pyproject.toml")
    for name, section in (("pytest.ini", "[pytest]"), ("setup.cfg", "[tool:pytest]"), ("tox.ini", "[pytest]")):
        if section in (read(name) or ""):
            return Verify("python3 -m pytest", source=name)
    return None


def _of_others(read: Callable[[str], str | None]) -> Verify | None:
    for name, command in (("Cargo.toml", "cargo test"), ("go.mod", "go test ./...")):
        if read(name) is not None:
            return Verify(command, source=name)
    return None
