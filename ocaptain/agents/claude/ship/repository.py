"""Settings of Claude Code in the files of a repository, and copies of these files without settings.

Everything is by allow-list: what is not known to be harmless is reported, and is in no copy.
Source: the CLI's own behaviour, measured with 2.1.330 on 41 repositories.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

FOLDER = ".claude"
PLUGIN = ".claude-plugin"
#: Folders of ``.claude`` that the model reads from; agents and commands are files, a skill is a folder.
TREES = ("skills", "agents", "commands")
#: Of ``.claude``, what only instructs, or runs only where settings name it.
INERT = ("rules", "hooks", "output-styles")
MAX_FILE = 256 * 1024
MAX_SHOWN = 10
_SKILL = {"name", "description", "when_to_use", "allowed-tools", "argument-hint", "arguments", "paths", "context"}
_SKILL |= {"agent", "disable-model-invocation", "user-invocable", "version", "license"}
#: Keys that the front matter of a file in each of them may have.
FRONT_MATTER_KEYS: Mapping[str, frozenset[str]] = {
    "skills": frozenset(_SKILL),
    "commands": frozenset(_SKILL),
    "agents": frozenset({"name", "description", "tools", "disallowedTools", "skills", "color"}),
}
#: Events whose hooks may run. Others are left out: their effects were not measured.
EVENTS = frozenset(
    (
        *("PreToolUse", "PostToolUse", "PostToolUseFailure", "Notification", "UserPromptSubmit", "SessionStart"),
        *("SessionEnd", "Stop", "SubagentStart", "SubagentStop", "PreCompact", "TaskCreated", "TaskCompleted"),
    )
)
RULES = ("allow", "deny", "ask")
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)[ \t]*:(?:[ \t]+(.*))?$")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class Hook(NamedTuple):
    """A hook of a repository: a command that the CLI runs at an event.

    Attributes:
        file: settings file that defines it.
        event: name of the event.
        matcher: pattern for the events, None = all.
        command: a shell line.
        timeout: seconds it may take, None = the CLI's own limit.
    """

    file: str
    event: str
    matcher: Optional[str]
    command: str
    timeout: Optional[float]


class RestrictedText(NamedTuple):
    """A text whose front matter has only allowed keys.

    Attributes:
        text: the text with new front matter; none of the old lines is copied.
        dropped: keys of the old front matter that were left out.
    """

    text: str
    dropped: Tuple[str, ...]


def is_settings_file(path: str) -> bool:
    """Whether a file of the repository may contain settings; :func:`names_of_settings` lists them."""
    parts = path.lower().split("/")
    if parts[-1] == ".mcp.json" or PLUGIN in parts:
        return True
    if FOLDER not in parts[:-1]:
        return False
    inner = parts[len(parts) - parts[::-1].index(FOLDER) :]
    if inner[0] in TREES:
        return len(inner) > 1 and _has_head(inner[0], inner[-1])
    return inner[0] not in INERT and inner[-1].endswith(".json")


def names_of_settings(path: str, data: bytes) -> List[str]:
    """Return the names of the settings in a file for which :func:`is_settings_file` is true.

    Args:
        path: in the repository.
        data: its content, or the first bytes of it.
    """
    if path.lower().endswith(".md"):
        tree = next((part for part in reversed(path.lower().split("/")) if part in TREES), "skills")
        return _shown(
            [f"{key} (front matter)" for key in restrict_front_matter(data.decode("utf-8", "replace"), tree).dropped]
        )
    content = _object(data)
    if content is None:
        return ["what is no JSON object"]
    found: List[str] = []
    for key, value in content.items():
        if key in {"env", "hooks", "permissions", "mcpServers"} and isinstance(value, dict):
            found += [f"{key}.{inner}" for inner in value]
        elif key != "$schema":
            found.append(key)
    return _shown(found)


def _has_head(tree: str, name: str) -> bool:
    """Whether the CLI reads a file's head: of skills, only of the one that describes it."""
    return name.lower() == "skill.md" if tree == "skills" else name.lower().endswith(".md")


def _object(data: bytes) -> Optional[Dict[str, Any]]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _shown(names: List[str]) -> List[str]:
    shown = [_UNPRINTABLE.sub("?", name).replace("\n", " ")[:80] for name in names[:MAX_SHOWN]]
    return [*shown, "…"] if len(names) > MAX_SHOWN else shown


# -- what may be let through ------------------------------------------------------------------


def parse_hooks(file: str, data: bytes) -> List[Hook]:
    """Return the hooks of a settings file that may run: shell lines at known events."""
    hooks = (_object(data) or {}).get("hooks")
    found = []
    for event, groups in hooks.items() if isinstance(hooks, dict) else ():
        for group in groups if event in EVENTS and isinstance(groups, list) else ():
            found += _commands(file, event, group)
    return found


def _commands(file: str, event: str, group: Any) -> List[Hook]:
    matcher = group.get("matcher") if isinstance(group, dict) else 0
    if matcher is not None and not isinstance(matcher, str):
        return []
    found = []
    for hook in group["hooks"] if isinstance(group.get("hooks"), list) else ():
        command = hook.get("command") if isinstance(hook, dict) and hook.get("type") == "command" else None
        if isinstance(command, str) and command.strip() and "\0" not in command:
            limit = hook.get("timeout")
            good = isinstance(limit, (int, float)) and not isinstance(limit, bool) and 0 < limit <= 3600
            found.append(Hook(file, event, matcher, command, limit if good else None))
    return found


def parse_rules(data: bytes) -> Dict[str, List[str]]:
    """Return the permission rules of a settings file; never its mode."""
    permissions = (_object(data) or {}).get("permissions")
    if not isinstance(permissions, dict):
        return {}
    lists = {name: permissions.get(name) for name in RULES}
    return {
        name: [one for one in rules if isinstance(one, str) and one]
        for name, rules in lists.items()
        if isinstance(rules, list)
    }


# -- heads ------------------------------------------------------------------------------------


def restrict_front_matter(text: str, tree: str) -> RestrictedText:
    """Return a skill, agent or command with only the front matter keys of :data:`FRONT_MATTER_KEYS`.

    The front matter is written anew at the start of the text, so that the CLI takes nothing else for it,
    even if it parses YAML in another way than we do.
    """
    head, body = _split(text.replace("\r\n", "\n").lstrip("\ufeff"))
    pairs = _pairs(head)
    kept = {key: value for key, value in pairs if key in FRONT_MATTER_KEYS[tree] and value}
    lines = [f"{key}: {_scalar(value)}" for key, value in kept.items()]
    dropped = dict.fromkeys(key for key, _ in pairs if key not in FRONT_MATTER_KEYS[tree])
    return RestrictedText("\n".join(["---", *lines, "ocaptain: cleaned", "---", body]), tuple(dropped))


def _split(text: str) -> Tuple[List[str], str]:
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return [], text
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == "---":
            return lines[1:number], "\n".join(lines[number + 1 :])
    return [], text


def _pairs(head: List[str]) -> List[Tuple[str, str]]:
    """Return keys and values; a line that is neither counts as an unknown key."""
    found: List[Tuple[str, List[str]]] = []
    for line in head:
        match = _KEY.match(line)
        if match:
            found.append((match[1], [match[2] or ""]))
        elif found and line[:1] in {" ", "\t", "-", ""}:
            found[-1][1].append(line)
        elif line.strip() and not line.startswith("#"):
            found.append((line.strip()[:40], []))
    return [(key, _value(lines)) for key, lines in found]


def _value(lines: List[str]) -> str:
    """Return a value as text: a list with commas, several lines as one."""
    first, rest = (lines[0].strip() if lines else ""), [line.strip() for line in lines[1:] if line.strip()]
    if first[:1] in {">", "|"}:
        return " ".join(rest)
    if not first and rest and all(line.startswith("-") for line in rest):
        return ", ".join(_unquoted(line[1:].strip()) for line in rest)
    if first.startswith("[") and first.endswith("]"):
        return ", ".join(_unquoted(one.strip()) for one in first[1:-1].split(",") if one.strip())
    return _unquoted(" ".join([first, *rest]))


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text.partition(" #")[0].strip()


def _scalar(value: str) -> str:
    """Return a value as YAML: a string of JSON is one of YAML's."""
    if value in {"true", "false"}:
        return value
    return json.dumps(_UNPRINTABLE.sub(" ", value).encode("utf-8", "replace").decode(), ensure_ascii=False)
