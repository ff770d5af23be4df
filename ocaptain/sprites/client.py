"""The client: REST by httpx, commands by websockets, a deadline on every wait.

A command that ends fast may lose its output on the live service, because the process starts
before the relay attaches. :meth:`SpritesClient.run` therefore lets it wait for the first byte of stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from ocaptain.sprites.errors import (
    ConnectionFailed,
    DeadlinePassed,
    ExecInterrupted,
    SpritesError,
    SpriteWedged,
    TooLarge,
    api_error,
)
from ocaptain.sprites.http import USER_AGENT
from ocaptain.sprites.redact import redact_line
from ocaptain.sprites.rest import Rest
from ocaptain.sprites.sockets import STDERR, Execution, Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STDIN_CHUNK = 64 * 1024
MAX_OUTPUT = 64 * 1024 * 1024
# Read one line, then become the command (a socket that dies before it runs nothing): `read` in a
# shell reads byte by byte, so the rest of stdin is left for the command.
GATE_SCRIPT = 'IFS= read -r _ && exec "$@"'


@dataclass(frozen=True)
class Completed:
    """The result of a command.

    Attributes:
        code: exit code, 128 + n for a death by signal n.
        stdout: what it wrote, bytes.
        stderr: what it wrote, bytes.
    """

    code: int
    stdout: bytes
    stderr: bytes


class _ConnectWithoutRedirects(connect):
    """A WebSocket handshake that follows no redirect, so that no other host gets the socket's data."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class SpritesClient(Rest):
    """All calls of the API; see :class:`ocaptain.sprites.http.Http` for its arguments."""

    async def exec(
        self,
        name: str,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        tty: bool = False,
        rows: int = 24,
        cols: int = 80,
        run_after_disconnect: str | None = None,
    ) -> Execution:
        """Start a command and return its stream.

        Args:
            name: the sprite.
            argv: passed unchanged, no shell. It is part of the URL: keep it below 40 kB.
            cwd: working directory; one that is missing is silently ignored by the service.
            tty: run on a terminal.
            rows: of the terminal.
            cols: of the terminal.
            run_after_disconnect: how long the command may run after the socket closed (``10s``; "0" = no limit).

        Raises:
            SpritesError: the handshake failed; nothing was started.
        """
        query = [("cmd", word) for word in argv]
        query += [("path", argv[0]), ("stdin", "true")]
        query += [("dir", cwd)] if cwd else []
        query += [("tty", "true"), ("rows", str(rows)), ("cols", str(cols))] if tty else []
        query += [("max_run_after_disconnect", run_after_disconnect)] if run_after_disconnect else []
        url = f"{self._socket_url(name)}/exec?{urlencode(query)}"
        socket = await self.call_with_retries(lambda: self._open_socket(url, f"exec on {name}"), idempotent=True)
        return Execution(socket, name, tty=tty)

    async def proxy(self, name: str, port: int) -> Tunnel:
        """Connect to a TCP port of a sprite.

        Raises:
            ProxyFailed: nothing listens on the port, or the service does not connect; the tunnel raises it too if
                it breaks later.
            SpritesError: the sprite cannot be reached.
        """
        operation = f"port {port} of {name}"
        socket = await self.call_with_retries(
            lambda: self._open_socket(f"{self._socket_url(name)}/proxy", operation), idempotent=True
        )
        try:
            async with asyncio.timeout(self._seconds):
                return await Tunnel.open(socket, port, operation)
        except TimeoutError as error:
            await socket.close()
            raise ConnectionFailed(f"{operation}: no answer in {self._seconds:g} s", sent=True) from error
        except BaseException:
            await socket.close()
            raise

    def _socket_url(self, name: str) -> str:
        return f"{self._url.replace('http', 'ws', 1)}/v1/sprites/{quote(name, safe='')}"

    async def _open_socket(self, url: str, operation: str) -> ClientConnection:
        try:
            return await _ConnectWithoutRedirects(
                url,
                proxy=None if self._local else True,
                additional_headers={"Authorization": self._headers["Authorization"]},
                user_agent_header=USER_AGENT,
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
            raise api_error(operation, response.status_code, response.headers, bytes(response.body or b"")) from None
        except TimeoutError:
            why = f"no WebSocket handshake in {self._seconds:g} s"
            raise ConnectionFailed(f"{operation}: {why}", silent=True) from None
        except (OSError, ImportError, InvalidHandshake, WebSocketException) as error:
            raise ConnectionFailed(f"{operation}: cannot connect to {self._url}: {redact_line(error)}") from None

    async def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        cwd: str | None = None,
        seconds: float,
        answer_output: Callable[[bytes, bytes], bytes | None] | None = None,
    ) -> Completed:
        """Run a command and wait for its end.

        Args:
            name: the sprite.
            argv: the command.
            stdin: all of its input.
            cwd: working directory.
            seconds: deadline; when it passes, or the caller is cancelled, the command is killed.
            answer_output: called with all of stdout and stderr so far, until it returns None. It returns the
                bytes to send before ``stdin`` (b"" = nothing yet); None = now send ``stdin``. An exception
                from it kills the command.

        Raises:
            ExecInterrupted: the connection broke, or the sprite is wedged; whether the command ended is not known.
            DeadlinePassed: the command took too long and was killed.
            TooLarge: its output was too long and it was killed.
            SpritesError: the command was not started.
        """
        execution: Execution | None = None
        try:
            async with asyncio.timeout(seconds):
                execution = await self.exec(
                    name, ["sh", "-c", GATE_SCRIPT, "sh", *argv], cwd=cwd, run_after_disconnect="1s"
                )
                stdout, stderr = await self._attend(name, execution, argv[0], stdin, answer_output)
        except TimeoutError as error:
            raise DeadlinePassed(f"exec on {name}: {argv[0]} did not end in {seconds:g} s and was killed") from error
        finally:
            if execution is not None:
                await execution.close()
        return Completed(execution.code, stdout, stderr)

    async def _attend(
        self,
        name: str,
        execution: Execution,
        program: str,
        stdin: bytes,
        answer_output: Callable[[bytes, bytes], bytes | None] | None,
    ) -> tuple[bytes, bytes]:
        """Give a command its input and return its output, as :meth:`run` says."""
        stdout, stderr = bytearray(), bytearray()
        input_released = asyncio.Event()
        if answer_output is None:
            input_released.set()
        tasks = [
            asyncio.create_task(_send_input(execution, stdin, input_released)),
            asyncio.create_task(self.watch_silence(name, execution)),
        ]
        try:
            async for stream, data in execution:
                (stderr if stream == STDERR else stdout).extend(data)
                if len(stdout) + len(stderr) > MAX_OUTPUT:
                    raise TooLarge(f"exec on {name}: {program} wrote more than {MAX_OUTPUT} bytes")
                if answer_output is not None and not input_released.is_set():
                    answer = answer_output(bytes(stdout), bytes(stderr))
                    if answer is None:
                        input_released.set()
                    elif answer:
                        await execution.send(answer)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return bytes(stdout), bytes(stderr)

    async def watch_silence(self, name: str, execution: Execution) -> None:
        """Watch a running command; have its reading end with :class:`SpriteWedged` if its sprite is wedged.

        A command may be silent for hours. So after each silence as long as this client's time limit another command is
        started: a sprite that does not start it either is wedged. Any other error of that command proves nothing.
        Returns only then; cancel it when the command has ended.
        """
        loop = asyncio.get_running_loop()
        checked = execution.heard
        while True:
            last = max(checked, execution.heard)
            if (left := last + self._seconds - loop.time()) > 0:
                await asyncio.sleep(left)
                continue
            try:
                await self._start_another(name)
            except SpritesError as error:
                if isinstance(error, ConnectionFailed) and error.silent:
                    silence = loop.time() - execution.heard
                    why = f"nothing was heard of the command for {silence:.0f} s, and the sprite starts no other one"
                    execution.fail(SpriteWedged(f"exec on {name}: {why}; the command may have run"))
                    return
            checked = loop.time()

    async def _start_another(self, name: str) -> None:
        """Run a command that does nothing. Raises SpritesError."""
        other = await self.exec(name, ["true"])
        try:
            async with asyncio.timeout(self._seconds):
                async for _ in other:
                    pass
        except TimeoutError:
            raise ConnectionFailed(f"exec on {name}: true did not end in {self._seconds:g} s", silent=True) from None
        finally:
            await other.close()


async def _send_input(execution: Execution, stdin: bytes, input_released: asyncio.Event) -> None:
    """Open the gate and send the input; a broken socket is reported by the reading side."""
    with contextlib.suppress(ExecInterrupted):
        # The first piece goes with the gate's line: one message, one packet.
        first = STDIN_CHUNK if input_released.is_set() else 0
        await execution.send(b"\n" + stdin[:first])
        await input_released.wait()
        for start in range(first, len(stdin), STDIN_CHUNK):
            await execution.send(stdin[start : start + STDIN_CHUNK])
        await execution.send_eof()
