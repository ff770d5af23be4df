"""The worker's receiver of OTLP: what it takes, what it refuses and how, and what that costs it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import os
import socket
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocaptain.worker import otlp_body, otlp_http
from ocaptain.worker.journal import Journal
from ocaptain.worker.otlp_body import BadBody, LargeBody, check_body
from ocaptain.worker.places import Places
from ocaptain.worker.telemetry import PIECE_BYTES, Telemetry
from tests.otlp_wire import JSON, PROTOBUF, field, post, request, varint

GOOD = request("one", "two")
GOOD_JSON = b' {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "}\\"{\\\\"}}]}]}]} \n'
MEBIBYTE = 2**20


class Receiver:
    """A receiver, and what it wrote."""

    def __init__(self, home):
        self.places = Places(home)
        self.places.make()
        self.journal = Journal(self.places.journal)
        append = lambda body: self.journal.append(body, durable=False)  # noqa: E731
        self.telemetry = Telemetry(self.places, self.journal, append, lambda: 7)

    @property
    def port(self):
        return self.telemetry._port

    def records(self):
        reader = self.journal.reader()
        reader.seek("otlp", 0)
        return [body for _, body in reader.read("otlp", 1000)]

    def bodies(self):
        """The calls that were stored, as they are unpacked."""
        calls = {}
        for body in self.records():
            calls.setdefault((body["call"], body["signal"], body["type"]), []).append(base64.b64decode(body["data"]))
        return [(*key[1:], zlib.decompress(b"".join(data), 47)) for key, data in calls.items()]

    async def post(self, *arguments, **headers):
        return await asyncio.to_thread(post, self.port, *arguments, **headers)


@contextlib.asynccontextmanager
async def receiving(home):
    receiver = Receiver(home)
    await receiver.telemetry.open()
    try:
        yield receiver
    finally:
        receiver.telemetry.close()
        receiver.journal.close()


def play(home, part, seconds=60):
    async def run():
        async with receiving(home) as receiver:
            await part(receiver)

    asyncio.run(asyncio.wait_for(run(), seconds))


def test_what_is_sent_is_stored_as_it_was(tmp_path):
    zipped, noise = gzip.compress(GOOD_JSON), field(1, field(2, field(2, os.urandom(3 * PIECE_BYTES))))

    async def part(receiver):
        assert (await receiver.post("/v1/metrics", GOOD))[:2] == (200, b"")
        assert (await receiver.post("/v1/logs", zipped, JSON, Content_Encoding="gzip"))[:2] == (200, b"{}")
        assert (await receiver.post("/v1/logs", GOOD_JSON, f"{JSON}; charset=utf-8"))[0] == 200
        status, _, headers = await receiver.post("/v1/traces", iter([noise[:9], noise[9:]]), Expect="100-continue")
        assert (status, headers["Content-Type"], headers["Connection"]) == (200, PROTOBUF, "close")
        assert (await receiver.post("/v1/traces", b""))[0] == 200
        assert receiver.bodies() == [
            ("metrics", PROTOBUF, GOOD),
            ("logs", JSON, GOOD_JSON),
            ("logs", JSON, GOOD_JSON),
            ("traces", PROTOBUF, noise),
            ("traces", PROTOBUF, b""),
        ]
        records = receiver.records()
        assert base64.b64decode(records[1]["data"]) == zipped  # not packed twice
        assert {(one["token"], one["spool"]) for one in records} == {(7, receiver.journal.name)}
        assert [one["piece"] for one in records if one["call"] == 4] == [0, 1, 2, 3]
        sizes = {one["call"]: (one["before"], one["size"]) for one in records}
        assert all(sizes[call][0] + sizes[call][1] == sizes[call + 1][0] for call in range(1, 5))

    play(tmp_path, part)


#: Requests that are refused: path, body, more; then the status, and a word of the reason.
REFUSED = {
    "another path": (("/v1/profiles", GOOD), {}, 404, "/v1/metrics"),
    "another method": (("/v1/logs", GOOD), {"method": "PUT"}, 405, "POST"),
    "another type": (("/v1/logs", GOOD, "text/plain"), {}, 415, "content type"),
    "another encoding": (("/v1/logs", GOOD), {"Content_Encoding": "br"}, 415, "gzip"),
    "a cut message": (("/v1/logs", GOOD[:-1]), {}, 400, "middle"),
    "no message": (("/v1/logs", b"hello"), {}, 400, "malformed"),
    "JSON as protobuf": (("/v1/logs", GOOD_JSON), {}, 400, "malformed"),
    "a field longer than its parent": (("/v1/logs", field(1, b"\x0a\x7f")), {}, 400, "longer"),
    "a number without end": (("/v1/logs", b"\xff" * 20), {}, 400, "64 bits"),
    "protobuf as JSON": (("/v1/logs", GOOD, JSON), {}, 400, "JSON object"),
    "a list": (("/v1/logs", b"[]", JSON), {}, 400, "JSON object"),
    "two objects": (("/v1/logs", b"{}{}", JSON), {}, 400, "JSON object"),
    "brackets that do not match": (("/v1/logs", b'{"a":[}]', JSON), {}, 400, "brackets"),
    "a string without end": (("/v1/logs", b'{"a":"b}', JSON), {}, 400, "whole"),
    "no UTF-8": (("/v1/logs", b'{"a":"\xff"}', JSON), {}, 400, "UTF-8"),
    "a deep nest": (("/v1/logs", b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", JSON), {}, 400, "deeper"),
    "nothing as JSON": (("/v1/logs", b"", JSON), {}, 400, "whole"),
    "no gzip": (("/v1/logs", GOOD), {"Content_Encoding": "gzip"}, 400, "gzip"),
    "a cut gzip": (("/v1/logs", gzip.compress(GOOD)[:-9]), {"Content_Encoding": "gzip"}, 400, "cut off"),
    "two gzips": (("/v1/logs", gzip.compress(GOOD) * 2), {"Content_Encoding": "gzip"}, 400, "follows"),
    "too many bytes": (("/v1/logs", bytes(4 * MEBIBYTE + 1)), {}, 413, "more than 4194304"),
    "too many chunks": (("/v1/logs", iter([bytes(MEBIBYTE)] * 5)), {}, 413, "more than 4194304"),
    "a zip bomb": (
        ("/v1/logs", gzip.compress(field(1, field(2, field(2, bytes(17 * MEBIBYTE)))))),
        {"Content_Encoding": "gzip"},
        413,
        "unzipped",
    ),
    "a bomb of brackets": (
        ("/v1/logs", gzip.compress(b'{"a":[' + b"[]," * MEBIBYTE), JSON),
        {"Content_Encoding": "gzip"},
        413,
        "brackets",
    ),
    "a bomb of fields": (("/v1/logs", gzip.compress(field(1) * MEBIBYTE)), {"Content_Encoding": "gzip"}, 413, "fields"),
    "long headers": (("/v1/logs", GOOD), {"X": "y" * 20_000}, 431, "headers"),
    "both lengths": (
        ("/v1/logs", iter([GOOD])),
        {"Content_Length": "5", "Transfer_Encoding": "chunked"},
        400,
        "chunked",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_call_is_refused_in_the_words_of_otlp(tmp_path, name, capfd):
    arguments, headers, status, word = REFUSED[name]

    async def part(receiver):
        found, body, more = await receiver.post(*arguments, **headers)
        assert found == status, body
        if more["Content-Type"] == JSON:
            said = json.loads(body)
        else:  # google.rpc.Status: field 1 a number, field 2 a text
            assert (body[0], body[2]) == (0x08, 0x12)
            said = {"code": body[1], "message": body[3:].decode()}
        assert said["code"] == (8 if status == 413 else 3)
        assert word in said["message"]
        assert receiver.records() == []
        assert (await receiver.post("/v1/logs", GOOD))[0] == 200  # and it goes on
        assert word in capfd.readouterr().err  # of the worker

    play(tmp_path, part)


@given(st.binary(max_size=200), st.sampled_from([PROTOBUF, JSON]), st.booleans())
@example(varint(8) + varint(2**63), PROTOBUF, False)
def test_no_body_does_more_than_be_refused(data, kind, zipped):
    with contextlib.suppress(BadBody, LargeBody):
        check_body(bytearray(data), kind, gzipped=zipped)


@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.floats(allow_nan=False),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
    )
)
def test_all_json_objects_are_taken_however_they_are_cut(value):
    data = json.dumps({"resourceLogs": value}, ensure_ascii=False).encode(errors="surrogatepass")
    with contextlib.suppress(UnicodeDecodeError):
        data.decode()
        for size in (1, 2, 3, 7):
            otlp_body._check_json(data[at : at + size] for at in range(0, len(data), size))


@given(st.lists(st.text(max_size=300), max_size=20), st.integers(1, 9))
def test_all_requests_are_taken_however_they_are_cut_and_no_beginning_of_one(texts, size):
    data = request(*texts)
    otlp_body._check_protobuf(iter([data[at : at + size] for at in range(0, len(data), size)]))
    for end in range(1, len(data), max(1, len(data) // 20)):
        with pytest.raises(BadBody):
            otlp_body._check_protobuf(iter([data[:end]]))


def test_slow_clients_are_ended_and_too_many_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(otlp_http, "REQUEST_SECONDS", 3.0)

    async def part(receiver):
        slow = [await asyncio.open_connection("127.0.0.1", receiver.port) for _ in range(otlp_http.MAX_CONNECTIONS)]
        for number, (_, writer) in enumerate(slow):
            begun = b"POST /v1/logs HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
            writer.write(begun[: 20 + 5 * number])
        status, _, headers = await receiver.post("/v1/logs", GOOD)
        assert (status, headers["Retry-After"]) == (503, "1")
        for reader, writer in slow:
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
            writer.close()
        while receiver.telemetry._server and (await receiver.post("/v1/logs", GOOD))[0] == 503:
            await asyncio.sleep(0.05)
        assert len(receiver.records()) == 1

    play(tmp_path, part)


def test_what_is_being_received_is_bounded_and_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(otlp_http, "MAX_HELD", MEBIBYTE)

    async def part(receiver):
        large = field(1, field(2, field(2, bytes(MEBIBYTE - 100))))
        _, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        writer.write(
            b"POST /v1/logs HTTP/1.1\r\nContent-Type: application/x-protobuf\r\nContent-Length: 999999\r\n\r\n"
        )
        writer.write(bytes(500_000))
        await writer.drain()
        while (await receiver.post("/v1/logs", large))[0] != 503:
            await asyncio.sleep(0.02)
        writer.close()
        while (await receiver.post("/v1/logs", large))[0] != 200:
            await asyncio.sleep(0.02)
        for _ in range(3):
            assert (await receiver.post("/v1/logs", large))[0] == 200

    play(tmp_path, part)


def test_a_full_disk_is_said_and_tried_again(tmp_path, monkeypatch):
    async def part(receiver):
        append = receiver.telemetry._append

        def full(body):
            raise OSError(28, "No space left on device")

        receiver.telemetry.close()
        receiver.telemetry._server, receiver.telemetry._append = None, full
        await receiver.telemetry.open()
        status, body, headers = await receiver.post("/v1/logs", GOOD)
        assert (status, headers["Retry-After"], body[1]) == (503, "1", 14)
        assert b"No space left on device" in body
        receiver.telemetry._append = append

    play(tmp_path, part)


def test_a_ship_that_is_to_sleep_takes_nothing(tmp_path):
    async def part(receiver):
        receiver.telemetry.is_taking = False
        assert (await receiver.post("/v1/logs", GOOD))[0] == 503
        receiver.telemetry.is_taking = True
        assert (await receiver.post("/v1/logs", GOOD))[0] == 200

    play(tmp_path, part)


def test_a_receiver_that_starts_anew_takes_its_port_and_numbers_on(tmp_path):
    ports = []

    async def part(receiver):
        ports.append(receiver.port)
        assert (await receiver.post("/v1/logs", GOOD))[0] == 200

    play(tmp_path, part)
    play(tmp_path, part)
    assert ports[0] == ports[1]
    with socket.create_server(("127.0.0.1", ports[0])):  # somebody else has it now
        play(tmp_path, part)
    assert ports[2] != ports[0]
    with contextlib.closing(Receiver(tmp_path).journal) as journal:
        reader = journal.reader()
        reader.seek("otlp", 0)
        bodies = [body for _, body in reader.read("otlp", 10)]
    assert [one["call"] for one in bodies] == [1, 2, 3]
    assert [one["before"] for one in bodies] == [n * bodies[0]["size"] for n in range(3)]


def test_an_agent_is_told_only_where_somebody_listens(tmp_path):
    async def part(receiver):
        told = receiver.telemetry.environment({"REPORTS": "1"})
        base = f"http://127.0.0.1:{receiver.port}"
        assert told == {
            "REPORTS": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": base,
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{base}/v1/metrics",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{base}/v1/logs",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{base}/v1/traces",
        }
        assert receiver.telemetry.environment({}) == {}

    play(tmp_path, part)
    shut = Receiver(tmp_path / "other")
    assert shut.telemetry.environment({"REPORTS": "1"}) == {}
    shut.journal.close()
