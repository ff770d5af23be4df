"""Refuses changes of the task list that are not the agent's to make: ``python3 task_list_hook.py TASK``.

The call is on standard input, as the CLI gives it to a PreToolUse hook; exit code 2 refuses it, and the model is told
what stands on standard error. A program of its own, copied beside the settings: standard library only.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Mapping, Optional

REFUSED = 2


def refusal_reason(tool: str, given: Mapping[str, Any], own: str) -> Optional[str]:
    """Return why a call of a task tool is refused, None if it is not.

    Args:
        tool: name of the tool.
        given: its input.
        own: id of the agent's own task.
    """
    if tool == "TaskCreate":
        return (
            "This list is the plan, which no agent adds to: ocaptain keeps it. "
            f"Do your own task ({own}), and name what else is to be done in your last message."
        )
    if given.get("taskId") != own:
        return (
            f"Task {given.get('taskId')} is not yours: each task belongs to the ship that ocaptain gave it to, and it "
            f"says itself when one is done. You may change your own task ({own}) alone."
        )
    if given.get("addBlocks") or given.get("addBlockedBy"):  # the CLI notes it in the other task, too
        return f"What waits for what is a part of the plan, which no agent changes; your task ({own}) stays as it is."
    if given.get("status") == "deleted":
        return f"Your task ({own}) is a part of the plan, and cannot be deleted. If it cannot be done, say why."
    return None


def main(argv: list[str]) -> int:
    """Judge the call on standard input; return the exit code."""
    call = json.load(sys.stdin)
    reason = refusal_reason(str(call["tool_name"]), dict(call["tool_input"]), argv[1])
    if reason is None:
        return 0
    sys.stderr.write(f"{reason}\n")
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv))
