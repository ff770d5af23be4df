"""What an adapter is given and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocaptain.config import Settings
    from ocaptain.plan import Task

TIMEOUT_SECONDS = 2 * 3600.0
STALL_SECONDS = 1800.0


@dataclass(frozen=True)
class Briefing:
    """All that is known when a task is handed out.

    Attributes:
        voyage, ship, attempt: where and for which time.
        task: the plan's task file.
        spec: content of spec.md.
        agent_cmd: the user's ``--agent-cmd``.
        landed: (task id, subject) of what landed so far, in order.
        reason: why the attempt before this one did not land.
        template: the plan's own prompt template.
    """

    voyage: str
    ship: str
    attempt: int
    task: Mapping[str, Any]
    spec: str
    agent_cmd: str | None = None
    landed: tuple[tuple[str, str], ...] = ()
    reason: str | None = None
    template: str | None = None


@dataclass(frozen=True)
class AgentRun:
    """What the ship runs: argv without secrets, the environment, the prompt on stdin, limits in seconds."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""
    timeout: float = TIMEOUT_SECONDS
    stall: float = STALL_SECONDS


class Adapter(Protocol):
    """An agent."""

    def problem(self, task: Task, agent_cmd: str | None, settings: Settings) -> str | None:
        """Return why this agent cannot work ``task`` (with the remedy), None if it can."""

    def brief(self, briefing: Briefing) -> AgentRun:
        """Return what to run."""


def render(template: str, briefing: Briefing) -> str:
    """Render a prompt. Values are data: nothing that an agent or a task says is a template.

    Raises:
        UsageError: the template is wrong.
    """
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    try:
        return environment.from_string(template).render(**vars(briefing))
    except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise UsageError(f"prompt.md.j2: {error}; correct the template") from error


def common_environment(briefing: Briefing) -> dict[str, str]:
    """Return the variables that every agent finds (NUL cannot stand in one)."""
    return {
        "OCAPTAIN_TASK_ID": str(briefing.task["id"]),
        "OCAPTAIN_TASK_SUBJECT": str(briefing.task.get("subject", "")).replace("\0", ""),
        "OCAPTAIN_VOYAGE": briefing.voyage,
        "OCAPTAIN_SHIP": briefing.ship,
        "OCAPTAIN_ATTEMPT": str(briefing.attempt),
    }
