"""The REST part of the API: sprites, files, services, checkpoints, policies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from ocaptain.sprites.errors import (
    ApiError,
    BadReply,
    Conflict,
    ConnectionFailed,
    NotFound,
    SpritesError,
    TooLarge,
    api_error,
)
from ocaptain.sprites.http import PIECE, Http, read_reply, request_id_of
from ocaptain.sprites.models import Change, Checkpoint, Sprite, SpritePage
from ocaptain.sprites.redact import redact_line, request_id_suffix
from ocaptain.sprites.replies import (
    ignore_reply,
    model_parser,
    parse_events,
    parse_object,
    require_complete,
    type_parser,
)
from ocaptain.sprites.retry import MAX_ATTEMPTS, backoff_seconds, may_have_succeeded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

CREATE_FACTOR = 2.5
CHECKPOINT_FACTOR = 5.0  # the documentation says milliseconds here and half a minute there
_CHECKPOINTS = TypeAdapter(tuple[Checkpoint, ...])
TRANSFER_FACTOR = 10.0
MAX_PAGES = 1000
MAX_LINE = 64 * 1024
WATCH_SECONDS = 60.0  # without a line, heartbeats included
PARTIAL = 206


class Rest(Http):
    """The API calls that use plain HTTP."""

    async def create(self, name: str, *, labels: Sequence[str] = ()) -> tuple[Sprite, bool]:
        """Create a sprite unless it exists.

        Returns:
            The sprite, and whether this call created it.

        Raises:
            SpritesError: it could not be created and does not exist.
        """
        body = {"name": name, "labels": list(labels)}
        unsure, attempt = False, 0
        while True:
            attempt += 1
            try:
                work = self.request(
                    "POST", "/v1/sprites", model_parser(Sprite), body=body, factor=CREATE_FACTOR, idempotent=False
                )
                return await work, True
            except Conflict:
                # After a try whose answer was lost, that try has created it: nobody else uses our names.
                try:
                    return await self.get(name), unsure
                except NotFound:  # it is being created or destroyed just now: the name is not free yet
                    if attempt >= MAX_ATTEMPTS:
                        raise
            except SpritesError as error:
                if not may_have_succeeded(error):
                    raise
                # Look before trying again: it may have been created although the answer was lost.
                unsure = True
                try:
                    return await self.get(name), True
                except NotFound:
                    if attempt >= MAX_ATTEMPTS:
                        raise error from None
            await self._sleep(backoff_seconds(attempt))

    async def get(self, name: str) -> Sprite:
        """Return a sprite.

        Raises:
            NotFound: no sprite has that name.
        """
        return await self.request("GET", f"/v1/sprites/{quote(name, safe='')}", model_parser(Sprite))

    async def list(self, prefix: str = "") -> list[Sprite]:
        """Return every sprite whose name starts with ``prefix``, over all pages."""
        found: list[Sprite] = []
        token: str | None = None
        for _ in range(MAX_PAGES):
            params = {"max_results": "50", **({"prefix": prefix} if prefix else {})}
            if token:
                params["continuation_token"] = token
            page = await self.request("GET", "/v1/sprites", model_parser(SpritePage), params=params)
            found += page.sprites
            # `has_more` without a new token would repeat the same page.
            if not page.has_more or not page.next_continuation_token or page.next_continuation_token == token:
                return found
            token = page.next_continuation_token
        raise BadReply(f"GET /v1/sprites: the list has more than {MAX_PAGES} pages")

    async def watch(self, prefix: str) -> AsyncGenerator[Change, None]:
        """Yield the status of every sprite whose name starts with ``prefix``, then each change and heartbeats.

        Raises:
            SpritesError: the list cannot be watched, or the stream broke. There is no error if the service
                supports plain lists only: then nothing is yielded.
        """
        operation = "GET /v1/sprites (watch)"
        headers = {"Accept": "application/x-ndjson"}
        response: httpx.Response | None = None
        try:
            async with self._http.stream(
                "GET", "/v1/sprites", params={"prefix": prefix}, headers=headers, timeout=WATCH_SECONDS
            ) as response:
                if not response.is_success:
                    raise await _refusal(operation, response)
                if "ndjson" not in response.headers.get("Content-Type", ""):
                    return
                async for line in _lines(operation, response):
                    with contextlib.suppress(ValueError):
                        yield Change.model_validate_json(line)
        except httpx.HTTPError as error:
            raise self.connection_lost_error(operation, error, response) from None

    async def first_page(self) -> SpritePage:
        """Return the list's first page; it names the organisation, its running sprites and their limit."""
        return await self.request("GET", "/v1/sprites", model_parser(SpritePage), params={"max_results": "1"})

    async def destroy(self, name: str) -> bool:
        """Destroy a sprite; return False if it does not exist."""
        try:
            await self.request("DELETE", f"/v1/sprites/{quote(name, safe='')}", ignore_reply)
        except NotFound:
            return False
        return True

    async def list_commands(self, name: str) -> Sequence[str]:
        """Return the command lines that run on a sprite by exec.

        Raises:
            NotFound: the sprite does not exist.
        """
        found = await self.request("GET", f"/v1/sprites/{quote(name, safe='')}/exec", parse_object)
        listed = found.get("sessions")
        sessions = listed if isinstance(listed, list) else []
        return [str(one.get("command", "")) for one in sessions if isinstance(one, dict)]

    async def write_file(self, name: str, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a whole file in one call (not atomic; missing parents are made)."""
        params = {"path": path, "workingDir": "/", "mode": f"{mode:04o}", "mkdirParents": "true"}
        url = f"/v1/sprites/{quote(name, safe='')}/fs/write"
        await self.request("PUT", url, ignore_reply, params=params, content=data, factor=TRANSFER_FACTOR)

    async def read_file(self, name: str, path: str, *, limit: int) -> bytes:
        """Return a file's content, at most ``limit`` bytes.

        Raises:
            NotFound: the file or the sprite does not exist (the service does not tell which).
            SpritesError: the file is longer than ``limit``.
        """
        url = f"/v1/sprites/{quote(name, safe='')}/fs/read"
        operation = f"GET {url}"
        seconds = self._seconds * TRANSFER_FACTOR

        async def read_once() -> httpx.Response:
            data = bytearray()
            response: httpx.Response | None = None
            try:
                async with (
                    asyncio.timeout(seconds),
                    self._http.stream("GET", url, params={"path": path, "workingDir": "/"}) as response,
                ):
                    if not response.is_success:
                        raise await _refusal(operation, response)
                    async for chunk in response.aiter_bytes():
                        data += chunk
                        if len(data) > limit:
                            raise TooLarge(f"{operation}: {path} is longer than {limit} bytes")
            except TimeoutError:
                why = f"the file was not read in {seconds:g} s{request_id_of(response)}"
                raise ConnectionFailed(f"{operation}: {why}", sent=True, silent=True) from None
            except httpx.TimeoutException:
                why = f"the file was not read: {self._url} did not answer in time{request_id_of(response)}"
                raise ConnectionFailed(f"{operation}: {why}", sent=True, silent=True) from None
            except httpx.HTTPError as error:
                raise self.connection_lost_error(operation, error, response) from None
            return httpx.Response(200, content=bytes(data))

        return (await self.call_with_retries(read_once, idempotent=True)).content

    async def list_files(self, name: str, path: str) -> dict[str, int]:
        """Return the names and sizes of the files in a directory; {} if it does not exist."""
        url = f"/v1/sprites/{quote(name, safe='')}/fs/list"
        try:
            found = await self.request("GET", url, parse_object, params={"path": path, "workingDir": "/"})
        except NotFound:
            return {}
        entries = found.get("entries")
        return {
            str(entry.get("name")): size if isinstance(size := entry.get("size"), int) else 0
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict)
        }

    async def stream_file(self, name: str, path: str, offset: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Stream a file; yield the offset and content of each piece.

        Args:
            name: the sprite.
            path: absolute.
            offset: where to begin. A service without ranges begins at 0 again.

        Raises:
            NotFound: no such file, or no such sprite.
            ConnectionFailed: the connection broke; the pieces so far are correct.
        """
        url = f"/v1/sprites/{quote(name, safe='')}/fs/read"
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        params = {"path": path, "workingDir": "/"}
        response: httpx.Response | None = None
        try:
            async with self._http.stream("GET", url, params=params, headers=headers) as response:
                if not response.is_success:
                    raise await _refusal(f"GET {url}", response)
                position = offset if response.status_code == PARTIAL else 0
                async for chunk in response.aiter_bytes(PIECE):
                    yield position, chunk
                    position += len(chunk)
        except httpx.HTTPError as error:
            raise self.connection_lost_error(f"GET {url}", error, response) from None

    async def put_service(
        self, name: str, service: str, cmd: str, args: Sequence[str], *, cwd: str, watch: float = 0.0
    ) -> None:
        """Define a service and start it; a running one of that name is replaced."""
        url = f"/v1/sprites/{quote(name, safe='')}/services/{quote(service, safe='')}"
        body = {"cmd": cmd, "args": list(args), "dir": cwd}
        events = await self.request("PUT", url, parse_events, params={"duration": f"{watch:g}s"}, body=body)
        for event in events.lines:
            if event.get("type") == "error":
                why = redact_line(event.get("data") or event)
                raise SpritesError(f"PUT {url} failed: the service says: {why}{events.request_id_suffix}")

    async def get_service(self, name: str, service: str) -> dict[str, object] | None:
        """Return a service's definition and state, None if it does not exist."""
        url = f"/v1/sprites/{quote(name, safe='')}/services/{quote(service, safe='')}"
        try:
            return await self.request("GET", url, parse_object)
        except NotFound:
            return None

    async def delete_service(self, name: str, service: str) -> bool:
        """Stop and delete a service; return False if it does not exist."""
        url = f"/v1/sprites/{quote(name, safe='')}/services/{quote(service, safe='')}"
        try:
            await self.request("DELETE", url, ignore_reply)
        except NotFound:
            return False
        return True

    async def create_checkpoint(self, name: str, comment: str = "") -> None:
        """Create a checkpoint of a sprite's disk. It is never retried, so that no second copy is made.

        Raises:
            SpritesError: it was not created, or the outcome is unknown.
        """
        url = f"/v1/sprites/{quote(name, safe='')}/checkpoint"
        work = self.request(
            "POST", url, parse_events, body={"comment": comment}, factor=CHECKPOINT_FACTOR, idempotent=False
        )
        require_complete(f"POST {url}", await work)

    async def list_checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        """Return a sprite's checkpoints, newest first."""
        url = f"/v1/sprites/{quote(name, safe='')}/checkpoints"
        return await self.request("GET", url, type_parser(_CHECKPOINTS))

    async def restore_checkpoint(self, name: str, checkpoint: str) -> None:
        """Replace a sprite's disk by a checkpoint; everything that runs there ends.

        Raises:
            NotFound: the checkpoint does not exist.
            SpritesError: it was not restored, or the outcome is unknown.
        """
        url = f"/v1/sprites/{quote(name, safe='')}/checkpoints/{quote(checkpoint, safe='')}/restore"
        require_complete(f"POST {url}", await self.request("POST", url, parse_events, factor=CHECKPOINT_FACTOR))

    async def get_network_policy(self, name: str) -> Sequence[dict[str, object]]:
        """Return the rules of a sprite's network policy; no rules = no restriction."""
        rules = (await self.request("GET", _policy(name), parse_object)).get("rules")
        return [rule for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []

    async def set_network_policy(self, name: str, rules: Sequence[Mapping[str, object]]) -> None:
        """Replace the rules of a sprite's network policy."""
        await self.request("POST", _policy(name), ignore_reply, body={"rules": [dict(rule) for rule in rules]})

    async def set_host_ports(self, name: str, ports: Sequence[int]) -> None:
        """Set which ports of this machine's loopback are a sprite's as well; drydock's own call."""
        await self.request(
            "PUT", f"/drydock/sprites/{quote(name, safe='')}/ports", ignore_reply, body={"ports": list(ports)}
        )


def _policy(name: str) -> str:
    return f"/v1/sprites/{quote(name, safe='')}/policy/network"


async def _refusal(operation: str, stream: httpx.Response) -> ApiError:
    """Return the error for a stream request that was refused."""
    reply = await read_reply(operation, stream)
    return api_error(operation, reply.status_code, reply.headers, reply.content)


async def _lines(operation: str, stream: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the lines of an endless reply. Raises BadReply if a line is too long."""
    rest = b""
    async for piece in stream.aiter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > MAX_LINE:
            raise BadReply(f"{operation}: a line is longer than {MAX_LINE} bytes{request_id_suffix(stream.headers)}")
