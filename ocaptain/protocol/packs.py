"""Check a git pack object by object, before git unpacks it. Standard library only.

The format is gitformat-pack's: ``PACK``, version 2, the number of objects; each object its kind and size, for a
delta its base, then a zlib stream. No object is unpacked beyond its claimed size, no content is stored, and no
delta is applied: the size of its result is at its beginning. So a pack of 15 KB that unpacks to 3 GB does no harm.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO, Dict, List, Optional, Set, Tuple, Union

from ocaptain.protocol.limits import MAX_COMMIT, MAX_DELTA, MEBIBYTE, Limits

COMMIT, TREE, BLOB, TAG, OFS_DELTA, REF_DELTA = 1, 2, 3, 4, 6, 7
MAX_CHAIN = 250  # deltas upon deltas; git writes no more than 50
TRAILER_BYTES = 20  # bytes of the sum at the end
SMALL_OBJECTS = 1000
FIRST_READ_BYTES = 1024
CHUNK_BYTES = 64 * 1024
DELTA_HEADER_BYTES = 20  # bytes that hold two sizes
KINDS = {COMMIT: "commit", TREE: "tree", BLOB: "file"}


class BadPack(ValueError):
    """The pack is invalid or exceeds a limit."""


@dataclass(frozen=True)
class PackedObject:
    """An object of a pack.

    Attributes:
        offset: where it begins, counted from the pack's beginning.
        kind: its type; of a delta that is ``OFS_DELTA`` or ``REF_DELTA``.
        size: unpacked bytes; for a delta, of its result.
        base: for a delta: offset or id of its base object.
        base_size: for a delta: bytes of its base object.
    """

    offset: int
    kind: int
    size: int
    base: Union[int, str, None] = None
    base_size: int = 0


@dataclass
class Pack:
    """The objects of a pack.

    Attributes:
        objects: in order.
        total: unpacked bytes of all objects.
        bases: bytes of the base objects that the reader must have.
    """

    objects: List[PackedObject] = field(default_factory=list)
    total: int = 0
    bases: int = 0


def scan_pack(file: BinaryIO, start: int, limits: Limits, stop_above: Optional[int] = None) -> Optional[Pack]:
    """Read all objects of a pack and check them against the limits.

    Args:
        file: a file that ends with the pack.
        start: where the pack begins.
        limits: of its objects.
        stop_above: unpacked bytes; a pack with more of them, or with more objects than :data:`SMALL_OBJECTS`,
            is not read to its end. None = no such bound.

    Returns:
        The pack's objects; None if the pack is beyond ``stop_above``.

    Raises:
        BadPack: an object is too large, there are too many, or the pack is invalid.
    """
    fd, end = file.fileno(), os.fstat(file.fileno()).st_size - TRAILER_BYTES
    count = _read_object_count(os.pread(fd, 12, start), limits)
    if stop_above is not None and count > SMALL_OBJECTS:
        return None
    pack, position = Pack(), start + 12
    depths: Dict[int, int] = {}
    bases: Set[str] = set()
    for _ in range(count):
        one, position = _read_object(fd, start, position, end, limits)
        pack.objects.append(one)
        pack.total += one.size
        if isinstance(one.base, int):
            depths[one.offset] = depths.get(one.base, 0) + 1
            if depths[one.offset] > MAX_CHAIN:
                raise BadPack(f"it has more than {MAX_CHAIN} deltas one upon the other")
        elif one.base and one.base not in bases:
            bases.add(one.base)
            pack.bases += one.base_size
        if max(pack.total, pack.bases) > limits.pack_bytes:
            raise BadPack(f"all that it has is more than {limits.pack_bytes // MEBIBYTE} MB")
        if stop_above is not None and max(pack.total, pack.bases) > stop_above:
            return None
    if position != end:
        raise BadPack(f"it ends at byte {position - start} of {end - start}")
    return pack


def _read_object_count(head: bytes, limits: Limits) -> int:
    """Return the number of objects from a pack's first bytes."""
    if len(head) < 12 or head[:8] != b"PACK\0\0\0\2":
        raise BadPack("it is not a git pack")
    count = int.from_bytes(head[8:], "big")
    if count > limits.max_objects:
        raise BadPack(f"it has {count} objects, more than {limits.max_objects}")
    return count


def _read_object(fd: int, start: int, position: int, end: int, limits: Limits) -> Tuple[PackedObject, int]:
    """Read the object at ``position``; return it and the position of the next one."""
    look = os.pread(fd, max(0, min(FIRST_READ_BYTES, end - position)), position)
    try:
        kind, size, at = _read_kind_and_size(look)
        base: Union[int, str, None] = None
        if kind == OFS_DELTA:
            back, at = _read_base_distance(look, at)
            base = position - start - back
            if not 12 <= base < position - start:
                raise BadPack("the base of a delta is not in the pack")
        elif kind == REF_DELTA:
            base, at = look[at : at + 20].hex(), at + 20
        elif kind not in KINDS:
            raise BadPack(f"it has an object of kind {kind}")
    except IndexError:
        raise BadPack("it ends in the middle of an object") from None
    _require_within_limits(kind, size, limits)
    result, after = _inflate(fd, look[at:], position + at, end, size)
    base_size = 0
    if base is not None:
        try:
            base_size, at = _read_delta_size(result, 0)
            size, _ = _read_delta_size(result, at)
        except IndexError:
            raise BadPack("a delta does not say how large its result is") from None
        if max(size, base_size) > MAX_DELTA:
            raise BadPack(f"a delta makes {max(size, base_size)} bytes, more than {MAX_DELTA // MEBIBYTE} MB")
    return PackedObject(position - start, kind, size, base, base_size), after


def _require_within_limits(kind: int, size: int, limits: Limits) -> None:
    if kind == BLOB and size > limits.file_bytes:
        raise BadPack(f"a file has {size} bytes, more than {limits.file_mib} MB (file_mib)")
    if kind == COMMIT and size > MAX_COMMIT:
        raise BadPack(f"a commit has {size} bytes, more than {MAX_COMMIT // MEBIBYTE} MB; shorten the commit's message")
    if size > MAX_DELTA and kind != BLOB:
        raise BadPack(f"an object has {size} bytes, more than {MAX_DELTA // MEBIBYTE} MB")


def _inflate(fd: int, data: bytes, position: int, end: int, size: int) -> Tuple[bytes, int]:
    """Unpack a zlib stream of exactly ``size`` bytes; return its first ones, and where it ends.

    Args:
        fd: of the file.
        data: the beginning of the stream, as far as it was read.
        position: where ``data`` begins in the file.
        end: where the pack does.
        size: that it must have.
    """
    stream = zlib.decompressobj()
    first, length = b"", 0
    position += len(data)
    try:
        while not stream.eof:
            if not data:
                data = os.pread(fd, max(0, min(CHUNK_BYTES, end - position)), position)
                position += len(data)
                if not data:
                    raise BadPack("it ends in the middle of an object")
            # One byte more than it may have shows that it has more.
            out = stream.decompress(data, min(CHUNK_BYTES, size - length + 1))
            data = stream.unconsumed_tail
            first = first or out[:DELTA_HEADER_BYTES]
            length += len(out)
            if length > size:
                break
    except zlib.error as error:
        raise BadPack(f"an object cannot be unpacked: {error}") from None
    if length != size:
        raise BadPack(f"an object is not of the {size} bytes that it claims")
    return first, position - len(stream.unused_data)


def _read_kind_and_size(data: bytes) -> Tuple[int, int, int]:
    """Return kind and size at an object's beginning, and where they end."""
    byte, at, shift = data[0], 1, 4
    kind, size = byte >> 4 & 7, byte & 15
    while byte & 128:
        byte = data[at]
        size |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if shift > 63:
            raise BadPack("an object claims a size that no object has")
    return kind, size, at


def _read_delta_size(data: bytes, at: int) -> Tuple[int, int]:
    """Return a number at the beginning of a delta, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if not byte & 128:
            return number, at


def _read_base_distance(data: bytes, at: int) -> Tuple[int, int]:
    """Return how far before a delta its base begins, and where that number ends."""
    byte, at = data[at], at + 1
    number = byte & 127
    while byte & 128:
        byte, at = data[at], at + 1
        number = (number + 1 << 7) | (byte & 127)
    return number, at
