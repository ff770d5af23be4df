"""Plans: every fault is named, nothing raises, the graph is right."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.plan import critical_paths, dependency_graph, find_cycle, load_plan
from ocaptain.plan.models import ONE_SIDED, Finding, Task, group_findings
from ocaptain.plan.texts import MAX_JSON_BYTES
from tests.helpers import REPO, write_plan

FAULTS = [
    # (id, tasks as raw text by file name, part of the fault)
    ("cycle", {"1": {"blockedBy": ["2"]}, "2": {"blockedBy": ["1"]}}, "wait for each other"),
    ("cycle over both kinds of edge", {"1": {"blocks": ["2"]}, "2": {"blocks": ["1"]}}, "wait for each other"),
    ("self", {"1": {"blockedBy": ["1"]}}, "tasks/1.json: blockedBy[0]: the task refers to itself"),
    ("missing reference", {"1": {"blocks": ["9"]}}, 'tasks/1.json: blocks[0]: task "9" does not exist'),
    ("deleted reference", {"1": {"status": "deleted"}, "2": {"blockedBy": ["1"]}}, 'task "1" is deleted'),
    ("duplicate id", {"1": {}, "2": {"id": "1"}}, "tasks/2.json: id"),
    ("missing id", {"1": {"id": None}}, "tasks/1.json: id"),
    ("numeric id", {"1": {"id": 1}}, "write text in quotes"),
    ("path as id", {"1": {"id": "../../etc/passwd"}}, "not a path"),
    ("dots as id", {"1": {"id": ".."}}, "tasks/1.json: id"),
    ("unknown status", {"1": {"status": "done"}}, "pending, in_progress, completed or deleted"),
    ("no subject", {"1": {"subject": None}}, "tasks/1.json: subject"),
    ("subject of wrong type", {"1": {"subject": 7}}, "tasks/1.json: subject"),
    ("blocks of wrong type", {"1": {"blocks": "2"}}, "tasks/1.json: blocks"),
    ("block of wrong type", {"1": {"blocks": [2]}}, "tasks/1.json: blocks.0"),
    ("metadata of wrong type", {"1": {"metadata": []}}, "tasks/1.json: metadata"),
    ("run of wrong type", {"1": {"metadata": {"run": ["a"]}}}, "tasks/1.json: metadata.run"),
    ("check with a NUL", {"1": {"metadata": {"verify": "a\0b"}}}, "a shell line cannot contain a NUL byte"),
    ("timeout not positive", {"1": {"metadata": {"timeout": 0}}}, "tasks/1.json: metadata.timeout"),
    ("pin to no ship", {"1": {"metadata": {"pin": "../x"}}}, "tasks/1.json: metadata.pin"),
]


def lines(report):
    assert report.plan is None
    return [str(fault) for fault in report.faults]


def write_raw(directory: Path, tasks: dict[str, dict]) -> Path:
    write_plan(directory, [])
    for name, fields in tasks.items():
        whole = {"id": name, "subject": "x", **fields}
        whole = {key: value for key, value in whole.items() if value is not None}
        (directory / "tasks" / f"{name}.json").write_text(json.dumps(whole))
    return directory


@pytest.mark.parametrize(("tasks", "part"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_a_fault_names_file_field_and_remedy(tmp_path, tasks, part):
    found = lines(load_plan(write_raw(tmp_path, tasks)))
    assert any(part in line for line in found), found
    assert all("\n" not in line and "; " in line for line in found)


@pytest.mark.parametrize("missing", ["spec.md", "verify.sh"])
def test_a_missing_document_is_a_fault(plan, missing):
    directory = plan([{}])
    (directory / missing).unlink()
    assert any(line.startswith(f"{missing}: is missing") for line in lines(load_plan(directory)))


def test_missing_or_empty_tasks_are_a_fault(plan, tmp_path):
    assert any("holds no task" in line for line in lines(load_plan(plan([]))))
    directory = plan([{}], name="other")
    (directory / "tasks/1.json").unlink()
    (directory / "tasks").rmdir()
    assert any(line.startswith("tasks: is missing") for line in lines(load_plan(directory)))
    assert lines(load_plan(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("")
    assert "is not a directory" in lines(load_plan(tmp_path / "file"))[0]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe", "not valid UTF-8"),
        (b'{"id": "1", "subject": NaN}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_broken_task_file_is_a_fault(plan, content, part):
    directory = plan([{}])
    (directory / "tasks/2.json").write_bytes(content)
    assert any(line.startswith("tasks/2.json") and part in line for line in lines(load_plan(directory)))


def test_a_task_file_that_is_too_large_is_a_fault(plan):
    directory = plan([{}])
    with (directory / "tasks/2.json").open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    assert any(line.startswith("tasks/2.json: is larger than") for line in lines(load_plan(directory)))


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"recommended_ships": 0}', '{"repo": 3}', '{"recommended_ships": "2"}']
)
def test_a_bad_manifest_is_a_fault(plan, content):
    directory = plan([{}])
    (directory / "voyage.json").write_text(content)
    assert all(line.startswith("voyage.json") for line in lines(load_plan(directory)))


def test_odd_files_are_no_traceback(plan):
    directory = plan([{}])
    os.mkfifo(directory / "tasks/2.json")
    (directory / "tasks/3.json").mkdir()
    (directory / "tasks/4.json").symlink_to("nowhere")
    found = lines(load_plan(directory))
    assert {line.split(":")[0] for line in found} == {"tasks/2.json", "tasks/3.json", "tasks/4.json"}


def test_every_fault_is_reported_at_once(plan):
    directory = plan([{"status": "x"}, {"subject": 1}])
    (directory / "spec.md").unlink()
    assert len(lines(load_plan(directory))) == 3


def test_what_the_format_allows(plan):
    tasks = [
        {"title": "A title", "subject": None, "status": "completed", "odd": {"kept": True}},
        {"blockedBy": ["1"], "status": "in_progress", "owner": "somebody"},
        {"status": "deleted"},
    ]
    tasks[0] = {key: value for key, value in tasks[0].items() if value is not None}
    directory = plan(tasks)
    first = json.loads((directory / "tasks/1.json").read_text())
    del first["subject"]
    (directory / "tasks/1.json").write_text(json.dumps(first))
    (directory / "tasks/.lock").write_text("")
    report = load_plan(directory)
    assert report.plan
    assert list(report.plan.tasks) == ["1", "2"]
    assert report.plan.tasks["1"].subject == "A title"
    assert report.plan.tasks["1"].as_dict()["odd"] == {"kept": True}
    assert any("does not name" in str(warning) for warning in report.warnings)


def test_ids_are_in_numeric_order(plan):
    report = load_plan(plan([{"id": name} for name in ("10", "9", "a", "1")]))
    assert report.plan
    assert list(report.plan.tasks) == ["1", "9", "10", "a"]


def test_a_missing_manifest_is_only_a_warning(plan):
    directory = plan([{}])
    (directory / "voyage.json").unlink()
    report = load_plan(directory)
    assert report.plan
    assert [warning.file for warning in report.warnings] == ["voyage.json"]


def test_the_digest_tells_plans_apart(plan):
    one, same, other = plan([{}], "a"), plan([{}], "b"), plan([{"description": "x"}], "c")
    digests = [load_plan(path).plan.digest() for path in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_the_examples_are_sound():
    for directory in (REPO / "examples/plans").iterdir():
        report = load_plan(directory)
        assert report.plan, report.faults
        assert not report.warnings
        assert len(report.plan.tasks) >= 8
        assert sum(1 for task in report.plan.tasks.values() if task.metadata.verify) >= 2


graphs = st.dictionaries(st.integers(0, 12).map(str), st.frozensets(st.integers(0, 12).map(str), max_size=4))


def closed(graph):
    names = set(graph) | {one for before in graph.values() for one in before}
    return {name: graph.get(name, frozenset()) - {name} for name in names}


@given(graphs)
def test_a_cycle_is_found_exactly_if_there_is_one(graph):
    graph = closed(graph)
    cycle = find_cycle(graph)
    # Kahn: what cannot be put in order stands on a cycle or behind one.
    left = dict(graph)
    while ready := [name for name, before in left.items() if not before & set(left)]:
        for name in ready:
            del left[name]
    assert bool(cycle) == bool(left)
    if cycle:
        for one, other in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            assert other in graph[one]
    else:
        lengths = critical_paths(graph)
        assert set(lengths) == set(graph)
        for name, before in graph.items():
            assert all(lengths[one] > lengths[name] for one in before)


def test_edges_are_the_union_of_both_ends():
    tasks = {
        "1": Task(id="1", subject="a", blocks=("3",)),
        "2": Task(id="2", subject="b"),
        "3": Task(id="3", subject="c", blockedBy=("2",)),
    }
    assert dependency_graph(tasks) == {"1": frozenset(), "2": frozenset(), "3": frozenset({"1", "2"})}


def test_dependencies_that_one_side_names_are_one_line_for_people():
    same = [Finding(f"tasks/{n}.json", "blockedBy", f'"1" does not name "{n}" in blocks', ONE_SIDED) for n in range(41)]
    other = Finding("voyage.json", "", "is missing", "add one")
    assert group_findings([other, *same]) == [str(other), "41 tasks: blockedBy without blocks; it counts all the same"]
    assert group_findings(same[:3]) == [str(one) for one in same[:3]]
