"""OTLP's bytes as messages of ``opentelemetry-proto``, and nothing of a message that is too large or wrong.

bytes, content type, signal ──> Export…ServiceRequest, or Malformed

The protocol is OpenTelemetry's (opentelemetry.io/docs/specs/otlp): binary protobuf, or its JSON mapping, in which ids
of traces and spans are hexadecimal instead of protobuf's base64 and unknown fields are ignored.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ocaptain.telemetry.parts import Malformed, check_marks, check_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOBUF, JSON = "application/x-protobuf", "application/json"
#: Bytes of one unzipped call; honest ones have a few hundred KiB.
MAX_BODY = 8 * 1024 * 1024
#: Points, records and spans of one call.
MAX_ITEMS = 100_000
#: Each gets attributes of ours; an agent is one.
MAX_RESOURCES = 1_000
_REQUESTS: dict[str, Any] = {
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
_IDS = frozenset({"traceId", "spanId", "parentSpanId"})
_MAX_ID = 16


def decode(body: bytes, content_type: str, signal: str) -> Any:
    """Return the message that a call's body is.

    Args:
        body: unzipped.
        content_type: of HTTP; parameters (``; charset=…``) do not matter.
        signal: ``metrics``, ``logs`` or ``traces``.

    Raises:
        Malformed: it is none of that signal, or too large.
    """
    if len(body) > MAX_BODY:
        raise Malformed(f"the call has {len(body)} bytes; at most {MAX_BODY} are taken")
    if signal not in _REQUESTS:
        raise Malformed("the signal is none of metrics, logs, traces")
    message = _REQUESTS[signal]()
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == PROTOBUF:
            check_parts(body, message.DESCRIPTOR)
            message.ParseFromString(body)
            message.DiscardUnknownFields()  # nobody could clean what nobody can read
        elif kind == JSON:
            check_marks(body)
            found = json.loads(body)
            if not isinstance(found, dict):
                raise TypeError
            ParseDict(_with_base64_ids(found), message, ignore_unknown_fields=True)
        else:
            raise Malformed(f"the content type is neither {PROTOBUF} nor {JSON}")
    except (DecodeError, ParseError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        raise Malformed(f"the body is no OTLP call for {signal}") from None  # the error would repeat the body
    if count_items(message, signal) > MAX_ITEMS:
        raise Malformed(f"the call has more than {MAX_ITEMS} points, records or spans")
    if len(getattr(message, message.DESCRIPTOR.fields[0].name)) > MAX_RESOURCES:
        raise Malformed(f"the call has more than {MAX_RESOURCES} resources")
    return message


def decode_stored(body: bytes, signal: str) -> Any:
    """Return a message of the store, which may be larger than a call: it has our words in the place of content."""
    return _REQUESTS[signal].FromString(body)


def count_items(message: Any, signal: str) -> int:
    """Return how many points, records or spans a message has."""
    if signal == "metrics":
        return sum(len(data_points(metric)) for metric in metrics_of(message))
    if signal == "logs":
        return sum(len(scope.log_records) for resource in message.resource_logs for scope in resource.scope_logs)
    return sum(len(scope.spans) for resource in message.resource_spans for scope in resource.scope_spans)


def metrics_of(message: Any) -> Iterator[Any]:
    """Yield the metrics of a message."""
    for resource in message.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics


def data_points(metric: Any) -> Any:
    """Return the points of a metric of any kind, () if it has none."""
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else ()


def _with_base64_ids(found: Any) -> Any:
    """Return JSON of OTLP as protobuf's JSON.

    Raises:
        ValueError: an id is not hexadecimal.
    """
    if isinstance(found, dict):
        return {
            key: _base64_id(value) if key in _IDS and isinstance(value, str) else _with_base64_ids(value)
            for key, value in found.items()
        }
    if isinstance(found, list):
        return [_with_base64_ids(one) for one in found]
    return found


def _base64_id(text: str) -> str:
    return b64encode(bytes.fromhex(text)[:_MAX_ID]).decode()
