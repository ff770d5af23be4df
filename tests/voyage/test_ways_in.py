"""The first voyages of a new user: a plan that was made for them, and tasks that were typed."""

from __future__ import annotations

import subprocess

import pytest

pytestmark = pytest.mark.root
HELLO = """case "$OCAPTAIN_TASK_ID" in
1) printf 'echo "hello, ${1:-world}"\\n' > hello.sh ;;
2) printf 'sh hello.sh\\n' > README.md ;;
esac
head -c 200000 /dev/zero | tr '\\0' "$OCAPTAIN_TASK_ID" > ~/voyage/artifacts/report"""
TYPED = 'case "$OCAPTAIN_TASK_ID" in 1) echo > a ;; 2) echo > b ;; esac'


def test_a_new_plan_sails_as_it_is(sailor, tmp_path):
    assert sailor.run("plan", "new", tmp_path / "plan").code == 0
    result = sailor.json("sail", tmp_path / "plan", "--agent-cmd", HELLO, "--wait", "--json")
    assert (result["state"], result["verify"]["ok"], result["tasks"]["completed"]) == ("complete", True, 2)
    left = sailor.json("artifacts", result["voyage"], "--to", tmp_path / "reports", "--json")
    assert {one["task"]: [file["path"] for file in one["files"]] for one in left["tasks"]} == {
        "1": ["report"],
        "2": ["report"],
    }
    assert (tmp_path / "reports/2/report").read_text() == "2" * 200_000
    assert sailor.run("sink", result["voyage"], "-f").code == 0


def test_typed_tasks_sail_and_their_plan_can_be_sailed_again(sailor, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "Makefile").write_text("test:\n\ttest -f a\n\ttest -f b\n")
    identity = ["-c", "user.name=u", "-c", "user.email=u@x"]
    for argv in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *argv], cwd=source, check=True)
    typed = ("--task", "Write a", "--task", "Write b", "--agent-cmd", TYPED)
    done = sailor.run("sail", *typed, "--wait", "--json", cwd=source)
    assert done.code == 0, done.err
    result = done.json
    assert (result["state"], result["verify"]["ok"]) == ("complete", True)
    assert {ship["id"] for ship in result["ships"]} == {"ship-0", "ship-1"}
    assert sorted(sailor.landed(result["voyage"])) == ["1", "2"]
    plan = sailor.voyage(result["voyage"]) / "plan"
    assert sailor.run("plan", "check", plan).code == 0
    shown = sailor.json("sail", plan, "--repo", source, "--agent-cmd", TYPED, "--new", "--dry-run", "--json")
    assert shown["plan"]["name"] == "Write a (and 1 more)"
    assert sailor.run("sink", result["voyage"], "-f").code == 0
