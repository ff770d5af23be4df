"""Transfer files of any size by the fs API: in parts, with checksums, resumed after a break.

The API writes whole files, not atomically, and does not confirm what arrived. So an upload writes
parts beside the target, and a command on the ship joins them, verifies the checksum and renames the
result. A download asks for the checksum first and fetches only the bytes that are missing.

::

    PATH.<sum>.parts/0 1 2 …     upload: parts; those of the right size are not sent again
    TARGET.<sum>.part            download: the bytes so far
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.sprites.errors import ConnectionFailed, FileMissing, TransferFailed
from ocaptain.sprites.retry import MAX_SILENT_ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path
    from typing import BinaryIO

    from ocaptain.sprites.client import SpritesClient

PART_BYTES = 32 * 1024 * 1024
MAX_TRIES = 5
COMMAND_SECONDS = 600.0
_DAMAGED = 65
_ASSEMBLE_SCRIPT = """set -e
cd "$1"
n=0
while [ "$n" -lt "$2" ]; do cat "$n"; n=$((n + 1)); done > whole
[ "$(sha256sum < whole)" = "$3  -" ] || exit 65
chmod "$4" whole
mv -fT whole "$5"
cd /
rm -rf "$1"
"""
_MISSING = 66
_DESCRIBE_SCRIPT = '[ -f "$1" ] || exit 66; stat -L -c %s -- "$1" && sha256sum < "$1"'


async def upload(client: SpritesClient, name: str, source: Path, path: str, *, mode: int = 0o600) -> None:
    """Upload a file to a sprite; ``path`` is replaced atomically.

    Args:
        client: of the sprite's service.
        name: the sprite.
        source: local file.
        path: absolute path on the sprite; missing parents are made.
        mode: permission bits.

    Raises:
        TransferFailed: it arrived damaged in every try, or cannot be moved to ``path``.
        SpritesError: the sprite cannot be reached; another call continues where this one stopped.
    """
    if not path.startswith("/"):
        raise TransferFailed(f"cannot upload {source} to {name}: the target {path!r} is not an absolute path")
    size, digest = await asyncio.to_thread(_size_and_digest, source)
    staging = f"{path}.{digest[:16]}.parts"
    count = max(1, -(-size // PART_BYTES))
    for _ in range(MAX_TRIES):
        remote_sizes = await client.list_files(name, staging)
        for number in range(count):
            data = await asyncio.to_thread(_read_part, source, number)
            if remote_sizes.get(str(number)) != len(data):
                await client.write_file(name, f"{staging}/{number}", data)
        argv = ["sh", "-c", _ASSEMBLE_SCRIPT, "sh", staging, str(count), digest, f"{mode:o}", path]
        done = await client.run(name, argv, seconds=COMMAND_SECONDS)
        if done.code == 0:
            return
        if done.code != _DAMAGED:
            stderr = done.stderr.decode(errors="replace").strip()[-500:]
            raise TransferFailed(f"{source} cannot be written to {path} on {name}: {stderr}")
        await client.run(name, ["rm", "-rf", "--", staging], seconds=COMMAND_SECONDS)
    raise TransferFailed(f"{source} arrived damaged on {name} in all of {MAX_TRIES} tries")


@dataclass(frozen=True)
class RemoteFile:
    """A file on a sprite: its absolute path, its size in bytes, and its SHA-256."""

    path: str
    size: int
    digest: str


async def download(client: SpritesClient, name: str, path: str, target: Path) -> None:
    """Download a file from a sprite; ``target`` is replaced atomically.

    Raises:
        FileMissing: the file does not exist.
        TransferFailed: it cannot be read, or arrived damaged in every try.
        SpritesError: the sprite cannot be reached; another call continues where this one stopped.
    """
    for _ in range(MAX_TRIES):
        if await _try_download(client, name, await _describe(client, name, path), target):
            return
    raise TransferFailed(f"{path} of {name} arrived damaged in all of {MAX_TRIES} tries")


async def download_known(client: SpritesClient, name: str, file: RemoteFile, target: Path) -> None:
    """Download a file whose checksum is known, and which does not change; ``target`` is replaced atomically.

    Raises:
        TransferFailed: it arrived damaged in every try.
        SpritesError: the sprite cannot be reached.
    """
    for _ in range(MAX_TRIES):
        if await _try_download(client, name, file, target):
            return
    raise TransferFailed(f"{file.path} of {name} arrived damaged in all of {MAX_TRIES} tries")


async def _try_download(client: SpritesClient, name: str, file: RemoteFile, target: Path) -> bool:
    """Download a file; return whether it is what it should be, and in its place."""
    partial = target.with_name(f"{target.name}.{file.digest[:16]}.part")
    await _fetch_missing(client, name, file.path, partial, file.size)
    if await asyncio.to_thread(_size_and_digest, partial) == (file.size, file.digest):
        partial.replace(target)
        return True
    partial.unlink()  # damaged, or the file changed on the ship
    return False


async def _describe(client: SpritesClient, name: str, path: str) -> RemoteFile:
    done = await client.run(name, ["sh", "-c", _DESCRIBE_SCRIPT, "sh", path], seconds=COMMAND_SECONDS)
    words = done.stdout.split()
    if done.code == _MISSING:
        raise FileMissing(f"{shlex.quote(path)} of {name}: there is no such file")
    if done.code or len(words) < 2 or not words[0].isdigit():
        stderr = done.stderr.decode(errors="replace").strip()[-500:]
        raise TransferFailed(f"{shlex.quote(path)} of {name} cannot be read: {stderr or f'exit {done.code}'}")
    return RemoteFile(path, int(words[0]), words[1].decode("ascii", "replace"))


async def _fetch_missing(client: SpritesClient, name: str, path: str, partial: Path, size: int) -> None:
    """Download until ``partial`` has ``size`` bytes; resume after a break as long as there is progress."""
    tries = 0
    while (local_size := await asyncio.to_thread(_size_or_none, partial)) is None or local_size < size:
        try:
            with await asyncio.to_thread(partial.open, "r+b" if local_size else "wb") as file:
                await _write_pieces(file, client.stream_file(name, path, local_size or 0), size)
                file.truncate()
        except ConnectionFailed as error:
            limit = MAX_SILENT_ATTEMPTS if error.silent else MAX_TRIES
            tries = 0 if (await asyncio.to_thread(_size_or_none, partial) or 0) > (local_size or 0) else tries + 1
            if tries >= limit:
                raise
        else:
            return  # the caller verifies the checksum


async def _write_pieces(file: BinaryIO, pieces: AsyncGenerator[tuple[int, bytes], None], size: int) -> None:
    """Write pieces at their offsets, up to ``size``: the remote file may have grown or be endless."""
    async with contextlib.aclosing(pieces):
        async for at, piece in pieces:
            file.seek(at)
            await asyncio.to_thread(file.write, piece[: max(0, size - at)])
            if at + len(piece) >= size:
                return


def _size_or_none(file: Path) -> int | None:
    return file.stat().st_size if file.exists() else None


def _size_and_digest(file: Path) -> tuple[int, str]:
    """Return size and SHA-256 of a file."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return opened.tell(), digest


def _read_part(file: Path, number: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(number * PART_BYTES)
        return opened.read(PART_BYTES)
