"""Fetching an offered commit: read part by part, checked against its sums, then looked at in quarantine.

Many ships may offer at once, and one of them hundreds of megabytes: small offers have threads of their own, so that
none of them waits for a large one.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, ClassVar
from weakref import WeakKeyDictionary

from ocaptain.captain.transport.base import CutShort, FileFault
from ocaptain.git import BadBundle, Git, GitError, Quarantined, TooLarge, admit
from ocaptain.protocol import PART_BYTES
from ocaptain.protocol.limits import MEBIBYTE, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocaptain.captain.transport.base import Transport
    from ocaptain.protocol.messages import Part, Snapshot

MAX_READS = 3
SMALL = 16 * MEBIBYTE  # bytes, unpacked


class _Lanes:
    """Of an event loop: threads for small offers and for large ones, and whose turn it is to read a large part."""

    _all: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, _Lanes]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.small = ThreadPoolExecutor(2, "small-offer")
        self.large = ThreadPoolExecutor(1, "large-offer")
        self.large_part = asyncio.Lock()

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Lanes:
        """Return those of a loop."""
        if loop not in cls._all:
            cls._all[loop] = cls()
        return cls._all[loop]


async def fetch(
    git: Git, transport: Transport, offer: Snapshot, base: str | None, limits: Limits | None = None
) -> None:
    """Bring an offered commit's objects into the repository.

    Args:
        git: the repository.
        transport: to the ship.
        offer: what it says.
        base: what the ledger says that the work started from: only that can be offered without a bundle,
            since a ship must not name what it has not got.
        limits: of what is new against the base.

    Raises:
        TransportError: the ship cannot be reached.
        CutShort: less arrives than was offered, which is the way's fault before it is the ship's.
        BadBundle: what arrived is not what was offered.
        Quarantined: it has more than it may.
    """
    limits = limits or Limits()
    if not offer.bundle.parts:
        if offer.commit != base:
            raise BadBundle(f"the ship offers commit {offer.commit} without a bundle, and did not start from it")
        return
    # Work of another base is refused later, and kept: what is new is what it is new against.
    if offer.base != base and await asyncio.to_thread(git.resolve, offer.base) is not None:
        base = offer.base
    size = sum(part.size for part in offer.bundle.parts)
    if size > limits.pack_bytes:
        raise Quarantined(f"what was offered has {size} bytes, more than {limits.pack_bytes // MEBIBYTE} MB")
    try:
        with tempfile.TemporaryFile(dir=git.directory, buffering=0) as file:
            inside = offer.bundle.content()
            for part in offer.bundle.parts:
                piece = inside if inside and _is_whole(inside, part) else await _fetch_part(transport, part)
                await asyncio.to_thread(_write_whole, file, piece)
            await _admit(partial(admit, git, file, offer.commit, base, limits), size)
    except OSError as error:
        raise GitError(f"{git.directory}: what a ship sent cannot be stored: {error.strerror}") from error


async def _admit(look: Callable[[int | None], None], size: int) -> None:
    """Have a bundle looked at; one that turns out to be large goes on where no small one waits."""
    loop = asyncio.get_running_loop()
    if size <= SMALL:
        try:
            await loop.run_in_executor(_Lanes.of(loop).small, look, SMALL)
        except TooLarge:
            pass
        else:
            return
    await loop.run_in_executor(_Lanes.of(loop).large, look, None)


def _is_whole(data: bytes, part: Part) -> bool:
    """Whether a bundle that came inside of its message is what the part would be."""
    return len(data) == part.size and _sum(data) == part.sha256


def _write_whole(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


async def _fetch_part(transport: Transport, part: Part) -> bytes:
    """Read a part; one that arrives damaged is read again, since that may be the way's fault."""
    piece = b""
    for _ in range(MAX_READS):
        try:
            piece = await _read(transport, part)
        except FileFault as error:
            raise BadBundle(str(error)) from error
        if len(piece) == part.size and await asyncio.to_thread(_sum, piece) == part.sha256:
            return piece
    if len(piece) < part.size:
        raise CutShort(f"{part.path}: only {len(piece)} of {part.size} bytes arrived")
    raise BadBundle(f"{part.path} is not what was offered")


async def _read(transport: Transport, part: Part) -> bytes:
    """Read a part; of those that take much memory one after the other."""
    if part.size <= PART_BYTES:
        return await transport.get(part.path, part.size)
    async with _Lanes.of(asyncio.get_running_loop()).large_part:
        return await transport.get(part.path, part.size)


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
