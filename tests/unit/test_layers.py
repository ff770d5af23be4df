"""The shape of the source: small modules and functions, no circle, no agent's name outside its folder."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_MODULE = 400
MAX_FUNCTION = 60


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules():
    return {name_of(path): (path, ast.parse(path.read_text())) for path in sorted((ROOT / "ocaptain").rglob("*.py"))}


def imports(name):
    """Return every module of ours that is imported: for types and inside of functions, too."""
    found = set()
    for node in ast.walk(modules()[name][1]):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{one.name}" for one in node.names]
            found |= {one if one in modules() else node.module for one in whole}
    return (found & modules().keys()) - {name}


def circle(name, graph, way=()):
    """Return a way from a module back to itself, None if there is none."""
    if name in way:
        return [*way[way.index(name) :], name]
    if name in graph:
        below = graph[name]
        for one in below:
            if found := circle(one, graph, (*way, name)):
                return found
        del graph[name]  # no circle comes through it
    return None


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: sorted(imports(name)) for name in modules()}
    assert [found for name in list(graph) if (found := circle(name, graph))] == []


def test_a_circle_would_be_found():
    assert circle("a", {"a": ["b"], "b": ["c", "d"], "c": [], "d": ["b"]}) == ["b", "d", "b"]
    assert circle("a", {"a": ["b", "c"], "b": ["c"], "c": []}) is None


def test_no_module_is_long():
    long = {
        name: lines
        for name, (path, _) in modules().items()
        if (lines := len(path.read_text().splitlines())) > MAX_MODULE
    }
    assert long == {}


def test_no_function_is_long():
    long = {
        f"{name}.{node.name}": lines
        for name, (_, tree) in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := node.end_lineno - node.lineno + 1) > MAX_FUNCTION
    }
    assert long == {}


def strings(node):
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def compared(tree):
    """Yield each string that something is compared or matched with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from strings(node)
        elif isinstance(node, ast.MatchValue):
            yield from strings(node.value)


def looked_up(tree):
    """Yield each string that is a key of a table, or is looked up in one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            yield from (key.value for key in node.keys if isinstance(key, ast.Constant))
        elif isinstance(node, ast.Subscript):
            yield from strings(node.slice)


def test_outside_agents_nothing_depends_on_an_agents_name():
    agents = {path.parent.name for path in (ROOT / "ocaptain/agents").glob("*/adapter.py")}
    assert agents >= {"claude", "command"}
    found = {}
    for name, (_, tree) in modules().items():
        if not name.startswith("ocaptain.agents"):
            # Of tables, `command` is a field: of a check, and of an exec session.
            found[name] = agents & set(compared(tree)) | (agents - {"command"}) & set(looked_up(tree))
    assert {name: names for name, names in found.items() if names} == {}
