"""The way of telemetry from a worker's spool to the captain's sink: order, cuts, bounds, and what is told of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.captain.cursors import Cursors
from ocaptain.captain.ship import telemetry as edge_module
from ocaptain.captain.ship.telemetry import Joiner, TelemetryEdge, unzip
from ocaptain.ledger import Ledger
from ocaptain.protocol import FIRST_CLASSES, encode_line
from ocaptain.protocol.codec import to_dict
from ocaptain.protocol.envelope import OtlpBody, read_body
from ocaptain.worker import channels, serve
from ocaptain.worker.journal import Journal
from ocaptain.worker.otlp_http import Call
from ocaptain.worker.telemetry import Spool
from tests.otlp_wire import PROTOBUF, request
from tests.unit.test_worker_channel import joined
from tests.voyage.local import command, make_voyage

SPOOL = "ab" * 16


def call(text, *, gzipped=False):
    body = request(text)
    return Call("logs", PROTOBUF, gzipped, bytearray(gzip.compress(body) if gzipped else body))


def spool_of(worker):
    return Spool(worker._journal, lambda body: worker._append_to_journal(body, durable=False))


class Sink:
    def __init__(self):
        self.batches = []

    def put(self, batch):
        self.batches.append(batch)


@contextlib.contextmanager
def edge_of(root, ships=1):
    directory = make_voyage(root, [{"run": "true"}], ships)
    with command(directory) as ledger:
        yield Sink(), ledger


def test_a_captain_that_was_away_for_ten_minutes_gets_all_of_it_once_and_in_order(tmp_path):
    """An export of each signal every two seconds, as the agent is told to: 900 calls, with a cut in the middle."""

    async def play(sink, ledger):
        edge = TelemetryEdge(sink, ledger)
        async with joined(tmp_path / "ship") as (worker, connect, records, _):
            spool = spool_of(worker)
            for number in range(900):
                await spool.store(call(f"{number} " + "x" * 4000, gzipped=number % 2 == 1), None)
            cursors = Cursors(None, {})
            channel = await connect(cursors)
            while len(records) < 300:
                await asyncio.sleep(0.01)
            await channel.close()
            while worker._channel:
                await asyncio.sleep(0.01)
            channel = await connect(cursors, 2)
            await channel.rest()
            await channel.close()
            assert not worker.telemetry.is_taking
            for record in records:
                edge.take("ship-0", record)
            await edge.close()
        assert [one.body for one in sink.batches] == [call(f"{number} " + "x" * 4000).body for number in range(900)]
        assert [one.number for one in sink.batches] == list(range(1, 901))
        assert {(one.dropped_calls, one.dropped_bytes) for one in sink.batches} == {(0, 0)}

    with edge_of(tmp_path) as (sink, ledger):
        asyncio.run(asyncio.wait_for(play(sink, ledger), 60))


def test_beyond_the_bound_the_oldest_go_and_it_is_told_how_many_also_to_the_next_captain(tmp_path):
    async def play(sink, ledger):
        async with joined(tmp_path / "ship") as (worker, connect, records, _):
            worker._journal._max_bytes, worker._journal._classes["otlp"]._segment_bytes = {"otlp": 100_000}, 10_000
            spool, sizes = spool_of(worker), []
            cursors, edge = Cursors(None, {}), TelemetryEdge(sink, ledger)

            async def send(first, last):
                for number in range(first, last):
                    before = spool._bytes
                    await spool.store(call(f"{number} " + "x" * number), None)
                    sizes.append(spool._bytes - before)
                assert worker._journal.size("otlp") <= 110_000

            async def receive(generation):
                channel = await connect(cursors, generation)
                await channel.rest()
                await channel.close()
                while worker._channel:
                    await asyncio.sleep(0.01)
                for record in records:
                    edge.take("ship-0", record)
                records.clear()
                await edge.close()

            await send(0, 10)
            await receive(1)
            assert len(sink.batches) == 10
            await send(10, 1000)  # while nobody is there
            edge = TelemetryEdge(sink, ledger)  # of the next captain: what it knows is in the ledger
            await receive(2)
            first, *rest = sink.batches[10:]
            assert 100 < first.number < 1000
            assert first.dropped_calls == first.number - 11
            assert first.dropped_bytes == sum(sizes[10 : first.number - 1])
            assert [one.number for one in rest] == list(range(first.number + 1, 1001))
            assert {one.dropped_calls for one in rest} == {0}

    with edge_of(tmp_path) as (sink, ledger):
        asyncio.run(asyncio.wait_for(play(sink, ledger), 60))


def test_a_result_waits_for_no_telemetry(tmp_path, monkeypatch):
    """The order of what is sent: results, logs and facts before any telemetry that was there earlier."""
    sent = []
    send_line = channels.Channel.send_line

    async def play():
        async with joined(tmp_path) as (worker, connect, _, _):

            async def note(channel, line):
                await send_line(channel, line)
                if line["type"] == "record":
                    sent.append(line["body"]["kind"])
                    if sent[-20:] == ["otlp"] * 20 and "result" not in sent:  # in the middle of it
                        worker._append_to_journal({"kind": "agent", "token": 1, "facts": {}}, durable=False)
                        worker._append_to_journal({"kind": "log", "token": 1, "offset": 0, "data": ""}, durable=False)
                        result = {"kind": "result", "id": "start:1", "ok": True, "data": {}}
                        worker._append_to_journal(result, durable=True)

            monkeypatch.setattr(channels.Channel, "send_line", note)
            spool = spool_of(worker)
            for number in range(50):
                await spool.store(call(str(number)), None)
            worker._append_to_journal({"kind": "log", "token": 1, "offset": 0, "data": ""}, durable=False)
            channel = await connect()
            await channel.rest()
            await channel.close()

    asyncio.run(asyncio.wait_for(play(), 30))
    assert sent == ["log", *["otlp"] * 20, "result", "log", "agent", *["otlp"] * 30]


def test_a_captain_of_before_is_sent_no_telemetry_and_a_later_one_is(tmp_path):
    async def play():
        async with joined(tmp_path) as (worker, connect, records, _):
            await spool_of(worker).store(call("one"), None)
            worker._append_to_journal({"kind": "agent", "token": 1, "facts": {}}, durable=False)
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "sock"))
            hello = {"type": "hello", "protocol": 3, "voyage": "voyage-00000000cafe", "ship": "ship-0", "epoch": 1}
            for message in ({**hello, "generation": 1, "journal": None, "after": {}}, {"type": "rest"}):
                writer.write(encode_line(message))
            seen = []
            while not seen or seen[-1]["type"] != "resting":
                seen.append(json.loads(await reader.readline()))
            assert [one["type"] for one in seen] == ["welcome", "record", "resting"]
            assert set(seen[0]["first"]) == set(seen[0]["last"]) == set(seen[2]["last"]) == set(FIRST_CLASSES)
            writer.close()
            channel = await connect(generation=2)
            await channel.rest()
            await channel.close()
            assert [one.kind for one in records] == ["agent", "otlp"]

    asyncio.run(asyncio.wait_for(play(), 30))


def test_a_worker_of_before_has_no_telemetry(tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "classes_of", lambda _: FIRST_CLASSES)

    async def play():
        async with joined(tmp_path) as (worker, connect, records, _):
            worker._append_to_journal({"kind": "agent", "token": 1, "facts": {}}, durable=False)
            channel = await connect()
            await channel.rest()
            await channel.close()
            assert [one.kind for one in records] == ["agent"]
            assert channel.cursors.settled_numbers() == {"result": 0, "log": 0, "telemetry": 1}

    asyncio.run(asyncio.wait_for(play(), 30))


def test_a_disk_that_loses_the_newest_record_numbers_on(tmp_path):
    async def play():
        with contextlib.closing(Journal(tmp_path)) as there:
            spool = Spool(there, lambda body: there.append(body, durable=False))
            for _ in range(3):
                await spool.store(call("one"), 5)
            there._classes["otlp"].drop_oldest()
            assert there.newest("otlp") is None
            again = Spool(there, lambda body: there.append(body, durable=False))
            await again.store(call("two"), 5)
            assert (there.newest("otlp")["call"], there.newest("otlp")["token"]) == (4, 5)

    asyncio.run(play())


# -- joining ------------------------------------------------------------------------------------------


def pieces(number, before, *data, spool=SPOOL, token=None):
    size = sum(map(len, data))
    body = OtlpBody("logs", PROTOBUF, spool, number, before, size, 0, len(data), 1.0, token=token)
    return [replace(body, piece=at, data=base64.b64encode(one).decode()) for at, one in enumerate(data)]


@given(st.data())
def test_whatever_is_missing_each_call_comes_once_and_the_rest_is_counted(data):
    """The records of a journal in order, from anywhere on, some of them missing, some sent again."""
    sizes = data.draw(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=12))
    records, before = [], 0
    for number, call_sizes in enumerate(sizes, 1):
        records += pieces(number, before, *(bytes(size) for size in call_sizes))
        before += sum(call_sizes)
    lost = data.draw(st.sets(st.sampled_from(range(len(records)))))
    joiner, whole, missing, missing_bytes = Joiner(), [], 0, 0
    for at, record in enumerate(records):
        found = joiner.take(record) if at not in lost else None
        if found:
            whole.append(found.body.call)
            missing, missing_bytes = missing + found.dropped_calls, missing_bytes + found.dropped_bytes
            assert found.data == bytes(found.body.size)
    damaged = {records[at].call for at in lost}
    assert whole == [number for number in range(1, len(sizes) + 1) if number not in damaged]
    last = whole[-1] if whole else 0
    assert missing == sum(1 for number in damaged if number < last)
    assert missing_bytes == sum(sum(sizes[number - 1]) for number in damaged if number < last)
    again = [joiner.take(one) for one in records]
    assert all(one is None or one.body.call > last for one in again)


@pytest.mark.parametrize(
    "records",
    [
        pieces(1, 0, b"ab", b"cd")[1:],
        [pieces(1, 0, b"ab", b"cd")[0], pieces(2, 0, b"ab", b"cd")[1]],
        [pieces(1, 0, b"ab", b"cd")[0], replace(pieces(1, 0, b"ab", b"cd")[1], token=9)],
        [replace(pieces(1, 0, b"ab")[0], size=1)],
        [replace(pieces(1, 0, b"ab")[0], size=3)],
        [replace(pieces(1, 0, b"ab")[0], data="no base64!")],
        [replace(pieces(1, 0, b"ab")[0], data="", size=0)],
        [replace(one, pieces=3) for one in pieces(1, 0, b"ab", b"cd")],
    ],
)
def test_pieces_that_make_no_call_make_none(records):
    joiner = Joiner()
    assert [joiner.take(one) for one in records] == [None] * len(records)
    assert joiner.mark is None
    assert joiner.take(pieces(7, 0, b"ab")[0]).data == b"ab"  # and the next one is taken


@pytest.mark.parametrize(
    "more",
    [{"signal": "profiles"}, {"type": "text/plain"}, {"spool": "../x"}, {"size": 2**23}, {"call": 0}, {"at": -1}],
)
def test_a_ship_s_own_ideas_are_no_record(more):
    good = to_dict(pieces(1, 0, b"ab")[0])
    assert read_body(good) is not None
    assert read_body({**good, **more}) is None


def test_what_is_unpacked_is_bounded(monkeypatch):
    monkeypatch.setattr(edge_module, "MAX_UNZIPPED", 1000)
    assert unzip(zlib.compress(bytes(1000))) == bytes(1000)
    assert unzip(gzip.compress(b"")) == b""
    for bad in (zlib.compress(bytes(1001)), zlib.compress(b"ab")[:-1], b"nothing", b""):
        assert unzip(bad) is None


def test_an_attempt_is_named_only_if_it_is_the_ship_s_and_what_cannot_be_unpacked_is_counted(tmp_path):
    async def play(sink, ledger):
        claim = ledger.claim("ship-0")
        edge = TelemetryEdge(sink, ledger)
        body = zlib.compress(b"one")
        for number, (token, data) in enumerate(
            [(claim.token, body), (99, body), (None, body), (None, b"bad"), (None, body)]
        ):
            for ship in ("ship-0", "ship-1"):
                for record in pieces(number + 1, 100 * number, data, token=token):
                    edge.take(ship, record)
        await edge.close()
        found = {ship: [one for one in sink.batches if one.ship == ship] for ship in ("ship-0", "ship-1")}
        assert [one.attempt for one in found["ship-0"]] == [claim.token, None, None, None]
        assert [one.attempt for one in found["ship-1"]] == [None] * 4
        assert [(one.dropped_calls, one.dropped_bytes) for one in found["ship-1"]] == [(0, 0)] * 3 + [(1, 3)]
        assert ledger.telemetry_mark("ship-1") == (SPOOL, 5, 400 + len(body))
        again = TelemetryEdge(sink, ledger)  # a captain that begins, and is sent it all again
        for record in pieces(5, 400, body):
            again.take("ship-1", record)
        await again.close()
        assert len(sink.batches) == 8

    with edge_of(tmp_path, 2) as (sink, ledger):
        asyncio.run(asyncio.wait_for(play(sink, ledger), 30))


def test_countless_small_calls_do_not_all_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(edge_module, "MAX_WAITING", 10 * edge_module.CALL_BYTES)
    data = zlib.compress(b"x")

    async def play(sink, ledger):
        edge = TelemetryEdge(sink, ledger)
        for number in range(100):  # before the loop has its turn
            for record in pieces(number + 1, number * len(data), data):
                edge.take("ship-0", record)
        await asyncio.gather(*edge._unzipping)
        for record in pieces(101, 100 * len(data), data):
            edge.take("ship-0", record)
        await edge.close()
        assert 1 <= len(sink.batches) <= 11
        assert len(sink.batches) + sum(one.dropped_calls for one in sink.batches) == 101

    with edge_of(tmp_path) as (sink, ledger):
        asyncio.run(asyncio.wait_for(play(sink, ledger), 30))


def test_a_ledger_of_before_gets_its_column(tmp_path):
    directory = make_voyage(tmp_path, [{"run": "true"}])
    with contextlib.closing(Ledger(directory / "ledger.db")) as ledger:
        ledger._db.execute("ALTER TABLE ships DROP COLUMN telemetry")
    with command(directory) as ledger:
        assert ledger.telemetry_mark("ship-0") is None
        ledger.set_telemetry_marks({"ship-0": (SPOOL, 3, 9)})
        assert ledger.telemetry_mark("ship-0") == (SPOOL, 3, 9)
