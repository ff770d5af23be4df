"""Make text of others safe to show and to store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# C0 but tab and newline, DEL, C1, line and paragraph separators, and what reorders text on screen.
_HOSTILE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

#: What validators say, in our words (``pydantic_core``'s messages, which typer uses as well).
_PLAIN_REASONS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"(^|: )Value error, ", r"\1"),
        (r"[Ii]nput should be a valid integer\b.*", "must be a whole number"),
        (r"[Ii]nput should be a valid number\b.*", "must be a number"),
        (r"[Ii]nput should be a valid boolean\b.*", "must be true or false"),
        (r"[Ii]nput should be a valid string\b.*", "must be a text"),
        (r"[Ii]nput should be a valid (list|tuple|array)\b.*", "must be a list"),
        (r"[Ii]nput should be (an object|a valid dictionary)\b.*", "must be an object {…}"),
        (r"[Ss]tring should have at least 1 character", "is empty"),
        (r"[Ss]tring should have at most (\d+) characters?", r"has more than \1 characters"),
        (r"[Ii]nput should be greater than or equal to (\S*\d)", r"must be \1 or more"),
        (r"[Ii]nput should be less than or equal to (\S*\d)", r"must be \1 or less"),
        (r"[Ii]nput should be greater than (\S*\d)", r"must be more than \1"),
        (r"[Ii]nput should be less than (\S*\d)", r"must be less than \1"),
        (r"[Ii]nput should be ", "must be "),
        (r"[Ss]tring should match pattern .*", "does not have the right form"),
        (r"^Field required$", "is missing"),
    )
)


def plain_reason(message: str) -> str:
    """Return a validator's message (pydantic's, typer's) in words that need no knowledge of the validator."""
    for pattern, plain in _PLAIN_REASONS:
        message = pattern.sub(plain, message)
    return message


def escape_control(text: str) -> str:
    r"""Return ``text`` with everything a terminal could act upon shown as an escape (``\\x1b``)."""
    return _HOSTILE.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    """Return what is shown of a hostile character: a byte (also one that is no UTF-8) as an escape, else nothing."""
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return f"\\x{byte:02x}" if byte < 256 else ""


def clean_line(text: str, width: int = 0) -> str:
    """Return ``text`` as one clean line, cut to ``width`` characters (0 = not)."""
    line = " ".join(escape_control(re.sub(r"\r+(?=\n|$)", "", text)).split())  # ends of lines, as of ssh
    return line if not width or len(line) <= width else line[: width - 1] + "…"


def clean_bytes(data: bytes) -> bytes:
    """Return ``data`` of the same length with control bytes as ``?``: logs keep their offsets."""
    data = data.replace(b"\r\n", b" \n").replace(b"\r", b"\n")
    data = re.sub(rb"[\x00-\x08\x0b-\x1f\x7f]", b"?", data)
    return re.sub(rb"\xc2[\x80-\x9f]", b"??", data)


def group_by_reason(reasons: Mapping[str, str], shown: int = 5) -> list[str]:
    """Return a line for each reason, with all that it holds for: ``ship-0, ship-1: no room``.

    Args:
        reasons: why, by the name of what it is about.
        shown: how many names a line has; of more the first ones and their number.
    """
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    rest = {reason: f" and {len(found) - shown} more" if len(found) > shown else "" for reason, found in names.items()}
    return [f"{', '.join(found[:shown])}{rest[reason]}: {reason}" for reason, found in names.items()]
