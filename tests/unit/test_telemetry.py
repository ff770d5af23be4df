"""Telemetry at the captain: decoded, cleaned, counted, stored; what an agent can send that it should not."""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
import time
import zlib

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint

from benchmarks.telemetry import bare, calls, stored
from ocaptain.telemetry import decode as decoding
from ocaptain.telemetry.batch import Batch
from ocaptain.telemetry.clean import Labels, clean
from ocaptain.telemetry.decode import JSON, PROTOBUF, Malformed, decode
from ocaptain.telemetry.mask import Mask, is_content
from ocaptain.telemetry.sink import StoringSink
from ocaptain.telemetry.store import Entry, Store, read_after, read_reported, reading
from tests.otlp import CUMULATIVE, REQUESTS, SESSION, attributes, logs, metrics, token_points, traces

LABELS = Labels("voyage-0123456789ab", "ship-1", "17", 2)
OURS = {
    "ocaptain.voyage": "voyage-0123456789ab",
    "ocaptain.ship": "ship-1",
    "ocaptain.task": "17",
    "ocaptain.attempt": 2,
}
SECRET = 'canary-"of"-a-token/0123'
CANARY = "CANARY"


def batch(message, signal="metrics", kind=PROTOBUF, **more):
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return Batch("ship-1", 7, signal, kind, body, 1_700_000_000.0, **more)


class Sink:
    """A sink whose calls are all of one attempt."""

    def __init__(self, tmp_path, **more):
        self.path = tmp_path / "telemetry.db"
        self.sink = StoringSink(self.path, lambda _: LABELS, [SECRET], **more)
        self.put = self.sink.put

    def end(self):
        assert self.sink.close(60)
        return read_reported(self.path)

    def messages(self):
        with reading(self.path) as db:
            return [(one.signal, REQUESTS[one.signal].FromString(one.body)) for one in read_after(db, 0)]


@pytest.fixture
def sink(tmp_path):
    made = Sink(tmp_path)
    yield made
    made.sink.close(60)


# -- what arrives --------------------------------------------------------------------------------------


def test_attributes_arrive_as_they_were_and_with_whose_they_are(sink):
    sink.put(batch(metrics(token_points(read=5), resource={"host.arch": "arm64", "ocaptain.ship": "ship-9"})))
    sink.put(batch(logs([("api_request", {"model": "m", "input_tokens": 5, "cost_usd": 0.25})]), "logs"))
    sink.put(batch(traces([("claude_code.llm_request", {"model": "m", "cached": True})]), "traces"))
    sink.end()
    (_, first), (_, second), (_, third) = sink.messages()
    group = first.resource_metrics[0]
    assert attributes(group.resource.attributes) == {"service.name": "claude-code", "host.arch": "arm64", **OURS}
    points = group.scope_metrics[0].metrics[0].sum.data_points
    assert [(attributes(one.attributes), one.as_double) for one in points] == token_points(read=5)
    record = second.resource_logs[0].scope_logs[0].log_records[0]
    assert record.body.string_value == "claude_code.api_request"
    assert attributes(record.attributes) == {
        **SESSION,
        "event.name": "api_request",
        "event.sequence": 0,
        "model": "m",
        "input_tokens": 5,
        "cost_usd": 0.25,
    }
    span = third.resource_spans[0].scope_spans[0].spans[0]
    assert (span.name, span.trace_id, attributes(span.attributes)) == (
        "claude_code.llm_request",
        b"t" * 16,
        {"model": "m", "cached": True},
    )
    assert attributes(third.resource_spans[0].resource.attributes) == {"service.name": "claude-code", **OURS}


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        ("metrics", metrics(token_points(read=3, written=4))),
        ("logs", logs([("api_request", {"model": "m"})])),
        ("traces", traces([("claude_code.tool", {"tool_name": "Bash"})])),
    ],
)
def test_json_says_the_same_as_protobuf(signal, message):
    said = MessageToDict(message, use_integers_for_enums=True)
    for resource in said.get("resourceSpans", []):
        for span in resource["scopeSpans"][0]["spans"]:
            span |= {"traceId": (b"t" * 16).hex().upper(), "spanId": (b"\x01" * 8).hex(), "unknownField": 1}
    body = json.dumps(said).encode()
    assert decode(body, f"{JSON}; charset=utf-8", signal) == message


def test_tokens_are_what_the_points_add_up_to(sink):
    sink.put(batch(metrics(token_points(read=100, written=20, cached=1000, created=50))))
    sink.put(batch(metrics(token_points(read=1, written=2, cached=3, created=4), start=5_000)))
    sink.put(batch(metrics([({"type": "input"}, 7)], name="claude_code.cost.usage", start=9)))
    found = sink.end()
    assert (found.tokens_in, found.tokens_out, found.tokens_cached) == (1158, 22, 1003)
    assert found.by_ship == {"ship-1": (1158, 22, 0)}
    assert (found.calls, found.lost) == (3, {})


def test_a_sum_since_the_start_counts_what_is_new_of_it(sink):
    for value, start in ((10, 1), (25, 1), (24, 1), (5, 2)):  # one is late, the last began anew
        sink.put(batch(metrics([({"type": "input"}, value)], temporality=CUMULATIVE, start=start)))
    sink.put(batch(metrics([({"type": "input", "model": "other"}, 100)], temporality=CUMULATIVE)))
    assert sink.end().tokens_in == 25 + 5 + 100


@pytest.mark.parametrize("value", [-1, 10**13, float("nan"), float("inf")])
def test_what_is_no_count_is_not_counted(sink, value):
    sink.put(batch(metrics([({"type": "input"}, value), ({"type": "output"}, 3)])))
    found = sink.end()
    assert (found.tokens_in, found.tokens_out) == (0, 3)


def test_calls_of_tools_are_counted(sink):
    called = [("Bash", "true"), ("Bash", "false"), ("Edit", "true")]
    events = [("tool_result", {"tool_name": name, "success": success}) for name, success in called]
    sink.put(batch(logs([*events, ("tool_decision", {"tool_name": "Bash"})]), "logs"))
    found = sink.end()
    assert found.tools == {"Bash": (2, 1), "Edit": (1, 0)}
    assert found.as_dict()["tools"] == {"Bash": {"calls": 2, "failed": 1}, "Edit": {"calls": 1, "failed": 0}}


def test_what_comes_twice_is_stored_once(sink):
    for _ in range(3):
        sink.put(batch(metrics(token_points(read=5))))
    found = sink.end()
    assert (found.tokens_in, found.calls) == (5, 1)


# -- what must not stay -----------------------------------------------------------------------------------

CONTENT_KEYS = [
    *(
        "prompt",
        "user_prompt",
        "response",
        "tool_input",
        "tool_parameters",
        "full_command",
        "bash_command",
        "file_path",
    ),
    *("gen_ai.input.messages", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "llm.prompts.0.content"),
    *(
        "input.value",
        "toolInput",
        "new_context",
        "response.model_output",
        "exception.message",
        "error",
        "db.query.text",
    ),
    *("llm.prompts.0", "systemPrompt"),
]
MEASURE_KEYS = [
    *("prompt_length", "prompt.id", "input_tokens", "tool_result_size_bytes", "tool_name", "duration_ms", "model"),
    *("gen_ai.usage.input_tokens", "query_source", "http.response.status_code", "session.id", "error.type", "0", ""),
]


@pytest.mark.parametrize("key", CONTENT_KEYS)
def test_content_is_known_by_the_words_of_its_key(key):
    assert is_content(key)


@pytest.mark.parametrize("key", MEASURE_KEYS)
def test_what_measures_content_is_none(key):
    assert not is_content(key)


CREDENTIALS = [
    SECRET,
    json.dumps(SECRET)[1:-1],
    "canary-%22of%22-a-token%2F0123",
    "Y2FuYXJ5LSJvZiItYS10b2tlbi8wMTIz",
    "sk-ant-api03-" + "CANARY" * 4,
    "ghp_" + "CANARY" * 5,
    "github_pat_" + "CANARY" * 5,
    "tskey-auth-" + "CANARY" * 3,
    "AKIA" + "CANARY0123456789",
    "eyJCANARYCANARY.eyJCANARYCANARY.CANARY",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nCANARY\nCANARY",
    "Authorization: Bearer CANARY0123456789",
    "https://me:CANARY@example.org/x?key=CANARY",
    "api_key=CANARY0123",
]


@pytest.mark.parametrize("text", CREDENTIALS)
def test_credentials_are_masked(text):
    for around in (text, f"see {text} there"):
        found = Mask([SECRET]).text(around)
        assert CANARY not in found
        assert "canary" not in found.lower().replace(CANARY.lower(), "")
        assert found != around


def test_ordinary_texts_stay():
    mask = Mask([SECRET])
    for text in (
        "claude-sonnet-4-5",
        "2.1.0",
        SESSION["session.id"],
        "mcp__github__search",
        "2026-11-29T10:00:00Z",
        "",
    ):
        assert mask.text(text) == mask.text(text) == text
    assert len(mask.text("word " * 1000)) == 1000


def hostile(signal):
    """Return a call of a signal with a canary in each place that a text has, as content and as a credential."""
    said = {key: f"{CANARY} {key}" for key in CONTENT_KEYS}
    known = {"note": f"x {SECRET} y", f"k-{SECRET}": "x", "raw": CANARY.encode(), "token": f"ghp_{CANARY * 5}"}
    nested = {"deep": [{"prompt": CANARY, "ok": ["fine", SECRET]}], "tool_input": {"a": CANARY}, "args": [CANARY]}
    both = {**said, **known, **nested}
    if signal == "metrics":
        message = metrics([(both, 1)], name=f"m.{SECRET}", resource=both)
        metric = message.resource_metrics[0].scope_metrics[0].metrics[0]
        metric.description = f"at {SECRET}"
        exemplar = metric.sum.data_points[0].exemplars.add(trace_id=CANARY.encode(), span_id=CANARY.encode())
        exemplar.filtered_attributes.extend(
            logs([("x", both)]).resource_logs[0].scope_logs[0].log_records[0].attributes
        )
    elif signal == "logs":
        message = logs([("user_prompt", both), ("other", both)], resource=both)
        first, second = message.resource_logs[0].scope_logs[0].log_records
        first.body.string_value = f"please do {CANARY} with the files now"
        second.body.CopyFrom(first.attributes[-1].value)
        second.event_name = f"say '{CANARY}'"
        second.severity_text, second.trace_id, second.span_id = SECRET, CANARY.encode(), CANARY.encode()
    else:
        message = traces([(f"run `{CANARY}` at once", both)], resource=both)
        span = message.resource_spans[0].scope_spans[0].spans[0]
        span.events.add(name=f"said: {CANARY} is what I want").attributes.extend(span.attributes)
        span.links.add(trace_state=SECRET, trace_id=CANARY.encode()).attributes.extend(span.attributes)
        span.status.message, span.trace_state = f"failed at {CANARY}", SECRET
        span.parent_span_id = CANARY.encode()
    scope = getattr(getattr(message, f"resource_{SPANS[signal]}")[0], f"scope_{SPANS[signal]}")[0]
    scope.scope.version, scope.schema_url = SECRET, f"https://x:{CANARY}@y"
    return message


SPANS = {"metrics": "metrics", "logs": "logs", "traces": "spans"}


def assert_clean(data):
    text = data.decode("utf-8", "replace")
    assert CANARY not in text
    assert SECRET not in text
    assert "canary" not in text


@pytest.mark.parametrize("signal", SPANS)
def test_no_canary_stays_anywhere(signal, tmp_path):
    message = hostile(signal)
    assert CANARY in str(message)
    assert "canary" in str(message)
    sink = Sink(tmp_path)
    sink.put(batch(message, signal))
    found = sink.end()
    assert (found.calls, found.lost) == (1, {})
    for file in tmp_path.iterdir():
        assert_clean(file.read_bytes())
    with reading(sink.path) as db:
        (kept,) = read_after(db, 0)
    assert_clean(kept.body)
    assert b"dropped: " in kept.body
    assert stat.S_IMODE(sink.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("before", [{"": "x"}, {"x": ""}, {"": ""}, {"": {"": [""]}}])
def test_no_earlier_call_opens_a_way_for_a_canary(before):
    """An empty key or text is harmless; a list, an object and bytes have an empty text, too."""
    mask, message = Mask([SECRET]), logs([("x", {"info": {"prompt": CANARY, "k": SECRET}, "raw": CANARY.encode()})])
    for one in (logs([("x", before)], resource=before), message):
        clean(one, mask, LABELS)
    assert_clean(message.SerializeToString())


def test_what_no_field_is_known_of_is_removed():
    point = NumberDataPoint(as_int=1).SerializeToString() + b"\xfa\x3f" + bytes([len(CANARY)]) + CANARY.encode()
    message = metrics([({}, 1)])
    data = message.resource_metrics[0].scope_metrics[0].metrics[0].sum
    data.data_points[0].ParseFromString(point)
    body = message.SerializeToString()
    assert CANARY.encode() in body
    found = decode(body, PROTOBUF, "metrics")
    clean(found, Mask(), LABELS)
    assert CANARY.encode() not in found.SerializeToString()


# -- what is no OTLP ---------------------------------------------------------------------------------------

DEEP = b'{"resourceLogs":' + b"[" * 100_000
WRONG = [
    (b"\xff\xff\xff", PROTOBUF, "metrics"),
    (b"not json", JSON, "logs"),
    (b"[]", JSON, "logs"),
    (b'{"resourceLogs": 3}', JSON, "logs"),
    (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}', JSON, "traces"),
    (DEEP, JSON, "logs"),
    (b"\xff\xfe", JSON, "logs"),
    (b"", "text/plain", "logs"),
    (b"", PROTOBUF, "profiles"),
    (bytes(decoding.MAX_BODY + 1), PROTOBUF, "logs"),
]


@pytest.mark.parametrize(("body", "kind", "signal"), WRONG)
def test_what_is_no_call_is_refused(body, kind, signal):
    with pytest.raises(Malformed) as caught:
        decode(body, kind, signal)
    assert len(str(caught.value)) < 120


def test_a_call_of_countless_empty_points_is_refused(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_ITEMS", 10)
    message = metrics([({}, 1)] * 11)
    with pytest.raises(Malformed, match="more than 10 points"):
        decode(message.SerializeToString(), PROTOBUF, "metrics")


def test_wrong_calls_are_counted_and_do_not_end_the_sink(sink):
    for body, kind, signal in WRONG:
        sink.put(batch(body, signal, kind))
    sink.put(batch(metrics(token_points(read=5)), dropped_calls=4, dropped_bytes=1000))
    found = sink.end()
    assert found.lost == {"malformed": len(WRONG), "ship": 4}
    assert found.tokens_in == 5


# -- bounds ------------------------------------------------------------------------------------------------


def test_what_has_no_room_is_counted(tmp_path):
    opened, may_go_on = threading.Event(), threading.Event()

    def hold():
        opened.set()
        assert may_go_on.wait(60)

    sink = Sink(tmp_path, on_stored=hold, max_queued=3_000)
    sink.put(batch(metrics(token_points(read=1))))
    assert opened.wait(60)  # the thread is busy: what comes now waits
    for start in range(2, 10):
        sink.put(batch(metrics([({"type": "input"}, 1)], start=start)))
    may_go_on.set()
    found = sink.end()
    assert found.tokens_in + found.lost["queue"] == 9
    assert found.lost["queue"] >= 1


def test_the_oldest_go_where_there_are_too_many(tmp_path):
    def entry(number):
        body = str(number).encode() * 10
        return Entry(0.0, "s", "t", 1, "logs", 1, str(number).encode(), body, (10, 1, 0))

    size = len(zlib.compress(entry(10).body, 1))
    with Store(tmp_path / "t.db", max_bytes=5 * size) as store:
        for number in range(10, 30):
            with store.transaction():
                assert store.add(entry(number))
        assert store.tokens() == (200, 20, 0)  # sums outlive what they were made of
    with reading(tmp_path / "t.db") as db:
        kept = [one.body for one in read_after(db, 0)]
    assert kept == [entry(number).body for number in range(25, 30)]
    assert read_reported(tmp_path / "t.db").lost == {"store": 15}


def test_a_store_that_cannot_be_written_is_tried_again(tmp_path, monkeypatch):
    from ocaptain.telemetry import sink as sinks

    monkeypatch.setattr(sinks, "RETRY_SECONDS", 0.01)
    tried = threading.Event()
    add = Store.add

    def fail_once(self, entry):
        if not tried.is_set():
            tried.set()
            raise sqlite3.OperationalError("database or disk is full")
        return add(self, entry)

    monkeypatch.setattr(Store, "add", fail_once)
    sink = Sink(tmp_path)
    sink.put(batch(metrics(token_points(read=5))))
    assert tried.wait(60)
    until = time.monotonic() + 60
    while (found := read_reported(sink.path)) is None or not found.calls:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert sink.end().tokens_in == 5


def test_a_loss_that_cannot_be_noted_is_noted_later(tmp_path, monkeypatch):
    from ocaptain.telemetry import sink as sinks

    monkeypatch.setattr(sinks, "RETRY_SECONDS", 0.01)
    tried = threading.Event()
    lose = Store.lose

    def fail_once(self, *what):
        if not tried.is_set():
            tried.set()
            raise sqlite3.DatabaseError("database disk image is malformed")
        lose(self, *what)

    monkeypatch.setattr(Store, "lose", fail_once)
    sink = Sink(tmp_path)
    sink.put(batch(metrics(token_points(read=5)), dropped_calls=2, dropped_bytes=9))
    assert tried.wait(60)
    until = time.monotonic() + 60
    while (found := read_reported(sink.path)) is None or not found.lost:
        assert time.monotonic() < until
        time.sleep(0.01)
    found = sink.end()
    assert (found.tokens_in, found.calls, found.lost) == (5, 1, {"ship": 2})


def test_what_cannot_be_told_whose_it_is_is_counted(tmp_path):
    def label(_):
        raise sqlite3.OperationalError("database is locked")

    sink = StoringSink(tmp_path / "t.db", label)
    sink.put(batch(metrics(token_points(read=5))))
    assert sink.close(60)
    assert read_reported(tmp_path / "t.db").lost == {"failed": 1}


def test_a_sink_that_ends_has_no_room(sink):
    assert sink.sink.has_room(10)
    sink.end()
    assert not sink.sink.has_room(10)


def test_sums_end_somewhere(tmp_path):
    """What ships and agents say they used or dropped cannot make the sums unreadable."""
    most = 10**15
    with Store(tmp_path / "t.db") as store, store.transaction():
        for number in range(20):
            store.add(Entry(0.0, "s", "t", 1, "logs", 1, bytes([number]), b"", (2**62, 2**80, 7)))
            store.lose("ship", 2**62, 2**80)
    found = read_reported(tmp_path / "t.db")
    assert (found.tokens_in, found.tokens_out, found.tokens_cached, found.lost) == (most, most, 140, {"ship": most})


def test_a_sink_without_a_place_ends_all_the_same(tmp_path):
    sink = StoringSink(tmp_path / "missing" / "telemetry.db", lambda _: LABELS)
    sink.put(batch(metrics(token_points(read=5))))
    assert sink.close(60)
    assert read_reported(tmp_path / "missing" / "telemetry.db") is None


def test_a_damaged_store_tells_nothing(tmp_path):
    path = tmp_path / "telemetry.db"
    path.write_bytes(b"no database" * 1000)
    assert read_reported(path) is None


# -- the benchmark -----------------------------------------------------------------------------------------


def test_the_benchmark_stores_what_it_makes(tmp_path):
    bodies = calls(3_000)
    assert bare(bodies) == 3_000 * 8 + len(bodies)
    assert stored(bodies, tmp_path / "t.db") > 0
    with reading(tmp_path / "t.db") as db:
        assert db.execute("SELECT sum(items), count(*) FROM batches").fetchone() == (3_000, len(bodies))
