"""Follows a Claude Code that draws its own screen: makes lines of a stream of what it writes into files.

::

    hooks of ours (attempt.json) ──a file an event──> ~/.ocaptain/claude/events ──┐
    ~/.claude/projects/…/SESSION.jsonl, its subagents' too (the transcripts) ────┴──> lines as of `claude -p`

Events say what no transcript says: that the CLI thinks that it is done (``Stop``, ``StopFailure``), that it waits for
a person (a question, a plan to approve, a permission), what a person typed, and that a person left it (``SessionEnd``
with ``prompt_input_exit``: ``exit``, Ctrl-C twice or Ctrl-D). A transcript has each message with its final usage, so a
run that is killed has its cost; at a clean end it has the CLI's own sums as well (``cost-state``, of the whole
session), helper models included. Measured with 2.1.330. Standard library only: it is packed with the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

from ocaptain.agents.claude.ship.stops import Stops
from ocaptain.protocol import LineSplitter
from ocaptain.worker.places import open_regular_file, remove_path

EVENTS = ".ocaptain/claude/events"
#: What the repository's hooks that are let through are described by (`.project`).
_REPOSITORY_HOOKS = ".ocaptain/claude/project/hook-*.json"
#: The tools that always need a person; others ask for a permission if they do.
_ASKING = "AskUserQuestion|ExitPlanMode"
_HOOKED = {
    **dict.fromkeys(("SessionStart", "UserPromptSubmit", "Stop", "StopFailure", "SessionEnd"), None),
    **dict.fromkeys(("Notification", "PermissionRequest"), None),
    "PreToolUse": _ASKING,
}
HOOK_SECONDS = 20
MAX_EVENT = 4 * 1024 * 1024
MAX_READ = 32 * 1024 * 1024  # bytes of a transcript at one look, and of a line of it
MAX_LOOKS = 16  # of that size, after the CLI has ended
MAX_SESSION = 512 * 1024 * 1024  # bytes of what an earlier run said that are looked through
MAX_FILES = 1000  # transcripts that are followed
MAX_WORDS = 200
MAX_TYPED = 10_000  # characters of what a person typed
#: What odd content may raise. Both events and transcripts can be written by the agent, whatever it likes in them.
_ODD = (TypeError, ValueError, AttributeError, KeyError, ArithmeticError, RecursionError)
LEFT = "prompt_input_exit"
_SUMS = (
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
    "cacheCreationEphemeral1hInputTokens",
    "costUSD",
)


def hooks(home: Path) -> Dict[str, List[Dict[str, Any]]]:
    """Return the hooks of our settings: each writes what it is told into a file of its own, whole or not at all."""
    place = shlex.quote(str(home / EVENTS))
    line = f'f=$(mktemp {place}/new-XXXXXXXXXX) && cat > "$f" && mv "$f" "$f.json"; exit 0'
    hook = {"type": "command", "command": line, "timeout": HOOK_SECONDS}
    return {
        event: [{**({"matcher": matcher} if matcher else {}), "hooks": [hook]}] for event, matcher in _HOOKED.items()
    }


class Screen:
    """Follows one run.

    Args:
        home: where the events are.
        prompt: that the CLI was given; any other one is a person's.
        env: environment of the CLI.

    Attributes:
        is_done: whether the CLI is to be ended: it thinks that it is done, its API failed, or it took too many turns.
    """

    def __init__(self, home: Path, prompt: str, env: Mapping[str, str]) -> None:
        self._events = home / EVENTS
        self._prompt = prompt.strip()
        self._auth = "none" if env.get("CLAUDE_CODE_OAUTH_TOKEN") else "apiKeyHelper"
        self._max_turns = int(env.get("OCAPTAIN_MAX_TURNS") or 0)
        own = Path(env.get("CLAUDE_CONFIG_DIR") or Path(env.get("HOME") or home) / ".claude")
        # A session that is resumed has what it said, and what that cost, in its transcript already.
        before = [*own.glob("projects/*/*.jsonl"), *own.glob("projects/*/*/subagents/*.jsonl")]
        self._before = {str(path): _size(path) for path in before}
        self._tails: Dict[str, Tail] = {}
        self._told = Told()
        self._messages: Dict[str, None] = {}
        self._question: Optional[str] = None  # id of the tool's use that waits for a person
        self._failure: Dict[str, Any] = {}  # of the API, as the last message says
        self._stop: Optional[str] = None
        self._end: Optional[Mapping[str, Any]] = None  # the event by which it is done
        # The repository's own Stop hooks run beside ours and may refuse.
        may_refuse = any(_read_object(one).get("event") == "Stop" for one in home.glob(_REPOSITORY_HOOKS))
        self._stops = Stops() if may_refuse else None
        self._sums: Dict[str, Dict[str, Any]] = {}  # by session: what was billed before this run
        self._billed: Dict[str, Dict[str, Any]] = {}
        self.is_done = False

    def read(self) -> bytes:
        """Return the lines of the stream since the last time."""
        found = [*self._read_events(), *self._read_transcripts()]
        if self._max_turns and len(self._messages) > self._max_turns and self._end is None:
            self._end = {"hook_event_name": "too many turns"}
            self.is_done = True
        return _lines(found)

    def finish(self, *, has_keys: bool) -> bytes:
        """Return the last lines, after the CLI has ended.

        Args:
            has_keys: whether a person pressed a key shortly before.
        """
        found: List[Dict[str, Any]] = []
        for _ in range(MAX_LOOKS):
            before = sum(tail.at for tail in self._tails.values())
            found += [*self._read_events(), *self._read_transcripts()]
            if sum(tail.at for tail in self._tails.values()) == before:
                break
        found += self._told.change(keys=has_keys)
        spent = {name: one for name, one in self._billed.items() if any(one.values())}
        if self._end is not None:
            found.append({"type": "result", **self._ending(self._end), "model_usage_since_last_result": spent or None})
        elif spent:
            found.append({"type": "bill", "model_usage_since_last_result": spent})
        return _lines(found)

    # -- events -----------------------------------------------------------------------------

    def _read_events(self) -> Iterator[Dict[str, Any]]:
        with contextlib.suppress(OSError):
            names = [path for path in self._events.iterdir() if path.name.endswith(".json")]
            for path in sorted(names, key=lambda one: one.lstat().st_mtime_ns):
                event = _read_object(path)
                remove_path(path)  # whatever it is: one that stayed would hide those after it
                with contextlib.suppress(*_ODD):
                    yield from self._event(event)

    def _event(self, event: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
        self._follow(event.get("transcript_path"), event.get("session_id"))
        kind = event.get("hook_event_name")
        if kind == "SessionStart":
            about = {name: event.get(name) for name in ("session_id", "cwd", "model")}
            yield {"type": "system", "subtype": "init", "apiKeySource": self._auth, **about}
        elif kind == "UserPromptSubmit":
            self._question = None
            if self._stops:
                self._stops.interrupt()
            yield from self._told.change(waits=None)
            words = str(event.get("prompt") or "")
            if words.strip() != self._prompt and event.get("source") in {None, "user"}:
                yield from self._told.change(person=True)
                yield _note(f"a person typed: {words[:MAX_TYPED]}")
        elif kind == "PreToolUse":
            self._question = str(event.get("tool_use_id") or "")
            yield from self._told.change(waits=str(event.get("tool_name"))[:MAX_WORDS])
        elif kind == "PermissionRequest":
            self._question = self._question or str(event.get("tool_use_id") or "any")
            what = f"permission for {event.get('tool_name')}"[:MAX_WORDS]
            yield from self._told.change(waits=self._told.waits or what)
        elif kind == "Notification":
            self._question = self._question or "any"
            yield from self._told.change(waits=self._told.waits or str(event.get("message") or "")[:MAX_WORDS])
        elif kind == "SessionEnd":
            yield from self._told.change(left=event.get("reason") == LEFT)
        elif kind in {"Stop", "StopFailure"}:
            self._note_end(self._stops.begin(event) if self._stops and kind == "Stop" else event)

    def _note_end(self, event: Optional[Mapping[str, Any]]) -> None:
        if event is not None and not _works_on(event):
            self._end, self.is_done = event, True

    def _ending(self, event: Mapping[str, Any]) -> Dict[str, Any]:
        """Return the result, as `claude -p` would say it."""
        said, turns = str(event.get("last_assistant_message") or ""), {"num_turns": len(self._messages)}
        if event["hook_event_name"] == "Stop":
            good = {"subtype": "success", "is_error": False, "result": said}
            terminal = "stop_hook_prevented" if self._stops and self._stops.is_prevented else "completed"
            return {**good, **turns, "stop_reason": self._stop, "terminal_reason": terminal}
        if event["hook_event_name"] != "StopFailure":
            return {"subtype": "error_max_turns", "is_error": True, "result": said, **turns}
        failure = self._failure
        error = failure.get("error") or event.get("error")
        return {
            "subtype": "success",
            "is_error": True,
            "api_error_status": failure.get("apiErrorStatus"),
            "api_error_type": error if isinstance(error, str) else None,
            "result": said or str(event.get("error_details") or ""),
            "terminal_reason": "api_error",
            **turns,
        }

    # -- transcripts ------------------------------------------------------------------------

    def _follow(self, path: Any, session: Any) -> None:
        """Read a session's transcript from now on, from where it ended before this run."""
        is_new = isinstance(path, str) and path.endswith(".jsonl") and path not in self._tails
        if is_new and len(self._tails) < MAX_FILES:
            start = self._before.get(path, 0)
            self._tails[path] = Tail(Path(path), start)
            if start and isinstance(session, str):
                self._sums[session] = _last_sums(Path(path), start)

    def _read_transcripts(self) -> Iterator[Dict[str, Any]]:
        for path in [*self._tails]:
            with contextlib.suppress(OSError, ValueError):
                for inner in Path(path[: -len(".jsonl")], "subagents").glob("*.jsonl"):
                    self._follow(str(inner), None)
        for tail in [*self._tails.values()]:
            for line in tail.lines():
                with contextlib.suppress(*_ODD):
                    yield from self._line(line)

    def _line(self, line: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
        kind, message = line.get("type"), line.get("message")
        inner = {"parent_tool_use_id": "subagent" if line.get("isSidechain") else None}
        if kind == "assistant" and isinstance(message, dict):
            if line.get("isApiErrorMessage"):
                self._failure = {name: line.get(name) for name in ("apiErrorStatus", "error")}
            elif not inner["parent_tool_use_id"] and message.get("model") != "<synthetic>":
                self._messages[str(message.get("id"))] = None
                self._stop = message.get("stop_reason") or self._stop
                self._failure = {}
            yield {"type": "assistant", "message": message, **inner}
        elif kind == "user" and isinstance(message, dict):
            if self._question and self._question in {"any", *_answered(message)}:
                self._question = None
                yield from self._told.change(waits=None)
            yield {"type": "user", "message": message, **inner}
        elif kind == "system" and line.get("subtype") == "api_error":
            yield _retry(line)
        elif kind == "system" and line.get("subtype") == "stop_hook_summary" and self._stops:
            if not line.get("isSidechain") and line.get("hookLabel") in (None, "Stop"):
                end, refusals = self._stops.decide(line)
                yield from map(_note, refusals)
                self._note_end(end)
        elif kind == "cost-state":
            self._bill(line)

    def _bill(self, line: Mapping[str, Any]) -> None:
        """Note what this run used, by the CLI's own sums of the session."""
        before = self._sums.get(str(line.get("sessionId")), {})
        models = line.get("modelUsage")
        for model, one in models.items() if isinstance(models, dict) else ():
            if isinstance(one, dict):
                earlier = before.get(model) or {}
                self._billed[model] = {name: _number(one.get(name)) - _number(earlier.get(name)) for name in _SUMS}


class Told:
    """What is known of the person at the screen, told when it changes.

    Attributes:
        waits: what the CLI waits for a person for, None if it does not wait.
        person: whether a person typed something.
        keys: whether a person pressed a key shortly before its end.
        left: whether it was ended at its prompt, which only keys can do.
    """

    def __init__(self) -> None:
        self.waits: Optional[str] = None
        self._all: Dict[str, Any] = {"waits": None, "person": False, "keys": False, "left": False}

    def change(self, **facts: Any) -> Iterator[Dict[str, Any]]:
        """Yield a line of the stream, if these facts are new."""
        if any(self._all[name] != value for name, value in facts.items()):
            self._all.update(facts)
            self.waits = self._all["waits"]
            yield {"type": "screen", **self._all}


class Tail:
    """Reads the complete lines that a file grew by.

    Args:
        path: of the file; it may not exist yet.
        start: where to begin.

    Attributes:
        at: up to where it is read, in bytes.
    """

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self.at = start
        self._lines = LineSplitter(MAX_READ)

    def lines(self) -> Iterator[Dict[str, Any]]:
        """Yield the new lines that are JSON objects."""
        data = b""
        with contextlib.suppress(OSError, ValueError), open_regular_file(self._path) as file:
            file.seek(self.at)
            data = file.read(MAX_READ)
        self.at += len(data)
        for line in self._lines.feed(data):
            content = _parse_object(line)
            if content:
                yield content


def _last_sums(path: Path, end: int) -> Dict[str, Any]:
    """Return the last sums by model in the first ``end`` bytes of a transcript, which may be long."""
    found: Dict[str, Any] = {}
    lines, at = LineSplitter(MAX_READ), max(0, end - MAX_SESSION)
    with contextlib.suppress(OSError, ValueError), open_regular_file(path) as file:
        file.seek(at)
        while at < end and (data := file.read(min(1024 * 1024, end - at))):
            at += len(data)
            for line in lines.feed(data):
                content = _parse_object(line) if b'"cost-state"' in line else {}
                if content.get("type") == "cost-state" and isinstance(content.get("modelUsage"), dict):
                    found = content["modelUsage"]
    return found


def _works_on(event: Mapping[str, Any]) -> bool:
    """Whether an agent of the agent's still works, which will wake it: it has stopped, but is not done."""
    tasks = event.get("background_tasks")
    return any(
        isinstance(one, dict) and "agent" in str(one.get("type")) and one.get("status") in {"running", "pending"}
        for one in (tasks if isinstance(tasks, list) else ())
    )


def _retry(line: Mapping[str, Any]) -> Dict[str, Any]:
    error = line.get("error")
    status = error.get("status") if isinstance(error, dict) else None
    return {
        "type": "system",
        "subtype": "api_retry",
        "error_status": status,
        "error": (error.get("type") or error.get("code")) if isinstance(error, dict) else None,
        "retry_delay_ms": line.get("retryInMs"),
        "attempt": line.get("retryAttempt"),
        "max_retries": line.get("maxRetries"),
    }


def _answered(message: Mapping[str, Any]) -> List[str]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return [str(one.get("tool_use_id")) for one in blocks if isinstance(one, dict) and one.get("type") == "tool_result"]


def _note(text: str) -> Dict[str, Any]:
    return {"type": "user", "isSynthetic": True, "message": {"content": [{"type": "text", "text": text}]}}


def _number(value: Any) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return os.lstat(path).st_size
    return 0


def _read_object(path: Path) -> Dict[str, Any]:
    with contextlib.suppress(OSError, ValueError), open_regular_file(path) as file:
        return _parse_object(file.read(MAX_EVENT))
    return {}


def _parse_object(data: bytes) -> Dict[str, Any]:
    """Return a JSON object, an empty one if it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(data)
        if isinstance(content, dict):
            return content
    return {}


def _lines(found: List[Dict[str, Any]]) -> bytes:
    lines = []
    for one in found:
        with contextlib.suppress(*_ODD):
            lines.append(json.dumps(one).encode() + b"\n")
    return b"".join(lines)
