"""Agent ``command``: a shell line, ``metadata.run`` or the user's ``--agent-cmd``; exit 0 = done."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from ocaptain.agents.base import Briefing, RunSpec, attempt_limits, common_environment, render
from ocaptain.agents.facts import AttemptVerdict

if TYPE_CHECKING:
    from ocaptain.agents.facts import AttemptEnd
    from ocaptain.plan import Task


class CommandAgent:
    """Runs a line by bash in the ship's clone."""

    is_model = False
    credentials: tuple[str, ...] = ()
    remedy = ""
    roles: tuple[str, ...] = ()
    settings_note = ""
    task_list = None
    has_screen = False

    def is_settings_file(self, path: str) -> bool:
        """A shell line takes no settings from a repository."""
        del path
        return False

    def names_of_settings(self, path: str, data: bytes) -> list[str]:
        """Nothing, therefore."""
        del path, data
        return []

    def service_urls(self) -> dict[str, str]:
        """None: what a command reaches is its own business."""
        return {}

    def find_missing_requirement(self) -> str | None:
        """It needs no credential."""
        return None

    def find_task_problem(self, task: Task, agent_cmd: str | None) -> str | None:
        """A line must be there, without a NUL."""
        line = task.metadata.run or agent_cmd
        if not line:
            return "agent command has nothing to run; give the task metadata.run, or sail with --agent-cmd CMD"
        return "the command holds a NUL byte; remove it" if "\0" in line else None

    def judge(self, ended: AttemptEnd) -> AttemptVerdict:
        """It did what its exit code says."""
        return (
            AttemptVerdict("done")
            if (ended.code, ended.reason) == (0, "exit")
            else AttemptVerdict("failed", "its line failed")
        )

    def build_run(self, briefing: Briefing) -> RunSpec:
        """The line, the usual variables, and the prompt on stdin."""
        metadata = briefing.task.get("metadata") or {}
        timeout, stall = attempt_limits(briefing.task)
        template = briefing.template or (files("ocaptain.agents.command") / "prompt.md.j2").read_text("utf-8")
        return RunSpec(
            argv=("bash", "-c", metadata.get("run") or briefing.agent_cmd or ""),
            env=common_environment(briefing),
            prompt=render(template, briefing),
            timeout=timeout,
            stall=stall,
        )


ADAPTER = CommandAgent()
