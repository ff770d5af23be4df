"""``sail --task``: the plan that is made of what was typed, and what a dry run says of it."""

from __future__ import annotations

import json
import subprocess

import pytest

from ocaptain.errors import UsageError
from ocaptain.plan import load_plan
from ocaptain.plan.from_tasks import MAX_TASKS, Verify, guess_verify, plan_of_tasks, write_plan
from tests.helpers import Sailor

SCRIPT = 'case "$OCAPTAIN_TASK_ID" in 1) echo > a;; 2) echo > b;; esac'


def test_a_plan_of_typed_tasks_is_a_plan(tmp_path):
    texts = ["Fix the failing test\n\nIt is tests/test_a.py.", "修复登录页面 \x1b[31m " + "long " * 100]
    write_plan(tmp_path / "plan", plan_of_tasks(texts, Verify("npm test\nnpm run lint", "npm ci"), 3))
    report = load_plan(tmp_path / "plan")
    assert (report.faults, report.warnings) == ((), ())
    plan = report.require_plan(tmp_path)
    assert (plan.manifest.setup, plan.manifest.recommended_ships) == ("npm ci", 2)
    assert plan.name == "Fix the failing test (and 1 more)"
    assert plan.tasks["1"].subject == "Fix the failing test"
    assert plan.tasks["1"].description == texts[0]
    assert len(plan.tasks["2"].subject) == 200
    assert plan.verify == b"#!/usr/bin/env bash\nset -euo pipefail\nnpm test\nnpm run lint\n"
    assert "    npm test\n    npm run lint\n" in plan.spec


@pytest.mark.parametrize("texts", [[""], ["a", " \n "], ["a"] * (MAX_TASKS + 1)])
def test_what_is_no_task_is_refused(texts):
    with pytest.raises(UsageError, match="--task"):
        plan_of_tasks(texts, Verify("true"), 3)


GUESSES = [
    ({"Makefile": "all: a\n\ntest: all\n\tpytest\n"}, Verify("make test", source="Makefile")),
    ({"Makefile": "check:\n\ttrue\n"}, Verify("make check", source="Makefile")),
    ({"Makefile": "test := x\n.PHONY: test\n"}, None),
    ({"makefile": "all:\n", "Makefile": "test:\n"}, None),
    ({"package.json": '{"scripts": {"test": "jest"}}'}, Verify("npm test", "npm install", "package.json")),
    (
        {"package.json": '{"scripts": {"test": "jest"}}', "package-lock.json": "{}"},
        Verify("npm test", "npm ci", "package.json"),
    ),
    ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, None),
    ({"package.json": '{"scripts": []}'}, None),
    ({"package.json": "[" * 100_000}, None),
    ({"package.json": "\ud800".encode("utf-8", "surrogatepass")}, None),
    ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, Verify("python3 -m pytest", source="pyproject.toml")),
    ({"pyproject.toml": "tool = 1\n", "setup.cfg": "[tool:pytest]\n"}, Verify("python3 -m pytest", source="setup.cfg")),
    ({"pyproject.toml": "[[["}, None),
    ({"Cargo.toml": ""}, Verify("cargo test", source="Cargo.toml")),
    ({"go.mod": "module x\n"}, Verify("go test ./...", source="go.mod")),
    ({"README.md": "make test"}, None),
]


@pytest.mark.parametrize(("files", "expected"), GUESSES)
def test_what_a_repository_says_of_its_tests(tmp_path, files, expected):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert guess_verify(tmp_path) == expected


def test_a_directory_in_place_of_a_file_names_nothing(tmp_path):
    (tmp_path / "Makefile").mkdir()
    assert guess_verify(tmp_path) is None


# -- a dry run, as a command ----------------------------------------------------------------------


@pytest.fixture
def sailor(tmp_path):
    (tmp_path / "home").mkdir()
    return Sailor(tmp_path / "home")


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "repository"
    path.mkdir()
    (path / "Makefile").write_text("test:\n\ttest -f a\n")
    identity = ["-c", "user.name=u", "-c", "user.email=u@x"]
    for argv in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *argv], cwd=path, check=True)
    return path


def test_a_dry_run_makes_nothing(sailor, repository):
    (repository / "below").mkdir()
    typed = ("--task", "Write a", "--task", "Write b", "--agent-cmd", SCRIPT)
    done = sailor.run("sail", *typed, "--dry-run", cwd=repository / "below")
    assert done.code == 0, done.err
    assert "verify: make test (by Makefile; another one: --verify CMD)" in done.err
    assert done.out.startswith("a new voyage would be made: 2 ships on drydock; nothing is made now\n")
    assert f"  repository    {repository}\n" in done.out
    assert "wave 1 · 2 tasks" in done.out
    assert "how long: not known, no task has an estimate" in done.out
    assert list(sailor.home.iterdir()) == []


def test_a_dry_run_tells_what_the_estimates_say(sailor, tmp_path):
    sailor.run("plan", "new", tmp_path / "plan")
    shown = sailor.json("sail", tmp_path / "plan", "--dry-run", "--agent-cmd", SCRIPT, "-n", 2, "--json")
    assert [ship["id"] for ship in shown["ships"]] == ["ship-0", "ship-1"]
    assert (shown["work_seconds"], shown["makespan_seconds"], shown["ship_seconds"]) == (120, 120, 240)
    assert shown["plan"]["critical_path"] == ["1", "2"]


def test_a_dry_run_needs_no_credential_but_says_that_sail_does(sailor, tmp_path):
    sailor.run("plan", "new", tmp_path / "plan")
    refused = "agent claude has no credential; set"
    shown = sailor.run("sail", tmp_path / "plan", "--dry-run", "--agent", "claude")
    assert shown.code == 0, shown.err
    assert f"  warning: `sail` would refuse this now: {refused}" in shown.out
    sailed = sailor.run("sail", tmp_path / "plan", "--agent", "claude")
    assert (sailed.code, refused in sailed.err) == (2, True), sailed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--task", "x"), "is not in a git repository"),
        (("--task", "x", "--repo", "REPOSITORY", "--verify", " "), "--verify is empty"),
        (("--task", "x", "plan"), "one of them"),
        (("--verify", "true", "plan"), "--verify goes with --task"),
        (("--dry-run", "--resume", "voyage-0"), "--dry-run"),
        (("--task", "x", "--repo", "HOME"), "names a command that proves the work"),
        (("--task", "x", "--repo", "x" * 5000), "x… names a command that proves the work"),
    ],
)
def test_what_does_not_go_together_is_refused(sailor, repository, arguments, words):
    places = {"REPOSITORY": repository, "HOME": sailor.home}
    done = sailor.run("sail", *(places.get(one, one) for one in arguments), cwd=sailor.home)
    assert (done.code, words in done.err) == (2, True), done.err


def test_the_json_of_a_plan_that_was_typed_can_be_read(tmp_path):
    write_plan(tmp_path, plan_of_tasks(["x"], Verify("true"), 3))
    assert json.loads((tmp_path / "tasks/1.json").read_text())["subject"] == "x"
    assert (tmp_path / "verify.sh").stat().st_mode & 0o111
