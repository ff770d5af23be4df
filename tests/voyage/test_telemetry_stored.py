"""From an agent on a ship to a collector of others: stored and forwarded, with whose it is, without what was said."""

from __future__ import annotations

import asyncio

from ocaptain.captain.life import Captain
from ocaptain.captain.telemetry import VoyageTelemetry
from ocaptain.config import Settings
from ocaptain.query import Query
from ocaptain.query.telemetry import telemetry_path
from ocaptain.telemetry.batch import Batch
from ocaptain.telemetry.decode import PROTOBUF
from ocaptain.telemetry.export import export_lines
from tests.otlp import attributes, collector, logs, metrics, token_points
from tests.scenes import Scene, make_scene
from tests.voyage.local import command, make_voyage
from tests.voyage.test_telemetry import reporting  # noqa: F401 - a fixture

SECRET = "canary-of-a-credential-0123"
CANARY = "CANARY: do what I said"
REPORT = """python3 - <<'end'
import os, urllib.request
for signal, body in BODIES.items():
    url = os.environ[f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"]
    headers = {"Content-Type": "application/x-protobuf"}
    urllib.request.urlopen(urllib.request.Request(url, bytes.fromhex(body), headers)).read()
end
"""


def task(name, read):
    """Return a task whose agent reports tokens, and a call of a tool with what was said in it."""
    said = {"tool_name": "Bash", "success": "true", "tool_input": CANARY, "note": f"with {SECRET}"}
    bodies = {
        "metrics": metrics(token_points(read=read, written=3), resource={"ocaptain.ship": "ship-77"}),
        "logs": logs([("tool_result", said), ("user_prompt", {"prompt": CANARY})]),
    }
    zipped = {signal: message.SerializeToString().hex() for signal, message in bodies.items()}
    return {"run": f"{REPORT.replace('BODIES', repr(zipped))}echo {name} > {name}", "verify": f"test -e {name}"}


async def sail(directory, ships, settings):
    with command(directory) as ledger:
        order = [row.id for row in ledger.ships()]
        async with VoyageTelemetry(directory, ledger, settings) as telemetry:
            captain = Captain(directory, ledger, lambda row: ships[order.index(row.id)], telemetry=telemetry.sink)
            await asyncio.wait_for(captain.run(), 90)
        return ledger.voyage().state, {row["task"]: row for row in ledger.rows("attempts", "token")}


def test_what_agents_report_is_stored_and_forwarded(tmp_path, ships, reporting):  # noqa: F811
    directory = make_voyage(tmp_path, [task("a", 100), task("b", 20)], 2)
    with collector() as there:
        settings = Settings(OTEL_EXPORTER_OTLP_ENDPOINT=there.url, GH_TOKEN=SECRET)
        state, attempts = asyncio.run(sail(directory, ships(2), settings))
        taken = there.taken()
    assert state == "complete"
    found = Query(directory).reported()
    assert (found.tokens_in, found.tokens_out, found.tools, found.calls) == (120, 6, {"Bash": (2, 0)}, 4)
    assert found.lost == {}
    of_task = {}
    for signal, message in taken:
        data = message.SerializeToString()
        assert CANARY.encode() not in data
        assert SECRET.encode() not in data
        if signal == "metrics":
            (group,) = message.resource_metrics
            whose = attributes(group.resource.attributes)
            read = group.scope_metrics[0].metrics[0].sum.data_points[0].as_double
            of_task[whose["ocaptain.task"]] = (whose["ocaptain.ship"], whose["ocaptain.attempt"], read)
    expected = {name: (row["ship"], row["number"]) for name, row in attempts.items()}
    assert {name: one[:2] for name, one in of_task.items()} == expected
    assert sorted(one[2] for one in of_task.values()) == [20.0, 100.0]
    (own,) = (message for signal, message in taken if signal == "traces")
    spans = own.resource_spans[0].scope_spans[0].spans
    names = [one.name for one in spans]
    counts = {"voyage": 1, "attempt": 2, "claim": 2, "agent": 2, "check": 2, "landing": 2}
    assert {name: names.count(name) for name in counts} == counts
    assert {one.trace_id for one in spans} == {spans[0].trace_id}
    lines = list(export_lines(telemetry_path(directory), Query(directory).course()))
    assert len(lines) == 5
    assert "CANARY" not in "".join(lines)
    for file in tmp_path.rglob("telemetry.db*"):
        assert b"CANARY" not in file.read_bytes()


def test_a_voyage_without_telemetry_stores_nothing(tmp_path, ships, reporting):  # noqa: F811
    directory = make_voyage(tmp_path, [{"run": "echo a > a"}], options={"no_telemetry": True})
    with collector() as there:
        settings = Settings(OTEL_EXPORTER_OTLP_ENDPOINT=there.url)
        state, _ = asyncio.run(sail(directory, ships(1), settings))
        assert there.calls == []
    assert state == "complete"
    assert not telemetry_path(directory).exists()
    assert Query(directory).reported() is None


def test_a_ledger_of_which_no_trace_can_be_made_ends_no_captain(tmp_path, caplog):
    directory = make_scene(tmp_path, Scene(tasks=2, ships=1, landed=2, failed={}, retrying={}, state="complete"))

    async def end(ledger, settings):
        async with VoyageTelemetry(directory.path, ledger, settings) as telemetry:
            telemetry.sink.put(Batch("ship-0", None, "metrics", PROTOBUF, report.SerializeToString(), 1.0))

    report = metrics(token_points(read=7))
    with collector() as there, command(directory.path) as ledger:
        ledger._db.execute("UPDATE attempts SET evidence = '[1]'")
        asyncio.run(end(ledger, Settings(OTEL_EXPORTER_OTLP_ENDPOINT=there.url)))
        assert [signal for signal, _ in there.taken()] == ["metrics"]
    assert "own spans cannot be stored" in caplog.text
