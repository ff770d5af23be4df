"""OpenTelemetry's own collector takes what is forwarded. It is built from Go modules: only with `make outside`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from ocaptain.captain.telemetry import store_own_spans
from ocaptain.telemetry.export import as_line
from ocaptain.telemetry.forward import Forwarder, make_collector
from ocaptain.telemetry.spans import Course, voyage_spans
from ocaptain.telemetry.store import read_after, reading
from tests.otlp import REQUESTS, logs, metrics, token_points
from tests.unit.test_telemetry import CANARY, SPANS, hostile
from tests.unit.test_telemetry_out import EVENTS, EVIDENCE, VOYAGE, attempt, fill

pytestmark = [
    pytest.mark.skipif("OCAPTAIN_OUTSIDE" not in os.environ, reason="needs Go and its modules (make outside)"),
    pytest.mark.timeout(3600),
]
BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.161.0"
HERE = Path(__file__).parent / "collector"


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Build the collector, or take the one that OCAPTAIN_COLLECTOR names."""
    if given := os.environ.get("OCAPTAIN_COLLECTOR"):
        return given
    place = tmp_path_factory.mktemp("collector")
    shutil.copy(HERE / "builder.yaml", place)
    subprocess.run(["go", "run", BUILDER, "--config", "builder.yaml"], cwd=place, check=True)
    return str(place / "out" / "collector")


@pytest.fixture
def theirs(program, tmp_path):
    """Run it; return its URL and the file that it writes what it takes to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = tmp_path / "taken.jsonl"
    pipelines = {name: {"receivers": ["otlp"], "exporters": ["file"]} for name in ("metrics", "logs", "traces")}
    config = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": {"file": {"path": str(file), "flush_interval": "100ms"}},
        "service": {"pipelines": pipelines, "telemetry": {"metrics": {"level": "none"}}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    process = subprocess.Popen([program, "--config", str(tmp_path / "config.yaml")])
    try:
        until = time.monotonic() + 120
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", file
    finally:
        process.terminate()
        process.wait(60)


def test_their_collector_takes_what_is_forwarded(theirs, tmp_path):
    url, file = theirs
    path = tmp_path / "telemetry.db"
    called = [("tool_result", {"tool_name": "Bash", "success": "true"})]
    calls = [("metrics", metrics(token_points(read=1234))), ("logs", logs(called))]
    fill(path, *calls, *((signal, hostile(signal)) for signal in SPANS))
    course = Course(VOYAGE, "complete", 2.0, EVENTS, [attempt(1, evidence=EVIDENCE)])
    store_own_spans(path, course)
    with reading(path) as db:
        sent = [as_line(REQUESTS[one.signal].FromString(one.body)) for one in read_after(db, 0)]
    assert len(sent) == len(calls) + len(SPANS) + 1
    forwarder = Forwarder(path, make_collector(url, "x-key=value"), 0.01)
    until = time.monotonic() + 120
    while (found := file.read_text() if file.exists() else "").count("\n") < len(sent):
        assert time.monotonic() < until, found
        time.sleep(0.1)
    assert forwarder.close(60)
    assert CANARY not in found
    taken = [json.loads(line) for line in found.splitlines()]
    assert sorted(next(iter(one)) for one in taken) == sorted(next(iter(json.loads(one))) for one in sent)
    of_voyage = [one for one in taken if "resourceSpans" in one and '"stringValue": "ocaptain"' in json.dumps(one)]
    (spans,) = (one["resourceSpans"][0]["scopeSpans"][0]["spans"] for one in of_voyage)
    assert {one["spanId"] for one in spans} == {one.span_id.hex() for one in voyage_spans(course)}
    points = [one for one in taken if "resourceMetrics" in one and '"asDouble": 1234' in json.dumps(one)]
    ((resource, point),) = (
        (one["resourceMetrics"][0]["resource"], one["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0])
        for one in points
    )
    assert {"key": "ocaptain.task", "value": {"stringValue": "17"}} in resource["attributes"]
    assert point["name"] == "claude_code.token.usage"
