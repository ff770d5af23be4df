"""The channel: lines, records, the fence, the cursor and the journal, under every disorder."""

from __future__ import annotations

import contextlib
import errno
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocaptain import protocol
from ocaptain.captain.channel import OtherProtocol, _other_protocol, supported_protocol
from ocaptain.captain.cursors import Cursor, Cursors
from ocaptain.captain.share import ALL_SHIPS, CREDIT, FEW_SHIPS, MAX_WAIT, Share
from ocaptain.protocol import CLASSES, Fence, HelloRefused, LineSplitter
from ocaptain.protocol.codec import to_dict
from ocaptain.protocol.envelope import Refusal
from ocaptain.protocol.limits import printable_path
from ocaptain.protocol.messages import Bundle, Outcome, Part, Snapshot, UnfitTree
from ocaptain.worker.journal import Journal
from ocaptain.worker.workspace import MAX_NAMES

bodies = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=20), st.none()), max_size=4)


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b" "))), st.integers(1, 7))
def test_lines_survive_any_cutting(lines, step):
    data = b"".join(line + b"\n" for line in lines)
    cutter = LineSplitter()
    found = [line for start in range(0, len(data), step) for line in cutter.feed(data[start : start + step])]
    assert found == lines


def test_a_line_without_end_is_dropped_and_the_next_one_read():
    cutter = LineSplitter()
    for _ in range(6):
        assert cutter.feed(b"x" * 1024 * 1024) == []
    assert cutter.feed(b"tail\n{}\n") == [b"{}"]


@given(st.integers(1, 10**6), bodies)
def test_a_record_comes_back_as_it_went(number, body):
    message = protocol.decode_line(protocol.encode_line(protocol.make_record(number, body)))
    assert message is not None
    assert protocol.read_record(message) == (number, body)


@given(st.integers(1, 100), bodies, st.integers(1, 100))
def test_a_damaged_record_is_refused(number, body, other):
    message = protocol.make_record(number, body)
    damaged = {**message, "body": {**body, "x": "changed"}}
    assert protocol.read_record(damaged) is None
    if other != number:
        assert protocol.read_record({**message, "n": other}) is None


@pytest.mark.parametrize(
    "noise", [b"", b"Welcome to Ubuntu", b"{", b"[]", b'{"no": "type"}', b'{"type": 3}', b"\xff\xfe{", b"{" * 100_000]
)
def test_noise_is_no_message(noise):
    assert protocol.decode_line(noise) is None


@pytest.mark.parametrize(
    "message",
    [{}, {"n": 0, "body": {}}, {"n": "1", "body": {}}, {"n": 1, "body": []}, {"n": True, "body": {}, "crc": 0}],
)
def test_a_malformed_record_is_refused(message):
    assert protocol.read_record({"type": "record", **message}) is None


def hello(epoch, generation, voyage="v", version=protocol.PROTOCOL):
    return {"voyage": voyage, "epoch": epoch, "generation": generation, "protocol": version}


def test_the_worker_obeys_the_highest():
    fence = Fence()
    fence.admit(hello(3, 1))
    fence.admit(hello(3, 2))
    for stale in (hello(2, 9), hello(3, 1), hello(4, 1, voyage="other"), hello(4, 1, version=99), {}):
        with pytest.raises(HelloRefused):
            fence.admit(stale)
    fence.admit(hello(4, 1))
    assert (fence.epoch, fence.generation) == (4, 1)


@given(st.data())
def test_the_cursor_uses_each_record_once_and_in_order(data):
    """Records come late, twice and out of order; pulls send them again from where the cursor is."""
    total = data.draw(st.integers(0, 25))
    held = set(data.draw(st.lists(st.integers(1, 25), max_size=6)))
    cursor = Cursor()
    used: list[int] = []
    for number in data.draw(st.lists(st.integers(1, max(total, 1)), max_size=60)):
        if number <= total and cursor.accept(number, hold=number in held) == "use":
            used += [number]
    for number in range(cursor.seen + 1, total + 1):  # what the pull brings
        assert cursor.accept(number, hold=number in held) == "use"
        used.append(number)
    assert used == list(range(1, total + 1))
    open_ones = sorted(held & set(used))
    assert cursor.settled_upto == (open_ones[0] - 1 if open_ones else total)
    for number in open_ones:
        cursor.settle(number)
    assert cursor.settled_upto == total


def test_a_new_journal_starts_the_cursors_anew():
    cursors = Cursors("old", {"log": 40, "all": 7})
    cursors.start_channel("new", {"log": 1, "result": 3})
    assert cursors.settled_numbers() == {"log": 0, "result": 2}
    assert cursors.of("log").accept(1, hold=False) == "use"
    cursors = Cursors("same", {"log": 40})
    cursors.start_channel("same", {"log": 35})
    assert cursors.of("log").accept(36, hold=False) == "drop"
    assert cursors.of("log").accept(41, hold=False) == "use"
    cursors.start_channel("same", {"log": 60})  # what is between was dropped while nobody listened
    assert cursors.of("log").accept(60, hold=False) == "use"


def test_what_was_dropped_is_passed_over_and_no_unsettled_result_with_it():
    cursor = Cursor()
    assert cursor.accept(1, hold=True) == "use"
    assert cursor.skip_dropped(5) == 4
    assert cursor.skip_dropped(5) == 0
    assert cursor.settled_upto == 0
    cursor.settle(1)
    assert (cursor.settled_upto, cursor.seen) == (5, 5)
    assert cursor.accept(6, hold=False) == "use"


KINDS = {"result": "result", "log": "log", "telemetry": "agent", "otlp": "otlp"}


def all_of(journal, after=None):
    """Every record that is there, by class."""
    reader = journal.reader()
    found = {}
    for name in CLASSES:
        reader.seek(name, (after or {}).get(name, 0))
        found[name] = []
        while batch := reader.read(name, 3):
            found[name] += batch
    return found


@settings(max_examples=60)
@given(st.data())
def test_the_journal_loses_nothing_that_was_not_acknowledged(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("journal")
    written, acknowledged = dict.fromkeys(CLASSES, 0), dict.fromkeys(CLASSES, 0)
    with contextlib.ExitStack() as opened:

        def reopen():
            opened.close()
            return opened.enter_context(contextlib.closing(Journal(path, segment_bytes=150)))

        journal = reopen()
        steps = st.tuples(st.sampled_from(["append", "append", "ack", "restart", "torn"]), st.sampled_from(CLASSES))
        for step, name in data.draw(st.lists(steps, max_size=40)):
            if step == "append":
                written[name] += 1
                body = {"kind": KINDS[name], "value": written[name]}
                assert journal.append(body, durable=False) == written[name]
            elif step == "ack":
                acknowledged[name] = max(acknowledged[name], data.draw(st.integers(0, written[name])))
                journal.acknowledge(acknowledged)
            else:
                if step == "torn" and (files := sorted(path.glob(f"{name}-*"))):
                    with files[-1].open("ab") as file:
                        file.write(b'{"type":"record","n":')
                before = journal.name
                journal = reopen()
                assert journal.name == before
            # What was acknowledged may come again after a restart; what was not must.
            for one, records in all_of(journal).items():
                assert journal.first(one) <= acknowledged[one] + 1
                expected = range(journal.first(one), written[one] + 1)
                assert records == [(number, {"kind": KINDS[one], "value": number}) for number in expected]


def test_the_oldest_logs_and_telemetry_go_and_results_stay(tmp_path):
    journal = Journal(tmp_path, max_bytes={"log": 3000, "telemetry": 2000}, segment_bytes=500)
    with contextlib.closing(journal):
        for number in range(100):
            for kind in KINDS.values():
                journal.append({"kind": kind, "value": number, "data": "x" * 50}, durable=False)
            assert journal.size("log") <= 3000
            assert journal.size("telemetry") <= 2000
        found = all_of(journal)
        assert [number for number, _ in found["result"]] == list(range(1, 101))
        assert 5 < len(found["log"]) < 40
        assert found["log"][-1][0] == found["telemetry"][-1][0] == 100
        assert found["log"][0][0] == journal.first("log")


@pytest.mark.parametrize("where", ["write", "open", "fsync", "ftruncate"])
def test_after_an_error_the_journal_goes_on(tmp_path, monkeypatch, where):
    """A full disk once left the file closed: the ship then answered hello, and never a command, for ever."""
    journal = Journal(tmp_path, segment_bytes=200)
    result = {"kind": "result", "id": "x", "data": "y" * 150}
    with contextlib.closing(journal):
        for _ in range(3):
            journal.append(result, durable=True)
        real = getattr(os, where)

        def fails(*arguments, **more):
            if where == "write":  # half of it is there
                real(arguments[0], bytes(arguments[1])[:10])
            raise OSError(errno.EIO, "no")

        monkeypatch.setattr(os, where, fails)
        for name in CLASSES:
            journal.acknowledge({name: 1})
        journal.close()
        with pytest.raises(OSError, match="no"):
            journal.append(result, durable=True)
        journal.acknowledge({"result": 2})
        monkeypatch.undo()
        assert journal.append(result, durable=True) == 4
        assert [number for number, _ in all_of(journal, {"result": 2})["result"]] == [3, 4]


def test_on_a_full_disk_telemetry_and_logs_make_room_for_a_result(tmp_path, monkeypatch):
    journal = Journal(tmp_path, segment_bytes=300)
    with contextlib.closing(journal):
        for _ in range(20):
            for kind in ("log", "agent"):
                journal.append({"kind": kind, "data": "x" * 100}, durable=False)
        limit = sum(file.stat().st_size for file in tmp_path.iterdir()) - 600
        real = os.write

        def write(fd, data):
            if sum(file.stat().st_size for file in tmp_path.iterdir()) + len(data) > limit:
                raise OSError(errno.ENOSPC, "full")
            return real(fd, data)

        monkeypatch.setattr(os, "write", write)
        with pytest.raises(OSError, match="full"):
            journal.append({"kind": "log", "data": ""}, durable=False)
        assert journal.append({"kind": "result", "data": "x" * 100}, durable=True) == 1
        found = all_of(journal)
        assert len(found["log"]) == 20
        assert 0 < len(found["telemetry"]) < 20


def test_a_former_journal_is_taken_over_once(tmp_path):
    former = tmp_path / "journal.jsonl"
    bodies = [{"kind": "log", "offset": 0}, {"kind": "result", "id": "start:3"}, {"kind": "agent"}]
    lines = [{"type": "journal", "name": "ab" * 16, "acknowledged": 6}]
    lines += [protocol.make_record(number, body) for number, body in enumerate(bodies, 7)]
    former.write_bytes(b"".join(protocol.encode_line(line) for line in lines) + b'{"type":"rec')
    for _ in range(2):
        with contextlib.closing(Journal(tmp_path / "journal", former)) as journal:
            assert {name: [body for _, body in found] for name, found in all_of(journal).items()} == {
                "log": [bodies[0]],
                "result": [bodies[1]],
                "telemetry": [bodies[2]],
                "otlp": [],
            }
        assert not former.exists()


def test_nothing_of_a_long_journal_is_held_in_memory(tmp_path):
    with contextlib.closing(Journal(tmp_path)) as journal:
        piece = {"kind": "log", "data": "x" * 48 * 1024}
        tracemalloc.start()
        try:
            for _ in range(400):
                journal.append(piece, durable=False)
            reader = journal.reader()
            while reader.read("log", 16):
                pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * 1024 * 1024 < journal.size("log")


@pytest.mark.parametrize(
    ("refusal", "speaks"),
    [
        (Refusal("protocol 2, this worker speaks 1"), 1),
        (Refusal("protocol 2, this worker speaks 3", 3), 3),
        (Refusal("a newer captain is known (epoch 3, channel 1)"), None),
        (Refusal("a newer captain is known", 2), None),
    ],
)
def test_a_refusal_says_which_protocol_the_worker_speaks(refusal, speaks):
    assert _other_protocol(refusal, 2) == speaks


def test_a_newer_worker_is_refused_in_one_line():
    with pytest.raises(OtherProtocol, match=rf"protocol {protocol.PROTOCOL + 1}, .* use the newer ocaptain$"):
        supported_protocol(OtherProtocol(protocol.PROTOCOL + 1))
    assert supported_protocol(OtherProtocol(1)) == 1


# -- what one ship's words cost -------------------------------------------------------------------------


def nested(levels):
    return b'{"type":"x","a":' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize(
    "line",
    [
        nested(protocol.MAX_NESTING),
        nested(4000),
        nested(500_000),
        b'{"type":"x","a":' + b"[" * 500_000,
        b'{"type":"x","a":[' + b"0," * protocol.MAX_VALUES + b"0]}",
        b'{"type":"x",' + b",".join(b'"%d":0' % number for number in range(20_000)) + b"}",
        b'{"type":"x","a":"' + b"x" * protocol.MAX_SHIP_LINE + b'"}',
        b'  {"type":"x","a":"' + b"{" * protocol.MAX_VALUES + b'"}',
    ],
)
def test_what_no_worker_sends_is_not_read(line):
    with pytest.raises(protocol.OversizedLine):
        protocol.decode_from_ship(line)


def test_long_and_deep_lines_of_workers_are_read():
    for line in (nested(protocol.MAX_NESTING - 2), b'{"type":"x","a":[' + b"0," * 9000 + b"0]}", b'{"type":"x"}'):
        assert protocol.decode_from_ship(line)["type"] == "x"
    for noise in (b"", b"motd", b"{", b"{}", b"[" * 10**6, b'"' * 10**6):
        assert protocol.decode_from_ship(noise) is None


def test_the_longest_result_of_a_worker_is_one_that_a_captain_reads():
    names = tuple(printable_path(b"\xff" * 4000) for _ in range(MAX_NAMES))
    data = "A" * (protocol.INLINE_BYTES * 4 // 3)
    snapshot = Snapshot(
        False, Bundle((Part(".ocaptain/out/a.0", 1, "0" * 64),), "r", data), "a" * 40, "b" * 40, "\U0001f6a2" * 8000
    )
    for outcome in (Outcome(1, "exit", 1.0, "\ufffd" * 8192, unfit=UnfitTree("r", names)), snapshot):
        body = {"kind": "result", "id": "start:1", "ok": True, "data": to_dict(outcome)}
        assert protocol.decode_from_ship(protocol.encode_line(protocol.make_record(1, body)))


def test_a_ship_that_used_its_credit_waits_and_earns_it_again():
    share = Share(0.0)
    assert share.spend(0.0, CREDIT, ships=1) == 0
    assert share.spend(0.0, 0.01, ships=1) == pytest.approx(0.01 / 0.125)
    assert share.spend(100.0, 0.01, ships=1) == 0, "it waited"
    assert share.spend(100.0, 60.0, ships=1) == MAX_WAIT
    for ships in (1, 4, 20, 200):
        at, used, one = 0.0, 0.0, Share(0.0)
        while at < 1000:
            used += 0.01
            at += 0.01 + one.spend(at + 0.01, 0.01, ships)
        rate = max(ALL_SHIPS / max(FEW_SHIPS, ships), 0.01 / MAX_WAIT)
        assert 900 * rate < used <= 1000 * rate + CREDIT + 0.02


def test_lines_that_are_too_long_are_counted():
    cutter = LineSplitter(10)
    assert cutter.feed(b"x" * 30 + b"\nshort\n" + b"y" * 11) == [b"short"]
    assert cutter.dropped == 2
    cutter.feed(b"y" * 100)
    assert cutter.feed(b"\nend\n") == [b"end"]
    assert cutter.dropped == 2
