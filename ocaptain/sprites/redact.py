"""Make foreign text safe to show: no credentials, no URL queries, no control characters, short.

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
MAX_INPUT = 4000  # bounds the time of the patterns
MIN_SECRET_LENGTH = 8  # a shorter one would match ordinary words
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
    """Register a secret; :func:`redact` replaces it in every error of this client."""
    if len(secret) >= MIN_SECRET_LENGTH:
        _hidden.update({secret, quote(secret), quote(secret, safe="")})


def redact(text: str) -> str:
    """Return a text without registered secrets and without anything that looks like a credential."""
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "…")
    text = text[:MAX_INPUT]  # not earlier: half of a secret would not match
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def redact_line(text: object) -> str:
    """Return foreign text as one short line without credentials and control characters."""
    return clean_line(redact(str(text)), MAX_TEXT)


def request_id(headers: Mapping[str, str]) -> str:
    """Return the id of a request in the service's logs (``Fly-Request-Id``), "" if the reply has none."""
    found = re.fullmatch(r"[\w.:/+=-]{1,100}", str(headers.get("fly-request-id", "")).strip(), re.ASCII)
    return f"Fly-Request-Id {found[0]}" if found else ""


def request_id_suffix(headers: Mapping[str, str]) -> str:
    """Return the request id in brackets, to append to a message; "" if there is none."""
    name = request_id(headers)
    return f" ({name})" if name else ""
