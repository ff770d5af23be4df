"""How many parts a call has, before it is decoded: decoded, a part of two bytes takes up to 170 (measured).

bytes, descriptor ──walk over the wire format, never into texts──> so many messages, or Malformed

Only a call that is large enough to have too many is walked, so honest ones cost nothing here. The wire format is
protobuf's (protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Messages in a call, at any depth: 8 MiB of points with eight attributes each have half a million.
MAX_PARTS = 600_000
#: Quotation marks and brackets of a call in JSON, as a ship counts them.
MAX_MARKS = 1_000_000
_MAX_DEPTH = 100  # that protobuf decodes
_SMALLEST = 2  # bytes of a message: its tag and its length
_VARINT, _BYTES = 0, 2  # types of fields that have a number: their value, or their size
_SIZES = {1: 8, 5: 4}  # of others, in bytes


class Malformed(Exception):
    """It is no OTLP call, or a larger one than we take; the text never repeats what it holds."""


def check_parts(body: bytes, descriptor: Any) -> None:
    """Check that a call in protobuf has at most :data:`MAX_PARTS` messages.

    Args:
        body: of the call.
        descriptor: of its message.

    Raises:
        Malformed: it has more, or it is no such message.
    """
    if len(body) <= MAX_PARTS * _SMALLEST:
        return
    try:
        _walk(body, descriptor)
    except IndexError:
        raise Malformed("the body is cut off") from None


def check_marks(body: bytes) -> None:
    """Check that a call in JSON has at most :data:`MAX_MARKS` quotation marks and brackets.

    Raises:
        Malformed: it has more.
    """
    if len(body) > MAX_MARKS and sum(map(body.count, (b'"', b"{", b"}", b"[", b"]"))) > MAX_MARKS:
        raise Malformed(f"the call has more than {MAX_MARKS} strings and brackets")


@cache
def _inner(descriptor: Any) -> Mapping[int, Any]:
    """Return the descriptors of the fields that are messages, by number."""
    return {one.number: one.message_type for one in descriptor.fields if one.message_type}


def _walk(body: bytes, descriptor: Any) -> None:
    parts, at, end, fields = 0, 0, len(body), _inner(descriptor)
    around: list[tuple[int, Mapping[int, Any]]] = []  # the messages that we are in: their end, and their fields
    while at < end or around:
        if at >= end:
            (end, fields), ended = around.pop(), end
            _require_within(at, ended)
            continue
        tag, at = _varint(body, at)
        kind = tag & 7
        if kind > _BYTES and kind not in _SIZES:
            raise Malformed("the body has a type of field that OTLP does not use")
        size, at = (_SIZES[kind], at) if kind in _SIZES else _varint(body, at)
        inner = fields.get(tag >> 3) if kind == _BYTES else None
        if inner is not None:
            parts += 1
            if parts > MAX_PARTS or len(around) >= _MAX_DEPTH:
                raise Malformed(f"the call has more than {MAX_PARTS} parts, or they are nested too deeply")
            _require_within(at + size, end)
            around.append((end, fields))
            end, fields = at + size, _inner(inner)
        elif kind != _VARINT:
            at += size
    _require_within(at, end)


def _require_within(at: int, end: int) -> None:
    if at > end:
        raise Malformed("a part of the body is longer than what it is in")


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return a base-128 number and where it ends; raises IndexError at the end of the body."""
    value = body[at]
    if value < 128:
        return value, at + 1
    value &= 127
    for shift in range(7, 70, 7):
        at += 1
        byte = body[at]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + 1
    raise Malformed("the body has a number of more than 64 bits")
