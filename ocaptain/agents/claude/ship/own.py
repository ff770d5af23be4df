"""Our own settings of Claude Code, checked before each start.

One value that the CLI does not take drops the whole file without a word, key helper, endpoint and
hooks included (measured with 2.1.330); a hook that it does not take drops out alone. So only keys whose
values can be checked here are allowed in it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

from ocaptain.agents.claude.ship.repository import RULES

#: Every event of 2.1.330.
EVENTS = frozenset(
    (
        *("PreToolUse", "PostToolUse", "PostToolUseFailure", "PostToolBatch", "Notification", "UserPromptSubmit"),
        *("UserPromptExpansion", "SessionStart", "SessionEnd", "Stop", "StopFailure", "SubagentStart", "SubagentStop"),
        *("PreCompact", "PostCompact", "PreModelSwitch", "PostModelSwitch", "PermissionRequest", "PermissionDenied"),
        *("Setup", "TeammateIdle", "TaskCreated", "TaskCompleted", "Elicitation", "ElicitationResult"),
        *("ConfigChange", "WorktreeCreate", "WorktreeRemove", "InstructionsLoaded", "CwdChanged", "FileChanged"),
        *("DirectoryAdded", "MessageDisplay"),
    )
)
HOOK_KINDS = {"command": "command", "http": "url"}


def find_problems(settings: Any) -> List[str]:
    """Return a line for each error in our settings; empty if the CLI accepts all of them."""
    if not isinstance(settings, dict):
        return ["it is not a JSON object"]
    found = []
    for key, value in settings.items():
        if key not in _CHECKS:
            found.append(f"{key} is not a setting that can be checked before a start; leave it out")
        elif wrong := _CHECKS[key](value):
            found.append(f"{key} {wrong}")
    return found


def _text(value: Any) -> str:
    return "" if isinstance(value, str) else "must be text"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _days(value: Any) -> str:
    return "" if type(value) is int and value > 0 else "must be a whole number above 0"


def _texts(value: Any) -> str:
    good = isinstance(value, list) and all(isinstance(one, str) and one for one in value)
    return "" if good else "must be a list of texts"


def _environment(value: Any) -> str:
    good = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    return "" if good else "must be an object of texts (a number stands in quotes)"


def _attribution(value: Any) -> str:
    good = isinstance(value, dict) and set(value) <= {"commit", "pr"} and not any(map(_text, value.values()))
    return "" if good else "must be an object of texts, commit and pr"


def _permissions(value: Any) -> str:
    if not isinstance(value, dict) or set(value) - {*RULES, "additionalDirectories"}:
        return "must be an object of lists: allow, deny, ask, additionalDirectories (the mode is ocaptain's)"
    wrong = [name for name, rules in value.items() if _texts(rules)]
    return f"{wrong[0]} must be a list of texts" if wrong else ""


def _hooks(value: Any) -> str:
    if not isinstance(value, dict):
        return "must be an object, with a list for each event"
    for event, groups in value.items():
        if event not in EVENTS:
            return f"has an event that does not exist: {event}"
        if not isinstance(groups, list) or not all(map(_is_group, groups)):
            return f"of {event} must be a list of {{matcher, hooks: [{{type: command or http, …}}]}}"
    return ""


def _is_group(group: Any) -> bool:
    if not isinstance(group, dict) or set(group) - {"matcher", "hooks"}:
        return False
    hooks = group.get("hooks")
    return not _text(group.get("matcher", "")) and isinstance(hooks, list) and bool(hooks) and all(map(_is_hook, hooks))


def _is_hook(hook: Any) -> bool:
    if not isinstance(hook, dict) or hook.get("type") not in HOOK_KINDS:
        return False
    limit = hook.get("timeout", 1)
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or limit <= 0:
        return False
    named, allowed = hook.get("headers", {}), hook.get("allowedEnvVars", [])
    needed = hook.get(HOOK_KINDS[hook["type"]])
    return bool(needed) and not _text(needed) and not _environment(named) and not _texts(allowed)


_CHECKS: Mapping[str, Callable[[Any], str]] = {
    **dict.fromkeys(("apiKeyHelper", "awsAuthRefresh", "awsCredentialExport", "gcpAuthRefresh"), _text),
    **dict.fromkeys(("otelHeadersHelper", "model", "outputStyle", "language"), _text),
    **dict.fromkeys(("skipDangerousModePermissionPrompt", "disableSkillShellExecution", "disableAllHooks"), _flag),
    **dict.fromkeys(("includeCoAuthoredBy", "alwaysThinkingEnabled"), _flag),
    **dict.fromkeys(("availableModels", "claudeMdExcludes"), _texts),
    "cleanupPeriodDays": _days,
    "env": _environment,
    "attribution": _attribution,
    "permissions": _permissions,
    "hooks": _hooks,
}

#: Where a byte of the credential can go: empty, which is as if it were not set, unless we set it. The agent's
#: children have these, too: so nothing is here that an empty value would break for them (``SSL_CERT_FILE``).
ENDPOINT = (
    *(
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_UNIX_SOCKET",
        "ANTHROPIC_BEDROCK_BASE_URL",
        "ANTHROPIC_VERTEX_BASE_URL",
    ),
    *("ANTHROPIC_FOUNDRY_BASE_URL", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("NODE_EXTRA_CA_CERTS", "NODE_TLS_REJECT_UNAUTHORIZED", "NODE_OPTIONS"),
    *("CLAUDE_CODE_CLIENT_CERT", "CLAUDE_CODE_CLIENT_KEY", "CLAUDE_CODE_ENABLE_TELEMETRY"),
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"),
)
#: As often in a row a Stop hook of ours may refuse: the CLI's own limit, which a file elsewhere could lift.
MAX_STOP_REFUSALS = "8"
_OURS = ("ANTHROPIC_", "CLAUDE_CODE_", "DISABLE_", "API_TIMEOUT_MS", "OTEL_")
_CREDENTIAL = ("_API_KEY", "_TOKEN", "_SECRET", "_PASSWORD")


def endpoint_environment(environment: Mapping[str, str]) -> Dict[str, str]:
    """Return the ``env`` of our settings, which overrides any settings file in the ship's home.

    Args:
        environment: environment of the CLI; its credential is not copied.
    """
    laid_down = {
        name: value for name, value in environment.items() if name.startswith(_OURS) and not name.endswith(_CREDENTIAL)
    }
    named = {name: environment.get(name, "") for name in ENDPOINT}
    return {"CLAUDE_CODE_STOP_HOOK_BLOCK_CAP": MAX_STOP_REFUSALS, **named, **laid_down}
