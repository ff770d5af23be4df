"""Durations as Go writes them (``1m30s``, ``5.0s``, ``250ms``), which the Sprites API and its SDKs use."""

from __future__ import annotations

import re
import time

MAX_SECONDS = 366 * 86400.0
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_seconds(text: str) -> float:
    """Return the seconds of a duration or a plain number; at most a year.

    Raises:
        ValueError: ``text`` is neither.
    """
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return min(float(text), MAX_SECONDS)
    if not text or _PART.sub("", text):
        raise ValueError(f"not a duration (30s, 1m30s, 250ms): {text!r}")
    return min(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)), MAX_SECONDS)


def parse_retry_after(value: object) -> float | None:
    """Return the seconds of a Retry-After value: a number or an HTTP date; None if it is neither."""
    try:
        return max(0.0, float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - few parse a date, and each command this module

    try:
        return max(0.0, parsedate_to_datetime(str(value)).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
