"""``ocaptain telemetry`` and what screens say of it: a receiver in the background, an export, sums in the status."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import sqlite3
import stat
import subprocess
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from ocaptain.cli.reported import loss_text, reported_lines, reported_text
from ocaptain.cli.status_view import status_lines, status_records
from ocaptain.cli.watch.seen import Seen, notice_lines
from ocaptain.config import Settings, load_settings
from ocaptain.errors import UsageError
from ocaptain.query import Query
from ocaptain.query.telemetry import telemetry_path
from ocaptain.query.watch import Watcher
from ocaptain.telemetry.configured import configured_collector, known_secrets
from ocaptain.telemetry.store import Reported
from tests.helpers import CLEARED, OCAPTAIN, as_documented
from tests.otlp import collector, logs, metrics, token_points
from tests.scenes import VOYAGE, Scene, make_scene
from tests.unit.test_tables import BESIDE
from tests.unit.test_telemetry import CANARY, SPANS, hostile
from tests.unit.test_telemetry_out import fill

FOUND = Reported(
    tokens_in=12_345,
    tokens_out=678,
    tokens_cached=9,
    tools={"Bash": (20, 3), "Edit": (7, 0), "Read": (5, 0), "Grep": (2, 0), "Task": (1, 0)},
    calls=40,
    lost={"ship": 4, "malformed": 1},
    by_ship={"ship-0": (12_345, 678, 35)},
)
SAID = "12,345 tokens in, 678 out · 35 tool calls (Bash 20, Edit 7, Read 5, Grep 2, …, 3 failed)"


class Machine:
    """A user's home in which the program runs."""

    def __init__(self, root):
        kept = {name: value for name, value in os.environ.items() if not name.startswith((*CLEARED, "OTEL_"))}
        self.env = {**kept, "HOME": str(root), "XDG_STATE_HOME": str(root / "state"), "OCAPTAIN_HOME": str(root / "v")}
        self.directory = root / "state" / "ocaptain" / "telemetry"

    def run(self, *words, code=0, **env):
        done = subprocess.run(
            [OCAPTAIN, *words], capture_output=True, text=True, check=False, env={**self.env, **env}, timeout=120
        )
        assert done.returncode == code, done.stderr
        return done

    def json(self, *words, **env):
        return as_documented(self.run(*words, "--json", **env).stdout)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    made.run("telemetry", "stop")


def post(url, signal, message, **headers):
    """Send a call; return the status."""
    body = message if isinstance(message, bytes) else message.SerializeToString()
    headers = {"Content-Type": "application/x-protobuf", **headers}
    request = urllib.request.Request(f"{url}/v1/{signal}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_receiver_stores_and_forwards_what_comes(machine):
    secret = "canary-of-a-header-0123"
    with collector() as there:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": there.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={secret}",
            "SOME_API_KEY": "canary-of-another",
        }
        started = machine.json("telemetry", "start", "--port", "0", **env)
        url = started["url"]
        assert (started["running"], started["reported"]["calls"]) == (True, 0)
        assert machine.json("telemetry-start", **env)["url"] == url  # the predecessor's name of it; it runs already
        zipped = gzip.compress(metrics(token_points(read=1234, written=56)).SerializeToString())
        assert post(url, "metrics", zipped, **{"Content-Encoding": "gzip"}) == 200
        called = [("tool_result", {"tool_name": "Bash", "success": "true", "note": f"{secret} canary-of-another"})]
        assert post(url, "logs", logs(called)) == 200
        for signal in SPANS:
            assert post(url, signal, hostile(signal)) == 200
        assert post(url, "logs", b"\xff\xff") == 400
        assert post(url, "logs", gzip.compress(bytes(20 * 1024 * 1024)), **{"Content-Encoding": "gzip"}) in {400, 413}
        assert post(url, "logs", bytes(5 * 1024 * 1024)) == 413
        assert post(url, "logs", b"{}", **{"Content-Type": "text/plain"}) == 415
        assert post(url, "profiles", b"") == 404
        there.wait(5)
        stopped = machine.json("telemetry-stop")
        assert secret in {headers.get("x-key") for _, headers, _ in there.calls}
        for _, message in there.taken():
            data = message.SerializeToString()
            assert CANARY.encode() not in data
            assert secret.encode() not in data
            assert b"canary-of-another" not in data
    assert (stopped["running"], stopped["stopped"]) == (False, True)
    assert stopped["reported"]["calls"] == 5
    assert stopped["reported"]["tokens"] == {"in": 1234, "out": 56, "cached": 0}
    assert stopped["reported"]["tools"] == {"Bash": {"calls": 1, "failed": 0}}
    for file in machine.directory.iterdir():
        data = file.read_bytes()
        assert CANARY.encode() not in data, file
        assert secret.encode() not in data, file
        assert b"canary-of-another" not in data, file
    assert stat.S_IMODE((machine.directory / "telemetry.db").stat().st_mode) == 0o600
    exported = machine.run("telemetry", "export", "--receiver", "--format", "jsonl").stdout
    assert [next(iter(json.loads(line))) for line in exported.splitlines()] == [
        *("resourceMetrics", "resourceLogs"),
        *("resourceMetrics", "resourceLogs", "resourceSpans"),
    ]
    assert CANARY not in exported


def test_a_receiver_that_is_its_own_collector_forwards_nothing(machine):
    first = machine.json("telemetry", "start", "--port", "0")
    machine.run("telemetry", "stop")
    port = first["url"].rpartition(":")[2]
    machine.json("telemetry", "start", "--port", port, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://localhost:{port}")
    assert post(first["url"], "metrics", metrics(token_points(read=5))) == 200
    machine.run("telemetry", "stop")
    assert "is this receiver: nothing is forwarded" in (machine.directory / "receiver.log").read_text()


def test_a_receiver_on_another_port_is_told(machine):
    machine.json("telemetry", "start", "--port", "0")
    busy = machine.run("telemetry", "start", "--port", "1", code=2).stderr
    assert "runs already at http://127.0.0.1:" in busy


def test_a_port_that_is_taken_is_told(machine):
    with collector() as there:
        port = there.url.rpartition(":")[2]
        said = machine.run("telemetry", "start", "--port", port, code=1).stderr
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "choose another --port" in said
    assert "not running" in machine.run("telemetry", "stop").stdout


# -- a voyage ----------------------------------------------------------------------------------------------


@pytest.fixture
def voyage(tmp_path):
    directory = make_scene(tmp_path, Scene(tasks=6, ships=2, landed=3, failed={}, retrying={}))
    called = [("tool_result", {"tool_name": "Bash", "success": "true"})]
    fill(
        telemetry_path(directory.path),
        ("metrics", metrics(token_points(read=1234, written=56, cached=3))),
        ("logs", logs(called)),
    )
    return directory


def ocaptain(tmp_path, *words, code=0):
    made = Machine(tmp_path)
    return made.run(*words, code=code, OCAPTAIN_HOME=str(tmp_path / "voyages"))


def test_the_status_shows_what_agents_reported(tmp_path, voyage):
    found = as_documented(ocaptain(tmp_path, "status", "--json").stdout)
    assert found["telemetry"] == {
        "tokens": {"in": 1237, "out": 56, "cached": 3},
        "tools": {"Bash": {"calls": 1, "failed": 0}},
        "calls": 2,
        "lost": {},
    }
    assert "report\t1,237 tokens in, 56 out · 1 tool call (Bash 1)\n" in ocaptain(tmp_path, "status").stdout
    telemetry_path(voyage.path).unlink()
    assert as_documented(ocaptain(tmp_path, "status", "--json").stdout)["telemetry"] is None


def test_an_export_has_the_agents_calls_and_the_voyages_trace(tmp_path, voyage):
    lines = [json.loads(line) for line in ocaptain(tmp_path, "telemetry", "export").stdout.splitlines()]
    assert [next(iter(line)) for line in lines] == ["resourceMetrics", "resourceLogs", "resourceSpans"]
    resource = {one["key"]: one["value"] for one in lines[0]["resourceMetrics"][0]["resource"]["attributes"]}
    assert resource["ocaptain.voyage"] == {"stringValue": VOYAGE}
    assert resource["ocaptain.attempt"] == {"intValue": "2"}
    (spans,) = (scope["spans"] for scope in lines[2]["resourceSpans"][0]["scopeSpans"])
    assert {one["name"] for one in spans} >= {"provision", "bootstrap", "attempt"}
    assert {len(one["traceId"]) for one in spans} == {32}
    assert ocaptain(tmp_path, "telemetry", "export", "voyage-0123").stdout.count("\n") == 3


def test_a_store_that_is_damaged_is_told(tmp_path, voyage):
    for file in voyage.path.glob("telemetry.db*"):
        file.unlink()
    telemetry_path(voyage.path).write_bytes(b"no database" * 1000)
    assert "telemetry.db cannot be read" in ocaptain(tmp_path, "telemetry", "export", code=1).stderr
    assert "report" not in ocaptain(tmp_path, "status").stdout


def test_a_message_that_is_damaged_is_told(tmp_path, voyage):
    with contextlib.closing(sqlite3.connect(telemetry_path(voyage.path))) as db, db:
        db.execute("UPDATE batches SET body = x'00' WHERE n = 2")
    failed = ocaptain(tmp_path, "telemetry", "export", code=1)
    assert "telemetry.db cannot be read: message 2 is damaged" in " ".join(failed.stderr.split())
    assert "Traceback" not in failed.stderr
    assert failed.stdout.startswith('{"resourceMetrics"')


def test_the_watcher_sees_what_is_new(voyage):
    watcher = Watcher(voyage.path)
    assert watcher.reported().tokens_in == 1237  # SQLite makes files to read it
    first = watcher.reported()
    assert watcher.reported() is first
    fill(telemetry_path(voyage.path), ("metrics", metrics(token_points(read=1), start=77)))
    assert watcher.reported().tokens_in == 1238


# -- words -------------------------------------------------------------------------------------------------


def test_sums_in_words():
    assert reported_text(FOUND) == SAID
    assert loss_text(FOUND) == "4 dropped on ships, whose room was full; 1 no OTLP, or too large"
    assert reported_lines(FOUND) == [
        f"agents reported: {SAID}",
        f"not all of it is there: {loss_text(FOUND)}",
        "ship-0: 12,345 tokens in, 678 out, 35 tool calls",
    ]
    hostile_name = replace(FOUND, tools={"\x1b]0;x\x07" + "n" * 100: (1, 0)})
    assert "\x1b" not in reported_text(hostile_name)
    assert len(reported_text(hostile_name)) < 100
    assert reported_text(None) == reported_text(Reported()) == loss_text(None) == ""
    assert reported_lines(None) == []


def test_sums_on_screens(voyage):
    snapshot = Query(voyage.path).snapshot(0.0)
    beside = replace(BESIDE, reported=FOUND)
    lines = [line.plain for line in status_lines(snapshot, beside, 0.0, 200, 50)]
    assert f"report  {SAID}" in lines
    assert any(line.startswith("○ not all that agents reported is there: 4 dropped") for line in lines)
    records = dict(one for one in status_records(snapshot, beside, 0.0) if len(one) == 2)
    assert records["report"] == SAID
    assert "dropped on ships" in records["telemetry"]
    seen = Seen(snapshot=replace(snapshot, about=replace(snapshot.about, held_tasks=[])), reported=FOUND)
    (line,) = notice_lines(seen, None, 200)
    assert line.plain == f"q leaves; the voyage sails on · {SAID}"
    assert notice_lines(seen, None, 40)[0].cell_len <= 40


# -- configuration -----------------------------------------------------------------------------------------


def test_what_is_secret_is_known_by_its_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NPM_TOKEN", "canary-of-npm")
    monkeypatch.setenv("KEYBOARD", "qwerty")
    (tmp_path / ".env").write_text("DB_PASSWORD=canary-of-a-file\n")
    settings = Settings(OTEL_EXPORTER_OTLP_HEADERS="a=canary-a, b=Bearer%20canary%2Bb", GH_TOKEN="canary-gh")
    found = known_secrets(settings)
    assert set(found) >= {"canary-of-npm", "canary-of-a-file", "canary-a", "Bearer canary+b", "canary+b", "canary-gh"}
    assert "qwerty" not in found
    assert configured_collector(settings) is None


def test_a_collector_that_is_none_is_named(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://x")
    with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP_ENDPOINT: does not have the right form"):
        load_settings()


@pytest.mark.parametrize("url", ["http://[::::]", "https://[1:2]/x", "http://c.example:99999"])
def test_an_address_of_nothing_is_named(tmp_path, url):
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": "a=canary"}
    said = Machine(tmp_path).run("telemetry", "start", "--port", "0", code=2, **env).stderr
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: its address or its port is wrong" in " ".join(said.split())
    assert "Traceback" not in said


def test_headers_that_cannot_be_sent_forward_nothing(caplog):
    settings = Settings(OTEL_EXPORTER_OTLP_ENDPOINT="http://c.example", OTEL_EXPORTER_OTLP_HEADERS="a=canary")
    assert configured_collector(settings) is None
    assert "in the clear" in caplog.text
    assert "canary" not in caplog.text
