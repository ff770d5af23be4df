"""Fetch an offered commit: read it part by part, verify its checksums, then check it in quarantine.

Many ships may offer at once, and one of them hundreds of megabytes: small offers have threads of their own, so that
none of them waits for a large one.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, ClassVar
from weakref import WeakKeyDictionary

from ocaptain.captain.transport.base import CutShort, FileFault
from ocaptain.git import BadBundle, BundleRefused, Git, GitError, TooLarge, admit_bundle
from ocaptain.protocol import PART_BYTES
from ocaptain.protocol.limits import MEBIBYTE, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocaptain.captain.transport.base import Transport
    from ocaptain.protocol.messages import Bundle, Part, Snapshot

MAX_READS = 3
SMALL = 16 * MEBIBYTE  # bytes, unpacked


class _Lanes:
    """An event loop's threads for small, large and live offers, and a lock for reading large parts one at a time."""

    _all: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, _Lanes]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.small = ThreadPoolExecutor(2, "small-offer")
        self.large = ThreadPoolExecutor(1, "large-offer")
        self.live = ThreadPoolExecutor(1, "live")
        self.large_part = asyncio.Lock()

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Lanes:
        """Return the threads and the lock of a loop."""
        if loop not in cls._all:
            cls._all[loop] = cls()
        return cls._all[loop]


async def fetch_live(git: Git, transport: Transport, offer: Snapshot, base: str, limits: Limits) -> None:
    """Bring the files of a running attempt into the repository, as :func:`fetch_snapshot` does.

    In a thread of its own: no result waits for it. Its parts are small, as those of every worker that does this.

    Raises:
        TransportError, BadBundle, BundleRefused: as :func:`fetch_snapshot`.
    """
    if any(part.size > PART_BYTES for part in offer.bundle.parts):
        raise BundleRefused(f"the ship offers its files in parts of more than {PART_BYTES // MEBIBYTE} MB")
    await fetch_snapshot(git, transport, offer, base, limits, is_live=True)


async def fetch_snapshot(
    git: Git,
    transport: Transport,
    offer: Snapshot,
    base: str | None,
    limits: Limits | None = None,
    *,
    is_live: bool = False,
) -> None:
    """Bring an offered commit's objects into the repository.

    Args:
        git: the repository.
        transport: to the ship.
        offer: what it says.
        base: the commit that the work started from, according to the ledger. Only this one can be offered
            without a bundle, since a ship must not name commits that it does not have.
        limits: for what is new against the base.
        is_live: whether the attempt still runs.

    Raises:
        TransportError: the ship cannot be reached.
        CutShort: it arrived incomplete, more likely by the network's fault than by the ship's.
        BadBundle: what arrived is not what was offered.
        BundleRefused: it is beyond the limits.
    """
    limits = limits or Limits()
    if not offer.bundle.parts:
        if offer.commit != base:
            raise BadBundle(f"the ship offers commit {offer.commit} without a bundle, and did not start from it")
        return
    # Work of another base is saved and then refused: the limits are for what is new against that base.
    if offer.base != base and await asyncio.to_thread(git.resolve, offer.base) is not None:
        base = offer.base
    size = sum(part.size for part in offer.bundle.parts)
    if size > limits.pack_bytes:
        raise BundleRefused(
            f"the ship offers a bundle of {math.ceil(size / MEBIBYTE)} MB, beyond limits.total_mib"
            f" ({limits.total_mib}) and its overhead; its worker should have refused it"
        )
    try:
        with tempfile.TemporaryFile(dir=git.directory, buffering=0) as file:
            await fetch_parts(transport, offer.bundle, file)
            await _admit(partial(admit_bundle, git, file, offer.commit, base, limits), size, is_live=is_live)
    except OSError as error:
        raise GitError(f"{git.directory}: a ship's bundle cannot be stored: {error.strerror}") from error


async def fetch_parts(transport: Transport, bundle: Bundle, file: BinaryIO) -> None:
    """Write the parts of a bundle into a file, one after the other; each has its checksum.

    Raises:
        TransportError: the ship cannot be reached.
        CutShort: a part arrived incomplete, more likely by the network's fault than by the ship's.
        BadBundle: a part is not what was offered.
        OSError: the file cannot be written.
    """
    inside = bundle.content()
    for part in bundle.parts:
        piece = inside if inside and _is_whole(inside, part) else await _fetch_part(transport, part)
        await asyncio.to_thread(_write_whole, file, piece)


async def _admit(look: Callable[[int | None], None], size: int, *, is_live: bool) -> None:
    """Check a bundle in the threads for small ones; one that turns out to be large moves to the others."""
    loop = asyncio.get_running_loop()
    if is_live:
        await loop.run_in_executor(_Lanes.of(loop).live, look, None)
        return
    if size <= SMALL:
        try:
            await loop.run_in_executor(_Lanes.of(loop).small, look, SMALL)
        except TooLarge:
            pass
        else:
            return
    await loop.run_in_executor(_Lanes.of(loop).large, look, None)


def _is_whole(data: bytes, part: Part) -> bool:
    """Whether a bundle that came inside its message has the part's size and checksum."""
    return len(data) == part.size and _sum(data) == part.sha256


def _write_whole(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


async def _fetch_part(transport: Transport, part: Part) -> bytes:
    """Read a part; one that arrives damaged is read again, since the network may be the cause."""
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
    raise BadBundle(f"{part.path} is not what was offered: its checksum differs")


async def _read(transport: Transport, part: Part) -> bytes:
    """Read a part; large ones one at a time, since they take much memory."""
    if part.size <= PART_BYTES:
        return await transport.get(part.path, part.size)
    async with _Lanes.of(asyncio.get_running_loop()).large_part:
        return await transport.get(part.path, part.size)


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
