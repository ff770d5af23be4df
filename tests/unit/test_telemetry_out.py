"""Telemetry that leaves: forwarded to a collector, exported as lines of JSON, and the voyage's own spans."""

from __future__ import annotations

import errno
import json
import time

import pytest

from ocaptain.errors import UsageError
from ocaptain.ledger import Ledger
from ocaptain.query.telemetry import read_course
from ocaptain.telemetry import forward
from ocaptain.telemetry.batch import Batch
from ocaptain.telemetry.clean import Labels
from ocaptain.telemetry.decode import JSON, PROTOBUF, decode
from ocaptain.telemetry.export import as_line, export_lines
from ocaptain.telemetry.forward import MAX_WAIT, Collector, Forwarder, Next, decide, is_loopback, make_collector
from ocaptain.telemetry.sink import StoringSink
from ocaptain.telemetry.spans import Course, span_id, spans_message, trace_id, voyage_spans
from ocaptain.telemetry.store import Store, read_reported
from tests.otlp import attributes, collector, logs, metrics, token_points, traces
from tests.scenes import VOYAGE, Scene, make_scene
from tests.unit.test_telemetry import SECRET, SPANS, assert_clean, hostile

LABELS = Labels(VOYAGE, "ship-1", "17", 2)
QUICK = 0.01


def fill(path, *calls, on_stored=None):
    sink = StoringSink(path, lambda _: LABELS, [SECRET], on_stored)
    for signal, message in calls:
        sink.put(Batch("ship-1", 7, signal, PROTOBUF, message.SerializeToString(), 1.0))
    assert sink.close(60)


# -- the decision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "retry_after", "tries", "expected"),
    [
        (200, "", 1, Next("done")),
        (202, "", 5, Next("done")),
        (None, "", 1, Next("later", 1.0)),
        (None, "", 4, Next("later", 8.0)),
        (None, "", 1000, Next("later", MAX_WAIT)),
        (503, "7", 1, Next("later", 7.0)),
        (429, "1", 4, Next("later", 8.0)),
        (429, "9999", 1, Next("later", 600.0)),
        (502, "soon", 1, Next("later", 1.0)),
        (401, "", 1, Next("later", MAX_WAIT)),
        (302, "", 1, Next("later", MAX_WAIT)),
        (400, "", 1, Next("refused")),
        (413, "", 1, Next("refused")),
        (500, "", 1, Next("refused")),
    ],
)
def test_what_follows_from_an_answer(status, retry_after, tries, expected):
    assert decide(status, retry_after, tries) == expected


def test_headers_are_read_as_the_specification_has_them():
    found = make_collector("https://collector.example/otlp/", "authorization=Bearer%20a%2Cb, x-team = seven ,")
    assert found == Collector("https://collector.example/otlp", {"authorization": "Bearer a,b", "x-team": "seven"})
    assert "Bearer" not in repr(found)


@pytest.mark.parametrize("headers", ["secret-without-a-name", "a b=secret", "a=secret%0Ab", "=secret"])
def test_wrong_headers_are_named_and_not_repeated(headers):
    with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP_HEADERS is wrong") as caught:
        make_collector("https://c.example", headers)
    assert "secret" not in str(caught.value)


def test_headers_do_not_go_over_the_network_in_the_clear():
    with pytest.raises(UsageError, match="in the clear"):
        make_collector("http://c.example", "a=b")
    assert make_collector("http://c.example", "").headers == {}
    for mine in ("http://127.0.0.1:4318", "http://localhost", "http://[::1]:1"):
        assert make_collector(mine, "a=b").headers == {"a": "b"}
    assert not is_loopback("http://127.0.0.1.example")


# -- forwarding --------------------------------------------------------------------------------------------


def test_a_collector_gets_what_is_stored_once_and_in_order(tmp_path):
    path = tmp_path / "telemetry.db"
    sent = [
        ("metrics", metrics(token_points(read=5))),
        ("logs", logs([("api_request", {"model": "m"})])),
        ("traces", traces([("claude_code.interaction", {})])),
    ]
    with collector() as there:
        configured = make_collector(f"{there.url}/", "x-key=canary-of-a-header")
        forwarder = Forwarder(path, configured, QUICK)
        fill(path, *sent, on_stored=forwarder.wake)
        there.wait(3)
        assert forwarder.close(60)
        again = Forwarder(path, configured, QUICK)  # of the next captain
        assert again.close(60)
        assert [signal for signal, _ in there.taken()] == ["metrics", "logs", "traces"]
        assert {headers["x-key"] for _, headers, _ in there.calls} == {"canary-of-a-header"}
    point = there.taken()[0][1].resource_metrics[0]
    assert attributes(point.resource.attributes)["ocaptain.ship"] == "ship-1"
    data = point.scope_metrics[0].metrics[0].sum.data_points
    assert [(attributes(one.attributes), one.as_double) for one in data] == token_points(read=5)


def test_a_collector_that_is_away_gets_it_later(tmp_path):
    path = tmp_path / "telemetry.db"
    fill(path, ("metrics", metrics(token_points(read=5))), ("metrics", metrics(token_points(read=6), start=9)))
    with collector() as there:
        there.answers = [(503, {}), (429, {"Retry-After": "1"}), (400, {}), (401, {})]
        forwarder = Forwarder(path, make_collector(there.url, ""), 0.001)
        there.wait(5)
        assert forwarder.close(60)
    assert [signal for signal, _, _ in there.calls] == [503, 429, 400, 401, "metrics"]
    assert read_reported(path).lost == {"refused": 1}
    assert read_reported(path).tokens_in == 11


def test_a_collector_that_is_not_there_holds_nobody_up(tmp_path):
    path = tmp_path / "telemetry.db"
    with collector() as there:
        nowhere = there.url
    forwarder = Forwarder(path, make_collector(nowhere, ""))
    fill(path, ("metrics", metrics(token_points(read=5))), on_stored=forwarder.wake)
    assert forwarder.close(60)  # without the back-off that it waited for
    with Store(path) as store:
        assert store.forwarded == 0
    with collector() as there:
        later = Forwarder(path, make_collector(there.url, ""))
        there.wait(1)
        assert later.close(60)


def test_a_store_is_opened_once_and_again_only_if_it_could_not_be(tmp_path, monkeypatch):
    path, opened = tmp_path / "telemetry.db", []

    def open_store(path):
        opened.append(path)
        if len(opened) == 1:
            raise OSError(errno.EMFILE, "too many open files")
        return Store(path)

    fill(path, ("logs", logs([("x", {})])))
    monkeypatch.setattr(forward, "Store", open_store)
    with collector() as there:
        forwarder = Forwarder(path, make_collector(there.url, ""), 0.001)
        while not there.calls:
            forwarder.wake()
            time.sleep(0.01)
        for count in (2, 3):
            fill(path, ("logs", logs([(f"x{count}", {})])), on_stored=forwarder.wake)
            there.wait(count)
        assert forwarder.close(60)
    assert len(opened) == 2


def test_no_redirect_is_followed(tmp_path):
    path = tmp_path / "telemetry.db"
    fill(path, ("logs", logs([("x", {})])))
    with collector() as other, collector() as there:
        there.answers = [(307, {"Location": f"{other.url}/v1/logs"})]
        forwarder = Forwarder(path, make_collector(there.url, "a=b"), 0.001)
        there.wait(2)
        assert forwarder.close(60)
        assert other.calls == []


# -- canaries ----------------------------------------------------------------------------------------------


def test_no_canary_leaves(tmp_path):
    path = tmp_path / "telemetry.db"
    fill(path, *((signal, hostile(signal)) for signal in SPANS))
    lines = list(export_lines(path, None))
    assert len(lines) == len(SPANS)
    for line in lines:
        assert_clean(line.encode())
    with collector() as there:
        forwarder = Forwarder(path, make_collector(there.url, ""), QUICK)
        there.wait(len(SPANS))
        assert forwarder.close(60)
    for _, message in there.taken():
        assert_clean(message.SerializeToString())
        assert_clean(str(message).encode())


# -- export ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        ("metrics", metrics(token_points(read=3))),
        ("logs", logs([("api_request", {"model": "m", "n": 3, "f": 0.5, "b": True, "l": ["x", 1]})])),
        ("traces", traces([("claude_code.tool", {"tool_name": "Bash"})])),
    ],
)
def test_a_line_is_what_a_json_call_would_be(signal, message):
    line = as_line(message)
    assert "\n" not in line
    assert decode(line.encode(), JSON, signal) == message


# -- the voyage's own spans --------------------------------------------------------------------------------


def event(n, at, kind, text="", ship=None, task=None):
    return {"n": n, "at": at, "kind": kind, "text": text, "ship": ship, "task": task}


def attempt(token, state="landed", started=20.0, ended=60.0, **more):
    row = {"token": token, "task": "1", "number": 1, "ship": "ship-0", "state": state, "started": started}
    return {**row, "ended": ended, "seconds": None, "evidence": None, **more}


EVENTS = [
    event(1, 10.0, "ship", "bootstrapping", "ship-0"),
    event(2, 11.0, "ship", "failed: no room", "ship-1"),
    event(3, 15.0, "ship", "idle", "ship-0"),
    event(4, 16.0, "voyage", "running"),
    event(5, 20.0, "claim", "attempt 1", "ship-0", "1"),
    event(6, 60.0, "landed", "abc", "ship-0", "1"),
    event(7, 61.0, "voyage", "verifying"),
    event(8, 70.0, "verify", "passed at abc", "ship-verify"),
    event(9, 71.0, "voyage", "complete"),
]
EVIDENCE = json.dumps(
    {"agent": {"exit_code": 0, "seconds": 20.0, "at": 45.0}, "check": {"ok": True, "exit_code": 0, "seconds": 5.0}}
)


def brief(spans):
    return {(one.name, one.attributes.get("ocaptain.ship")): (one.began, one.ended, one.ok) for one in spans}


def test_a_voyage_is_one_trace():
    spans = voyage_spans(Course(VOYAGE, "complete", 2.0, EVENTS, [attempt(1, evidence=EVIDENCE)]))
    assert brief(spans) == {
        ("voyage", None): (2.0, 71.0, True),
        ("provision", "ship-0"): (2.0, 10.0, True),
        ("provision", "ship-1"): (2.0, 11.0, False),
        ("bootstrap", "ship-0"): (10.0, 15.0, True),
        ("attempt", "ship-0"): (20.0, 60.0, True),
        ("claim", "ship-0"): (20.0, 25.0, True),
        ("agent", "ship-0"): (25.0, 45.0, True),
        ("check", "ship-0"): (45.0, 50.0, True),
        ("landing", "ship-0"): (50.0, 60.0, True),
        ("verify", "ship-verify"): (61.0, 70.0, True),
    }
    parents = {one.name: one.parent for one in spans}
    root, whole = span_id(VOYAGE, "voyage"), span_id(VOYAGE, "attempt", 1)
    assert parents["voyage"] == b""
    assert {parents[name] for name in ("provision", "bootstrap", "attempt", "verify")} == {root}
    assert {parents[name] for name in ("claim", "agent", "check", "landing")} == {whole}
    assert len({one.span_id for one in spans}) == len(spans)
    message = spans_message(VOYAGE, spans)
    made = message.resource_spans[0].scope_spans[0].spans
    assert {one.trace_id for one in made} == {trace_id(VOYAGE)}
    assert attributes(message.resource_spans[0].resource.attributes) == {
        "service.name": "ocaptain",
        "ocaptain.voyage": VOYAGE,
    }
    agent = next(one for one in made if one.name == "agent")
    assert (agent.start_time_unix_nano, agent.end_time_unix_nano) == (25 * 10**9, 45 * 10**9)
    assert attributes(agent.attributes) == {
        "ocaptain.ship": "ship-0",
        "ocaptain.task": "1",
        "ocaptain.attempt": 1,
        "ocaptain.exit_code": 0,
    }


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (attempt(1, ended=None), {}),
        (attempt(1, "lost"), {"attempt": (20.0, 60.0, False)}),
        (  # of an earlier version: its agent's end was not noted
            attempt(1, "failed", evidence=json.dumps({"agent": {"exit_code": 3, "seconds": 7.0}})),
            {"attempt": (20.0, 60.0, False), "claim": (20.0, 20.0, True), "agent": (20.0, 27.0, False)},
        ),
        (  # a ship's clock that ran wild
            attempt(1, "failed", evidence=json.dumps({"agent": {"exit_code": 0, "seconds": 1e9, "at": 50.0}})),
            {"attempt": (20.0, 60.0, False), "claim": (20.0, 20.0, True), "agent": (20.0, 50.0, True)},
        ),
        (attempt(1, "failed", ended=10.0), {"attempt": (20.0, 20.0, False)}),  # this machine's clock went back
    ],
)
def test_attempts_in_spans(row, expected):
    found = voyage_spans(Course(VOYAGE, "running", 2.0, [], [row]))
    assert {name: times for (name, _), times in brief(found).items()} == expected


def test_a_ship_that_is_made_again_has_spans_again():
    events = [
        event(1, 10.0, "ship", "bootstrapping", "ship-0"),
        event(2, 15.0, "ship", "idle", "ship-0"),
        event(3, 30.0, "ship", "lost: no answer", "ship-0"),
        event(4, 31.0, "replace", "it is made again", "ship-0"),
        event(5, 40.0, "ship", "bootstrapping", "ship-0"),
        event(6, 44.0, "ship", "failed: no", "ship-0"),
    ]
    found = voyage_spans(Course(VOYAGE, "running", 2.0, events, []))
    assert [(one.name, one.began, one.ended, one.ok) for one in found] == [
        ("provision", 2.0, 10.0, True),
        ("bootstrap", 10.0, 15.0, True),
        ("provision", 31.0, 40.0, True),
        ("bootstrap", 40.0, 44.0, False),
    ]


def test_a_ledger_tells_a_course(tmp_path):
    directory = make_scene(tmp_path, Scene(tasks=4, ships=2, landed=4, failed={}, retrying={}, state="complete"))
    with Ledger(directory.path / "ledger.db") as ledger:
        course = read_course(ledger)
    spans = voyage_spans(course)
    names = [one.name for one in spans]
    assert (names.count("attempt"), names.count("bootstrap"), names.count("voyage")) == (4, 2, 1)
    root = next(one for one in spans if one.name == "voyage")
    assert all(root.began <= one.began <= one.ended <= root.ended for one in spans)
    lines = list(export_lines(tmp_path / "none.db", course))
    assert len(json.loads(lines[0])["resourceSpans"][0]["scopeSpans"][0]["spans"]) == len(spans)
