"""Fetching an offered commit: read part by part, checked against its sums, then taken by git."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from typing import TYPE_CHECKING, BinaryIO

from ocaptain.captain.transport.base import CutShort, FileFault
from ocaptain.git import BadBundle, Git, GitError, import_bundle

if TYPE_CHECKING:
    from ocaptain.captain.transport.base import Transport
    from ocaptain.protocol.messages import Part, Snapshot

MAX_READS = 3


async def fetch(git: Git, transport: Transport, offer: Snapshot, base: str | None) -> None:
    """Bring an offered commit's objects into the repository.

    Args:
        git: the repository.
        transport: to the ship.
        offer: what it says.
        base: what the ledger says that the work started from: only that can be offered without a bundle,
            since a ship must not name what it has not got.

    Raises:
        TransportError: the ship cannot be reached.
        CutShort: less arrives than was offered, which is the way's fault before it is the ship's.
        BadBundle: what arrived is not what was offered.
    """
    if not offer.bundle.parts:
        if offer.commit != base:
            raise BadBundle(f"the ship offers commit {offer.commit} without a bundle, and did not start from it")
        return
    try:
        with tempfile.TemporaryFile(dir=git.directory, buffering=0) as file:
            inside = offer.bundle.content()
            for part in offer.bundle.parts:
                piece = inside if inside and _is_whole(inside, part) else await _fetch_part(transport, part)
                await asyncio.to_thread(_write_whole, file, piece)
            await asyncio.to_thread(import_bundle, git, file, offer.commit)
    except OSError as error:
        raise GitError(f"{git.directory}: what a ship sent cannot be stored: {error.strerror}") from error


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
            piece = await transport.get(part.path, part.size)
        except FileFault as error:
            raise BadBundle(str(error)) from error
        if len(piece) == part.size and await asyncio.to_thread(_sum, piece) == part.sha256:
            return piece
    if len(piece) < part.size:
        raise CutShort(f"{part.path}: only {len(piece)} of {part.size} bytes arrived")
    raise BadBundle(f"{part.path} is not what was offered")


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
