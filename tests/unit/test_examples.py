"""The plans of examples/ are sound, and what proves them does not pass before any work."""

from __future__ import annotations

import os
import subprocess

import pytest

from ocaptain.plan import load_plan
from tests.examples import NAMES, all_plans, make_repository, start_of


def names_of(directory):
    return f"{directory.parent.name}/{directory.name}"


@pytest.mark.parametrize("directory", all_plans(), ids=names_of)
def test_a_plan_has_no_fault_and_no_warning(directory):
    report = load_plan(directory)
    assert [str(one) for one in (*report.faults, *report.warnings)] == []
    assert report.plan.name == directory.name
    assert report.plan.manifest.recommended_ships >= 1
    assert (directory / "verify.sh").stat().st_mode & 0o111


@pytest.mark.parametrize("directory", all_plans(), ids=names_of)
def test_verify_fails_in_an_empty_repository(directory, tmp_path):
    make_repository(tmp_path / "empty", {})
    argv = ["bash", str(directory / "verify.sh")]
    done = subprocess.run(argv, cwd=tmp_path / "empty", capture_output=True, check=False, timeout=240)
    assert done.returncode not in {0, 126, 127}, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_no_check_passes_before_any_work(name, tmp_path):
    """At the start of the plan: a check that passes there proves nothing of its task."""
    (directory,) = (one for one in all_plans() if names_of(one) == f"generated-plans/{name}")
    start = start_of(name, tmp_path / "start")
    if start is None:
        start = tmp_path / "start"
        make_repository(start, {})
    tasks = load_plan(directory).plan.tasks
    # All at once: each of these processes only waits for Python to begin.
    lines = {"verify.sh": (directory / "verify.sh").read_text("utf-8")}
    lines |= {task.id: task.metadata.verify for task in tasks.values()}
    said = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    running = {
        which: subprocess.Popen(["bash", "-c", line], cwd=start, env=env, **said) for which, line in lines.items()
    }
    errors = {which: process.communicate(timeout=240)[1] for which, process in running.items()}
    assert {which: errors[which] for which, process in running.items() if process.returncode in {0, 126, 127}} == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_task_has_what_a_reader_should_learn(name):
    (directory,) = (one for one in all_plans() if names_of(one) == f"generated-plans/{name}")
    plan = load_plan(directory).plan
    for task in plan.tasks.values():
        assert task.description, task.id
        assert task.activeForm, task.id
        assert task.metadata.verify, task.id
        assert task.metadata.estimate, task.id
        assert task.metadata.run is None, task.id
