"""A plan's task graph as text and as Mermaid: pure functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ocaptain.plan.graph import waves
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from collections.abc import Set as AbstractSet

_MAX_LABEL = 80
#: What Mermaid takes for its own in a label between quotes.
_SPECIAL = re.compile(r"[^\w .,:/()'+-]")


def tree_lines(graph: Mapping[str, AbstractSet[str]], critical: Collection[str]) -> list[tuple[str, str, str]]:
    """Return the graph as a tree: for each line its branches (``├─ ``), the task, and what else it waits for.

    Each task has one line: below the task that it waits for last, which is the one on the critical path if there is
    one, else the deepest.

    Args:
        graph: what each task waits for; without a cycle.
        critical: the tasks of the critical path.
    """
    depth = waves(graph)
    place = {task: at for at, task in enumerate(graph)}
    parents = {
        task: max(waits, key=lambda one: (one in critical, depth[one], -place[one]))
        for task, waits in graph.items()
        if waits
    }
    children: dict[str | None, list[str]] = {}
    for task in graph:
        children.setdefault(parents.get(task), []).append(task)
    lines: list[tuple[str, str, str]] = []
    stack = [(task, "", "") for task in reversed(children.get(None, []))]
    while stack:
        task, own, below = stack.pop()
        others = [one for one in graph if one in graph[task] and one != parents.get(task)]
        lines.append((own, task, f"also after {', '.join(others)}" if others else ""))
        later = children.get(task, [])
        for number, one in reversed(list(enumerate(later))):
            is_last = number == len(later) - 1
            stack.append((one, f"{below}{'└─ ' if is_last else '├─ '}", f"{below}{'   ' if is_last else '│  '}"))
    return lines


def mermaid(graph: Mapping[str, AbstractSet[str]], subjects: Mapping[str, str], critical: Collection[str]) -> str:
    """Return the graph as a Mermaid flowchart; the critical path has thick borders.

    Args:
        graph: what each task waits for.
        subjects: of the tasks.
        critical: the tasks of the critical path.
    """
    names = {task: f"t{number}" for number, task in enumerate(graph)}
    lines = ["flowchart TD"]
    lines += [f'  {names[task]}["{_label(task)} · {_label(subjects[task])}"]' for task in graph]
    lines += [f"  {names[one]} --> {names[task]}" for task in graph for one in graph if one in graph[task]]
    if marked := [names[task] for task in graph if task in critical]:
        lines += ["  classDef critical stroke-width:3px", f"  class {','.join(marked)} critical"]
    return "\n".join(lines)


def _label(text: str) -> str:
    """Return text of others as it may stand in a label: what Mermaid or a page could act upon is a numbered entity."""
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", clean_line(text, _MAX_LABEL))
