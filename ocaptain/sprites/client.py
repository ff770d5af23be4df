"""The client: REST by httpx, commands by websockets, a deadline on every wait.

Retry rules (the service's SDKs retry nothing, so they are ours):

- 429: after ``Retry-After`` (else growing waits), for every call, since a refused one did nothing;
- connect errors: for every call, since nothing was sent;
- 500, 502, 503, 504, broken replies and replies that cannot be understood: for idempotent calls
  only; a create is made one by looking whether the sprite is there;
- a command's handshake: as above, until the 101; never after it, since the command may have run.

A command that ends fast may lose its output on the live service, because the process starts
before the relay attaches; :meth:`SpritesClient.run` therefore holds it at a gate until its first
byte of stdin has arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote, urlencode

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from ocaptain import __version__
from ocaptain.sprites.errors import (
    ApiError,
    BadReply,
    Conflict,
    ConnectionFailed,
    DeadlinePassed,
    ExecInterrupted,
    NotFound,
    RateLimited,
    SpritesError,
    TooLarge,
    api_error,
)
from ocaptain.sprites.models import Change, Checkpoint, Sprite, SpritePage
from ocaptain.sprites.sockets import STDERR, Execution, Tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence

REQUEST_SECONDS = 60.0  # a handshake may wake a sleeping sprite
CREATE_FACTOR = 2.5
CHECKPOINT_FACTOR = 5.0  # the documentation says milliseconds here and half a minute there
_CHECKPOINTS = TypeAdapter(tuple[Checkpoint, ...])
TRANSFER_FACTOR = 10.0
WATCH_SECONDS = 60.0  # without a line, heartbeats included
ATTEMPTS = 5
LONGEST_WAIT = 60.0
STDIN_CHUNK = 64 * 1024
PIECE = 256 * 1024
PARTIAL = 206
_PASSING = frozenset({500, 502, 503, 504})
# Read one line, then become the command (a socket that dies before it runs nothing): `read` in a
# shell reads byte by byte, so the rest of stdin is left for the command.
GATE = 'IFS= read -r _ && exec "$@"'
_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")
_USER_AGENT = f"ocaptain/{__version__}"


@dataclass(frozen=True)
class Completed:
    """A command that ended.

    Attributes:
        code: exit code, 128 + n for a death by signal n.
        stdout: what it wrote, bytes.
        stderr: what it wrote, bytes.
    """

    code: int
    stdout: bytes
    stderr: bytes


def retry_wait(error: SpritesError, attempt: int, *, idempotent: bool) -> float | None:
    """Return how many seconds to wait before the next try, None if there must be none.

    Args:
        error: what the try ended with.
        attempt: number of tries made, from 1.
        idempotent: whether the call may be made twice.
    """
    if attempt >= ATTEMPTS:
        return None
    match error:
        case RateLimited(code="concurrent_sprite_limit_exceeded"):
            return None
        case RateLimited(retry_after=float(after)):
            return after + random.uniform(0, 0.25) if after <= LONGEST_WAIT else None  # noqa: S311
        case RateLimited() | ConnectionFailed(sent=False):
            return _grown(attempt)
    return _grown(attempt) if idempotent and may_have_worked(error) else None


def may_have_worked(error: SpritesError) -> bool:
    """Whether a call that ended with ``error`` may have been carried out all the same."""
    match error:
        case ConnectionFailed(sent=sent):
            return sent
        case BadReply():
            return True
        case ApiError(status=status):
            return status in _PASSING
    return False


def _grown(attempt: int) -> float:
    """Return the wait after the n-th try: half a second, doubled each time, spread by a quarter."""
    return min(LONGEST_WAIT, 0.25 * 2.0**attempt) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret


class SpritesClient:
    """A client of one endpoint and token. Use it as an async context manager.

    Args:
        url: base URL, without the ``/v1``.
        token: bearer token; chooses the organisation. Opaque, never logged.
        seconds: deadline of a plain call and of a handshake; a create may take 2.5 times, a file
            ten times as long.
        transport: an httpx transport in place of the network's, for tests of the REST part.
        sleep: how to wait between tries.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        seconds: float = REQUEST_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url.rstrip("/")
        # A server on this machine is never reached through a proxy, which would see the token.
        self._local = httpx.URL(self._url).host in {"127.0.0.1", "localhost", "::1"}
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": _USER_AGENT}
        self._sleep = sleep
        self._seconds = seconds
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers=self._headers,
            timeout=httpx.Timeout(seconds, connect=min(15.0, seconds)),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
            transport=transport,
            trust_env=not self._local,
            # Reading the machine's certificates takes longer than a local call does.
            verify=True if self._url.startswith("https") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    # -- one request ----------------------------------------------------------------------

    async def _retrying(self, idempotent: bool, once: Callable[[], Awaitable[_Result]]) -> _Result:  # noqa: FBT001
        attempt = 0
        while True:
            attempt += 1
            try:
                return await once()
            except SpritesError as error:
                wait = retry_wait(error, attempt, idempotent=idempotent)
                if wait is None:
                    raise
            await self._sleep(wait)

    async def _request(
        self,
        method: str,
        path: str,
        parse: Callable[[httpx.Response], _Result],
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content: Callable[[], bytes | AsyncIterator[bytes]] | None = None,
        factor: float = 1.0,
        idempotent: bool = True,
    ) -> _Result:
        what = f"{method} {path}"
        seconds = self._seconds * factor

        async def once() -> _Result:
            try:
                async with asyncio.timeout(seconds):
                    response = await self._http.request(
                        method, path, params=params, json=body, content=content() if content else None, timeout=seconds
                    )
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                raise ConnectionFailed(f"{what}: cannot reach {self._url}: {error}") from error
            except (TimeoutError, httpx.TimeoutException) as error:
                raise ConnectionFailed(f"{what}: no answer from {self._url} in {seconds:g} s", sent=True) from error
            except httpx.HTTPError as error:
                reason = str(error) or type(error).__name__
                raise ConnectionFailed(f"{what}: {self._url} broke off: {reason}", sent=True) from error
            if response.is_success:
                return parse(response)
            raise api_error(what, response.status_code, response.headers, response.content)

        return await self._retrying(idempotent, once)

    # -- sprites ----------------------------------------------------------------------------

    async def create(self, name: str, *, labels: Sequence[str] = ()) -> tuple[Sprite, bool]:
        """Create a sprite, or find that it is there.

        Returns:
            The sprite, and whether this call made it.

        Raises:
            SpritesError: it could not be made and is not there.
        """
        body = {"name": name, "labels": list(labels)}
        unsure, attempt = False, 0
        while True:
            attempt += 1
            try:
                work = self._request(
                    "POST", "/v1/sprites", _parser(Sprite), body=body, factor=CREATE_FACTOR, idempotent=False
                )
                return await work, True
            except Conflict:
                # After a try whose answer was lost it is that one's: nobody else uses our names.
                try:
                    return await self.get(name), unsure
                except NotFound:  # just being made, or just being destroyed: the name is not free yet
                    if attempt >= ATTEMPTS:
                        raise
            except SpritesError as error:
                if not may_have_worked(error):
                    raise
                # Look before trying again: it may have been made before the answer was lost.
                unsure = True
                try:
                    return await self.get(name), True
                except NotFound:
                    if attempt >= ATTEMPTS:
                        raise error from None
            await self._sleep(_grown(attempt))

    async def get(self, name: str) -> Sprite:
        """Return a sprite.

        Raises:
            NotFound: there is none of that name.
        """
        return await self._request("GET", f"/v1/sprites/{quote(name, safe='')}", _parser(Sprite))

    async def list(self, prefix: str = "") -> list[Sprite]:
        """Return every sprite whose name starts with ``prefix``, over all pages."""
        found: list[Sprite] = []
        token: str | None = None
        while True:
            params = {"max_results": "50", **({"prefix": prefix} if prefix else {})}
            if token:
                params["continuation_token"] = token
            page = await self._request("GET", "/v1/sprites", _parser(SpritePage), params=params)
            found += page.sprites
            # `has_more` without a token would go on for ever.
            if not page.has_more or not page.next_continuation_token or page.next_continuation_token == token:
                return found
            token = page.next_continuation_token

    async def watch(self, prefix: str) -> AsyncGenerator[Change, None]:
        """Yield the status of every sprite whose name starts with ``prefix``, then each change and heartbeats.

        Raises:
            SpritesError: it cannot be watched, or the stream broke. It ends without one where the service
                gives a list only.
        """
        what = "GET /v1/sprites (watch)"
        headers = {"Accept": "application/x-ndjson"}
        try:
            async with self._http.stream(
                "GET", "/v1/sprites", params={"prefix": prefix}, headers=headers, timeout=WATCH_SECONDS
            ) as response:
                if not response.is_success:
                    raise api_error(what, response.status_code, response.headers, await response.aread())
                if "ndjson" not in response.headers.get("Content-Type", ""):
                    return
                async for line in response.aiter_lines():
                    with contextlib.suppress(ValueError):
                        yield Change.model_validate_json(line)
        except httpx.HTTPError as error:
            raise ConnectionFailed(f"{what}: {self._url} broke off: {str(error) or type(error).__name__}") from error

    async def first_page(self) -> SpritePage:
        """Return the list's first page: whose token this is, how many sprites run and may run."""
        return await self._request("GET", "/v1/sprites", _parser(SpritePage), params={"max_results": "1"})

    async def destroy(self, name: str) -> bool:
        """Destroy a sprite; return False if it was not there."""
        try:
            await self._request("DELETE", f"/v1/sprites/{quote(name, safe='')}", _nothing)
        except NotFound:
            return False
        return True

    async def sessions(self, name: str) -> Sequence[str]:
        """Return the commands that run on a sprite by exec.

        Raises:
            NotFound: there is no such sprite.
        """
        found = await self._request("GET", f"/v1/sprites/{quote(name, safe='')}/exec", _fields)
        listed = found.get("sessions")
        sessions = listed if isinstance(listed, list) else []
        return [str(one.get("command", "")) for one in sessions if isinstance(one, dict)]

    # -- files --------------------------------------------------------------------------------

    async def write_file(self, name: str, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a whole file in one call (not atomic; missing parents are made)."""
        params = {"path": path, "workingDir": "/", "mode": f"{mode:04o}", "mkdirParents": "true"}
        url = f"/v1/sprites/{quote(name, safe='')}/fs/write"
        await self._request("PUT", url, _nothing, params=params, content=lambda: data, factor=TRANSFER_FACTOR)

    async def read_file(self, name: str, path: str, *, limit: int) -> bytes:
        """Return a file's content, at most ``limit`` bytes.

        Raises:
            NotFound: no such file (or no such sprite: the service does not tell them apart).
            SpritesError: the file is longer than ``limit``.
        """
        url = f"/v1/sprites/{quote(name, safe='')}/fs/read"
        what = f"GET {url}"

        async def once() -> httpx.Response:
            data = bytearray()
            try:
                async with (
                    asyncio.timeout(self._seconds * TRANSFER_FACTOR),
                    self._http.stream("GET", url, params={"path": path, "workingDir": "/"}) as response,
                ):
                    if not response.is_success:
                        raise api_error(what, response.status_code, response.headers, await response.aread())
                    async for chunk in response.aiter_bytes():
                        data += chunk
                        if len(data) > limit:
                            raise TooLarge(f"{what}: {path} is longer than {limit} bytes")
            except (TimeoutError, httpx.TimeoutException) as error:
                raise ConnectionFailed(f"{what}: not read in time", sent=True) from error
            except httpx.HTTPError as error:
                raise ConnectionFailed(f"{what}: {str(error) or type(error).__name__}", sent=True) from error
            return httpx.Response(200, content=bytes(data))

        return (await self._retrying(True, once)).content  # noqa: FBT003

    async def list_files(self, name: str, path: str) -> dict[str, int]:
        """Return the files in a directory and their sizes; none if it is not there."""
        url = f"/v1/sprites/{quote(name, safe='')}/fs/list"
        try:
            found = await self._request("GET", url, _fields, params={"path": path, "workingDir": "/"})
        except NotFound:
            return {}
        entries = found.get("entries")
        return {
            str(entry.get("name")): int(entry.get("size") or 0)
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict)
        }

    async def read_from(self, name: str, path: str, offset: int) -> AsyncIterator[tuple[int, bytes]]:
        """Stream a file; yields where each piece belongs and the piece.

        Args:
            name: the sprite.
            path: absolute.
            offset: where to begin. A service that does not know ranges begins at 0 again.

        Raises:
            NotFound: no such file, or no such sprite.
            ConnectionFailed: it broke off; what came is good.
        """
        url = f"/v1/sprites/{quote(name, safe='')}/fs/read"
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        params = {"path": path, "workingDir": "/"}
        try:
            async with self._http.stream("GET", url, params=params, headers=headers) as response:
                if not response.is_success:
                    content = await response.aread()
                    raise api_error(f"GET {url}", response.status_code, response.headers, content)
                at = offset if response.status_code == PARTIAL else 0
                async for chunk in response.aiter_bytes(PIECE):
                    yield at, chunk
                    at += len(chunk)
        except httpx.HTTPError as error:
            raise ConnectionFailed(f"GET {url}: {str(error) or type(error).__name__}", sent=True) from error

    # -- services -----------------------------------------------------------------------------

    async def put_service(
        self, name: str, service: str, cmd: str, args: Sequence[str], *, cwd: str, watch: float = 0.0
    ) -> None:
        """Define a service and start it; a running one of that name is replaced."""
        url = f"/v1/sprites/{quote(name, safe='')}/services/{quote(service, safe='')}"
        body = {"cmd": cmd, "args": list(args), "dir": cwd}
        events = await self._request("PUT", url, _events, params={"duration": f"{watch:g}s"}, body=body)
        for event in events:
            if event.get("type") == "error":
                raise SpritesError(f"PUT {url}: {event.get('data') or event}")

    async def get_service(self, name: str, service: str) -> dict[str, object] | None:
        """Return a service's definition and state, None if there is none."""
        url = f"/v1/sprites/{quote(name, safe='')}/services/{quote(service, safe='')}"
        try:
            return await self._request("GET", url, _fields)
        except NotFound:
            return None

    async def delete_service(self, name: str, service: str) -> bool:
        """Stop a service and forget it; return False if there is none."""
        url = f"/v1/sprites/{quote(name, safe='')}/services/{quote(service, safe='')}"
        try:
            await self._request("DELETE", url, _nothing)
        except NotFound:
            return False
        return True

    # -- checkpoints and policies -------------------------------------------------------------

    async def checkpoint(self, name: str, comment: str = "") -> None:
        """Copy a sprite's disk as it is now. It is not tried again: a second copy would be one too many.

        Raises:
            SpritesError: it was not made, or that cannot be told.
        """
        url = f"/v1/sprites/{quote(name, safe='')}/checkpoint"
        work = self._request(
            "POST", url, _events, body={"comment": comment}, factor=CHECKPOINT_FACTOR, idempotent=False
        )
        _finished(f"POST {url}", await work)

    async def checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        """Return a sprite's checkpoints, newest first."""
        url = f"/v1/sprites/{quote(name, safe='')}/checkpoints"
        return await self._request("GET", url, _parser_of(_CHECKPOINTS))

    async def restore(self, name: str, checkpoint: str) -> None:
        """Put a checkpoint in the place of a sprite's disk; what runs there ends.

        Raises:
            NotFound: there is no such checkpoint.
            SpritesError: it was not restored, or that cannot be told.
        """
        url = f"/v1/sprites/{quote(name, safe='')}/checkpoints/{quote(checkpoint, safe='')}/restore"
        _finished(f"POST {url}", await self._request("POST", url, _events, factor=CHECKPOINT_FACTOR))

    async def network_policy(self, name: str) -> Sequence[dict[str, object]]:
        """Return the rules of a sprite's egress; without one nothing is restricted."""
        rules = (await self._request("GET", _policy(name), _fields)).get("rules")
        return [rule for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []

    async def set_network_policy(self, name: str, rules: Sequence[Mapping[str, object]]) -> None:
        """Replace the rules of a sprite's egress."""
        await self._request("POST", _policy(name), _nothing, body={"rules": [dict(rule) for rule in rules]})

    # -- commands -----------------------------------------------------------------------------

    async def exec(
        self,
        name: str,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        tty: bool = False,
        rows: int = 24,
        cols: int = 80,
        run_on: str | None = None,
    ) -> Execution:
        """Start a command and return its stream.

        Args:
            name: the sprite.
            argv: passed unchanged, no shell. It rides in the URL: keep it below 40 kB.
            cwd: working directory; one that is missing is silently ignored by the service.
            tty: run on a terminal.
            rows: of the terminal.
            cols: of the terminal.
            run_on: how long the command goes on after the socket closed (``10s``; "0" = for ever).

        Raises:
            SpritesError: no 101 was answered; nothing was started.
        """
        query = [("cmd", word) for word in argv]
        query += [("path", argv[0]), ("stdin", "true")]
        query += [("dir", cwd)] if cwd else []
        query += [("tty", "true"), ("rows", str(rows)), ("cols", str(cols))] if tty else []
        query += [("max_run_after_disconnect", run_on)] if run_on else []
        url = f"{self._socket_url(name)}/exec?{urlencode(query)}"
        socket = await self._retrying(True, lambda: self._dial(url, f"exec on {name}"))  # noqa: FBT003
        return Execution(socket, name, tty=tty)

    async def proxy(self, name: str, port: int) -> Tunnel:
        """Connect to a TCP port of a sprite.

        Raises:
            ProxyRefused: nobody listens there.
            SpritesError: the sprite cannot be reached.
        """
        what = f"port {port} of {name}"
        socket = await self._retrying(True, lambda: self._dial(f"{self._socket_url(name)}/proxy", what))  # noqa: FBT003
        try:
            async with asyncio.timeout(self._seconds):
                return await Tunnel.open(socket, port, what)
        except TimeoutError as error:
            await socket.close()
            raise ConnectionFailed(f"{what}: no answer in {self._seconds:g} s", sent=True) from error
        except BaseException:
            await socket.close()
            raise

    def _socket_url(self, name: str) -> str:
        return f"{self._url.replace('http', 'ws', 1)}/v1/sprites/{quote(name, safe='')}"

    async def _dial(self, url: str, what: str) -> ClientConnection:
        try:
            return await connect(
                url,
                proxy=None if self._local else True,
                additional_headers={"Authorization": self._headers["Authorization"]},
                user_agent_header=_USER_AGENT,
                compression=None,  # binary output; the official js SDK broke on it
                open_timeout=self._seconds,
                ping_interval=15,
                ping_timeout=45,
                close_timeout=1,
                max_size=64 * 1024 * 1024,
                write_limit=256 * 1024,
                max_queue=32,
            )
        except InvalidStatus as error:
            response = error.response
            raise api_error(what, response.status_code, response.headers, bytes(response.body or b"")) from error
        except TimeoutError as error:
            raise ConnectionFailed(f"{what}: no handshake in {self._seconds:g} s") from error
        except (OSError, InvalidHandshake, WebSocketException) as error:
            raise ConnectionFailed(f"{what}: cannot open {self._url}: {error}") from error

    async def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        cwd: str | None = None,
        seconds: float,
        dialogue: Callable[[bytes, bytes], bytes | None] | None = None,
    ) -> Completed:
        """Run a command to its end.

        Args:
            name: the sprite.
            argv: the command.
            stdin: all of its input.
            cwd: working directory.
            seconds: deadline; when it passes, or the caller is cancelled, the command is killed.
            dialogue: asked with all of stdout and stderr so far, until it says that the input may go;
                returns what to answer before it (b"" = nothing yet), None = let it go. What it
                raises kills the command.

        Raises:
            ExecInterrupted: the connection broke; whether the command ended is not known.
            DeadlinePassed: and the command was killed.
            SpritesError: the command was not started.
        """
        stdout, stderr = bytearray(), bytearray()
        execution: Execution | None = None
        try:
            async with asyncio.timeout(seconds):
                execution = await self.exec(name, ["sh", "-c", GATE, "sh", *argv], cwd=cwd, run_on="1s")
                may_go = asyncio.Event()
                if dialogue is None:
                    may_go.set()
                feeding = asyncio.create_task(_feed(execution, stdin, may_go))
                try:
                    async for stream, data in execution:
                        (stderr if stream == STDERR else stdout).extend(data)
                        if dialogue is not None and not may_go.is_set():
                            answer = dialogue(bytes(stdout), bytes(stderr))
                            if answer is None:
                                may_go.set()
                            elif answer:
                                await execution.send(answer)
                finally:
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)
        except TimeoutError as error:
            raise DeadlinePassed(f"exec on {name}: {argv[0]} did not end in {seconds:g} s and was killed") from error
        finally:
            if execution is not None:
                await execution.close()
        return Completed(execution.code, bytes(stdout), bytes(stderr))


async def _feed(execution: Execution, stdin: bytes, may_go: asyncio.Event) -> None:
    """Open the gate and give the command its input; that the socket broke is the reader's to report."""
    with contextlib.suppress(ExecInterrupted):
        # The first piece goes with the gate's line: one message, one packet.
        first = STDIN_CHUNK if may_go.is_set() else 0
        await execution.send(b"\n" + stdin[:first])
        await may_go.wait()
        for start in range(first, len(stdin), STDIN_CHUNK):
            await execution.send(stdin[start : start + STDIN_CHUNK])
        await execution.send_eof()


def _policy(name: str) -> str:
    return f"/v1/sprites/{quote(name, safe='')}/policy/network"


def _finished(what: str, events: Sequence[Mapping[str, object]]) -> None:
    """Raise what the last line of a stream says: the status was sent before the work was done."""
    last = events[-1] if events else {}
    if last.get("type") == "error":
        raise SpritesError(f"{what}: {last.get('error') or last.get('data') or last}")
    if last.get("type") != "complete":
        raise BadReply(f"{what}: the reply ended before the work did")


def _parser_of(adapter: TypeAdapter[_Result]) -> Callable[[httpx.Response], _Result]:
    def parse(response: httpx.Response) -> _Result:
        try:
            return adapter.validate_json(response.content)
        except ValidationError as error:
            raise _bad(response, error.errors()[0]["msg"]) from error

    return parse


def _parser(model: type[_Model]) -> Callable[[httpx.Response], _Model]:
    def parse(response: httpx.Response) -> _Model:
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise _bad(response, error.errors()[0]["msg"]) from error

    return parse


def _nothing(response: httpx.Response) -> None:
    """Take any success for one: nothing of the reply is needed."""
    del response


def _fields(response: httpx.Response) -> dict[str, object]:
    try:
        found = response.json()
    except ValueError as error:
        raise _bad(response, "it is not JSON") from error
    if not isinstance(found, dict):
        raise _bad(response, "it is no JSON object")
    return found


def _events(response: httpx.Response) -> list[dict[str, object]]:
    """Return the objects of an NDJSON reply; an empty one is a reply, one of noise alone is not."""
    found = []
    for line in (lines := response.text.splitlines()):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    if lines and not found:
        raise _bad(response, "it is not NDJSON")
    return found


def _bad(response: httpx.Response, why: str) -> BadReply:
    what = f"{response.request.method} {response.request.url.path}"
    return BadReply(f"{what}: the reply cannot be understood: {why}")
