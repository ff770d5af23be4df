"""What others say, as it may be shown: no credentials, no queries of URLs, short and clean.

An error's text may come from the service, from a proxy, or from a library that repeats what it was given (a
proxy's URL with its password, a socket's URL with a command's words).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TEXT = 500
MAX_INPUT = 4000  # the patterns go over it more than once
MIN_SECRET_LENGTH = 8  # a shorter one would be found in ordinary words
_PATTERNS = tuple(
    (re.compile(pattern, re.IGNORECASE), shown)
    for pattern, shown in (
        (r"://[^\s'\"/?#]{0,500}@|://[^\s'\"/@:]{0,200}:[^\s'\"@]{0,500}@", "://…@"),
        (r"((?:https?|wss?|socks\w*)://[^\s'\"?#]+)[?#][^\s'\"]*", r"\1?…"),
        (r"\b(bearer|basic|flyv1)([\s:]+)(?=\S*[0-9]|\S{24})[^\s,;'\"]{8,}", r"\1\2…"),
        (
            r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)\b(['\"]?\s*[:=]\s*)(?!bearer|basic|flyv1)[^\s,'\"]+",
            r"\1\2…",
        ),
        (r"\b([a-z0-9_-]{0,40}(?:token|secret|password|passwd|api_?key))=[^\s&,;'\"]+", r"\1=…"),
        (r"\b(?:spr|fm[0-9]|fo[0-9])_[\w+/=-]{6,}", "…"),
    )
)
_hidden: set[str] = set()


def hide_secret(secret: str) -> None:
    """Never show this again, whoever repeats it: every error of this client looks for it."""
    if len(secret) >= MIN_SECRET_LENGTH:
        _hidden.update({secret, quote(secret), quote(secret, safe="")})


def redact(text: str) -> str:
    """Return a text without what looks like a credential, and without the secrets that were hidden."""
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "…")
    text = text[:MAX_INPUT]  # not before: half of a secret would be found by nobody
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def redact_line(text: object) -> str:
    """Return what somebody else said as one short line that may be shown."""
    return clean_line(redact(str(text)), MAX_TEXT)


def request_id(headers: Mapping[str, str]) -> str:
    """Return how the service names a request in its own logs (``Fly-Request-Id``), "" if it does not say."""
    found = re.fullmatch(r"[\w.:/+=-]{1,100}", str(headers.get("fly-request-id", "")).strip(), re.ASCII)
    return f"Fly-Request-Id {found[0]}" if found else ""


def request_id_suffix(headers: Mapping[str, str]) -> str:
    """Return the request's name in brackets, to stand behind a message; "" if it has none."""
    name = request_id(headers)
    return f" ({name})" if name else ""
