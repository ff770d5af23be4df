"""Telemetry of agents from real workers: what an attack costs them, what a kill loses, and all the way to the sink."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import os
import re
import socket
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from ocaptain.agents import ADAPTERS
from ocaptain.captain.life import Captain
from ocaptain.captain.ship import actor as actors
from ocaptain.worker.journal import Journal
from tests.otlp_wire import JSON, PROTOBUF, field, post, request
from tests.voyage.local import command, landed, make_voyage

MEBIBYTE = 2**20
GOOD = request("one")


def listening(ship) -> int:
    """Return the port on which a ship receives telemetry."""
    file, end = ship.home / ".ocaptain/otlp.port", time.monotonic() + 20
    while not file.exists() or file.read_text() == "0":
        assert time.monotonic() < end
        time.sleep(0.02)
    return int(file.read_text())


@pytest.fixture
def receiver(ships):
    """A worker that receives telemetry though no attempt ran yet, as one that starts anew does."""
    (ship,) = ships(1)
    ship.kill()
    (ship.home / ".ocaptain/otlp.port").write_text("0")
    ship.start()
    return ship


def memory(ship, what: str) -> int:
    """Return a value of the worker's /proc status in bytes: VmRSS now, VmHWM at most."""
    status = Path(f"/proc/{ship.process.pid}/status").read_text()
    return int(re.search(rf"{what}:\s+([0-9]+) kB", status)[1]) * 1024


def hold(port: int, size: int) -> socket.socket:
    """Begin a call and do not end it."""
    held = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"POST /v1/logs HTTP/1.1\r\nContent-Type: {PROTOBUF}\r\nContent-Length: {size + 1}\r\n\r\n"
    with contextlib.suppress(OSError):  # it is refused already
        held.sendall(head.encode() + bytes(size))
    return held


def test_an_attack_costs_the_worker_no_more_than_32_mib(receiver):
    """The largest calls, bombs of all kinds and slow senders, all at one time, against a worker that works."""
    port = listening(receiver)
    for _ in range(20):
        assert post(port, "/v1/logs", GOOD)[0] == 200
    before = memory(receiver, "VmRSS")
    noise = os.urandom(4 * MEBIBYTE - 100)
    zipped = {"Content_Encoding": "gzip"}
    attacks = [
        ("/v1/logs", field(1, field(2, field(2, noise))), PROTOBUF, {}),
        ("/v1/logs", gzip.compress(field(1, field(2, field(2, noise)))[:-200], 1), PROTOBUF, zipped),
        ("/v1/logs", gzip.compress(bytes(100 * MEBIBYTE), 1), PROTOBUF, zipped),
        ("/v1/logs", gzip.compress(field(1, field(2, field(2, bytes(20 * MEBIBYTE))))), PROTOBUF, zipped),
        ("/v1/logs", gzip.compress(field(1) * 2 * MEBIBYTE), PROTOBUF, zipped),
        ("/v1/logs", gzip.compress(b'{"a":[' + b"{}," * 2 * MEBIBYTE), JSON, zipped),
        ("/v1/logs", gzip.compress(b'{"a":"' + "🐙".encode() * (2 * MEBIBYTE - 10) + b'"}'), JSON, zipped),
        ("/v1/logs", b"[" * 4 * MEBIBYTE, JSON, {}),
        ("/v1/logs", b'{"a":"' + b"\\n" * (2 * MEBIBYTE - 10) + b'"}', JSON, {}),
    ]
    answers = []

    def attack(path, body, kind, headers):
        for _ in range(2):
            try:
                answers.append(post(port, path, body, kind, **headers)[0])
            except OSError:  # it was closed before all was sent
                answers.append(0)

    threads = [threading.Thread(target=attack, args=(*one[:3], one[3])) for one in attacks]
    held = [hold(port, MEBIBYTE) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for one in held:
        one.close()
    assert {200, 400, 413} <= set(answers) <= {0, 200, 400, 413, 503}
    end = time.monotonic() + 60
    while post(port, "/v1/logs", GOOD)[0] != 200:
        assert time.monotonic() < end
    assert memory(receiver, "VmHWM") - before <= 32 * MEBIBYTE
    size = sum(one.stat().st_size for one in (receiver.home / ".ocaptain/journal").glob("otlp-*"))
    assert size < 34 * MEBIBYTE


def stored(ship) -> dict[int, bytes]:
    """Return the whole calls in a ship's journal, by number."""
    found: dict[int, list[dict]] = {}
    with contextlib.closing(Journal(ship.home / ".ocaptain/journal")) as journal:
        reader = journal.reader()
        reader.seek("otlp", 0)
        for _, body in reader.read("otlp", 10**6):
            found.setdefault(body["call"], []).append(body)
    whole = {call: pieces for call, pieces in found.items() if len(pieces) == pieces[0]["pieces"]}
    return {
        call: zlib.decompress(b"".join(base64.b64decode(one["data"]) for one in pieces), 47)
        for call, pieces in whole.items()
    }


def test_what_was_answered_survives_a_worker_that_is_killed(receiver):
    port = listening(receiver)
    answered, stop = [], threading.Event()

    def report(name):
        number = 0
        while not stop.is_set():
            body = request(f"{name}.{number} " + os.urandom(40_000).hex())
            with contextlib.suppress(OSError):
                if post(port, "/v1/traces", body)[0] == 200:
                    answered.append(body)
            number += 1
            time.sleep(0.002)

    threads = [threading.Thread(target=report, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for _ in range(4):
        count, end = len(answered), time.monotonic() + 60
        while len(answered) < count + 5:
            assert time.monotonic() < end
            time.sleep(0.01)
        receiver.kill()
        receiver.start()
        assert listening(receiver) == port
    stop.set()
    for thread in threads:
        thread.join(60)
    receiver.kill()
    found = stored(receiver)
    assert set(answered) <= set(found.values())
    assert len(found) == len(set(found.values()))


class Sink:
    def __init__(self):
        self.batches = []

    def put(self, batch):
        self.batches.append(batch)


#: What an agent does: reports a text as each signal, by what it finds in its environment.
REPORT = """python3 - <<'end'
import os, urllib.request
for signal in ("metrics", "logs", "traces"):
    url = os.environ[f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"]
    assert url == os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/" + signal
    body = bytes.fromhex("BODY")
    urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/x-protobuf"})).read()
end
"""


@pytest.fixture
def reporting(monkeypatch):
    """Agent `command` reports, as `claude` does."""
    adapter = ADAPTERS["command"]
    build_run = type(adapter).build_run

    def build(self, briefing):
        telemetry = {"OTEL_METRICS_EXPORTER": "otlp"} if briefing.telemetry else {}
        return replace(build_run(self, briefing), telemetry=telemetry)

    monkeypatch.setattr(type(adapter), "build_run", build)


async def sail(directory, ships, sink):
    with command(directory) as ledger:
        order = [row.id for row in ledger.ships()]
        captain = Captain(directory, ledger, lambda row: ships[order.index(row.id)], telemetry=sink)
        await asyncio.wait_for(captain.run(), 60)
        attempts = {row["task"]: row for row in ledger.rows("attempts", "token")}
        return ledger.voyage().state, attempts


def test_what_agents_report_arrives_with_ship_and_attempt(tmp_path, ships, reporting, monkeypatch):
    monkeypatch.setattr(actors, "SLEEP_AFTER", 0.2)  # so that they are let go, and woken, on the way
    bodies = {task: request(f"of task {task}") for task in "123"}
    tasks = [{"run": REPORT.replace("BODY", body.hex()) + f"echo {task} > {task}"} for task, body in bodies.items()]
    tasks[0]["pin"], tasks[1]["pin"], tasks[2]["waits"] = "ship-0", "ship-1", ["1", "2"]
    sink = Sink()
    directory = make_voyage(tmp_path, tasks, 2)
    state, attempts = asyncio.run(sail(directory, ships(2), sink))
    assert (state, sorted(landed(directory))) == ("complete", ["1", "2", "3"])
    found = {(one.signal, one.ship, one.attempt, one.body) for one in sink.batches}
    assert found == {
        (signal, attempts[task]["ship"], attempts[task]["token"], body)
        for task, body in bodies.items()
        for signal in ("metrics", "logs", "traces")
    }
    assert len(sink.batches) == 9
    assert {one.dropped_calls for one in sink.batches} == {0}
    began = min(row["started"] for row in attempts.values())
    assert all(began - 60 < one.received_at < time.time() + 60 for one in sink.batches)


def test_without_telemetry_an_agent_has_no_endpoint_and_no_port_is_open(tmp_path, ships, reporting):
    sink = Sink()
    tasks = [{"run": "env > seen.txt"}]
    directory = make_voyage(tmp_path, tasks, options={"no_telemetry": True})
    (ship,) = ships(1)
    state, _ = asyncio.run(sail(directory, [ship], sink))
    assert state == "complete"
    assert "OTEL_" not in (ship.home / "voyage/workspace/seen.txt").read_text()
    assert not (ship.home / ".ocaptain/otlp.port").exists()
    assert sink.batches == []


def test_a_captain_that_is_killed_and_another_bring_each_call_once(tmp_path, ships, reporting):
    """The first captain is gone in the middle of an attempt; what was reported meanwhile comes to the second."""
    sink, (ship,) = Sink(), ships(1)
    late = tmp_path / "late"
    run = f"{REPORT.replace('BODY', request('early').hex())}touch {late}; until [ -e {late}.go ]; do sleep 0.05; done\n"
    run += REPORT.replace("BODY", request("late").hex()) + "echo 1 > a"
    directory = make_voyage(tmp_path, [{"run": run}])

    async def first():
        task = asyncio.ensure_future(sail(directory, [ship], sink))
        while len(sink.batches) < 3:
            await asyncio.sleep(0.02)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(first(), 60))
    Path(f"{late}.go").touch()
    state, attempts = asyncio.run(sail(directory, [ship], sink))
    assert state == "complete"
    texts = [(one.signal, one.body) for one in sink.batches]
    assert len(texts) == len(set(texts)) == 6
    assert {one.attempt for one in sink.batches} == {attempts["1"]["token"]}
