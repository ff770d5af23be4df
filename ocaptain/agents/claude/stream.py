"""Claude Code's stream of JSON lines: formats it for people and collects facts about the run.

One pass does both, so that the output can be watched, and a killed run has still reported its usage:
with ``--include-partial-messages`` each message has its final usage and stop reason, which its
``assistant`` line lacks.

The verdict on a run is not given here; that is the captain's work (``verdict``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ocaptain.protocol.usage import (
    MAX_COUNT,
    Price,
    Tokens,
    cost_of,
    find_price,
    format_dollars,
    has_long_prompt,
    read_tokens,
)
from ocaptain.worker.show import strip_escapes, summarize_line

#: Variables of Claude Code's own, by how they begin: what the host has set of them is not passed on.
OWN_ENV = ("ANTHROPIC_", "CLAUDE_CODE_", "CLAUDE_CONFIG_DIR")
MAX_TEXT = 4000
MAX_MODELS = 16
MAX_DELAY = 2**31
MAX_NANO = 2**50
MAX_NAME = 200  # of a directory of transcripts; a checksum follows a longer one
_NO_NAME = re.compile("[^A-Za-z0-9]")
_SESSION = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: What `ship.stop_hook` adds to a refusal.
_REFUSAL = re.compile(r"\(ocaptain: refusal [0-9]+ of [0-9]+ by (the [^\n]{1,400})\)\s*$")
#: What `ship.screen` tells of the person at a run's own screen.
_SCREEN = ("waits", "person", "keys", "left")
#: The most informative fields of a tool's input; the first that exists is shown.
_SHOWN = (
    "command",
    "file_path",
    "notebook_path",
    "path",
    "pattern",
    "url",
    "query",
    "subject",
    "description",
    "prompt",
)


class Stream:
    """Parses the lines of a stream.

    Args:
        prices: prices by model, for the cost so far.
    """

    def __init__(self, prices: Mapping[str, Price] | None = None) -> None:
        self._prices = prices or {}
        self._used: dict[str, tuple[str, Tokens]] = {}  # by message id; a later word only adds
        self._main: str | None = None  # the conversation's last message, and why it stopped
        self._stop: str | None = None
        self._open: dict[str | None, str] = {}  # the message under way, by who speaks
        self._cwd = ""
        self._messages = 0
        self._billed: dict[str, list[int]] = {}  # tokens and cost by model, as results say
        self._partial = False
        self._facts: dict[str, Any] = {
            "session": None,
            "model": None,
            "auth": None,
            "retries": 0,
            "retry": None,
            "result": None,
            "hook": None,
            **dict.fromkeys(_SCREEN),
        }
        self.changed = False

    # -- what it tells ----------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Return the facts so far, bounded in size.

        ``billed`` is the CLI's own count up to its last result, ``usage`` that of the messages after it.
        """
        sums: dict[tuple[str, bool], Tokens] = {}
        for model, tokens in self._used.values():
            key = (model, has_long_prompt(find_price(model, self._prices), tokens))
            if key in sums or len(sums) < MAX_MODELS:
                sums[key] = _sum(sums.get(key, [0] * 5), tokens)
        return {
            **self._facts,
            "usage": [{"model": model, "long": long, "tokens": tokens} for (model, long), tokens in sums.items()],
            "billed": [{"model": model, "tokens": one[:5], "cost": one[5]} for model, one in self._billed.items()],
            "messages": self._messages,
            "partial": self._partial,
            "last_stop": self._stop,
        }

    def cost(self) -> int | None:
        """Return the cost of the run so far, in nano-dollars; None if a price is unknown."""
        total = sum(one[5] for one in self._billed.values())
        for model, tokens in self._used.values():
            price = find_price(model, self._prices)
            if price is None:
                return None
            total += cost_of(price, tokens, is_long_prompt=has_long_prompt(price, tokens))
        return total

    # -- the stream -------------------------------------------------------------------------

    def line(self, data: bytes) -> list[str]:
        """Parse a line of the stream; return the lines to show for it."""
        if not data.strip():
            return []
        message: Any = None
        if data.lstrip().startswith(b"{"):
            try:
                message = json.loads(data)
            except (ValueError, RecursionError):
                message = None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            return [strip_escapes(data.decode(errors="replace")).rstrip()]
        handler: Callable[[dict[str, Any]], Iterator[str]] | None = {
            "system": self._system,
            "assistant": self._assistant,
            "user": self._user,
            "stream_event": self._event,
            "result": self._result,
            "screen": self._screen,
            "bill": self._late_bill,
        }.get(message["type"])
        inner = "  " if message.get("parent_tool_use_id") else ""  # an agent of the agent's
        try:
            return [strip_escapes(f"{inner}{line}").rstrip() for line in handler(message)] if handler else []
        except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError, RecursionError):
            return [f"… a line that could not be parsed ({summarize_line(message['type'], 40)})"]

    def _system(self, message: dict[str, Any]) -> Iterator[str]:
        kind = message.get("subtype")
        if kind == "init":
            self._cwd = str(message.get("cwd") or "")
            self._note(
                session=_session(message.get("session_id")),
                model=_text(message.get("model"), 100),
                auth=_text(message.get("apiKeySource"), 64),
            )
            session = _text(message.get("session_id"), 64)
            yield f"── {self._facts['model'] or 'claude'}, session {session or '?'}"
        elif kind == "api_retry":
            status, error = _status(message.get("error_status")), _text(message.get("error"), 100)
            delay = _milliseconds(message.get("retry_delay_ms"))
            retry = {"status": status, "error": error, "delay_ms": delay}
            self._note(retry=retry, retries=min(self._facts["retries"] + 1, 10**6))
            what = f"{status} {error}" if status else str(error or "no answer")
            numbers = f"{message.get('attempt')} of {message.get('max_retries')}"
            yield f"… retry {numbers} in {delay / 1000:.1f} s: {what}"
        elif isinstance(message.get("content"), str) and message["content"].strip():
            yield f"… {summarize_line(message['content'])}"

    def _assistant(self, line: dict[str, Any]) -> Iterator[str]:
        message = line.get("message")
        if not isinstance(message, dict):
            return
        self._count(message, line.get("parent_tool_use_id"))
        for block in _blocks(message.get("content")):
            if block.get("type") == "text" and isinstance(block.get("text"), str):
                yield from strip_escapes(block["text"]).strip("\n").split("\n")
            elif block.get("type") == "tool_use":
                yield f"→ {block.get('name')}: {self._input(block.get('input'))}"

    def _input(self, given: Any) -> str:
        if not isinstance(given, dict):
            return ""
        for name in _SHOWN:
            if isinstance(given.get(name), str) and given[name].strip():
                text = given[name]
                if name.endswith("path") and self._cwd and text.startswith(self._cwd + "/"):
                    text = text[len(self._cwd) + 1 :]
                return summarize_line(text)
        return summarize_line(json.dumps(given, ensure_ascii=False))

    def _user(self, line: dict[str, Any]) -> Iterator[str]:
        message = line.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        for block in _blocks(content):
            if block.get("type") == "tool_result":
                inner = block.get("content")
                said = (
                    inner
                    if isinstance(inner, str)
                    else "\n".join(str(part.get("text", f"[{part.get('type')}]")) for part in _blocks(inner))
                )
                yield f"{'✗' if block.get('is_error') else '←'} {summarize_line(said) or '(nothing)'}"
            elif block.get("type") == "text" and line.get("isSynthetic"):
                if found := _REFUSAL.search(str(block.get("text"))):
                    self._note(hook=_text(found[1], 400))
                yield f"… {summarize_line(str(block.get('text')))}"

    def _event(self, line: dict[str, Any]) -> Iterator[str]:
        """Handle the start and end of a message; its content comes again as one ``assistant`` line."""
        event, parent = line.get("event"), line.get("parent_tool_use_id")
        if not isinstance(event, dict):
            return
        self._partial = True
        kind = event.get("type")
        if kind == "message_start" and isinstance(event.get("message"), dict):
            self._count(event["message"], parent)
        elif kind == "message_delta":
            name = self._open.get(parent)
            delta = event.get("delta")
            if name is not None:
                usage, stop = event.get("usage"), delta.get("stop_reason") if isinstance(delta, dict) else None
                self._count({"id": name, "model": None, "usage": usage, "stop_reason": stop}, parent)
                cost = self.cost()
                if cost:
                    yield f"  {format_dollars(cost)} so far"

    def _count(self, message: dict[str, Any], parent: Any) -> None:
        """Record a message's usage and stop reason, from any line that has them."""
        name, model = message.get("id"), message.get("model")
        if not isinstance(name, str) or model == "<synthetic>":
            return
        parent = parent if isinstance(parent, str) else None
        self._open[parent] = name
        if name not in self._used:
            self._messages += 1
        before = self._used.get(name, (_text(model, 100) or "unknown", [0] * 5))
        usage = message.get("usage")
        now = read_tokens(usage) if isinstance(usage, dict) else [0] * 5
        self._used[name] = (before[0], [max(a, b) for a, b in zip(before[1], now)])
        if parent is None:
            known = self._stop if self._main == name else None
            self._main, self._stop = name, _text(message.get("stop_reason"), 40) or known
        self._note(retry=None)

    def _result(self, message: dict[str, Any]) -> Iterator[str]:
        status, turns = _status(message.get("api_error_status")), message.get("num_turns")
        text = message.get("result")
        errors = message.get("errors")
        if not isinstance(text, str):
            text = "; ".join(map(str, errors)) if isinstance(errors, list) else ""
        fresh = message.get("model_usage_since_last_result")
        if isinstance(fresh, dict):
            self._bill(fresh)
        self._note(
            result={
                "subtype": _text(message.get("subtype"), 64) or "",
                "is_error": bool(message.get("is_error")),
                "status": status,
                "error": _text(message.get("api_error_type"), 64),
                "stop": _text(message.get("stop_reason"), 40),
                "terminal": _text(message.get("terminal_reason"), 64),
                "turns": turns if type(turns) is int and 0 <= turns < 10**6 else 0,
                "text": strip_escapes(text)[-MAX_TEXT:],
                "total_cost": _nano_dollars(message.get("total_cost_usd")),
            }
        )
        good = message.get("subtype") == "success" and not message.get("is_error")
        spent = self.cost()
        parts = [f"{turns} turns", *([format_dollars(spent)] if spent is not None else [])]
        verdict = "success" if good else f"an error ({message.get('subtype')})"
        yield f"══ {verdict}: {', '.join(parts)}"
        if not good and text:
            yield f"   {summarize_line(text)}"

    def _screen(self, line: dict[str, Any]) -> Iterator[str]:
        """Handle what `ship.screen` says of a run with a screen of its own."""
        before = self._facts["waits"]
        waits = _text(line.get("waits"), 100)
        self._note(waits=waits, **{name: line.get(name) is True for name in _SCREEN if name != "waits"})
        if waits and waits != before:
            yield f"… it waits for a person: {waits}"

    def _late_bill(self, line: dict[str, Any]) -> Iterator[str]:
        """Handle the sums of such a run that has no result."""
        fresh = line.get("model_usage_since_last_result")
        if isinstance(fresh, dict):
            self._bill(fresh)
            self._note()
        yield from ()

    def _bill(self, fresh: dict[str, Any]) -> None:
        """Add what the CLI counted since its last result, with helper models, which are not in the stream."""
        for model, one in list(fresh.items())[:MAX_MODELS]:
            if isinstance(one, dict):
                usage = {
                    "input_tokens": one.get("inputTokens"),
                    "output_tokens": one.get("outputTokens"),
                    "cache_read_input_tokens": one.get("cacheReadInputTokens"),
                    "cache_creation_input_tokens": one.get("cacheCreationInputTokens"),
                    "cache_creation": {"ephemeral_1h_input_tokens": one.get("cacheCreationEphemeral1hInputTokens")},
                }
                name, cost = _text(model, 100) or "unknown", _nano_dollars(one.get("costUSD")) or 0
                if name not in self._billed and len(self._billed) >= MAX_MODELS:
                    name = next(reversed(self._billed))  # of so many names none is sound; the sums still are
                before = self._billed.get(name, [0] * 6)
                self._billed[name] = [*_sum(before[:5], read_tokens(usage)), min(before[5] + cost, MAX_NANO)]
        self._used.clear()
        self._open.clear()

    def _note(self, **facts: Any) -> None:
        self._facts.update(facts)
        self.changed = True


def transcripts(home: Path, workspaces: Iterable[Path]) -> list[Path]:
    """Return the directories of transcripts of workspaces; Claude Code derives their names from the paths."""
    projects = home / ".claude/projects"
    names = {_NO_NAME.sub("-", str(path)) for path in workspaces}
    cut = {name[:MAX_NAME] for name in names if len(name) > MAX_NAME}
    return [
        *(projects / name for name in sorted(names - cut)),
        *(one for name in cut for one in projects.glob(f"{name}-*")),
    ]


def _text(value: Any, max_length: int) -> str | None:
    return (strip_escapes(value)[:max_length] or None) if isinstance(value, str) else None


def _session(value: Any) -> str | None:
    return value if isinstance(value, str) and _SESSION.fullmatch(value) else None


def _status(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= 999 else None


def _milliseconds(value: Any) -> int:
    return int(min(value, MAX_DELAY)) if isinstance(value, (int, float)) and value >= 0 else 0


def _sum(one: Tokens, other: Tokens) -> Tokens:
    return [min(a + b, MAX_COUNT) for a, b in zip(one, other)]


def _nano_dollars(value: Any) -> int | None:
    return round(value * 10**9) if isinstance(value, (int, float)) and 0 <= value < 10**6 else None


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
