"""OTLP by hand: messages of the wire format, and how a program sends them."""

from __future__ import annotations

import http.client

PROTOBUF, JSON = "application/x-protobuf", "application/json"


def varint(number: int) -> bytes:
    """Return a base-128 number."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, *content: bytes) -> bytes:
    """Return a length-delimited field."""
    data = b"".join(content)
    return varint(number * 8 + 2) + varint(len(data)) + data


def attribute(key: str, value: str) -> bytes:
    """Return a KeyValue with a text (opentelemetry/proto/common/v1)."""
    return field(1, key.encode()) + field(2, field(1, value.encode()))


def request(*texts: str) -> bytes:
    """Return an ExportLogsServiceRequest with a record for each text; as metrics or traces it is well formed, too.

    The numbers that are 0 are there, as the exporter of JavaScript writes them.
    """
    records = [field(2, b"\x10\x09", field(5, field(1, text.encode()))) for text in texts]
    resource = field(1, field(1, attribute("service.name", "test")), b"\x10\x00")
    return field(1, resource, field(2, field(1, field(1, b"scope"), b"\x20\x00"), *records))


def post(port: int, path: str, body: object, kind: str = PROTOBUF, *, method: str = "POST", **headers: str):
    """Send a request; return status, body and headers of the answer. A header's underscores become dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, {"Content-Type": kind, **named})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()
