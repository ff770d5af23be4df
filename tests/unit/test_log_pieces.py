"""Pieces of a ship's log are written once, in their place."""

from __future__ import annotations

from ocaptain.captain.records import LogPiece, next_log_piece
from ocaptain.protocol.envelope import LogBody, read_body


def test_log_pieces_are_written_once_whatever_comes_twice():
    piece = LogBody(1, 0, "aGVsbG8bIQ==")  # hello ESC !
    assert next_log_piece(piece, 0) == LogPiece(b"hello?!")
    assert next_log_piece(piece, 5) == LogPiece(b"?!")
    assert next_log_piece(piece, 7) == LogPiece()
    assert next_log_piece(LogBody(1, 0, "§"), 0) == LogPiece()
    assert next_log_piece(LogBody(1, 0, "aGk="), 10**9) == LogPiece()
    for forged in ({"token": None}, {"offset": -1}, {"offset": True}, {"offset": 2**41}, {"data": None}, {"kind": "x"}):
        assert read_body({"kind": "log", "token": 1, "offset": 0, "data": "aGk=", **forged}) is None


def test_what_a_log_misses_is_said_and_the_rest_is_in_its_place():
    first = next_log_piece(LogBody(1, 100, "aGk="), 10)
    assert b"90 bytes" in first.data
    assert first.data.endswith(b"hi")
    size = 10 + len(first.data)
    assert next_log_piece(LogBody(1, 100, "aGkh"), size, first.skips) == LogPiece(b"!")
    assert next_log_piece(LogBody(1, 102, "aGkh"), size, first.skips) == LogPiece(b"hi!")
