"""``plan new``, ``plan show`` and ``plan graph``."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ocaptain.cli.plan_show import critical_path, plan_as_dict, plan_lines, shorten
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.plan import load_plan
from ocaptain.plan.drawing import mermaid, tree_lines
from ocaptain.plan.skeleton import make_plan
from ocaptain.voyage.plan_check import check_whole_plan
from tests.helpers import OCAPTAIN, as_documented, write_plan

LONG = "界" * 200 + '\x1b]0;title\x07\u202e [red] "x"\n'


def plan_of(tmp_path, tasks, **voyage):
    return load_plan(write_plan(tmp_path / "plan", tasks, **voyage)).require_plan(tmp_path)


def run(*arguments, code=0):
    done = subprocess.run([OCAPTAIN, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done
    return done


# -- plan new -------------------------------------------------------------------------------------


def test_a_new_plan_has_no_fault_and_no_warning(tmp_path):
    directory = tmp_path / "my plan 界"
    assert make_plan(directory) == ["spec.md", "verify.sh", "voyage.json", "tasks/1.json", "tasks/2.json"]
    report = load_plan(directory)
    found = check_whole_plan(report, directory)
    assert (found.faults, found.warnings) == ((), ())
    assert report.plan is not None
    assert report.plan.name == "my plan 界"
    assert critical_path(report.plan) == ("1", "2")


def test_a_new_plan_s_gate_fails_before_the_work_and_passes_after_it(tmp_path):
    make_plan(tmp_path / "plan")
    work = tmp_path / "work"
    work.mkdir()
    verify = ["bash", tmp_path / "plan/verify.sh"]
    assert subprocess.run(verify, cwd=work, capture_output=True, check=False).returncode != 0
    (work / "hello.sh").write_text('echo "hello, ${1:-world}"\n')
    (work / "README.md").write_text("    $ sh hello.sh\n    hello, world\n")
    assert subprocess.run(verify, cwd=work, check=False).returncode == 0


def test_a_new_plan_fills_an_empty_directory_and_no_other(tmp_path):
    make_plan(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="not an empty directory"):
        make_plan(tmp_path)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UsageError, match="not an empty directory"):
        make_plan(tmp_path / "link")
    with pytest.raises(UsageError, match="is not a directory"):
        make_plan(tmp_path / "spec.md" / "plan")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_nothing_is_left_of_a_plan_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="cannot be read"):
        make_plan(tmp_path / ("x" * 300))
    monkeypatch.setattr("ocaptain.plan.skeleton.skeleton_files", lambda _: {"spec.md": "", "y" * 300: ""})
    with pytest.raises(OcaptainError, match="cannot be written"):
        make_plan(tmp_path / "plan")
    assert list(tmp_path.iterdir()) == []


def test_the_command_names_what_it_made_and_what_comes_next(tmp_path):
    directory = tmp_path / "plan"
    done = run("plan", "new", directory)
    assert done.stdout.splitlines()[0] == str(directory / "spec.md")
    assert f"ocaptain plan check {directory}" in done.stderr
    run("plan", "check", directory)
    assert "not an empty directory" in run("plan", "new", directory, code=2).stderr


# -- plan show ------------------------------------------------------------------------------------

DIAMOND = [
    {"subject": "Lay the keel", "metadata": {"verify": "true", "estimate": {"seconds": 60}}},
    {"subject": "Short way", "blockedBy": ["1"], "metadata": {"estimate": {"seconds": 10}}},
    {"subject": "Long way", "blockedBy": ["1"], "metadata": {"estimate": {"seconds": 300}, "pin": "ship-0"}},
    {"subject": "Launch", "blockedBy": ["2", "3"], "metadata": {"hold": True, "estimate": {"seconds": 60}}},
]


def test_show(tmp_path):
    plan = plan_of(tmp_path, DIAMOND, name="boat", repo="octocat/Hello-World", recommended_ships=2, setup="npm ci")
    assert "\n".join(plan_lines(plan_as_dict(plan), 80)) == (
        "4 tasks, 1 with a check of their own: boat\n"
        "  repository    octocat/Hello-World\n"
        "  setup         npm ci\n"
        "  ships         2 recommended\n"
        "  critical path 1 → 3 → 4 (3 of 4 tasks, 7 min by their estimates)\n"
        "\n"
        "wave 1 · 1 task\n"
        "  ◆ 1  Lay the keel\n"
        "\n"
        "wave 2 · 2 tasks\n"
        "    2  Short way  (after 1, no check)\n"
        "  ◆ 3  Long way  (after 1, only ship-0, no check)\n"
        "\n"
        "wave 3 · 1 task\n"
        "  ◆ 4  Launch  (after 2, 3, waits for approval, no check)"
    )


def test_completed_tasks_are_on_no_critical_path(tmp_path):
    tasks = [{**DIAMOND[0], "status": "completed"}, *DIAMOND[1:]]
    shown = plan_as_dict(plan_of(tmp_path, tasks))
    assert (shown["critical_path"], shown["critical_seconds"]) == (["3", "4"], 360)
    done = [{**task, "status": "completed"} for task in DIAMOND]
    assert plan_as_dict(plan_of(tmp_path, done))["critical_path"] == []


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_hostile_text_keeps_its_line(tmp_path, width):
    tasks = [{"subject": LONG}, {"subject": LONG, "blockedBy": ["1"]}]
    shown = plan_as_dict(plan_of(tmp_path, tasks, name=LONG[:900], repo=LONG[:3000]))
    for line in plan_lines(shown, width):
        assert cell_len(line) <= width
        assert not re.search("[\x00-\x1f\x7f\u202e]", line)


def test_show_and_graph_as_commands(tmp_path):
    directory = write_plan(tmp_path / "plan", DIAMOND)
    shown = as_documented(run("plan", "show", directory, "--json").stdout)
    assert shown["waves"] == [["1"], ["2", "3"], ["4"]]
    assert "wave 3 · 1 task" in run("plan", "show", directory).stdout
    assert run("plan", "graph", directory).stdout == (
        "◆ 1  Lay the keel\n├─ 2  Short way\n└─ ◆ 3  Long way\n   └─ ◆ 4  Launch  (also after 2)\n"
        "◆ critical path: 3 of 4 tasks\n"
    )
    assert "flowchart TD" in run("plan", "graph", directory, "--format", "mermaid").stdout
    (directory / "tasks/1.json").write_text("{")
    for verb in ("show", "graph"):
        assert "tasks/1.json" in run("plan", verb, directory, code=2).stderr


# -- the graph ------------------------------------------------------------------------------------

GRAPHS = (
    st.integers(0, 12)
    .flatmap(lambda size: st.tuples(*(st.sets(st.integers(0, at - 1) if at else st.nothing()) for at in range(size))))
    .map(lambda waits: {str(at): frozenset(map(str, before)) for at, before in enumerate(waits)})
)


@given(GRAPHS, st.sets(st.integers(0, 12).map(str)))
def test_a_tree_tells_each_task_and_each_edge_once(graph, critical):
    lines = tree_lines(graph, critical)
    assert sorted(task for _, task, _ in lines) == sorted(graph)
    depths = [len(branches) // 3 for branches, _, _ in lines]
    told = set()
    for at, (_, task, others) in enumerate(lines):
        told |= {(task, other) for other in others.removeprefix("also after ").split(", ") if other}
        if depths[at]:
            parent = next(lines[before][1] for before in reversed(range(at)) if depths[before] < depths[at])
            told.add((task, parent))
    assert told == {(task, one) for task, waits in graph.items() for one in waits}


@given(GRAPHS, st.text())
def test_no_subject_leaves_its_label(graph, subject):
    drawn = mermaid(graph, dict.fromkeys(graph, subject), ())
    labels = re.findall(r'^  t[0-9]+\["[^"\[\]<>{}|`&]*"\]$', drawn, re.MULTILINE)
    edges = re.findall(r"^  t[0-9]+ --> t[0-9]+$", drawn, re.MULTILINE)
    assert len(labels) == len(graph)
    assert len(edges) == sum(map(len, graph.values()))
    assert len(drawn.split("\n")) == 1 + len(labels) + len(edges)


def test_a_deep_tree_leaves_its_tasks_room():
    chain = {str(at): frozenset({str(at - 1)} if at else ()) for at in range(60)}
    for branches, task, _ in tree_lines(chain, ()):
        shown = shorten(branches, 40)
        assert cell_len(shown) <= 40
        assert shown.endswith("└─ ") or task == "0"
    assert shorten("│  └─ ", 6) == "│  └─ "
    assert shorten("   │  └─ ", 6) == "…  └─ "
