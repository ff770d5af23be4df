"""``shell``: a terminal on a ship, over the Sprites exec, or by ssh.

The local terminal goes raw, so that every key reaches the ship (Ctrl-C too); its size follows
ours; its exit code becomes ours. Without a terminal, standard input is fed to a shell instead.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import locale
import os
import shutil
import signal
import subprocess
import sys
import termios
import threading
import tty
from typing import TYPE_CHECKING, Any

from ocaptain.captain.transport.sprite import HOME
from ocaptain.captain.transport.target import read_target, terminal_argv
from ocaptain.cli import render
from ocaptain.cli.streams import RawOutput
from ocaptain.cli.style import STATE_SYMBOLS, fit
from ocaptain.cli.views import find_voyage
from ocaptain.config import load_settings
from ocaptain.errors import Interrupted, OcaptainError, UsageError
from ocaptain.escapes import EscapeFilter
from ocaptain.names import HOSTS
from ocaptain.provider import choose_provider, endpoint
from ocaptain.query import Query
from ocaptain.sprites import ExecInterrupted, NotFound, SpriteWedged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ocaptain.provider import Endpoint
    from ocaptain.query import Overview
    from ocaptain.sprites import Execution
    from ocaptain.voyage.home import VoyageDirectory

EXIT_NO_AGENT = 97
_TMUX = 'tmux -L ocaptain -f "$own/tmux.conf"'
RAW_COMMAND = "cd ~/voyage/workspace 2>/dev/null || cd; exec bash -l"
CHUNK = 64 * 1024
_STDERR = 2


def attach_command(*, write: bool) -> str:
    """Return the shell line that joins the window that is at work in the agents' tmux.

    A worker of an earlier version names no window; then it is the one that tmux shows.

    Args:
        write: whether keys reach the agent; else only those that leave.
    """
    options = "" if write else "-r "
    return (
        'unset TMUX; own="${OCAPTAIN_SHIP_HOME:-$HOME}/.ocaptain"'
        f"; {_TMUX} has-session -t =agent 2>/dev/null || exit {EXIT_NO_AGENT}"
        '; window=$(python3 "$own/worker.pyz" window 2>/dev/null)'
        f'; exec {_TMUX} attach {options}-t "=agent:$window"'
    )


def run_shell(voyage: str | None, ship: str | None, *, raw: bool, write: bool) -> int:
    """Open a shell on a ship; return the exit code of what ran there.

    Args:
        voyage: prefix of a voyage's id; None = the only active one.
        ship: None = the only one, or the only one at work.
        raw: a login shell instead of the agents' tmux.
        write: whether keys reach the agent.
    """
    directory = find_voyage(voyage)
    seen = Query(directory.path).overview()
    if seen.state == "sunk":
        raise UsageError(f"{seen.voyage} is sunk: it has no ships")
    sprite = choose_ship(seen, ship, Query(directory.path).subjects())
    if not raw and not sys.stdin.isatty():
        raise UsageError("attaching needs a terminal; --raw also takes commands on standard input")
    line = RAW_COMMAND if raw else attach_command(write=write)
    if not raw:
        mode = "what you type reaches the agent" if write else "read-only, --write lets you type"
        render.err().print(f"{sprite}: {mode}; Ctrl-b d leaves it")
    code = _run_on_host(directory, sprite, line) if seen.provider == HOSTS else _run_on_sprite(seen, sprite, line)
    if code == EXIT_NO_AGENT and not raw:
        raise OcaptainError(f"no agent's terminal is open on {sprite}; open a shell with --raw")
    return code


def _run_on_sprite(seen: Overview, sprite: str, line: str) -> int:
    settings = load_settings()
    reached = endpoint(choose_provider(settings, seen.provider)[0], settings)
    if reached is None:
        raise OcaptainError("drydock is not running, so its ships are gone; `ocaptain sink` ends the voyage")
    try:
        return asyncio.run(_open_terminal(reached, sprite, line))
    except asyncio.CancelledError:
        raise Interrupted("interrupted: the connection is closed, programs on the ship keep running") from None


def _run_on_host(directory: VoyageDirectory, host: str, line: str) -> int:
    """Run ssh with our terminal: it handles resizing, and may ask for a passphrase."""
    target = read_target(next(ship for ship in Query(directory.path).ships() if ship.sprite == host))
    argv = terminal_argv(target, line, is_terminal=sys.stdin.isatty())
    if not os.isatty(1):
        return subprocess.run(argv, check=False).returncode
    write = Output(1)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout
        while data := os.read(process.stdout.fileno(), CHUNK):
            write(data)
    return process.returncode


def choose_ship(
    seen: Overview,
    named: str | None,
    subjects: Mapping[str, str] | None = None,
    *,
    command: str = "ocaptain shell {}",
) -> str:
    """Return the sprite of the named ship, else of the only ship, else of the only working one.

    Args:
        seen: the voyage.
        named: the ship, None if none was named.
        subjects: of its tasks.
        command: what to type, with ``{}`` for the ship.

    Raises:
        UsageError: no ship or several ships match; lists them.
    """
    remaining = {ship["id"]: ship for ship in seen.ships if ship["state"] != "gone"}
    if named is not None:
        if named not in remaining:
            raise UsageError(f"{seen.voyage} has no ship {named!r}; it has {', '.join(remaining) or 'none'}")
        return str(remaining[named]["sprite"])
    working = [ship for ship in remaining.values() if ship["state"] == "working"]
    of_work = [ship for ship in remaining.values() if ship["role"] == "work"]
    for candidates in (of_work, working):
        if len(candidates) == 1:
            return str(candidates[0]["sprite"])
    raise UsageError(f"which ship of {seen.voyage}?", _ship_lines(list(remaining.values()), subjects or {}, command))


def _ship_lines(ships: Sequence[Mapping[str, Any]], subjects: Mapping[str, str], command: str) -> list[str]:
    """Return a line for each ship, those at work with their task, and what to type for one of these."""
    wide = max((len(str(ship["id"])) for ship in ships), default=0)
    lines = []
    for ship in ships:
        task = ship["task"]
        what = f"task {fit(str(task), 16)}  {fit(subjects.get(str(task), ''), 40)}" if task else ship["state"]
        lines.append(f"{ship['id']:<{wide}}  {STATE_SYMBOLS.get(str(ship['state']), '○')} {what}".rstrip())
    first = next((ship for ship in ships if ship["task"]), ships[0]) if ships else None
    return [*lines, f"type: {command.format(first['id'])}"] if first else lines


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Put standard input, which must be a terminal, into raw mode inside the block; always restore it."""
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


async def _open_terminal(reached: Endpoint, sprite: str, line: str) -> int:
    is_terminal = sys.stdin.isatty()
    size = shutil.get_terminal_size() if not is_terminal else os.get_terminal_size(0)
    async with reached.client() as client:
        try:
            execution = await client.exec(
                sprite,
                ["bash", "-c", line],
                cwd=HOME,
                tty=is_terminal,
                rows=size.lines,
                cols=size.columns,
                run_after_disconnect="1s",
            )
        except NotFound as error:
            raise OcaptainError(f"{sprite} no longer exists") from error
        watching = asyncio.create_task(client.watch_silence(sprite, execution))
        with raw_terminal() if is_terminal else contextlib.nullcontext():
            try:
                return await _relay(execution, is_terminal=is_terminal)
            except SpriteWedged as error:
                raise OcaptainError(f"{sprite} does not answer any more: {error}") from error
            except ExecInterrupted as error:
                raise OcaptainError(
                    f"the connection to {sprite} was lost; programs there keep running, connect again"
                ) from error
            finally:
                watching.cancel()
                await execution.close()


async def _relay(execution: Execution, *, is_terminal: bool) -> int:
    """Relay keys and window sizes to the ship and its output to us; return the exit code."""
    loop = asyncio.get_running_loop()
    keys: asyncio.Queue[bytes] = asyncio.Queue()
    resizing: set[asyncio.Task[None]] = set()

    def resized() -> None:
        size = os.get_terminal_size(0)
        resizing.add(task := loop.create_task(execution.resize(size.lines, size.columns)))
        task.add_done_callback(resizing.discard)

    this = asyncio.current_task()
    assert this
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the terminal is restored
        loop.add_signal_handler(number, this.cancel)
    if is_terminal:
        loop.add_signal_handler(signal.SIGWINCH, resized)
        loop.add_reader(0, lambda: keys.put_nowait(os.read(0, CHUNK)))
    else:  # the loop cannot watch a file, and a pipe may never end: this thread is never joined
        threading.Thread(target=_read_stdin, args=(loop, keys), daemon=True).start()
    feeding = asyncio.create_task(_send_input(execution, keys))
    outputs = {fd: Output(fd) for fd in (1, _STDERR)}
    try:
        async for stream, data in execution:
            outputs[_STDERR if stream == _STDERR else 1](data)
        return execution.code
    finally:
        if is_terminal:
            loop.remove_reader(0)
            loop.remove_signal_handler(signal.SIGWINCH)
        feeding.cancel()
        await asyncio.gather(feeding, *resizing, return_exceptions=True)


def _read_stdin(loop: asyncio.AbstractEventLoop, keys: asyncio.Queue[bytes]) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # the loop has ended
        data = b"-"
        while data:
            data = os.read(0, CHUNK)
            loop.call_soon_threadsafe(keys.put_nowait, data)


async def _send_input(execution: Execution, keys: asyncio.Queue[bytes]) -> None:
    with contextlib.suppress(ExecInterrupted):
        while data := await keys.get():
            await execution.send(data)
        await execution.send_eof()


class Output:
    """Writes what a ship says to one of our outputs: unchanged, or filtered if that is a terminal.

    Args:
        fd: the output.
    """

    def __init__(self, fd: int) -> None:
        self._raw = RawOutput(fd, required=fd != _STDERR)
        is_utf8 = codecs.lookup(locale.getpreferredencoding(do_setlocale=False)).name == "utf-8"
        self._filter = EscapeFilter(is_utf8=is_utf8) if self._raw.isatty() else None

    def __call__(self, data: bytes) -> None:
        """Write bytes.

        Raises:
            OutputLost, ReaderGone: standard output cannot be written.
        """
        view = memoryview(self._filter.feed(data) if self._filter else data)
        while view:
            view = view[self._raw.write(view) :]
