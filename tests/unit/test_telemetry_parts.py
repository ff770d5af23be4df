"""Calls of countless parts: refused before they are decoded; what is stored can be read all the same."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from ocaptain.telemetry import decode as decoding
from ocaptain.telemetry import parts
from ocaptain.telemetry.batch import Batch
from ocaptain.telemetry.clean import Labels
from ocaptain.telemetry.decode import JSON, PROTOBUF, Malformed, decode
from ocaptain.telemetry.export import export_lines
from ocaptain.telemetry.sink import StoringSink
from ocaptain.worker import otlp_body
from tests.otlp import REQUESTS, logs, metrics, token_points, traces
from tests.otlp_wire import field
from tests.unit.test_telemetry import SPANS, hostile

MESSAGES = [
    ("metrics", metrics(token_points(read=5))),
    ("logs", logs([("api_request", {"deep": [{"a": [1, {"b": "c"}]}]})])),
    ("traces", traces([("claude_code.tool", {"tool_name": "Bash"})])),
    *((signal, hostile(signal)) for signal in SPANS),
]


def count(message):
    """Return how many messages are in one, the slow way."""
    found = 0
    for known, value in message.ListFields():
        if known.message_type:
            inner = [value] if hasattr(value, "ListFields") else value
            found += sum(1 + count(one) for one in inner)
    return found


@pytest.mark.parametrize(("signal", "message"), MESSAGES)
def test_parts_are_counted_as_they_are(signal, message, monkeypatch):
    body, found = message.SerializeToString(), count(message)
    monkeypatch.setattr(parts, "_SMALLEST", 0)
    monkeypatch.setattr(parts, "MAX_PARTS", found)
    assert decode(body, PROTOBUF, signal) is not None
    monkeypatch.setattr(parts, "MAX_PARTS", found - 1)
    with pytest.raises(Malformed, match=f"more than {found - 1} parts"):
        decode(body, PROTOBUF, signal)


@pytest.mark.parametrize(
    ("signal", "body"),
    [
        ("logs", field(1) * parts.MAX_PARTS),
        ("logs", field(1, field(2, field(2, field(6) * parts.MAX_PARTS)))),
        ("metrics", field(1, field(2, field(2, field(7, field(1) * parts.MAX_PARTS))))),
        ("traces", field(1, field(2, field(2) * parts.MAX_PARTS))),
    ],
)
def test_a_call_of_countless_parts_is_not_decoded(signal, body, monkeypatch):
    undecoded = SimpleNamespace(
        DESCRIPTOR=REQUESTS[signal].DESCRIPTOR, ParseFromString=lambda _: pytest.fail("it was decoded")
    )
    monkeypatch.setitem(decoding._REQUESTS, signal, lambda: undecoded)
    with pytest.raises(Malformed, match="parts"):
        decode(body + field(1), PROTOBUF, signal)


def test_a_call_of_countless_brackets_is_not_read(monkeypatch):
    body = b'{"resourceLogs":[' + b"{}," * (parts.MAX_MARKS // 2) + b"{}]}"
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("it was read"))
    with pytest.raises(Malformed, match="brackets"):
        decode(body, JSON, "logs")


@pytest.mark.parametrize(
    "body",
    [
        field(1, field(2, b"\x12\x05ab")),  # longer than what it is in
        field(1)[:1],  # cut off in a length
        b"\x0a\x80",  # cut off in a number
        b"\x09\x00",  # cut off in a fixed number
        b"\x0a" + b"\xff" * 11,  # no end of a number
        b"\x0b\x0c",  # a group
        field(1, b"\x7f"),
    ],
)
def test_what_is_no_protobuf_is_refused_by_the_walk(body, monkeypatch):
    monkeypatch.setattr(parts, "_SMALLEST", 0)
    with pytest.raises(Malformed):
        parts.check_parts(body, REQUESTS["logs"].DESCRIPTOR)


def test_a_ship_takes_no_more_than_the_captain_decodes():
    assert otlp_body.MAX_UNZIPPED == decoding.MAX_BODY


def test_deep_nesting_ends_the_walk():
    deep = b""
    for _ in range(200):
        deep = field(5, field(1, deep))
    body = field(1, field(2, field(2, field(5, deep))))
    with pytest.raises(Malformed, match="nested"):
        parts._walk(body, REQUESTS["logs"].DESCRIPTOR)


def test_resources_are_bounded_since_each_gets_attributes(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_RESOURCES", 10)
    assert decode(field(1) * 10, PROTOBUF, "logs")
    with pytest.raises(Malformed, match="more than 10 resources"):
        decode(field(1) * 11, PROTOBUF, "logs")


def test_what_grew_when_it_was_cleaned_can_be_exported(tmp_path, monkeypatch):
    """A text of one character that is dropped leaves more than that."""
    message = logs([("x", {f"cmd.{number}": "x" for number in range(300)})])
    body = message.SerializeToString()
    monkeypatch.setattr(decoding, "MAX_BODY", len(body))
    sink = StoringSink(tmp_path / "t.db", lambda _: Labels("voyage-1"))
    sink.put(Batch("ship-1", None, "logs", PROTOBUF, body, 1.0))
    assert sink.close(60)
    (line,) = export_lines(tmp_path / "t.db", None)
    assert len(line) > len(body)
    assert line.count("dropped: 1 characters") == 300
