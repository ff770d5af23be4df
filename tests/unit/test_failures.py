"""Why a task failed: every kind of result, as Ansible has it, and the line that the record gets."""

from __future__ import annotations

import pytest

from ocaptain.ansible.failures import HIDDEN, MAX_REASON, describe_failure, describe_rescued, failure_reason
from ocaptain.ansible.runner import Event, RunResult, _record_event

BLAND = "non-zero return code"
CASES = {
    "a command's error output": ({"rc": 7, "msg": BLAND, "stderr": "no such flag", "stdout": ""}, "rc 7: no such flag"),
    "its last lines, then those of its output": (
        {"rc": 1, "msg": BLAND, "stderr": "a\nb\nc\nd\n", "stdout": "1\n2\n3\n"},
        "rc 1: b / c / d / 2 / 3",
    ),
    "output alone": ({"rc": 100, "msg": BLAND, "stderr": "", "stdout": "E: no package\n"}, "rc 100: E: no package"),
    "nothing at all": ({"rc": 1, "msg": BLAND, "stderr": "", "stdout": ""}, "rc 1: it said nothing"),
    "over a terminal": (
        {
            "rc": 1,
            "msg": BLAND,
            "stderr": "Shared connection to 10.0.0.1 closed.\r\n",
            "stdout": "sh: 1: x: not found\r\n",
        },
        "rc 1: sh: 1: x: not found",
    ),
    "failed by its own condition": ({"rc": 0, "failed_when_result": True, "stdout": "0 of 3 up"}, "rc 0: 0 of 3 up"),
    "a module's message": ({"rc": 100, "msg": "No package matching 'x'", "stderr": "E: x"}, "No package matching 'x'"),
    "a module that broke": (
        {"rc": 1, "msg": "MODULE FAILURE: No start of json char found", "module_stderr": "bash: python3: not found\n"},
        "rc 1: bash: python3: not found",
    ),
    "one of our actions": ({"msg": "cannot reach http://x\n  details"}, "cannot reach http://x details"),
    "no message": ({}, "no reason given"),
    "unreachable": (
        {"unreachable": True, "msg": "Failed to connect to the host via ssh: Host key verification failed.\r\n"},
        "Failed to connect to the host via ssh: Host key verification failed.",
    ),
    "a loop": (
        {
            "msg": "One or more items failed",
            "results": [{"rc": 0}, {"failed": True, "rc": 2, "msg": BLAND, "stderr": "2nd"}],
        },
        "rc 2: 2nd",
    ),
    "a host's name": ({"msg": "gamma: gamma: no room"}, "no room"),
    "a name in a sentence": ({"msg": "gamma is held by another voyage"}, "is held by another voyage"),
    "a name that only begins so": ({"msg": "gamma-ray: no room"}, "gamma-ray: no room"),
    "control characters": ({"rc": 1, "msg": BLAND, "stderr": "\x1b[31mred\x07\r\n"}, "rc 1: \\x1b[31mred\\x07"),
    "what is not to be logged": ({"censored": "the output has been hidden"}, HIDDEN),
}


@pytest.mark.parametrize(("result", "reason"), CASES.values(), ids=CASES)
def test_the_reason_of_a_failure(result, reason):
    assert failure_reason(result, ["gamma"]) == reason
    assert "\r" not in reason


def test_a_long_reason_keeps_both_ends():
    reason = failure_reason({"msg": f"begin {'x' * 5000} Host key verification failed."})
    assert len(reason) <= MAX_REASON
    assert reason.startswith("begin ")
    assert reason.endswith("Host key verification failed.")
    lines = failure_reason({"rc": 1, "msg": BLAND, "stderr": "\n".join(["y" * 5000 + "why"] * 9)})
    assert len(lines) <= MAX_REASON
    assert lines.endswith("why")


def test_role_and_task_are_named_once():
    failed = {"rc": 1, "msg": BLAND, "stderr": "no such option"}
    whole = "role our-tools, task Install it: rc 1: no such option"
    assert describe_failure(failed, "Install it", "our-tools") == whole
    assert describe_failure(failed, "our-tools : Install it", "our-tools") == whole
    assert describe_failure(failed, "Install it") == "task Install it: rc 1: no such option"
    assert describe_failure({"msg": whole}, "Leave the ship out") == whole
    assert describe_failure(failed, "") == "rc 1: no such option"


def test_what_a_rescue_knows():
    """Its task says ``no_log``; its result has all that was not to be logged."""
    failed = {"rc": 1, "msg": BLAND, "stderr": "canary"}
    task = {"name": "Log in", "tags": ["always", "theirs"], "no_log": False}
    assert describe_rescued(failed, task, ["ours", "theirs"]) == "role theirs, task Log in: rc 1: canary"
    assert describe_rescued(failed, {**task, "no_log": True}, ["theirs"]) == f"role theirs, task Log in: {HIDDEN}"
    assert describe_rescued(failed, {"action": "shell"}, []) == "task shell: rc 1: canary"


def test_the_lines_of_a_run():
    done = RunResult()
    failed = {"rc": 7, "msg": BLAND, "stderr": "no such flag\r\n"}
    _record_event(done, Event("runner_on_failed", "Try", "gamma", failed, "theirs"), "")
    _record_event(done, Event("runner_on_failed", "Try", "gamma", failed, is_ignored=True), "")
    _record_event(done, Event("runner_on_unreachable", "Look", "delta", {"msg": "delta: gone"}), "")
    assert done.failures == ["gamma: role theirs, task Try: rc 7: no such flag", "delta: task Look: gone"]


def test_a_host_that_was_reached_after_all_is_no_failure_twice():
    done = RunResult()
    _record_event(done, Event("runner_on_unreachable", "Reach it", "gamma", {"msg": "no route"}, ""), "")
    _record_event(done, Event("runner_on_unreachable", "Reach it", "alpha", {"msg": "no route"}, ""), "")
    _record_event(done, Event("runner_on_failed", "Leave it out", "gamma", {"msg": "not reached: no route"}, ""), "")
    assert len(done.failures) == 2
    assert ["gamma" in done.failures[1], "alpha" in done.failures[0]] == [True, True]
    assert "Leave it out" in done.failures[1]
