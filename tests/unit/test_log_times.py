"""When a piece of a log was written: noted once, whatever dies in between, and found again."""

from __future__ import annotations

import base64
import os
import struct

import pytest

from ocaptain.captain.records import Records
from ocaptain.ledger import Ledger
from ocaptain.log_times import MAX_BYTES, Times, note_piece, time_of_piece, times_path
from ocaptain.prices import load_prices
from ocaptain.protocol.envelope import LogBody, read_body
from tests.scenes import Scene, make_scene

SCENE = Scene(tasks=1, ships=1, landed=0, failed={}, retrying={}, layers=0)


@pytest.mark.parametrize(
    ("said", "now", "last", "at"),
    [
        (150.0, 200.0, 100.0, 150.0),  # the laptop slept: the ship knows better
        (200.0, 200.0, 200.0, 200.0),
        (None, 200.0, 100.0, 200.0),  # an older worker
        (201.0, 200.0, 100.0, 200.0),  # its clock is ahead
        (99.0, 200.0, 100.0, 200.0),  # its clock is behind
        (float("nan"), 200.0, 100.0, 200.0),
        (None, 50.0, 100.0, 100.0),  # our own clock went back
        (60.0, 50.0, 100.0, 100.0),
    ],
)
def test_whose_clock_counts(said, now, last, at):
    assert time_of_piece(said, now=now, last=last) == at


def records(path):
    return [struct.unpack_from(">Qd", path.read_bytes(), at) for at in range(0, path.stat().st_size // 16 * 16, 16)]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "7.1.log"


def test_a_log_without_times_is_as_old_as_its_attempt(log):
    times = Times(log, 100.0, 200.0)
    assert (times.at(0), times.at(10**9)) == (100.0, 100.0)
    assert (times.first_since(100.0), times.first_since(100.5)) == (0, None)


def test_times_are_found_and_never_outside_the_attempt(log):
    for offset, at in ((0, 110.0), (10, 120.0), (30, 500.0)):
        note_piece(log, offset, at, began=100.0, now=1000.0)
    times = Times(log, 100.0, 200.0)
    assert [times.at(offset) for offset in (0, 9, 10, 29, 30, 99, 9, 0)] == [110, 110, 120, 120, 200, 200, 110, 110]
    assert [times.first_since(at) for at in (0, 110, 111, 120, 121, 200, 201)] == [0, 0, 10, 10, 30, 30, None]
    note_piece(log, 50, 600.0, began=100.0, now=1000.0)
    live = Times(log, 100.0)
    assert live.at(50) == 600.0
    note_piece(log, 60, 700.0, began=100.0, now=1000.0)
    live.refresh()
    assert (live.at(59), live.at(60)) == (600.0, 700.0)


def test_what_is_torn_is_cut_off_and_what_has_no_bytes_is_replaced(log):
    note_piece(log, 0, None, began=100.0, now=110.0)
    note_piece(log, 10, None, began=100.0, now=120.0)
    path = times_path(log)
    for torn in range(1, 16):
        with path.open("ab") as file:
            file.write(b"\xff" * torn)
        assert Times(log, 100.0).at(10**6) == max(120.0, 119.0 + torn)
        note_piece(log, 10, None, began=100.0, now=120.0 + torn)  # the captain died before it wrote the piece
        assert records(path) == [(0, 110.0), (10, 120.0 + torn)]


@pytest.mark.parametrize("left", range(33))
def test_a_file_that_lost_its_end_anywhere_makes_times_coarser(log, left):
    for offset, at in ((0, 110.0), (10, 120.0)):
        note_piece(log, offset, at, began=100.0, now=1000.0)
    os.truncate(times_path(log), left)
    assert Times(log, 100.0).at(15) == {0: 100.0, 1: 110.0, 2: 120.0}[left // 16]
    note_piece(log, 20, 130.0, began=100.0, now=1000.0)
    assert Times(log, 100.0).at(25) == 130.0


def test_a_log_that_lost_its_end_has_no_time_of_what_it_lost(log):
    for offset, at in ((0, 110.0), (10, 120.0), (500, 130.0)):
        note_piece(log, offset, at, began=100.0, now=1000.0)
    note_piece(log, 20, 140.0, began=100.0, now=1000.0)
    assert records(times_path(log)) == [(0, 110.0), (10, 120.0), (20, 140.0)]


def test_rubbish_names_no_time_outside_the_attempt(log):
    times_path(log).write_bytes(os.urandom(16 * 64))
    times = Times(log, 100.0, 200.0)
    assert all(100.0 <= times.at(offset) <= 200.0 for offset in (0, 1, 2**30, 2**62, 2**64 - 1))
    note_piece(log, 5, None, began=100.0, now=150.0)
    assert times_path(log).stat().st_size % 16 == 0


def test_a_log_that_runs_for_a_week_has_a_small_file(log):
    began, week = 1000.0, 7 * 86400
    for number in range(week * 4 // 100):  # every 25 s, as dense as its gap allows would take minutes
        note_piece(log, number, None, began=began, now=began + number * 25.0)
    for number in range(500):
        note_piece(log, 10**6 + number, None, began=began, now=began + week + number * 0.25)
    assert times_path(log).stat().st_size < 16 * (week * 4 // 100 + 10)
    times_path(log).write_bytes(b"\0" * MAX_BYTES)
    note_piece(log, 10**9, None, began=began, now=began + 2 * week)
    assert times_path(log).stat().st_size == MAX_BYTES


# -- the captain ------------------------------------------------------------------------------------


def piece(offset, data, at=None):
    return LogBody(1, offset, base64.b64encode(data).decode(), at=at)


@pytest.fixture
def scene(tmp_path):
    directory = make_scene(tmp_path, SCENE).path
    log = directory / "logs/ship-0/1.1.log"
    log.unlink()
    with Ledger(directory / "ledger.db") as ledger:
        began = ledger.attempt_row(1)["started"]
        yield directory, ledger, log, began


def test_pieces_that_come_again_change_nothing(scene):
    directory, ledger, log, began = scene
    now = began + 100
    captain = Records(directory, ledger, load_prices(), lambda: now)
    pieces = [piece(0, b"one\n", began + 1), piece(4, b"two\n", began + 2), piece(8, b"three\n", began + 3)]
    for one in pieces:
        captain.save("ship-0", one)
    first = (log.read_bytes(), times_path(log).read_bytes())
    for one in (*pieces, pieces[1]):
        captain.save("ship-0", one)
        Records(directory, ledger, load_prices(), lambda: now + 50).save("ship-0", one)
    assert (log.read_bytes(), times_path(log).read_bytes()) == first
    assert [times for _, times in records(times_path(log))] == [began + 1, began + 2, began + 3]


@pytest.mark.parametrize("lost", [1, 4, 6])
def test_a_captain_that_died_between_the_times_and_the_log(scene, lost):
    directory, ledger, log, began = scene
    pieces = [piece(0, b"one\n", began + 1), piece(4, b"two\n", began + 2), piece(8, b"three\n", began + 3)]
    for one in pieces:
        Records(directory, ledger, load_prices(), lambda: began + 10).save("ship-0", one)
    os.truncate(log, log.stat().st_size - lost)  # the last record has no bytes, or fewer
    for one in pieces:
        Records(directory, ledger, load_prices(), lambda: began + 20).save("ship-0", one)
    assert log.read_bytes() == b"one\ntwo\nthree\n"
    times = Times(log, began)
    assert [times.at(offset) for offset in (0, 4, 8)] == [began + 1, began + 2, began + 3]


def test_a_worker_of_before_says_no_time_and_none_that_is_no_number_is_taken():
    assert read_body({"kind": "log", "token": 1, "offset": 0, "data": "aGk="}) == LogBody(1, 0, "aGk=")
    assert read_body({"kind": "log", "token": 1, "offset": 0, "data": "aGk=", "at": 5}).at == 5.0
    assert read_body({"kind": "log", "token": 1, "offset": 0, "data": "aGk=", "at": "5"}) is None


def test_the_log_is_kept_though_its_times_cannot_be(scene):
    directory, ledger, log, began = scene
    times_path(log).mkdir(parents=True)
    Records(directory, ledger, load_prices(), lambda: began + 1).save("ship-0", piece(0, b"one\n"))
    assert log.read_bytes() == b"one\n"
