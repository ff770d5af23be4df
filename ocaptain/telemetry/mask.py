"""What of an agent's telemetry may be kept: a pure function of a text and the key that it stands under.

key, text ──> the text | without credentials | only how long it was

- **Content** is dropped: what the user, the model and its tools said to each other (prompts, answers, input and output
  of tools, commands, paths, errors that quote them). An agent may call it what it likes, so a key's words decide, not
  a list of keys: ``prompt``, ``gen_ai.input.messages``, ``llm.prompts.0.content``, ``toolInput``. Keys that measure
  (``prompt_length``, ``input_tokens``, ``tool_result_size_bytes``) stay, and so does what is a number by its type.
- **Credentials** are masked wherever they stand: those that this machine knows, by their value; others by their form.
- Every text is cut to :data:`MAX_TEXT` characters.

Attributes of Claude Code that this was held against: code.claude.com/docs/en/monitoring-usage.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote

from ocaptain.sprites.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterable

MASKED = "********"
MAX_TEXT = 1000
MAX_KEY = 200
_MAX_INPUT = 8 * MAX_TEXT  # bounds the time of the patterns; what they cut in two is not shown
#: A shorter one would match ordinary words.
MIN_SECRET = 6
#: Texts that come again and again (an agent's version, a session) are looked at once.
_MAX_KNOWN, _MAX_KNOWN_LENGTH = 20_000, 200
#: A key with one of these words holds content …
_CONTENT = frozenset(
    [
        *("prompt", "prompts", "input", "inputs", "output", "outputs", "argument", "arguments", "args"),
        *("parameter", "parameters", "params", "command", "commands", "cmd", "cmdline", "query", "statement"),
        *("content", "contents", "message", "messages", "response", "responses", "completion", "completions"),
        *("answer", "body", "text", "instruction", "instructions", "context", "thinking", "reasoning", "description"),
        *("stdin", "stdout", "stderr", "diff", "patch", "result", "results", "error", "stacktrace", "traceback"),
        *("path", "paths", "file", "files", "filename", "filenames"),
    ]
)
#: … unless it ends with one of these, which say how much or which one.
_MEASURE = frozenset(
    [
        *("id", "ids", "length", "size", "bytes", "chars", "token", "tokens", "count", "counts", "total", "number"),
        *(
            "index",
            "hash",
            "sha256",
            "type",
            "kind",
            "format",
            "role",
            "ms",
            "seconds",
            "duration",
            "time",
            "timestamp",
        ),
        *("name", "version", "source", "code", "status", "method", "limit", "max", "min", "level", "encoding"),
    ]
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
#: Up to three words: a name. What has more, a quote or an assignment may be a sentence or a command.
_NAME = re.compile(r"[\w.:/()\[\]-]{1,80}(?: [\w.:/()\[\]-]{1,40}){0,2}")
#: Nothing of what is below can be in these: numbers, times, and ids of hexadecimal digits.
_HARMLESS = re.compile(r"[0-9a-fA-F-]{0,36}|[0-9.:TZ+-]{0,40}")
#: Neither a URL, nor a header, nor a pair: nothing that :func:`~ocaptain.sprites.redact.redact` knows of.
_ONE_WORD = re.compile(r"[\w.-]*")
#: Forms of credentials that no other word has; :func:`~ocaptain.sprites.redact.redact` knows headers, URLs and pairs.
_FORMS = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}"  # Anthropic, OpenAI and others
    r"|\bgh[opusr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}"
    r"|\btskey-[A-Za-z0-9-]{10,}|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[A-Za-z0-9_-]{30,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # JSON Web Tokens (RFC 7519)
    r"|\b(?:spr|fm[0-9]|fo[0-9])_[\w+/=-]{6,}"  # Sprites, Fly
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*"
)


def is_content(key: str) -> bool:
    """Return whether what stands under a key is said by somebody, not measured."""
    words = [word.lower() for word in _WORDS.findall(key)]
    while words and words[-1].isdigit() and len(words) > 1:
        words.pop()  # llm.prompts.0
    return bool(words) and words[-1] not in _MEASURE and not _CONTENT.isdisjoint(words)


class Mask:
    """Cleans texts. Not for several threads at once.

    Args:
        secrets: what this machine knows; one of fewer than :data:`MIN_SECRET` characters is not looked for.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= MIN_SECRET for form in _forms_of(secret)}
        # The longest first: one may be the beginning of another.
        ordered = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        #: Keys and texts that were looked at and may stay as they are; keys of content are none of them.
        self.harmless_keys: set[str] = set()
        self.harmless_texts: set[str] = set()

    def key(self, key: str) -> tuple[str, bool]:
        """Return a key as it may be kept, and whether what stands under it is content."""
        found = self.text(key)[:MAX_KEY], is_content(key)
        if found == (key, False):
            _remember(self.harmless_keys, key)
        return found

    def text(self, text: str) -> str:
        """Return a text without credentials, of at most :data:`MAX_TEXT` characters."""
        if text in self.harmless_texts:
            return text
        found = self._clean(text)
        if found == text:
            _remember(self.harmless_texts, text)
        return found

    def _clean(self, text: str) -> str:
        if self._secrets:
            text = self._secrets.sub(MASKED, text)
        if _HARMLESS.fullmatch(text):
            return text
        text = _FORMS.sub(MASKED, text[:_MAX_INPUT])  # not earlier: half of a secret would not match
        if not _ONE_WORD.fullmatch(text):
            text = redact(text)
        return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"

    def name(self, text: str) -> str:
        """Return the name of an event or a span, or how long it was if somebody may have said it."""
        return self.text(text) if _NAME.fullmatch(text) else dropped(len(text), "characters")


def dropped(size: int, unit: str) -> str:
    """Return what stands in the place of content."""
    return f"[dropped: {size} {unit}]"


def _forms_of(secret: str) -> set[str]:
    """Return how a secret is written: as it is, in JSON, in a URL, in base64 (alone)."""
    encoded = b64encode(secret.encode("utf-8", "surrogateescape")).decode().rstrip("=")
    return {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), encoded}


def _remember(known: set[str], text: str) -> None:
    if len(known) >= _MAX_KNOWN:
        known.clear()
    if 0 < len(text) <= _MAX_KNOWN_LENGTH:  # "" is also what a value of another kind has for its text
        known.add(text)
