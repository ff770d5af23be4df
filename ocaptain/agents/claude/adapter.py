"""Agent ``claude``: Claude Code, one run a task: headless, or with its own screen (``--interactive``).

What role ``claude`` lays down on a ship below ``~/.ocaptain/claude`` is the contract between the two:
``env.json`` (the CLI's own environment, its secrets included), ``key`` (an API key, read by the
settings' key helper), ``settings.json`` and ``path`` (where the CLI is). This adapter names the
files; their content never comes here. The ship makes ``attempt.json`` and ``project`` of them for each attempt.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from ocaptain.agents.base import (
    Briefing,
    Resume,
    RunSpec,
    attempt_limits,
    common_environment,
    render,
)
from ocaptain.agents.claude.settings import CREDENTIALS, REMEDY, ClaudeSettings
from ocaptain.agents.claude.ship import repository
from ocaptain.agents.claude.verdict import judge
from ocaptain.config import load_part
from ocaptain.paths import expand_home

if TYPE_CHECKING:
    from ocaptain.agents.facts import AttemptEnd, AttemptVerdict
    from ocaptain.plan import Task

MAX_TURNS = 200
#: What makes the CLI report by OTLP (measured with 2.1.330); short intervals, so that a short run's points arrive, too.
TELEMETRY = {
    "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
    "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",  # traces
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    "OTEL_METRIC_EXPORT_INTERVAL": "5000",
    "OTEL_LOGS_EXPORT_INTERVAL": "2000",
    "OTEL_TRACES_EXPORT_INTERVAL": "2000",
}
CLAUDE_DIRECTORY = ".ocaptain/claude"
HEADLESS = (
    *("-p", "--output-format", "stream-json", "--verbose"),
    # Only these events say what a message used in the end, and why it stopped.
    "--include-partial-messages",
)


class ClaudeAgent:
    """Runs ``claude`` in the ship's clone."""

    is_model = True
    credentials = CREDENTIALS
    remedy = REMEDY
    roles = ("claude",)
    settings_note = "Claude Code does not load it (--repo-settings ignore)"
    task_list = "ocaptain.agents.claude.ship.task_list"
    has_screen = True

    def is_settings_file(self, path: str) -> bool:
        """See :mod:`ocaptain.agents.claude.ship.repository`."""
        return repository.is_settings_file(path)

    def names_of_settings(self, path: str, data: bytes) -> list[str]:
        """See :mod:`ocaptain.agents.claude.ship.repository`."""
        return repository.names_of_settings(path, data)

    def service_urls(self) -> dict[str, str]:
        """The API, if it is not Anthropic's own."""
        url = load_part(ClaudeSettings).base_url
        return {"ANTHROPIC_BASE_URL": url} if url else {}

    def find_missing_requirement(self) -> str | None:
        """A credential must be configured; which one goes to the ships is the role's choice."""
        settings = load_part(ClaudeSettings)
        if settings.key_helper:
            there = expand_home(settings.key_helper)
            return None if there.is_file() else f"OCAPTAIN_CLAUDE_KEY_HELPER: there is no file {there}; name a program"
        if settings.oauth_token or settings.api_key:
            return None
        return f"agent claude has no credential; {REMEDY}, or sail with --agent command --agent-cmd CMD"

    def find_task_problem(self, task: Task, agent_cmd: str | None) -> str | None:
        """It can work any task."""
        del task, agent_cmd
        return None

    def judge(self, ended: AttemptEnd) -> AttemptVerdict:
        """See :mod:`ocaptain.agents.claude.verdict`."""
        return judge(ended)

    def build_run(self, briefing: Briefing) -> RunSpec:
        """One run, with a session of its own or an earlier one of this ship's."""
        metadata = briefing.task.get("metadata") or {}
        timeout, stall = attempt_limits(briefing.task)
        folder = files("ocaptain.agents.claude")
        template = briefing.template or (folder / "prompt.md.j2").read_text("utf-8")
        again = (folder / "resume.md.j2").read_text("utf-8") if briefing.sessions else ""
        model = metadata.get("model") or briefing.model
        trusted = briefing.repo_settings == "trust"
        turns = metadata.get("max_turns") or briefing.max_turns or MAX_TURNS
        common = (
            "claude",
            *(() if briefing.interactive else HEADLESS),
            "--dangerously-skip-permissions",
            *("--settings", f"~/{CLAUDE_DIRECTORY}/attempt.json"),
            # The project is one of our own making: what the repository sets is not loaded. See `ship.project`.
            *(
                ()
                if trusted
                else ("--setting-sources", "project", "--project-config-root", f"~/{CLAUDE_DIRECTORY}/project")
            ),
            *(() if trusted else ("--strict-mcp-config",)),
            *(("--model", str(model)) if model else ()),
            # With a screen the CLI does not count turns; `ship.screen` does.
            *(() if briefing.interactive else ("--max-turns", str(turns))),
        )
        return RunSpec(
            argv=(*common, "--session-id", briefing.session),
            env={
                **common_environment(briefing),
                **({"OCAPTAIN_MAX_TURNS": str(turns)} if briefing.interactive else {}),
            },
            prompt=render(template, briefing),
            timeout=timeout,
            stall=stall,
            env_files=(f"{CLAUDE_DIRECTORY}/env.json",),
            secret_files=(f"{CLAUDE_DIRECTORY}/key",),
            path_file=f"{CLAUDE_DIRECTORY}/path",
            view="claude-stream",
            stream="ocaptain.agents.claude.stream",
            project="ocaptain.agents.claude.ship.project",
            screen="ocaptain.agents.claude.ship.screen" if briefing.interactive else None,
            repo_settings=briefing.repo_settings,
            task_list=self.task_list if briefing.task_list else None,
            resume=tuple(
                Resume(session, (*common, "--resume", session), f".claude/projects/*/{session}.jsonl")
                for session in briefing.sessions
            ),
            resume_prompt=render(again, briefing) if again else "",
            telemetry=TELEMETRY if briefing.telemetry else {},
        )


ADAPTER = ClaudeAgent()
