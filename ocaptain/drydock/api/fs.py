"""The file-system API of a sprite."""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response, StreamingResponse

from ocaptain.drydock.api.common import is_flag_set, read_body
from ocaptain.drydock.errors import FsError
from ocaptain.drydock.files import CHUNK, Files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from ocaptain.drydock.ids import Ids
    from ocaptain.drydock.store import Store


class FsBody(BaseModel):
    """JSON body of the fs calls that take one."""

    path: str = ""
    source: str = ""
    dest: str = ""
    workingDir: str = "/"  # noqa: N815 - the API's spelling
    recursive: bool = False
    preserveAttrs: bool = False  # noqa: N815
    asRoot: bool = False  # noqa: N815
    mode: str | int = ""
    uid: str | int | None = None
    gid: str | int | None = None


def parse_mode(given: str | int) -> int:
    """Return the permission bits of octal text (``0644``, ``644``)."""
    if not re.fullmatch(r"0?o?[0-7]{1,4}", str(given)):
        raise FsError("EINVAL", "", f"mode must be octal digits: {given!r}")
    return int(str(given).replace("o", ""), 8)


class Fs:
    """The file-system API of a sprite."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _files(self, request: Request, cwd: str, *, as_root: bool = False) -> Files:
        sprite = self._store.get(request.path_params["name"])
        return Files(sprite.box.root, sprite.box.ids, cwd, as_root=as_root)

    async def read(self, request: Request) -> Response:
        """``GET …/fs/read``."""
        params = request.query_params
        fd = await self._files(request, params.get("workingDir", "/")).open_read(params.get("path", ""))

        start = _range_start(request.headers.get("range"))
        size = os.fstat(fd).st_size
        if start:
            os.lseek(fd, start, os.SEEK_SET)

        async def content() -> AsyncIterator[bytes]:
            try:
                while data := await asyncio.to_thread(os.read, fd, CHUNK):
                    yield data
            finally:
                os.close(fd)

        # A file may grow while it is read, and one of procfs has no size at all: no length is sent.
        headers = {"content-range": f"bytes {start}-{max(size - 1, start)}/{size}"} if start else {}
        status = 206 if start else 200
        return StreamingResponse(content(), status, headers, media_type="application/octet-stream")

    async def write(self, request: Request) -> Response:
        """``PUT …/fs/write``; always makes missing parents, as on the live service."""
        params = request.query_params
        files = self._files(request, params.get("workingDir", "/"), as_root=is_flag_set(params, "asRoot"))
        mode = parse_mode(params["mode"]) if params.get("mode") else None
        length = request.headers.get("content-length", "")
        size = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        return JSONResponse(await files.write(params.get("path", ""), request.stream(), mode, size=size))

    async def list(self, request: Request) -> Response:
        """``GET …/fs/list``."""
        params = request.query_params
        files = self._files(request, params.get("workingDir", "/"))
        recursive = is_flag_set(params, "recursive")
        return JSONResponse(
            await files.list_directory(params.get("path", ""), recursive=recursive, pattern=params.get("pattern", ""))
        )

    async def delete(self, request: Request) -> Response:
        """``DELETE …/fs/delete``; parameters in the query (SDKs) or in JSON (docs)."""
        params = request.query_params
        body = await read_body(request, FsBody)
        cwd = params.get("workingDir", body.workingDir)
        files = self._files(request, cwd, as_root=body.asRoot or is_flag_set(params, "asRoot"))
        recursive = body.recursive or is_flag_set(params, "recursive")
        return JSONResponse(await files.delete(params.get("path", body.path), recursive=recursive))

    async def rename(self, request: Request) -> Response:
        """``POST …/fs/rename``."""
        body = await read_body(request, FsBody)
        files = self._files(request, body.workingDir, as_root=body.asRoot)
        return JSONResponse(await files.rename(body.source, body.dest))

    async def copy(self, request: Request) -> Response:
        """``POST …/fs/copy``."""
        body = await read_body(request, FsBody)
        files = self._files(request, body.workingDir, as_root=body.asRoot)
        done = await files.copy(body.source, body.dest, recursive=body.recursive, preserve=body.preserveAttrs)
        return JSONResponse(done)

    async def chmod(self, request: Request) -> Response:
        """``POST …/fs/chmod``."""
        body = await read_body(request, FsBody)
        mode = parse_mode(body.mode)
        files = self._files(request, body.workingDir, as_root=body.asRoot)
        found = await files.apply_to_files(body.path, lambda fd: os.fchmod(fd, mode), recursive=body.recursive)
        affected = [{"path": path, "mode": f"{now.st_mode & 0o7777:04o}"} for path, now in found]
        return JSONResponse({"affected": affected, "count": len(affected)})

    async def chown(self, request: Request) -> Response:
        """``POST …/fs/chown``; owners by number, or ``root`` and ``sprite``."""
        body = await read_body(request, FsBody)
        ids = self._store.get(request.path_params["name"]).box.ids
        uid, gid = (_parse_owner(given, ids) for given in (body.uid, body.gid))
        files = self._files(request, body.workingDir, as_root=body.asRoot)
        found = await files.apply_to_files(body.path, lambda fd: os.fchown(fd, uid, gid), recursive=body.recursive)
        affected = [{"path": path, "uid": ids.inside(now.st_uid), "gid": ids.inside(now.st_gid)} for path, now in found]
        return JSONResponse({"affected": affected, "count": len(affected)})


def _range_start(header: str | None) -> int:
    """Return where a range begins (``bytes=N-``); 0 without a range, or for another form."""
    found = re.fullmatch(r"bytes=([0-9]{1,18})-", header or "")
    return int(found[1]) if found else 0


def _parse_owner(given: str | int | None, ids: Ids) -> int:
    """Return the id, as drydock sees it, of an owner that a client named; -1 for none."""
    if given is None or given == "":
        return -1
    if given == "sprite":
        return ids.sprite
    named = "0" if given == "root" else str(given)
    if not re.fullmatch(r"[0-9]{1,9}", named):
        raise FsError("EINVAL", "", f"owner must be a number, root or sprite: {given!r}")
    try:
        return ids.outside(int(named))
    except OSError as error:
        raise FsError("EINVAL", "", f"a ship has the owners 0 to {ids.size - 1}, not {named}") from error
