"""Read and check a plan. Every fault names file, field and remedy; none is raised."""

from __future__ import annotations

import codecs
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ocaptain.errors import UsageError
from ocaptain.plan import keys
from ocaptain.plan.graph import dependency_graph, find_cycle
from ocaptain.plan.keys import find_order_keys, find_suspect_keys
from ocaptain.plan.models import ONE_SIDED, Finding, Manifest, Plan, Task
from ocaptain.plan.texts import (
    MAX_JSON_BYTES,
    MAX_TEXT_BYTES,
    Unreadable,
    decode_text,
    find_odd_values,
    has_half_character,
    judge_script,
    parse_json,
    rare_program,
)
from ocaptain.text import clean_line, plain_reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

_REMEDIES = {
    "string_type": "write text in quotes",
    "literal_error": "use pending, in_progress, completed or deleted",
    "string_pattern_mismatch": "use letters, digits, - and _ (not a path)",
    "missing": "add it",
    "string_too_short": "write something, or leave the field out",
    "string_too_long": "make it shorter; a description may be long",
}


@dataclass(frozen=True)
class Report:
    """The result of checking a plan.

    Attributes:
        plan: the plan, None if it has any fault.
        faults: errors, with which it cannot be sailed.
        warnings: problems with which it can be sailed.
        tasks: those that could be read, also of a plan with faults.
    """

    plan: Plan | None
    faults: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    tasks: tuple[Task, ...] = ()

    def require_plan(self, directory: Path) -> Plan:
        """Return the plan.

        Args:
            directory: where it is, for the message.

        Raises:
            UsageError: it has faults; names all of them.
        """
        if self.plan is None:
            raise UsageError(f"the plan {directory} has errors:", [str(fault) for fault in self.faults])
        return self.plan


class _Reader:
    """Collects findings while files are read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.files: dict[str, bytes] = {}  # what was read
        self.faults: list[Finding] = []
        self.warnings: list[Finding] = []

    def read_bytes(self, name: str, remedy: str, limit: int = MAX_TEXT_BYTES) -> bytes | None:
        """Return a file's content; None, and a fault, if it cannot be read."""
        try:
            # Not blocking: a FIFO in a plan must not hang the check.
            fd = os.open(self._directory / name, os.O_RDONLY | os.O_NONBLOCK)
            with os.fdopen(fd, "rb") as file:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    self.faults.append(Finding(name, "", "is not a regular file", remedy))
                    return None
                data = file.read(limit + 1)
        except FileNotFoundError:
            self.faults.append(Finding(name, "", "is missing", remedy))
        except OSError as error:
            self.faults.append(Finding(name, "", f"cannot be read: {error.strerror}", remedy))
        else:
            if len(data) <= limit:
                self.files[name] = data
                return data
            self.faults.append(Finding(name, "", f"is larger than {limit} bytes", "make it smaller"))
        return None

    def read_text(self, name: str, remedy: str, limit: int = MAX_TEXT_BYTES) -> str | None:
        """Return the text of a UTF-8 file; None, and a fault, if it has none."""
        data = self.read_bytes(name, remedy, limit)
        if data is None:
            return None
        try:
            return decode_text(data)
        except Unreadable as error:
            self.faults.append(Finding(name, error.field, error.problem, error.remedy))
            return None

    def read_object(self, name: str, remedy: str) -> dict[str, object] | None:
        """Return the object of a JSON file; None, and a fault, if it has none."""
        text = self.read_text(name, remedy, MAX_JSON_BYTES)
        if text is None:
            return None
        try:
            found = parse_json(text)
        except Unreadable as error:
            self.faults.append(Finding(name, error.field, error.problem, error.remedy))
            return None
        if not isinstance(found, dict):
            self.faults.append(Finding(name, "", "is not a JSON object", "write {…} at the top"))
            return None
        odd = [Finding(name, where, *problem) for where, problem in find_odd_values(found)]
        self.faults += odd
        return None if odd else found

    def report_order_keys(self, name: str, within: str, found: Any, known: dict[str, bool]) -> set[str]:
        """Report keys by which other tools order tasks as faults; return them."""
        keys_found = find_order_keys(found, known) if isinstance(found, dict) else []
        for key, field in keys_found:
            remedy = f"use `{field}` of the task, a list of ids" if within else f"use `{field}`, a list of ids"
            problem = "orders tasks in other tools and is not read, so that the task would not wait"
            self.faults.append(Finding(name, f"{within}{key}", problem, f"{remedy}; a key of your own begins with x_"))
        return {key for key, _ in keys_found}

    def report_suspect_keys(
        self, name: str, within: str, found: Any, known: dict[str, bool], reported: Collection[str] = ()
    ) -> None:
        """Report keys that are probably wrong, and not ``reported`` yet, as faults or warnings."""
        asked = [key for key in found if key not in reported] if isinstance(found, dict) else []
        for suspect in find_suspect_keys(asked, known):
            field = f"{within}{suspect.key}"
            if suspect.closest is None:
                self.faults.append(Finding(name, field, "is not enforced by this version", "remove it"))
            elif suspect.is_fault:
                remedy = f"did you mean `{suspect.closest}`? A key of your own may begin with x_"
                self.faults.append(Finding(name, field, f"is not a key, and {suspect.how} `{suspect.closest}`", remedy))
            else:
                problem = f"is not a key, and {suspect.how} `{suspect.closest}`"
                self.warnings.append(Finding(name, field, problem, f"did you mean `{suspect.closest}`? It is ignored"))

    def report_invalid(self, name: str, error: ValidationError) -> None:
        """Report the validation errors of a model as faults."""
        for fault in error.errors(include_url=False):
            field = ".".join(str(part) for part in fault["loc"])
            given = fault["input"]
            shown = f" (it is {given!r:.60})" if isinstance(given, str | int | float | bool | None) else ""
            shown = "" if fault["type"] == "missing" else shown
            remedy = _REMEDIES.get(fault["type"], "correct it")
            if fault["type"] == "problem":
                remedy, shown = str(fault["ctx"]["remedy"]), ""
            said = plain_reason(fault["msg"])
            problem = said[:1].lower() + said[1:] + shown
            self.faults.append(Finding(name, field, problem, remedy))


def load_plan(directory: Path) -> Report:
    """Read and check the plan in ``directory``."""
    reader = _Reader(directory)
    problem = None
    try:
        if not stat.S_ISDIR(directory.stat().st_mode):
            problem = "is not a directory"
    except (FileNotFoundError, NotADirectoryError):
        problem = "does not exist"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem:
        return Report(None, (Finding(clean_line(str(directory), 200), "", problem, "name a plan's directory"),), ())
    if has_half_character(str(directory.resolve())):
        shown = os.fsencode(directory.resolve()).decode("utf-8", "replace")
        return Report(None, (Finding(shown, "", "is a path that is not valid UTF-8", "rename the directory"),), ())
    spec = reader.read_text("spec.md", "describe what should be built")
    verify = reader.read_bytes("verify.sh", "write the script that proves the work")
    prompt = reader.read_text("prompt.md.j2", "remove it") if os.path.lexists(directory / "prompt.md.j2") else None
    manifest = _load_manifest(directory, reader)
    if verify is not None:
        verify = verify.removeprefix(codecs.BOM_UTF8)
        _check_script(verify, reader, is_prepared=bool(manifest and manifest.setup))
    tasks, is_complete = _load_tasks(directory, reader)
    if is_complete:
        _check_references(tasks, reader)
    if reader.faults or spec is None or verify is None or manifest is None:
        return Report(None, tuple(reader.faults), tuple(reader.warnings), tuple(tasks))
    kept = {task.id: task for task in tasks if task.status != "deleted"}
    gone = {task.id for task in tasks} - set(kept)
    kept = {
        name: task.model_copy(update={"blocks": tuple(one for one in task.blocks if one not in gone)})
        for name, task in kept.items()
    }
    plan = Plan(manifest.name or directory.resolve().name, spec, verify, manifest, kept, prompt, reader.files)
    return Report(plan, (), tuple(reader.warnings), tuple(tasks))


def _check_script(verify: bytes, reader: _Reader, *, is_prepared: bool) -> None:
    if not verify.strip():
        reader.faults.append(Finding("verify.sh", "", "is empty", "write the script that proves the work"))
        return
    faults, warnings = judge_script(verify, is_prepared=is_prepared)
    reader.faults += [Finding("verify.sh", "", *problem) for problem in faults]
    reader.warnings += [Finding("verify.sh", "", *problem) for problem in warnings]


def _warn_rare_program(file: str, field: str, line: str | None, reader: _Reader) -> None:
    if line and (program := rare_program(line)):
        reader.warnings.append(Finding(file, field, f"begins with {program}, which a ship may lack", "use bash"))


def _load_manifest(directory: Path, reader: _Reader) -> Manifest | None:
    name = "voyage.json"
    if not os.path.lexists(directory / name):
        reader.warnings.append(Finding(name, "", "is missing", "add one to name repo and ships"))
        return Manifest()
    found = reader.read_object(name, "write a JSON object")
    if found is None:
        return None
    reader.report_suspect_keys(name, "", found, keys.MANIFEST_KEYS)
    reader.report_suspect_keys(name, "limits.", found.get("limits"), keys.LIMIT_KEYS)
    try:
        manifest = Manifest.model_validate(found)
    except ValidationError as error:
        reader.report_invalid(name, error)
        return None
    _warn_rare_program(name, "setup", manifest.setup, reader)
    return manifest


def _sort_key(name: str) -> tuple[int, int, str]:
    stem = name.removesuffix(".json")
    return (0, int(stem), name) if stem.isascii() and stem.isdigit() and len(stem) < 18 else (1, 0, name)


def _list_task_files(directory: Path, reader: _Reader) -> Iterable[str]:
    try:
        names = [one.name for one in (directory / "tasks").iterdir()]
    except OSError as error:
        problem = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        reader.faults.append(Finding("tasks", "", problem, "make the directory with one N.json a task"))
        return []
    files = []
    for name in names:
        if name.startswith("."):  # Claude Code's .lock and .highwatermark
            continue
        if not name.endswith(".json"):
            reader.warnings.append(Finding(f"tasks/{name!a}"[:80], "", "is not N.json", "it is ignored"))
            continue
        files.append(name)
    if not files:
        reader.faults.append(Finding("tasks", "", "holds no task", "add one N.json a task"))
    return sorted(files, key=_sort_key)


def load_task(path: Path) -> tuple[Task | None, tuple[Finding, ...], tuple[Finding, ...]]:
    """Read and check one task's file, wherever it is; return the task, faults and warnings."""
    reader = _Reader(path.parent)
    found = reader.read_object(path.name, "write a JSON object")
    task = None if found is None else _parse_task(path.name, found, reader)
    return None if reader.faults else task, tuple(reader.faults), tuple(reader.warnings)


def _parse_task(file: str, found: dict[str, object], reader: _Reader) -> Task | None:
    _report_keys(file, found, reader)
    try:
        return Task.model_validate(found)
    except ValidationError as error:
        reader.report_invalid(file, error)
        return None


def _load_tasks(directory: Path, reader: _Reader) -> tuple[list[Task], bool]:
    """Return the tasks that can be read, and whether these are all."""
    tasks: list[Task] = []
    origin: dict[str, str] = {}
    by_lower_case: dict[str, str] = {}
    names = list(_list_task_files(directory, reader))
    for name in names:
        file = f"tasks/{name}"
        found = reader.read_object(file, "write a JSON object")
        if found is None:
            continue
        task = _parse_task(file, found, reader)
        if task is None:
            continue
        if twin := by_lower_case.get(task.id.lower()):
            problem = f'"{task.id}" differs from the id of {twin} only in capitals'
            if task.id not in origin:
                reader.faults.append(Finding(file, "id", problem, "give each task its own id"))
                continue
        by_lower_case[task.id.lower()] = file
        if task.id.startswith(("voyage-", "ship-")):
            problem = f'"{task.id}" begins as a voyage or a ship does'
            reader.faults.append(Finding(file, "id", problem, "give it another id"))
            continue
        if task.id in origin:
            problem = f'"{task.id}" is also the id of {origin[task.id]}'
            reader.faults.append(Finding(file, "id", problem, "give each task its own id"))
            continue
        if name != f"{task.id}.json":
            reader.warnings.append(Finding(file, "id", f'is "{task.id}"', f"call the file {task.id}.json"))
        _warn_of_task(file, task, reader)
        origin[task.id] = file
        tasks.append(task)
    return tasks, len(tasks) == len(names)


def _report_keys(file: str, found: dict[str, object], reader: _Reader) -> None:
    metadata = found.get("metadata")
    of_order = reader.report_order_keys(file, "", found, keys.TASK_KEYS)
    reader.report_suspect_keys(file, "", found, keys.TASK_KEYS, of_order)
    of_order = reader.report_order_keys(file, "metadata.", metadata, keys.METADATA_KEYS)
    reader.report_suspect_keys(file, "metadata.", metadata, keys.METADATA_KEYS, of_order)
    for key in ("run", "verify"):
        if key in found:
            problem = "is read in metadata alone, and ignored here"
            reader.warnings.append(Finding(file, key, problem, f"write it as metadata.{key}"))


def _warn_of_task(file: str, task: Task, reader: _Reader) -> None:
    metadata = task.metadata
    _warn_rare_program(file, "metadata.run", metadata.run, reader)
    _warn_rare_program(file, "metadata.verify", metadata.verify, reader)


def _check_references(tasks: list[Task], reader: _Reader) -> None:
    by_id = {task.id: task for task in tasks}
    before = len(reader.faults)
    for task in tasks:
        file = f"tasks/{task.id}.json"
        for field, names in (("blocks", task.blocks), ("blockedBy", task.blockedBy)):
            for index, other in enumerate(names):
                where = f"{field}[{index}]"
                if other == task.id:
                    reader.faults.append(Finding(file, where, "the task refers to itself", "remove it"))
                elif other not in by_id:
                    problem = f'task "{other}" does not exist'
                    reader.faults.append(Finding(file, where, problem, "add that task or remove the reference"))
                elif by_id[other].status == "deleted" and task.status != "deleted":
                    problem = f'task "{other}" is deleted'
                    reader.faults.append(Finding(file, where, problem, "remove the reference"))
    if len(reader.faults) > before:
        return
    live = {task.id: task for task in tasks if task.status != "deleted"}
    _warn_one_sided_references(live, reader)
    cycle = find_cycle(dependency_graph(live))
    if cycle:
        chain = " waits for ".join([*cycle, cycle[0]])
        problem = f"the tasks wait for each other: {chain}"
        reader.faults.append(Finding(f"tasks/{cycle[0]}.json", "blockedBy", problem, "remove one of these edges"))


def _warn_one_sided_references(tasks: dict[str, Task], reader: _Reader) -> None:
    for task in tasks.values():
        for other in task.blocks:
            if task.id not in tasks[other].blockedBy:
                problem = f'"{other}" does not name "{task.id}" in blockedBy'
                reader.warnings.append(Finding(f"tasks/{task.id}.json", "blocks", problem, ONE_SIDED))
        for other in task.blockedBy:
            if task.id not in tasks[other].blocks:
                problem = f'"{other}" does not name "{task.id}" in blocks'
                reader.warnings.append(Finding(f"tasks/{task.id}.json", "blockedBy", problem, ONE_SIDED))
