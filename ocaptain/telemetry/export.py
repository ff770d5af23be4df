"""What is stored as lines of JSON, as OTLP's file exporter writes them (opentelemetry.io/docs/specs/otel/protocol).

Stored, the voyage's spans ──> {"resourceMetrics": […]} | {"resourceLogs": […]} | {"resourceSpans": […]}, one a line

OTLP's JSON is protobuf's, but for ids, which are hexadecimal, and enumerations, which are numbers.
"""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from ocaptain.telemetry.decode import decode_stored
from ocaptain.telemetry.spans import spans_message, voyage_spans
from ocaptain.telemetry.store import OWN, read_after, reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ocaptain.telemetry.spans import Course

_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


def export_lines(path: Path, course: Course | None) -> Iterator[str]:
    """Yield what is stored, oldest first, then the voyage's own spans.

    Args:
        path: of the store; it may be missing.
        course: of the voyage; None = there is none.

    Raises:
        sqlite3.Error: the store cannot be read.
    """
    with reading(path) as db:
        if db is not None:
            for one in read_after(db, 0):
                if one.origin != OWN:  # these are made anew below
                    yield as_line(decode_stored(one.body, one.signal))
    if course and (spans := voyage_spans(course)):
        yield as_line(spans_message(course.voyage, spans))


def as_line(message: Any) -> str:
    """Return a message as a line of OTLP's JSON."""
    found = _with_hexadecimal_ids(MessageToDict(message, use_integers_for_enums=True))
    return json.dumps(found, separators=(",", ":"))  # ASCII: nothing that a terminal could act upon


def _with_hexadecimal_ids(found: Any) -> Any:
    if isinstance(found, dict):
        return {
            key: b64decode(value).hex() if key in _IDS and isinstance(value, str) else _with_hexadecimal_ids(value)
            for key, value in found.items()
        }
    if isinstance(found, list):
        return [_with_hexadecimal_ids(one) for one in found]
    return found
