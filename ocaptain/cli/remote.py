"""``exec``: a command on a ship with our standard streams, over the Sprites exec, or by ssh.

    our input ──> [first line: the command's words] rest ──> its input
    our output, our errors <────────────────────────── its output, its errors, its exit code

The words of the command go as the first line of its input (base64), so that they may be of any length and any bytes,
and are in no URL. On a terminal, which has no such line, they are an argument of the shell that starts the command.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import contextlib
import os
import select
import shlex
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING

from ocaptain.cli import render
from ocaptain.cli.remote_host import run_on_host
from ocaptain.cli.shell import CHUNK, Output, choose_ship, raw_terminal
from ocaptain.cli.views import find_voyage
from ocaptain.config import load_settings
from ocaptain.errors import Interrupted, OcaptainError, UsageError
from ocaptain.names import HOSTS
from ocaptain.provider import choose_provider, endpoint
from ocaptain.query import Query
from ocaptain.sprites import ExecInterrupted, NotFound, SpritesError, SpriteWedged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.cli.exec_words import ExecArguments
    from ocaptain.provider import Endpoint
    from ocaptain.sprites import Execution

EXIT_UNREACHABLE = 255  # as ssh has it
MAX_TERMINAL_WORDS = 24 * 1024  # bytes in base64: they are a part of a URL
KILL_SECONDS = 2.0
_STDERR = 2
_ASLEEP = frozenset({"warm", "cold"})
_TO_WORKSPACE = 'home="${OCAPTAIN_SHIP_HOME:-$HOME}"; cd -- "$home/voyage/workspace" 2>/dev/null || cd -- "$home"'
# Bash reads the line byte by byte, so the rest of the input is left for the command; `wait` leaves it no child.
_START = f"""{_TO_WORKSPACE}
line=$1; [ "$line" ] || IFS= read -r line || exit {EXIT_UNREACHABLE}
mapfile -d '' -t words < <(base64 -d <<<"$line"); wait $! 2>/dev/null
exec -- "${{words[@]}}"
"""
_SIGNALS = {signal.SIGINT: "INT", signal.SIGTERM: "TERM", signal.SIGHUP: "HUP"}


class ShipUnreachable(OcaptainError):
    """The ship cannot be reached, or the connection to it was lost."""

    exit_code = EXIT_UNREACHABLE


def run_exec(arguments: ExecArguments, *, tty: bool) -> int:
    """Run a command on a ship; return its exit code.

    Args:
        arguments: which ship, and the command.
        tty: whether it runs on a terminal even if our input or output is none.

    Raises:
        UsageError: there is no such ship, or the voyage is sunk.
        ShipUnreachable: the ship cannot be reached.
        Interrupted: the user gave it up.
    """
    directory = find_voyage(arguments.voyage)
    query = Query(directory.path)
    seen = query.overview()
    if seen.state == "sunk":
        raise UsageError(f"{seen.voyage} is sunk: it has no ships; get what landed: ocaptain clone {seen.voyage}")
    sprite = choose_ship(seen, arguments.ship, command="ocaptain exec {} -- COMMAND")
    ship = next((one for one in query.ships() if one.sprite == sprite), None)
    if ship is None:
        raise ShipUnreachable(f"{sprite} was replaced just now; see `ocaptain status`, and try again")
    tty = tty or (sys.stdin.isatty() and sys.stdout.isatty())
    if seen.provider == HOSTS:
        return run_on_host(ship, host_line(arguments.argv), tty=tty)
    settings = load_settings()
    reached = endpoint(choose_provider(settings, seen.provider)[0], settings)
    if reached is None:
        raise ShipUnreachable("drydock is not running, so its ships are gone; `ocaptain sink` ends the voyage")
    try:
        return asyncio.run(_Remote(reached, ship.id, sprite, arguments.argv, tty=tty).run())
    except asyncio.CancelledError:
        raise Interrupted(f"interrupted: the command on {ship.id} is ended") from None


def host_line(argv: Sequence[str]) -> str:
    """Return the shell line that runs a command on a host.

    A command that a signal ended has the exit code of that (130): ssh itself would make 255 of it.
    """
    return f"{_TO_WORKSPACE}; trap : INT TERM QUIT; (exec -- {shlex.join(argv)}); exit $?"


def start_reading_stdin(loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[bytes]) -> None:
    """Put what standard input has into a queue, b"" at its end, as fast as it is taken out again.

    A thread reads it that is never joined: the loop cannot watch a file, and a pipe may never end.
    """

    def read() -> None:
        with contextlib.suppress(OSError, RuntimeError, concurrent.futures.CancelledError):  # the loop has ended
            data = b"-"
            while data:
                try:
                    data = os.read(0, CHUNK)
                except BlockingIOError:  # somebody left it non-blocking
                    select.select((0,), (), ())
                    continue
                asyncio.run_coroutine_threadsafe(pieces.put(data), loop).result()

    threading.Thread(target=read, daemon=True).start()


def pack_words(argv: Sequence[str]) -> str:
    """Return a command's words as one word: base64, each with a NUL behind it."""
    return base64.b64encode(b"".join(os.fsencode(word) + b"\0" for word in argv)).decode()


class _Remote:
    def __init__(self, reached: Endpoint, ship: str, sprite: str, argv: Sequence[str], *, tty: bool) -> None:
        self._reached = reached
        self._ship = ship
        self._sprite = sprite
        self._words = pack_words(argv)
        self._tty = tty
        self._is_raw = tty and sys.stdin.isatty()
        self._was_told = False
        self._tasks: set[asyncio.Task[None]] = set()
        if tty and len(self._words) > MAX_TERMINAL_WORDS:
            raise UsageError(
                f"a command of {len(self._words)} bytes is too long for a terminal;"
                " leave out -t and pipe its output, or give it a file on the ship"
            )

    async def run(self) -> int:
        async with self._reached.client() as client:
            try:
                if (await client.get(self._sprite)).status in _ASLEEP:
                    render.err().print(f"{self._ship} is asleep: it is woken")
                size = os.get_terminal_size(0) if self._is_raw else shutil.get_terminal_size()
                execution = await client.exec(
                    self._sprite,
                    ["bash", "-c", _START, "bash", self._words if self._tty else ""],
                    tty=self._tty,
                    rows=size.lines,
                    cols=size.columns,
                    run_after_disconnect="1s",
                )
            except NotFound as error:
                raise ShipUnreachable(f"{self._ship} does not exist any more; see `ocaptain status`") from error
            except SpritesError as error:
                raise ShipUnreachable(f"{self._ship} cannot be reached: {error}; try again") from error
            watching = asyncio.create_task(client.watch_silence(self._sprite, execution))
            with raw_terminal() if self._is_raw else contextlib.nullcontext():
                try:
                    return await self._relay(execution)
                except SpriteWedged as error:
                    raise ShipUnreachable(f"{self._ship} does not answer any more: {error}") from error
                except ExecInterrupted as error:
                    raise ShipUnreachable(
                        f"the connection to {self._ship} was lost; it is not known whether the command has ended there"
                    ) from error
                finally:
                    watching.cancel()
                    await execution.close()

    async def _relay(self, execution: Execution) -> int:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[bytes] = asyncio.Queue(4)
        this = asyncio.current_task()
        assert this
        for number, name in _SIGNALS.items():
            if self._is_raw:
                loop.add_signal_handler(number, this.cancel)
            else:
                loop.add_signal_handler(number, self._pass_on, execution, name, this)
        if self._is_raw:
            loop.add_signal_handler(signal.SIGWINCH, self._resize, execution)
        start_reading_stdin(loop, pieces)
        feeding = asyncio.create_task(self._feed(execution, pieces))
        outputs = {fd: Output(fd) for fd in (1, _STDERR)}
        try:
            async for stream, data in execution:
                # In a thread: while nobody takes our output, signals and the connection are still served.
                await asyncio.to_thread(outputs[_STDERR if stream == _STDERR else 1], data)
            return execution.code
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, *self._tasks, return_exceptions=True)

    async def _feed(self, execution: Execution, pieces: asyncio.Queue[bytes]) -> None:
        with contextlib.suppress(ExecInterrupted):  # the reading side reports it
            if not self._tty:
                await execution.send(f"{self._words}\n".encode())
            while data := await pieces.get():
                await execution.send(data)
            await execution.send_eof()

    def _resize(self, execution: Execution) -> None:
        size = os.get_terminal_size(0)
        self._start(execution.resize(size.lines, size.columns))

    def _pass_on(self, execution: Execution, name: str, this: asyncio.Task[int]) -> None:
        """Pass on a signal to the command; the second one gives it up."""
        if not self._was_told:
            self._was_told = True
            self._start(execution.signal(name))
        elif not this.cancelling():
            this.cancel()
            asyncio.get_running_loop().call_later(2 * KILL_SECONDS, os._exit, Interrupted.exit_code)

    def _start(self, work: object) -> None:
        async def quietly() -> None:
            with contextlib.suppress(ExecInterrupted):
                await work  # type: ignore[misc]

        self._tasks.add(task := asyncio.get_running_loop().create_task(quietly()))
        task.add_done_callback(self._tasks.discard)
