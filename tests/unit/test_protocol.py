"""The channel: lines, records, the fence, the cursor and the journal, under every disorder."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocaptain import protocol
from ocaptain.captain.channel import Cursor
from ocaptain.protocol import Fence, Lines, Refused
from ocaptain.worker.journal import Journal

bodies = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=20), st.none()), max_size=4)


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b" "))), st.integers(1, 7))
def test_lines_survive_any_cutting(lines, step):
    data = b"".join(line + b"\n" for line in lines)
    cutter = Lines()
    found = [line for start in range(0, len(data), step) for line in cutter.feed(data[start : start + step])]
    assert found == lines


def test_a_line_without_end_is_dropped_and_the_next_one_read():
    cutter = Lines()
    for _ in range(6):
        assert cutter.feed(b"x" * 1024 * 1024) == []
    assert cutter.feed(b"tail\n{}\n") == [b"{}"]


@given(st.integers(1, 10**6), bodies)
def test_a_record_comes_back_as_it_went(number, body):
    message = protocol.decode(protocol.encode(protocol.record(number, body)))
    assert message is not None
    assert protocol.read_record(message) == (number, body)


@given(st.integers(1, 100), bodies, st.integers(1, 100))
def test_a_damaged_record_is_refused(number, body, other):
    message = protocol.record(number, body)
    damaged = {**message, "body": {**body, "x": "changed"}}
    assert protocol.read_record(damaged) is None
    if other != number:
        assert protocol.read_record({**message, "n": other}) is None


@pytest.mark.parametrize(
    "noise", [b"", b"Welcome to Ubuntu", b"{", b"[]", b'{"no": "type"}', b'{"type": 3}', b"\xff\xfe{", b"{" * 100_000]
)
def test_noise_is_no_message(noise):
    assert protocol.decode(noise) is None


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
        with pytest.raises(Refused):
            fence.admit(stale)
    fence.admit(hello(4, 1))
    assert (fence.epoch, fence.generation) == (4, 1)


@given(st.data())
def test_the_cursor_uses_each_record_once_and_in_order(data):
    """Records come late, twice and out of order; pulls send them again from where the cursor is."""
    total = data.draw(st.integers(0, 25))
    held = set(data.draw(st.lists(st.integers(1, 25), max_size=6)))
    cursor = Cursor(None, 0)
    cursor.welcome("j", 1)
    used: list[int] = []
    for number in data.draw(st.lists(st.integers(1, max(total, 1)), max_size=60)):
        if number <= total and cursor.take(number, hold=number in held) == "use":
            used += [number]
    for number in range(cursor.seen + 1, total + 1):  # what the pull brings
        assert cursor.take(number, hold=number in held) == "use"
        used.append(number)
    assert used == list(range(1, total + 1))
    open_ones = sorted(held & set(used))
    assert cursor.settled == (open_ones[0] - 1 if open_ones else total)
    for number in open_ones:
        cursor.settle(number)
    assert cursor.settled == total


def test_a_new_journal_starts_the_cursor_anew():
    cursor = Cursor("old", 40)
    cursor.welcome("new", 1)
    assert (cursor.seen, cursor.settled) == (0, 0)
    assert cursor.take(1, hold=False) == "use"
    cursor = Cursor("same", 40)
    cursor.welcome("same", 35)
    assert cursor.take(36, hold=False) == "drop"
    assert cursor.take(41, hold=False) == "use"


@settings(max_examples=60)
@given(st.data())
def test_the_journal_loses_nothing_that_was_not_acknowledged(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    written, acknowledged = 0, 0
    with contextlib.ExitStack() as opened:

        def reopen():
            opened.close()
            return opened.enter_context(contextlib.closing(Journal(path)))

        journal = reopen()
        for step in data.draw(st.lists(st.sampled_from(["append", "ack", "restart", "torn"]), max_size=30)):
            if step == "append":
                written += 1
                assert journal.append({"value": written}, durable=False) == written
            elif step == "ack" and written:
                acknowledged = max(acknowledged, data.draw(st.integers(0, written)))
                journal.acknowledge(acknowledged)
            else:
                if step == "torn":
                    with path.open("ab") as file:
                        file.write(b'{"type":"record","n":')
                journal = reopen()
            # What was acknowledged may come again after a restart; what was not must.
            first = journal.acknowledged + 1
            assert first <= acknowledged + 1
            found = journal.after(0, 1000)
            assert found == [(number, {"value": number}) for number in range(first, written + 1)]
        assert journal.name == json.loads(path.read_bytes().split(b"\n")[0])["name"]
