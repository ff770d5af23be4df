"""Plays ``/voyage-plan`` with the real Claude Code. Run it where there is no network but an own loopback.

``python -m tests.claude.plugin MARKETPLACE HOME`` installs the plugin of a marketplace's directory into a new home,
asks for a plan in ``HOME/work``, and prints one JSON object: what the CLI said, and what it asked the model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.claude.api import Api, Say, Turn, Use
from tests.claude.cli import layer

WISH = "an empty repository, a to-do list app"
SPEC = """# A to-do list for the command line

| file | what it offers |
| --- | --- |
| `todo.py` | `python3 todo.py add TEXT`, `python3 todo.py list`: a line an item, numbered, of `todo.txt` |
| `README.md` | says how it is called |
"""
VERIFY = """#!/usr/bin/env bash
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp todo.py "$scratch"
cd "$scratch"
python3 todo.py add milk
test "$(python3 todo.py list)" = "1 milk"
"""
TASKS = (
    {
        "id": "1",
        "subject": "Write todo.py",
        "description": "Write todo.py as spec.md says.",
        "status": "pending",
        "blocks": ["2"],
        "blockedBy": [],
        "metadata": {"verify": "python3 -m py_compile todo.py", "paths": ["todo.py"], "estimate": {"seconds": 600}},
    },
    {
        "id": "2",
        "subject": "Write README.md",
        "description": "Say in README.md how todo.py is called.",
        "status": "pending",
        "blocks": [],
        "blockedBy": ["1"],
        "metadata": {"verify": "grep -q todo.py README.md", "paths": ["README.md"], "estimate": {"seconds": 300}},
    },
)


def play(plan: Path) -> tuple[Turn, ...]:
    """Return what a good model does: it writes the files that the skill names, and checks them."""
    files = {
        "spec.md": SPEC,
        "verify.sh": VERIFY,
        "voyage.json": json.dumps({"name": "todo", "recommended_ships": 1}),
        **{f"tasks/{task['id']}.json": json.dumps(task) for task in TASKS},
    }
    writes = tuple(Use("Write", {"file_path": str(plan / name), "content": text}) for name, text in files.items())
    checks = Use("Bash", {"command": f"ocaptain plan check {plan}", "description": "Check the plan"})
    return Turn(writes), Turn((checks,)), Turn((Say("the plan is written and checked"),))


def main(marketplace: str, home: Path) -> None:
    work = home / "work"
    work.mkdir(parents=True)
    api = Api()
    api.script = {"ocaptain:voyage-plan": (play(work / "plan"),)}
    environment = {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "sk-ant-canary",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }

    def run(*arguments: str) -> dict[str, object]:
        done = subprocess.run(
            [str(layer() / "usr/local/bin/claude"), *arguments],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr}

    try:
        told = {
            "validate": run("plugin", "validate", marketplace),
            "add": run("plugin", "marketplace", "add", marketplace),
            "install": run("plugin", "install", "ocaptain@ocaptain"),
            "plan": run("-p", f"/voyage-plan {WISH}", "--output-format", "json"),
            "asked": [json.dumps(one.body.get("messages"), ensure_ascii=False) for one in api.seen],
            "strange": api.strange,
        }
    finally:
        api.close()
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
