"""Errors of the Sprites client.

::

    SpritesError                    every error of this client
    ├─ ConnectionFailed             the service was not reached, or did not answer
    ├─ BadReply                     an invalid answer (cut short, not JSON)
    ├─ TooLarge                     a file or an output is longer than the caller accepts
    ├─ ExecInterrupted              a running command's socket ended without an exit message
    │  ├─ SpriteWedged              its sprite does not start another command either
    │  └─ OutputLost                it ended, and not all of its output arrived
    ├─ ProxyFailed                  a TCP connection to a port of a sprite was not made, or broke
    ├─ DeadlinePassed               a command took too long and was killed
    ├─ TransferFailed               a file did not arrive as it was sent
    │  └─ FileMissing               the file to fetch does not exist
    └─ ApiError                     the service answered with a refusal (status, code)
       ├─ AuthenticationError       401, 403: the token is missing, wrong or not allowed
       ├─ NotFound                  404, 410
       ├─ Conflict                  409, and 400 whose text says that the name is taken
       └─ RateLimited               429 (retry_after in seconds, where known)
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, ClassVar

from ocaptain.durations import parse_retry_after
from ocaptain.errors import OcaptainError
from ocaptain.sprites.redact import redact, redact_line, request_id

if TYPE_CHECKING:
    from collections.abc import Mapping


#: The error code for: the account runs as many sprites as it may.
SPRITE_LIMIT_CODE = "concurrent_sprite_limit_exceeded"
MAX_CODE = 100
MAX_LISTED = 20  # of a refusal's list
MAX_DEPTH = 4
MAX_INPUT = 4000  # characters of a web page that are searched for its title


class SpritesError(OcaptainError):
    """An error of this client or the service; credentials are removed from its text."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))

    def add_remedy(self, remedy: str) -> None:
        """Add what to do, as whoever made the call knows it, unless the message ends with it already."""
        if not self.message.endswith(f"; {remedy}"):
            self.message = f"{self.message}; {remedy}"


class ConnectionFailed(SpritesError):
    """The service could not be reached, or did not answer in time.

    Attributes:
        sent: whether the request may have reached the service.
        silent: whether the time limit passed without an answer: a sprite may be wedged, so that another try
            only costs as long again.
    """

    def __init__(self, message: str, *, sent: bool = False, silent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.silent = silent


class BadReply(SpritesError):
    """The service answered with success, but the content is invalid."""


class TooLarge(SpritesError):
    """A file or a command's output is longer than the caller accepts."""


class ExecInterrupted(SpritesError):
    """The connection of a running command broke; the command may still run."""


class SpriteWedged(ExecInterrupted):
    """A running command was silent, and its sprite does not start another one in time."""


class OutputLost(ExecInterrupted):
    """A command ended, and not all of its output arrived."""


class ProxyFailed(SpritesError):
    """A TCP connection to a port of a sprite was not made, or broke later."""


class DeadlinePassed(SpritesError):
    """A command took too long and was killed."""


class TransferFailed(SpritesError):
    """A file did not arrive as it was sent."""


class FileMissing(TransferFailed):
    """There is no such file to fetch."""


class ApiError(SpritesError):
    """The service refused.

    Attributes:
        status: HTTP status.
        code: the service's own error code, or an errno name from the fs API, or "".
        retry_after: seconds the service asks to wait, or None.
    """

    statuses: ClassVar[frozenset[int]] = frozenset()

    def __init__(self, message: str, *, status: int, code: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class AuthenticationError(ApiError):
    """The token is missing, wrong or not allowed to do this."""

    exit_code = 2
    statuses = frozenset({401, 403})


class NotFound(ApiError):
    """The sprite, session, service or file does not exist."""

    statuses = frozenset({404, 410})


class Conflict(ApiError):
    """The name is taken, or the state of the sprite or service does not allow the call."""

    statuses = frozenset({409})


class RateLimited(ApiError):
    """Too many requests, or more sprites than the account may run."""

    statuses = frozenset({429})


def api_error(operation: str, status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Return the error for a refusal in any of the service's formats.

    Args:
        operation: the call, as the message names it.
        status: HTTP status.
        headers: response headers; ``retry-after`` is looked for in lower case.
        body: response body: JSON of the CRUD or the fs dialect, a list of validation errors, or plain text.
    """
    fields = _parse_fields(body)
    is_fs = "path" in fields or str(fields.get("code", "")).startswith("E")
    code = fields.get("code" if is_fs else "error")
    code = code[:MAX_CODE] if isinstance(code, str) else ""
    text = _text_of(fields.get("error") if is_fs else fields.get("message") or fields.get("error"))
    text = text or _text_of(fields.get("errors")) or "no reason given"
    wait = parse_retry_after(fields.get("retry_after_seconds", headers.get("retry-after")))
    kind = next((kind for kind in ApiError.__subclasses__() if status in kind.statuses), ApiError)
    if is_fs and kind is AuthenticationError:  # a file's permissions, not the token's
        kind = ApiError
    if status in {400, 422} and not is_fs and re.search(r"already exist|taken", text):
        kind = Conflict
    traced = ", ".join(filter(None, (f"HTTP {status}", request_id(headers))))
    return kind(f"{operation}: {text} ({traced})", status=status, code=code, retry_after=wait)


def _parse_fields(body: bytes) -> dict[str, object]:
    """Return the JSON fields of a refusal; if it is no JSON object, the body's text as ``message``."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    return fields if isinstance(fields, dict) else {"message": _plain_text(body.decode(errors="replace"))}


def _plain_text(body: str) -> str:
    """Return a body that is no JSON, of a web page (as gateways and proxies send) only its title."""
    if not body.lstrip().startswith("<"):
        return body
    title = re.search(r"<title[^>]{0,200}>([^<]{1,500})", body[:MAX_INPUT], re.IGNORECASE)
    return html.unescape(title[1]).strip() if title else "a web page instead of an answer of the API"


def _text_of(value: object, depth: int = 0) -> str:
    """Return the text of a refusal as one line: from a text, a list, or messages by field, also nested.

    Sources: ``{"errors": ["name must be …"]}`` of the REST reference, beside the documented ``message``.
    """
    if value is None or depth > MAX_DEPTH:
        return ""
    if isinstance(value, list):
        return redact_line(", ".join(filter(None, (_text_of(one, depth + 1) for one in value[:MAX_LISTED]))))
    if isinstance(value, dict):
        known = next((value[key] for key in ("message", "detail", "error", "errors") if value.get(key)), None)
        if known is not None:
            return _text_of(known, depth + 1)
        pairs = list(value.items())[:MAX_LISTED]
        return redact_line(", ".join(f"{key}: {_text_of(value, depth + 1)}" for key, value in pairs))
    return redact_line(value)
