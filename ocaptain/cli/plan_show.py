"""``plan new``, ``plan show`` and ``plan graph``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from ocaptain.cli import render, style
from ocaptain.cli.facts import counted
from ocaptain.cli.next_step import after_command
from ocaptain.paths import expand_home
from ocaptain.plan import critical_paths, dependency_graph, estimate_seconds, known_estimates, load_plan
from ocaptain.plan.drawing import mermaid, tree_lines
from ocaptain.plan.graph import heaviest_chain, waves
from ocaptain.plan.skeleton import make_plan
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ocaptain.plan import Plan, Task

#: Marks the tasks of the critical path.
CRITICAL = "◆"


def make_new(directory: Path) -> None:
    """Make a new plan and name its files.

    Raises:
        UsageError: something is there already.
        OcaptainError: it cannot be written.
    """
    place = expand_home(directory)
    out = render.out()
    for path in make_plan(place.absolute()):
        out.print(str(place / path))
    render.print_next(after_command("plan new", place=place))


def show_plan(directory: Path, *, as_json: bool) -> None:
    """Show a plan.

    Raises:
        UsageError: it has errors.
    """
    place = expand_home(directory)
    plan = load_plan(place).require_plan(place)
    shown = plan_as_dict(plan)
    if as_json:
        render.print_json("plan_show", shown)
        return
    console = render.out()
    for line in plan_lines(shown, None if console.is_plain else console.width):
        console.print(line)
    render.print_next(after_command("plan show", place=place))


def draw_plan(directory: Path, form: str) -> None:
    """Print a plan's graph as ``text`` or as ``mermaid``.

    Raises:
        UsageError: it has errors.
    """
    place = expand_home(directory)
    plan = load_plan(place).require_plan(place)
    graph = dependency_graph(plan.tasks)
    chain = critical_path(plan)
    console = render.out()
    if form == "mermaid":
        console.print(mermaid(graph, {task.id: task.subject for task in plan.tasks.values()}, chain))
        return
    width = None if console.is_plain else console.width
    for branches, task, others in tree_lines(graph, chain):
        mark = f"{CRITICAL} " if task in chain else ""
        before = branches if width is None else shorten(branches, width // 2)
        console.print(_with_note(f"{before}{mark}{task}  ", plan.tasks[task].subject, others, width))
    if len(chain) > 1:
        console.print(f"{CRITICAL} critical path: {len(chain)} of {len(plan.tasks)} tasks")
    render.print_next(after_command("plan graph", place=place))


def shorten(branches: str, width: int) -> str:
    """Return what stands before a task in the tree; of a deep tree only the end, so that the task has room."""
    return branches if len(branches) <= width else f"…{branches[len(branches) - width + 1 :]}"


def plan_as_dict(plan: Plan) -> dict[str, Any]:
    """Return the documented JSON shape of what a plan is."""
    graph = dependency_graph(plan.tasks)
    wave_of = waves(graph)
    wave_list: dict[int, list[str]] = {}
    for task in graph:
        wave_list.setdefault(wave_of[task], []).append(task)
    chain = critical_path(plan)
    known = known_estimates(plan.tasks)
    is_estimated = bool(chain) and all(task in known for task in chain)
    manifest = plan.manifest
    return {
        "name": plan.name,
        "repo": manifest.repo,
        "branch": manifest.branch,
        "recommended_ships": manifest.recommended_ships,
        "setup": manifest.setup,
        "waves": [wave_list[number] for number in sorted(wave_list)],
        "critical_path": list(chain),
        "critical_seconds": sum(known[task] for task in chain) if is_estimated else None,
        "tasks": [
            _task_as_dict(task, wave_of[task.id], [one for one in graph if one in graph[task.id]])
            for task in plan.tasks.values()
        ],
    }


def _task_as_dict(task: Task, wave: int, waits: Sequence[str]) -> dict[str, Any]:
    about = task.metadata
    return {
        "id": task.id,
        "subject": task.subject,
        "status": task.status,
        "wave": wave,
        "waits": list(waits),
        "agent": about.agent or ("command" if about.run else None),
        "check": about.verify,
        "estimate_seconds": about.estimate.seconds if about.estimate else None,
        "pin": about.pin,
        "hold": bool(about.hold),
        "paths": list(about.paths),
    }


def critical_path(plan: Plan) -> tuple[str, ...]:
    """Return the open tasks of the heaviest chain, first to last: no fleet is faster than these."""
    open_tasks = {name: task for name, task in plan.tasks.items() if task.status != "completed"}
    graph = {
        name: waits & set(open_tasks) for name, waits in dependency_graph(plan.tasks).items() if name in open_tasks
    }
    return heaviest_chain(graph, critical_paths(graph, estimate_seconds(open_tasks)))


def plan_lines(shown: Mapping[str, Any], width: int | None) -> Iterator[str]:
    """Return what a plan is, for people.

    Args:
        shown: of :func:`plan_as_dict`.
        width: of the terminal; None = lines of any length.
    """
    tasks, chain = shown["tasks"], shown["critical_path"]
    checks = sum(1 for task in tasks if task["check"])
    yield _with_note(f"{counted(len(tasks), 'task')}, {checks} with a check of their own: ", shown["name"], "", width)
    seconds = shown["critical_seconds"]
    estimated = f", {style.format_seconds(seconds)} by their estimates" if seconds else ""
    facts = {
        "repository": shown["repo"] or "none: a new one, unless --repo names one",
        "branch": shown["branch"],
        "setup": shown["setup"],
        "ships": shown["recommended_ships"] and f"{shown['recommended_ships']} recommended",
        "critical path": f"{' → '.join(chain)} ({len(chain)} of {len(tasks)} tasks{estimated})" if chain else None,
    }
    for name, value in facts.items():
        if value:
            yield _with_note(f"  {name:<14}", str(value), "", width)
    by_id = {task["id"]: task for task in tasks}
    room = max((cell_len(name) for name in by_id), default=0)
    for number, wave in enumerate(shown["waves"], 1):
        yield ""
        yield f"wave {number} · {counted(len(wave), 'task')}"
        for name in wave:
            mark = CRITICAL if name in chain else " "
            yield _with_note(
                f"  {mark} {name:<{room}}  ", by_id[name]["subject"], ", ".join(_notes(by_id[name])), width
            )


def _notes(task: Mapping[str, Any]) -> Iterator[str]:
    if task["waits"]:
        yield f"after {', '.join(task['waits'])}"
    if task["status"] == "completed":
        yield "completed"
    if task["hold"]:
        yield "waits for approval"
    if task["pin"]:
        yield f"only {task['pin']}"
    if not task["check"]:
        yield "no check"


def _with_note(head: str, text: str, note: str, width: int | None) -> str:
    """Return a line: a head, text of others, and a note; of the two the text is cut first, to a third of the line."""
    if note:
        note = f"  ({clean_line(note) if width is None else style.fit(note, width // 2)})"
    if width is None:
        return f"{head}{clean_line(text)}{note}"
    return style.cut(
        f"{head}{style.fit(text, max(width // 3, width - style.cells(head) - style.cells(note)))}{note}", width
    )
