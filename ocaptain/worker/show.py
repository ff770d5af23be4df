"""Make an agent's output safe to show: without terminal escapes and secrets."""

from __future__ import annotations

import json
import re
from typing import List

MAX_LINE = 64 * 1024 * 1024
MAX_WIDTH = 160
_ESCAPES = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]"  # CSI
    "|\x1b[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)?"  # OSC, DCS, SOS, PM, APC
    "|\x1b[ -/]*[0-~]"
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def strip_escapes(text: str) -> str:
    """Return text without terminal escapes, other control characters and lone surrogates; tabs and newlines stay."""
    return _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def summarize_line(text: str, width: int = MAX_WIDTH) -> str:
    """Return the first non-empty line, cut to ``width``, and the number of further lines."""
    lines = [line.strip() for line in strip_escapes(text).split("\n") if line.strip()]
    if not lines:
        return ""
    first = lines[0] if len(lines[0]) <= width else lines[0][: width - 1] + "…"
    return first if len(lines) == 1 else f"{first} (+{len(lines) - 1} lines)"


class Masker:
    """Replaces secrets in bytes, as they are and as JSON writes them."""

    def __init__(self, secrets: List[str]) -> None:
        forms = set()
        for secret in secrets:
            if len(secret) >= 6:
                forms |= {secret.encode(), json.dumps(secret)[1:-1].encode()}
        # The longest first: one may be the beginning of another.
        self._pattern = re.compile(b"|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))
        self.has_secrets = bool(forms)

    def __call__(self, data: bytes) -> bytes:
        """Return ``data`` with the secrets replaced by asterisks."""
        return self._pattern.sub(b"********", data) if self.has_secrets else data


class LineMasker:
    """Masks a byte stream line by line; a very long line is masked in pieces."""

    def __init__(self, mask: Masker) -> None:
        self._mask = mask
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return the masked complete lines."""
        if not self._mask.has_secrets:
            return data
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        if len(rest) > MAX_LINE:
            whole, newline, rest = whole + newline + rest, b"", b""
        self._rest = rest
        return self._mask(whole + newline)

    def close(self) -> bytes:
        """Return the masked rest."""
        rest, self._rest = self._rest, b""
        return self._mask(rest)
