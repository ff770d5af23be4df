"""Check the body of an OTLP call without holding it unzipped: in pieces of at most 64 KiB. Standard library only.

The check is a light one. Of protobuf it walks the wire format of the outer messages, which is the same for all three
signals (opentelemetry-proto, ``collector/*/v1``): request, its resources (1), their scopes (2), their points (2); of
JSON it checks UTF-8, strings and brackets. What the points hold is for the captain, who decodes and trusts no ship.
"""

from __future__ import annotations

import codecs
import re
import zlib
from typing import Iterator, List

MAX_BODY = 4 * 1024 * 1024  # bytes, as they are sent
MAX_UNZIPPED = 8 * 1024 * 1024  # as much as the captain decodes: what is more would be taken here and lost there
PIECE_BYTES = 64 * 1024
MAX_FIELDS = 200_000  # of the outer messages of a protobuf body: so one call takes about a second at most
MAX_MARKS = 1_000_000  # quotation marks and brackets of a JSON body: likewise
MAX_NESTING = 64
PROTOBUF, JSON = "application/x-protobuf", "application/json"
_GZIP = 16 + zlib.MAX_WBITS
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: By depth (request, resource, scope): the fields that are messages, and which of them is walked, too.
_MESSAGES = (((1,), 1), ((1, 2), 2), ((1, 2), 0))
_STRUCTURE = re.compile(rb'["{}\[\]]')
_STRING_END = re.compile(rb'["\\]')
_CLOSES = {ord("}"): ord("{"), ord("]"): ord("[")}


class BadBody(ValueError):
    """The body is malformed."""


class LargeBody(ValueError):
    """The body is more than we take."""


def check_body(data: bytearray, content_type: str, *, gzipped: bool) -> None:
    """Check a call's body.

    Args:
        data: as it was sent.
        content_type: :data:`PROTOBUF` or :data:`JSON`.
        gzipped: whether it is one gzip stream.

    Raises:
        BadBody: it is malformed.
        LargeBody: unzipped it is larger than :data:`MAX_UNZIPPED`, or it has more parts than we walk.
    """
    pieces = _unzip(data) if gzipped else _split(data)
    if content_type == JSON:
        _check_json(pieces)
    else:
        _check_protobuf(pieces)


def _split(data: bytearray) -> Iterator[bytes]:
    for at in range(0, len(data), PIECE_BYTES):
        yield bytes(data[at : at + PIECE_BYTES])


def _unzip(data: bytearray) -> Iterator[bytes]:
    stream, size = zlib.decompressobj(_GZIP), 0
    try:
        for slice_ in (*_split(data), b""):  # the last one brings what the stream still holds
            left = slice_
            while not stream.eof:
                piece = stream.decompress(left, PIECE_BYTES)
                left = stream.unconsumed_tail
                size += len(piece)
                if size > MAX_UNZIPPED:
                    raise LargeBody(f"unzipped it is more than {MAX_UNZIPPED} bytes")
                if piece:
                    yield piece
                elif not left:
                    break
            if stream.eof and (left or stream.unused_data):
                raise BadBody("something follows its gzip stream")
    except zlib.error as error:
        raise BadBody(f"it is not gzip: {error}") from None
    if not stream.eof:
        raise BadBody("its gzip stream is cut off")


# -- protobuf ---------------------------------------------------------------------------------------


class _Bytes:
    """Bytes that come in pieces, read from the front."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece, self._at = b"", 0
        self.position = 0  #: bytes that were read

    def is_at_end(self) -> bool:
        while self._at >= len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return True
            self._piece, self._at = piece, 0
        return False

    def read_varint(self) -> int:
        """Return the next base-128 number of at most 64 bits."""
        value = 0
        for shift in range(0, 70, 7):
            if self.is_at_end():
                raise BadBody("it ends in the middle of a number")
            byte = self._piece[self._at]
            self._at += 1
            self.position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise BadBody("it has a number of more than 64 bits")

    def skip(self, size: int) -> None:
        while size:
            if self.is_at_end():
                raise BadBody("it ends in the middle of a field")
            taken = min(size, len(self._piece) - self._at)
            self._at += taken
            self.position += taken
            size -= taken


def _check_protobuf(pieces: Iterator[bytes]) -> None:
    body = _Bytes(pieces)
    ends: List[int] = []  # of the messages that we are in, the innermost last
    for _ in range(MAX_FIELDS):
        while ends and body.position == ends[-1]:
            ends.pop()
        if not ends and body.is_at_end():
            return
        number, kind = divmod(body.read_varint(), 8)
        if not number:
            raise BadBody("it has a field without a number")
        size = {_VARINT: 0, _FIXED64: 8, _FIXED32: 4}.get(kind)
        messages, walked = _MESSAGES[len(ends)]
        if kind == _BYTES:
            size = body.read_varint()
        elif size is None or number in messages:
            raise BadBody(f"its field {number} has a type that OTLP does not use there")
        elif kind == _VARINT:
            body.read_varint()
        end = body.position + size
        if ends and end > ends[-1]:
            raise BadBody(f"its field {number} is longer than what it is in")
        if kind == _BYTES and number == walked:
            ends.append(end)
        else:
            body.skip(size)
    raise LargeBody(f"it has more than {MAX_FIELDS} fields; send fewer at a time")


# -- JSON -------------------------------------------------------------------------------------------


def _check_json(pieces: Iterator[bytes]) -> None:
    decoder, walk = codecs.getincrementaldecoder("utf-8")(), _JsonWalk()
    try:
        for piece in pieces:
            decoder.decode(piece)
            walk.feed(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise BadBody("it is not UTF-8") from None
    walk.close()


class _JsonWalk:
    """Walks the strings and brackets of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self._open: List[int] = []  # brackets
        self._marks = 0
        self._has_begun = self._is_in_string = self._is_escaped = False

    def feed(self, piece: bytes) -> None:
        at = 0
        while at < len(piece):
            if self._is_escaped:
                at, self._is_escaped = at + 1, False
                continue
            found = (_STRING_END if self._is_in_string else _STRUCTURE).search(piece, at)
            if not self._open and piece[at : found.start() if found else len(piece)].strip():
                raise BadBody("it is not one JSON object")
            if found is None:
                break
            at = found.end()
            self._take(piece[found.start()])

    def _take(self, mark: int) -> None:
        """Take the next quotation mark, backslash in a string, or bracket outside of one."""
        self._marks += 1
        if self._marks > MAX_MARKS:
            raise LargeBody(f"it has more than {MAX_MARKS} strings and brackets; send fewer at a time")
        if self._is_in_string:
            self._is_in_string, self._is_escaped = mark != ord('"'), mark == ord("\\")
        elif not self._open and (self._has_begun or mark != ord("{")):
            raise BadBody("it is not one JSON object")
        elif mark == ord('"'):
            self._is_in_string = True
        elif mark not in _CLOSES:
            self._has_begun = True
            self._open.append(mark)
            if len(self._open) > MAX_NESTING:
                raise BadBody(f"its values are nested deeper than {MAX_NESTING}")
        elif self._open.pop() != _CLOSES[mark]:
            raise BadBody("its brackets do not match")

    def close(self) -> None:
        if self._open or self._is_in_string or not self._has_begun:
            raise BadBody("it is not one whole JSON object")
