"""The plugin for Claude Code: ``/voyage-plan`` writes a plan with the real CLI, and the plan sails."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ocaptain.plan import load_plan
from ocaptain.voyage.plan_check import check_whole_plan
from tests.claude.cli import layer
from tests.claude.plugin import WISH
from tests.helpers import REPO

pytestmark = pytest.mark.root
SKILL = REPO / "claude-plugin/skills/voyage-plan/SKILL.md"
AGENT = r"""case "$OCAPTAIN_TASK_ID" in
1) cat > todo.py <<'PYTHON'
import sys
from pathlib import Path
store = Path("todo.txt")
items = store.read_text().splitlines() if store.exists() else []
if sys.argv[1] == "add":
    store.write_text("".join(f"{one}\n" for one in [*items, sys.argv[2]]))
else:
    print("\n".join(f"{at} {one}" for at, one in enumerate(items, 1)))
PYTHON
;;
2) echo "python3 todo.py add TEXT" > README.md ;;
esac"""


def test_the_skill_writes_a_plan_and_it_sails(sailor, tmp_path):
    layer()  # it is had by this machine's network; what follows has none
    inside = 'ip link set lo up && exec "$@"'
    asked = [sys.executable, "-m", "tests.claude.plugin", str(REPO), str(tmp_path / "claude")]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", inside, "sh", *asked],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [told[name]["code"] for name in ("validate", "add", "install", "plan")] == [0, 0, 0, 0], told
    assert told["strange"] == []
    said = json.loads(told["plan"]["out"])
    assert (said["result"], said["permission_denials"]) == ("the plan is written and checked", [])
    # The model was given the skill's own text, with what the user wants in it.
    lines = [line for line in SKILL.read_text().split("---\n", 2)[2].splitlines() if line and "$ARGUMENTS" not in line]
    heard = json.loads(told["asked"][0])[0]["content"]
    text = "\n".join(block["text"] for block in heard)
    assert f"What the user wants: {WISH}" in text
    assert [line for line in lines if line not in text] == []
    plan = tmp_path / "claude/work/plan"
    checked = sailor.run("plan", "check", plan)
    assert (checked.code, "warning" in checked.err) == (0, False), checked.err
    result = sailor.json("sail", plan, "--agent-cmd", AGENT, "--wait", "--json")
    assert (result["state"], result["verify"]["ok"]) == ("complete", True)


def test_the_skill_s_examples_are_what_the_plan_s_reader_takes(tmp_path):
    """What the skill shows as a task and as a proof is a plan without a fault."""
    text = SKILL.read_text()
    blocks = [[]]
    for line in text.splitlines():
        if line.startswith("    "):
            blocks[-1].append(line[4:])
        elif blocks[-1]:
            blocks.append([])
    task = json.loads(next("\n".join(block) for block in blocks if block and block[0] == "{"))
    script = next("\n".join(block) for block in blocks if block and block[0].startswith("#!"))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "spec.md").write_text("# A to-do list\n")
    (tmp_path / "verify.sh").write_text(script + "\n")
    (tmp_path / "voyage.json").write_text('{"name": "todo", "recommended_ships": 3}')
    first = {**task, "id": "1", "blocks": [task["id"]], "blockedBy": []}
    for one in (first, task):
        (tmp_path / f"tasks/{one['id']}.json").write_text(json.dumps(one))
    found = check_whole_plan(load_plan(tmp_path), tmp_path)
    assert (found.faults, found.warnings) == ((), ())
