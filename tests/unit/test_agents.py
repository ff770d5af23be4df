"""Which agent works a task, and what it is given."""

from __future__ import annotations

import pytest

from ocaptain.agents import Briefing, check_agents, choose_agent
from ocaptain.agents.command.adapter import CommandAgent
from ocaptain.errors import UsageError
from ocaptain.plan import load_plan
from tests.helpers import run_task


def test_which_agent_works_a_task(plan):
    tasks = load_plan(plan([run_task("true"), {}, {"metadata": {"agent": "claude", "run": "x"}}])).plan.tasks
    assert [choose_agent(task, None, None) for task in tasks.values()] == ["command", "claude", "claude"]
    assert choose_agent(tasks["2"], None, "true") == "command"
    assert choose_agent(tasks["2"], "command", None) == "command"


def test_a_task_that_nobody_can_work_is_named(plan):
    found = load_plan(plan([run_task("true"), {}, {"metadata": {"agent": "codex"}}, {"status": "completed"}])).plan
    with pytest.raises(UsageError) as refused:
        check_agents(found, None, None)
    assert [line.split(":")[0] for line in refused.value.details] == ["tasks/2.json", "tasks/3.json"]
    with pytest.raises(UsageError, match=r"tasks/2.json: agent command has nothing to run"):
        check_agents(found, "command", None)


def test_the_briefing_becomes_a_command():
    task = {"id": "3", "subject": "Do {{ it }}", "description": "now", "metadata": {"run": "make", "timeout": 5}}
    briefing = Briefing("v", "ship-1", 2, task, "the spec", "other", (("1", "First"),), "it failed: {% x %}")
    run = CommandAgent().build_run(briefing)
    assert run.argv == ("bash", "-c", "make")
    assert (run.timeout, run.stall) == (5.0, 1800.0)
    assert run.env["OCAPTAIN_TASK_SUBJECT"] == "Do {{ it }}"
    assert run.env["OCAPTAIN_ATTEMPT"] == "2"
    for part in ("Do {{ it }}", "now", "the spec", "- 1: First", "it failed: {% x %}"):
        assert part in run.prompt
    own = CommandAgent().build_run(Briefing("v", "s", 1, task, "", template="only {{ task.id }}"))
    assert own.prompt == "only 3"
    with pytest.raises(UsageError, match=r"prompt.md.j2"):
        CommandAgent().build_run(Briefing("v", "s", 1, task, "", template="{{ nope }}"))
    with pytest.raises(UsageError, match=r"prompt.md.j2"):
        CommandAgent().build_run(Briefing("v", "s", 1, task, "", template="{{ ''.__class__.__mro__ }}"))
