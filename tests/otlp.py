"""Payloads of OTLP as agents send them, made by hand with opentelemetry-proto; and a collector that decodes them."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

REQUESTS = {
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
DELTA, CUMULATIVE = 1, 2
#: What Claude Code has on each point, beside the resource's.
SESSION = {
    "user.id": "3f" * 32,
    "session.id": "0b8d2f0e-64d5-4b5c-9e0b-5d7a7d3a9a11",
    "app.version": "2.1.0",
    "terminal.type": "tmux",
}


def any_value(value):
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case str():
            return AnyValue(string_value=value)
        case list():
            made = AnyValue()
            made.array_value.values.extend(map(any_value, value))
            return made
        case dict():
            made = AnyValue()
            made.kvlist_value.values.extend(pairs(value))
            return made
    raise TypeError(value)


def pairs(attributes):
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def attributes(found):
    """Return attributes as a dict."""
    return {one.key: plain(one.value) for one in found}


def plain(value):
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


def metrics(points, *, name="claude_code.token.usage", temporality=DELTA, resource=None, start=1_000):
    """Return a call with a sum. ``points``: (attributes, value) each."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(pairs({"service.name": "claude-code", **(resource or {})}))
    scope = group.scope_metrics.add()
    scope.scope.name = "com.anthropic.claude_code"
    metric = scope.metrics.add(name=name, unit="tokens", description="Number of tokens used")
    metric.sum.aggregation_temporality = temporality
    metric.sum.is_monotonic = True
    for number, (found, value) in enumerate(points):
        point = metric.sum.data_points.add(start_time_unix_nano=start, time_unix_nano=start + 1 + number)
        point.attributes.extend(pairs(found))
        if isinstance(value, int):
            point.as_int = value
        else:
            point.as_double = value
    return request


def token_points(read=0, written=0, cached=0, created=0):
    """Return points as Claude Code has them."""
    kinds = {"input": read, "output": written, "cacheRead": cached, "cacheCreation": created}
    return [({**SESSION, "model": "claude-sonnet-4-5", "type": kind}, float(value)) for kind, value in kinds.items()]


def logs(events, resource=None):
    """Return a call with records. ``events``: (name, attributes) each."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(pairs({"service.name": "claude-code", **(resource or {})}))
    scope = group.scope_logs.add()
    for number, (name, found) in enumerate(events):
        record = scope.log_records.add(time_unix_nano=time.time_ns() + number)
        record.body.string_value = f"claude_code.{name}"
        record.attributes.extend(pairs({**SESSION, "event.name": name, "event.sequence": number, **found}))
    return request


def traces(spans, resource=None):
    """Return a call with spans. ``spans``: (name, attributes) each."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(pairs({"service.name": "claude-code", **(resource or {})}))
    scope = group.scope_spans.add()
    for number, (name, found) in enumerate(spans):
        span = scope.spans.add(name=name, trace_id=b"t" * 16, span_id=bytes([number + 1]) * 8)
        span.start_time_unix_nano, span.end_time_unix_nano = 1_000, 2_000
        span.attributes.extend(pairs(found))
    return request


class Collector:
    """A collector on this machine: keeps what it is sent, decoded.

    Attributes:
        calls: (signal, headers, message), in the order in which they came.
        answers: statuses of the next calls, before it takes them; each with headers.
    """

    def __init__(self):
        self.calls = []
        self.answers = []
        self.news = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                signal = self.path.rpartition("/")[2]
                status, headers = collector.answers.pop(0) if collector.answers else (200, {})
                with collector.news:
                    if status == 200:
                        collector.calls.append((signal, dict(self.headers), REQUESTS[signal].FromString(body)))
                    else:
                        collector.calls.append((status, dict(self.headers), None))
                    collector.news.notify_all()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def taken(self):
        """Return (signal, message) of what was taken."""
        return [(signal, message) for signal, _, message in self.calls if message is not None]

    def wait(self, count, seconds=60):
        """Wait until it was called so often."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.calls) >= count, seconds), self.calls

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def collector():
    """Run a collector."""
    made = Collector()
    try:
        yield made
    finally:
        made.close()
